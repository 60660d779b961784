"""Which reader takes what: one at most for everything real; each vendor read, or refused for the right reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aivc_graph.errors import AivcError, ReadError
from aivc_graph.io.reading import READERS, read, recognise
from aivc_graph.tissue.section import metadata_of

MINI = "vendor-formats/mini-imaging"
TABLE: dict[str, Any] = {"reader": "plain_table", "level": "cell", "diameter_um": 10}

# What each vendor's delivery needs, and the nodes and features it then gives.
READ: list[tuple[str, dict[str, Any], tuple[int, int]]] = [
    ("vendor-formats/spaceranger-visium/1.0.0", {}, (4235, 100)),
    ("vendor-formats/spaceranger-sfe/sample01", {}, (12, 5)),
    ("vendor-formats/spaceranger-sfe/sample01/outs", {}, (12, 5)),
    ("vendor-formats/spaceranger-sfe/sample02", {}, (13, 5)),
    # Thinned to spots and bins far from each other: `check=False` reads them as a part of something.
    ("vendor-formats/spaceranger-visiumio/10xVisium/section1", {"check": False}, (22, 49)),
    ("vendor-formats/spaceranger-visiumio/binned_outputs/square_002um", {"check": False}, (10, 10)),
    ("vendor-formats/spaceranger-visiumio", {"check": False}, (10, 10)),
    (f"{MINI}/Xenium_small", {}, (6, 4)),
    (f"{MINI}/CosMx_small", {}, (9, 8)),
    (f"{MINI}/MERSCOPE_small", {}, (8, 9)),
    (
        f"{MINI}/CosMx_small/lung_p9s1_exprMat_file.csv",
        {
            **TABLE,
            "positions": "lung_p9s1_metadata_file.csv",
            "barcode": ("fov", "cell_ID"),
            "columns": ("Area",),
            "um_per_unit": 0.18,
        },
        (9, 8),
    ),
    (
        f"{MINI}/MERSCOPE_small/ovarian_p2s2_cell_by_gene.csv",
        {**TABLE, "positions": "ovarian_p2s2_cell_metadata.csv", "columns": ("fov", "volume"), "um_per_unit": 1},
        (8, 9),
    ),
    (
        f"{MINI}/STARmapPLUS_small/mockraw_expression_pd.csv",
        {**TABLE, "positions": "mock_spatial.csv", "transpose": True, "um_per_unit": 1},
        (9, 8),
    ),
]

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "spaceranger-visium/2.1.0",
        {},
        r"expected filtered_feature_bc_matrix or raw_feature_bc_matrix.*found no such matrix but raw_probe",
    ),
    ("spaceranger-visium/2.1.0", {"counts": "none"}, r"no positions of spots but raw_probe_bc_matrix.h5"),
    ("spaceranger-visium", {}, r"no reader recognises it"),
    ("spaceranger-visiumio/10xVisium/section1", {}, r"median nearest-neighbour distance of 626 µm"),
    ("spaceranger-visiumio/binned_outputs/square_002um", {}, r"median nearest-neighbour distance of 972 µm"),
    ("mini-imaging/CosMx_small/lung_p9s1_exprMat_file.csv", {}, r"part of a delivery: give its folder .*CosMx_small"),
    ("mini-imaging/CosMx_small/lung_p9s1_exprMat_file.csv", TABLE, r"expected x and y.*`positions:`"),
    ("mini-imaging/Xenium_small/cell_feature_matrix.h5", {}, r"no reader recognises it"),
]


@pytest.mark.parametrize(("path", "options", "size"), READ, ids=[entry[0] for entry in READ])
def test_each_vendor_is_read(data_dir: Path, path: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    if "positions" in options:
        options = {**options, "positions": (data_dir / path).parent / options["positions"]}
    section = read(data_dir / path, **options)
    level = next(iter(section.shapes))
    assert (len(section.shapes[level]), section.tables[f"{level}_rna"].n_vars) == size
    assert metadata_of(section)["section"]


@pytest.mark.parametrize(("path", "options", "why"), REFUSED)
def test_what_is_not_whole_is_refused_for_its_reason(
    data_dir: Path, path: str, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(AivcError, match=why):
        read(data_dir / "vendor-formats" / path, **options)


def test_the_files_of_every_vendor_are_accounted_for(data_dir: Path) -> None:
    """A folder that is new under vendor-formats must be added to one of the lists above."""
    listed = [data_dir / path for path, _, _ in READ] + [data_dir / "vendor-formats" / path for path, _, _ in REFUSED]
    for folder in sorted((data_dir / "vendor-formats").glob("*/*")):
        if folder.is_dir():
            assert any(folder in (path, *path.parents) for path in listed), folder


@pytest.mark.parametrize(
    "root",
    [
        "vendor-formats",
        "her2st",
        "dlpfc-visium",
        "osmfish-mouse-ssc",
        "xenium-visium-breast",
        "st-breast-4slices",
        "imc-pancreas",
    ],
)
def test_no_path_is_claimed_by_two_readers(data_dir: Path, root: str) -> None:
    for path in sorted((data_dir / root).rglob("*")):
        if any(parent.suffix == ".zarr" for parent in path.parents):
            continue
        claims = [name for name in READERS if READERS[name].recognises(path)]
        assert len(claims) <= 1, (path, claims)


@pytest.mark.parametrize(
    ("path", "reader"),
    [
        ("her2st/ST-cnts/A1.tsv.gz", "legacy_st"),
        ("st-breast-4slices/slice3.csv.gz", "legacy_st"),
        ("dlpfc-visium/151510/dlpfc_151510_500genes.h5ad", "h5ad"),
        ("dlpfc-visium/151673", "spaceranger"),
        ("osmfish-mouse-ssc/osmFISH_SScortex_mouse_all_cells.loom", "loom"),
        ("xenium-visium-breast/xenium_pikachu.csv.gz", "plain_table"),
        ("xenium-visium-breast/visium_eevee.csv.gz", "plain_table"),
        ("imc-pancreas/images/pancreasSCE_cells.csv", "intensity_table"),
    ],
)
def test_real_data_finds_its_reader(data_dir: Path, path: str, reader: str) -> None:
    assert recognise(data_dir / path) == reader


@pytest.mark.parametrize(
    "path",
    [
        "her2st/ST-spotfiles/A1_selection.tsv",
        "her2st/ST-pat-lbl/A1_labeled_coordinates.tsv",
        "her2st/ST-cluster-lbl/A1-cluster-annotation.tsv.gz",
        "iss-mouse-ca1/spots.csv",
        "dlpfc-visium/151510/tissue_spot_counts.csv",
    ],
)
def test_tables_that_are_no_counts_are_not_taken_for_them(data_dir: Path, path: str) -> None:
    with pytest.raises(ReadError, match=r"no reader recognises it"):
        recognise(data_dir / path)


def test_recognising_never_raises(tmp_path: Path) -> None:
    contents = (
        b"",
        b"\0" * 64,
        b"\x1f\x8bnot gzip",
        b"\x89HDF\r\n\x1a\n" + b"\1" * 64,
        b"a\r,b\n",
        b"PAR1",
        b"\xff\xfe\n",
    )
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.csv").write_bytes(content)
    (tmp_path / "empty").mkdir()
    for path in [*tmp_path.iterdir(), tmp_path / "absent"]:
        assert not [name for name in READERS if READERS[name].recognises(path)], path
