"""Small files that unpack to much: each is refused by name, quickly and in little memory."""

from __future__ import annotations

import gzip
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io import decode_budget
from aivc_graph.io.decode_budget import check_unpacked, read_bytes
from aivc_graph.io.hdf5_guard import check_hdf5
from aivc_graph.io.matrices import read_mtx_folder
from aivc_graph.io.reading import READERS, guarded, read
from aivc_graph.io.tables import read_frame
from aivc_graph.io.zarr_safety import check_zarr_folder

GIB = 2**30


@pytest.fixture(autouse=True)
def in_little_time_and_memory() -> Iterator[None]:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GIB
    assert time.process_time() - started < 20


def packed(path: Path, start: bytes, block: bytes, times: int) -> Path:
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(start)
        for _ in range(times):
            file.write(block)
    return path


def test_a_line_without_an_end(tmp_path: Path) -> None:
    line = packed(tmp_path / "line.csv.gz", b"a,b,", b"7" * 2**20, 64)
    with pytest.raises(ReadError, match=r"line\.csv\.gz: .*found a line of more than 16\.0 MiB"):
        read_frame(line)
    later = packed(tmp_path / "later.csv.gz", b"a,b\n1,2\n3,", b"7" * 2**20, 64)
    with pytest.raises(ReadError, match=r"later\.csv\.gz: .*found a line of more than 16\.0 MiB"):
        read_frame(later)


def test_text_and_bytes_that_grow_a_thousand_times(tmp_path: Path) -> None:
    rows = packed(tmp_path / "rows.csv.gz", b"a,b\n", b"1,2\n" * 2**18, 400)
    with pytest.raises(ReadError, match=r"rows\.csv\.gz: .*unpack to .*; the file is damaged or made to harm"):
        read_bytes(rows)
    assert len(read_bytes(packed(tmp_path / "ok.gz", b"", b"1,2\n" * 2**18, 10))) == 10 * 2**20


def test_more_columns_than_a_table_has(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text(",".join(f"c{i}" for i in range(300_000)) + "\n1\n")
    with pytest.raises(ReadError, match="300,000 columns"):
        read_frame(tmp_path / "wide.csv")


def test_a_matrix_header_of_two_billion_rows(tmp_path: Path) -> None:
    (tmp_path / "barcodes.tsv").write_text("b1\nb2\n")
    (tmp_path / "features.tsv").write_text("G1\tG1\nG2\tG2\n")
    for sizes, said in (
        ("2000000000 2 1", "2 features and 2 barcodes"),
        ("2 2 2000000000", "expected 2,000,000,000 entries, as its header says, found"),
        ("2 x 1", "a damaged matrix"),
    ):
        (tmp_path / "matrix.mtx").write_text(f"%%MatrixMarket matrix coordinate integer general\n{sizes}\n1 1 5\n")
        with pytest.raises(ReadError, match=said):
            read_mtx_folder(tmp_path)
    (tmp_path / "matrix.mtx").write_text("%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 1 5\n")
    assert read_mtx_folder(tmp_path).X.toarray().tolist() == [[5, 0], [0, 0]]


@pytest.mark.parametrize(
    ("shape", "chunks", "said"),
    [((2**29,), (2**29,), r"X: .*one chunk of 2\.0 GiB"), ((2**33,), (2**20,), r"unpack to 32\.0 GiB")],
)
def test_hdf5_of_one_large_chunk_or_of_nothing_but_fill_values(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], said: str
) -> None:
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.create_dataset("X", shape, "f4", chunks=chunks, compression="gzip")
        for name in ("obs", "var"):
            file.create_group(name)
    with pytest.raises(ReadError, match=said):
        check_hdf5(tmp_path / "a.h5ad")
    with pytest.raises(ReadError, match=said):
        read(tmp_path / "a.h5ad", reader="h5ad", level="cell", um_per_unit=1.0, diameter_um=10.0)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_one_large_chunk_or_of_nothing_but_fill_values(tmp_path: Path, version: int) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    root.create_array("x", shape=(2**30,), chunks=(2**20,), dtype="f4")
    with pytest.raises(ReadError, match=r"a\.zarr: .*unpack to 4\.0 GiB"):
        check_zarr_folder(tmp_path / "a.zarr")
    root.create_array("y", shape=(2**29,), chunks=(2**29,), dtype="f4")
    with pytest.raises(ReadError, match=r"y.*: .*one chunk of 2\.0 GiB"):
        check_zarr_folder(tmp_path / "a.zarr")


def test_parquet_of_one_value_many_times(tmp_path: Path) -> None:
    pd.DataFrame({"a": np.zeros(50_000_000, np.int8)}).to_parquet(tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(ReadError, match=r"a\.parquet: .*unpack to"):
        read_frame(tmp_path / "a.parquet")


def test_what_memory_cannot_hold_is_told_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    check_unpacked("sound.h5", 2 * GIB, GIB)
    monkeypatch.setattr(decode_budget, "_memory_left", lambda: GIB)
    with pytest.raises(ReadError, match=r"sound\.h5: expected at most 1\.0 GiB, the memory that is left, found 2\.0"):
        check_unpacked("sound.h5", 2 * GIB, GIB)


def test_a_sparse_matrix_stays_within_the_budget(tmp_path: Path) -> None:
    """A matrix of counts, nearly all zero and packed, grows by tens: it is no bomb."""
    counts = sparse.random(20_000, 1_000, 0.03, random_state=0, data_rvs=lambda n: np.ones(n), dtype=np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=counts.toarray(), chunks=(1_000, 1_000), compression="gzip")
    check_hdf5(tmp_path / "a.h5")


def test_errors_from_deep_inside_a_library_name_the_file() -> None:
    for error, said in (
        (KeyError("gone"), r"a\.csv: content that cannot be read \(KeyError: 'gone'\); copy it again"),
        (MemoryError(), r"a\.csv: more than memory holds when unpacked; read it on a larger machine"),
        (RecursionError("too deep"), r"a\.csv: content that cannot be read \(RecursionError: too deep\)"),
    ):
        with pytest.raises(ReadError, match=said), guarded(Path("a.csv")):
            raise error
    with pytest.raises(ReadError, match=r"^mine: fault$"), guarded(Path("a.csv")):
        raise ReadError("mine", "fault")


def test_a_reader_whose_test_breaks_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5ad").write_bytes(b"nothing")

    def broken(_: Path) -> bool:
        raise RuntimeError

    monkeypatch.setattr(READERS[next(iter(READERS))], "recognises", broken)
    with pytest.raises(ReadError, match="no reader recognises it"):
        read(tmp_path / "a.h5ad")


def test_damage_in_one_part_of_hdf5_hides_none_of_what_hangs_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/text"] = np.array([b"word"])
        file.create_group("b")
    data = (tmp_path / "a.h5").read_bytes()
    last = data.rindex(b"TREE")  # of the group that was made last
    (tmp_path / "a.h5").write_bytes(data[:last] + b"gone" + data[last + 4 :])
    with h5py.File(tmp_path / "a.h5") as file, pytest.raises(RuntimeError):
        list(file["b"])
    parent = os.getpid()
    monkeypatch.setattr(h5py, "check_string_dtype", lambda _: os.abort() if os.getpid() != parent else None)
    with pytest.raises(ReadError, match="content that the HDF5 library breaks on"):
        check_hdf5(tmp_path / "a.h5")
