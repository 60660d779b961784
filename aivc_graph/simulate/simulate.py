"""`simulate`: a section with known truth as files, by the name of a preset."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aivc_graph.errors import ConfigError, unknown_name
from aivc_graph.simulate.demo import simulate_section
from aivc_graph.simulate.slide import paint_slide
from aivc_graph.simulate.vendor import write_slide, write_spaceranger, write_truth, write_xenium

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preset:
    """Edge of the section [µm] and pixel size of its slide [µm]."""

    size_um: float
    mpp: float


PRESETS: Final = {"tiny": Preset(400.0, 1.0), "demo": Preset(1600.0, 1.0)}


def simulate(preset: str, out: str | Path, seed: int = 0) -> Path:
    """Write a simulated section under `out` as vendors deliver it, and return `out`.

    ``spaceranger/outs`` (spots), ``xenium`` (cells), ``slide.ome.tif`` (H&E) and ``truth`` (niches, types,
    compositions). All share one frame: microns from the slide's upper left corner. Equal seeds give equal bytes.

    Parameters
    ----------
    preset
        ``"tiny"`` (0.4 mm, some 350 cells) or ``"demo"`` (1.6 mm, some 6,000 cells).
    out
        A folder that does not exist yet, or is empty.
    seed
        Any whole number from 0.

    Raises
    ------
    ConfigError
        Unknown preset, negative seed, or a folder that already holds something.

    Examples
    --------
    >>> simulate("tiny", "sim", seed=1)  # doctest: +SKIP
    """
    if preset not in PRESETS:
        raise unknown_name(ConfigError, "simulate", "preset", preset, PRESETS)
    if seed < 0:
        raise ConfigError("simulate · seed", str(seed), "a whole number from 0")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(str(out), "it already holds something", mend="name a new folder, or empty this one")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        _write(PRESETS[preset], part, seed)
        if out.exists():
            out.rmdir()
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def _write(preset: Preset, folder: Path, seed: int) -> None:
    section = simulate_section(preset.size_um, seed)
    image = paint_slide(section, seed, preset.mpp)
    folder.mkdir(parents=True)
    write_spaceranger(section, image, preset.mpp, folder / "spaceranger")
    write_xenium(section, preset.mpp, folder / "xenium")
    write_slide(image, preset.mpp, folder / "slide.ome.tif")
    write_truth(section, folder / "truth")
    log.info("simulated %d cells and %d spots on tissue", len(section.cell_xy), int(section.in_tissue.sum()))
