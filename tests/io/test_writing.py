"""A name that ends like another format is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from aivc_graph import cli
from aivc_graph.errors import ConfigError, StoreError
from aivc_graph.io.writing import check_export


@pytest.mark.parametrize(
    ("name", "to", "said"),
    [
        ("e.h5ad", "geojson", r"expected \.geojson or \.json, or a folder, found the ending '\.h5ad'; .* --to h5ad"),
        ("e.geojson", "h5ad", "set --to geojson"),
        ("e.zarr", "graphml", "set --to spatialdata"),
        ("e.csv", "spatialdata", "expected .zarr, or a folder, found the ending '.csv'; rename it$"),
    ],
)
def test_the_ending_of_another_format_is_refused(tmp_path: Path, name: str, to: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_export(tmp_path / name, to)


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("out", "h5ad"),
        ("run7.cell.h5ad", "h5ad"),
        ("a.json", "geojson"),
        ("out.v2", "geojson"),
        ("a.zarr", "spatialdata"),
    ],
)
def test_own_endings_and_folders_pass(tmp_path: Path, name: str, to: str) -> None:
    check_export(tmp_path / name, to)
    (tmp_path / "out").mkdir(exist_ok=True)
    check_export(tmp_path / "out", to)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_written_is_said_before_the_run_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoreError, match="nothing can be written there"):
        check_export(Path("/proc/nowhere/e.h5ad"), "h5ad")
    assert cli.main(["export", str(tmp_path), "--to", "geojson", "--out", str(tmp_path / "e.h5ad")]) == 2
    assert "the ending '.h5ad'" in capsys.readouterr().err and not (tmp_path / "e.h5ad").exists()
    for option, name in (("--out", "a.csv"), ("--plot", "a.png")):
        assert cli.main(["query", str(tmp_path), "niches", option, f"/proc/nowhere/{name}"]) == 2
        assert f"/proc/nowhere/{name}: " in capsys.readouterr().err
