"""A disk of one's own, in memory: as small as one likes, and gone with the process that mounted it."""

from __future__ import annotations

import ctypes
import functools
import os
import random
import shutil
from pathlib import Path

NEW_USER, NEW_MOUNTS, READ_ONLY, REMOUNT, DETACH = 0x10000000, 0x00020000, 1, 32, 2
WIDE = "size=2g,nr_inodes=1m"


class OwnDisk:
    """A folder on a disk in memory where the system lets one be mounted, else a plain folder.

    It must be made before the process has a second thread, unless nothing is to be mounted.
    """

    def __init__(self, place: Path, *, mount: bool = True) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place, self._libc = place, ctypes.CDLL(None, use_errno=True)
        self.mounted = mount and own_mounts() and self._mount(0, WIDE)

    def clear(self) -> None:
        """Take away all that lies there."""
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def leave(self, chance: random.Random, size: int, files: int) -> None:
        """Leave less room than `size` bytes, or for fewer than so many files and folders."""
        free = os.statvfs(self.place)
        blocks, nodes = free.f_blocks - free.f_bfree, free.f_files - free.f_ffree
        if chance.random() < 2 / 3:
            pages = -(-size // free.f_frsize)
            self._mount(REMOUNT, f"size={(blocks + chance.randrange(pages) or 1) * free.f_frsize}")
        else:
            self._mount(REMOUNT, f"nr_inodes={nodes + chance.randrange(files)}")

    def widen(self) -> None:
        """Make room again."""
        self._mount(REMOUNT, WIDE)

    def unmount(self) -> None:
        """Let go of it, and of all that lies there."""
        self._libc.umount2(os.fsencode(self.place), DETACH)

    def close(self) -> None:
        """Let nothing be written there, until it is widened."""
        self._mount(REMOUNT | READ_ONLY, WIDE)

    def _mount(self, flags: int, options: str) -> bool:
        done = self._libc.mount(b"tmpfs", os.fsencode(self.place), b"tmpfs", flags, options.encode())
        return bool(done == 0)


@functools.cache
def own_mounts() -> bool:
    """Leave the mounts of the system to themselves: what is mounted from now on is seen by this process alone."""
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_USER | NEW_MOUNTS) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    return True
