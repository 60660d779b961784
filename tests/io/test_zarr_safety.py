"""Zarr stores that would run code or reach outside their folder are refused before they are read."""

from __future__ import annotations

import json
import stat
import warnings
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
import pytest
import zarr

from aivc_graph.errors import ReadError
from aivc_graph.io.zarr_safety import check_zarr_folder, check_zip_members


@pytest.mark.parametrize("version", [2, 3])
def test_plain_store_passes(tmp_path: Path, version: int) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    group.create_array("x", data=np.arange(5))
    check_zarr_folder(tmp_path / "a.zarr")


def test_text_of_an_anndata_passes(tmp_path: Path) -> None:
    import anndata
    import pandas as pd

    table = anndata.AnnData(np.zeros((2, 1)), obs=pd.DataFrame({"a": pd.Categorical(["x", "y"])}, index=["é", "b"]))
    for version in (2, 3):
        with anndata.settings.override(zarr_write_format=version), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # AnnData's word on the older format
            table.write_zarr(tmp_path / f"{version}.zarr")
        check_zarr_folder(tmp_path / f"{version}.zarr")


@pytest.mark.parametrize(
    "metadata",
    [
        {"zarr_format": 2, "dtype": "|O", "compressor": None, "filters": [{"id": "pickle", "protocol": 5}]},
        {"zarr_format": 3, "data_type": "bytes", "codecs": [{"name": "numcodecs.pickle"}]},
    ],
)
@pytest.mark.parametrize("consolidated", [False, True])
def test_pickle_is_refused_by_content(tmp_path: Path, metadata: dict, consolidated: bool) -> None:
    name = "zarr.json" if metadata["zarr_format"] == 3 else ".zmetadata" if consolidated else ".zarray"
    (tmp_path / "tables").mkdir()
    inside = {"metadata": {"tables/obs/.zarray": metadata}} if consolidated else metadata
    (tmp_path / "tables" / name).write_text(json.dumps(inside))
    with pytest.raises(ReadError, match=r"tables.*: expected numbers or text, found an array stored as pickle"):
        check_zarr_folder(tmp_path)


def test_objects_without_a_text_codec_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".zarray").write_text(json.dumps({"dtype": "|O", "compressor": None, "filters": None}))
    with pytest.raises(ReadError, match="array of Python objects"):
        check_zarr_folder(tmp_path)


@pytest.mark.parametrize("key", ["../outside/.zarray", "/etc/.zarray", "a/../../b/.zarray", "..\\b/.zarray", "C:/b"])
def test_keys_that_leave_the_store_are_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / ".zmetadata").write_text(json.dumps({"metadata": {key: {}}}))
    with pytest.raises(ReadError, match="found a key that leaves the store"):
        check_zarr_folder(tmp_path)


def test_links_are_refused_and_all_faults_are_listed(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    store.mkdir()
    (tmp_path / "secret").write_text("s")
    (store / "c0").symlink_to(tmp_path / "secret")
    (store / "folder").symlink_to(tmp_path)
    (store / "zarr.json").write_text("{")
    with pytest.raises(ReadError) as refusal:
        check_zarr_folder(store)
    text = str(refusal.value)
    assert text.count("found a link") == 2 and "text that is not JSON" in text and "secret" not in text


def test_zip_slip_is_refused(tmp_path: Path) -> None:
    link = ZipInfo("zarr.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with ZipFile(tmp_path / "s.zarr.zip", "w") as archive:
        archive.writestr("../../x", "evil")
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ReadError, match=r"(?s)'\.\./\.\./x'.*outside the archive.*'zarr\.json'.*a link"):
        check_zip_members(tmp_path / "s.zarr.zip")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(ReadError, match="a damaged ZIP"):
        check_zip_members(tmp_path / "cut.zip")
