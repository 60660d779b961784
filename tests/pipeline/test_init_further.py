"""`aivc init` on what people bring beyond the usual: other names, units, values and files than those it likes best."""

from __future__ import annotations

import gzip
import shutil
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.config import SourceConfig, load_config
from aivc_graph.errors import ReadError
from aivc_graph.graph.store import read_store
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.init import init

N, GENES = 60, [f"GENE{i}" for i in range(40)]
MARKERS = ["CD3", "CD8", "CD20", "PanCK", "Ki67"]


def cells(n: int = N, genes: list[str] = GENES, *, spread: float = 120.0, **obs: object) -> ad.AnnData:
    """Return counts of cells with positions."""
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(1 + rng.poisson(3.0, (n, len(genes))).astype(np.float32))
    found = ad.AnnData(counts, pd.DataFrame(obs, [f"c{i}" for i in range(n)]), pd.DataFrame(index=genes))
    found.obsm["spatial"] = rng.random((n, 2)) * spread
    return found


def loose(*given: object, **named: object) -> ad.AnnData:
    """Return the same without positions."""
    found = cells(*given, **named)  # type: ignore[arg-type]
    del found.obsm["spatial"]
    return found


def only_source(folder: Path) -> SourceConfig:
    """Return the one source of the one section that was found in a folder."""
    (section,) = load_config(folder / "aivc.yaml").task.sections
    (source,) = section.sources
    return source


def built(folder: Path) -> TissueGraph:
    """Build what `init` wrote, as it stands."""
    return read_store(build(load_config(folder / "aivc.yaml"), folder / "graph.zarr"))


def test_other_molecules_of_the_same_cells_are_one_section(tmp_path: Path) -> None:
    donor = np.tile(["D1", "D2"], N // 2)
    loose(donor=donor, cell_type=np.tile(["T", "B"], N // 2)).write_h5ad(tmp_path / "rna.h5ad")
    proteins = loose(genes=MARKERS, donor=donor)[::-1].copy()
    proteins.write_h5ad(tmp_path / "adt.h5ad")  # no column tells what the features are; the file's name does
    found = init(tmp_path)
    assert found["found"] == ["rna: rna.h5ad (h5ad), adt.h5ad (h5ad), 2 donors"]
    text = (tmp_path / "aivc.yaml").read_text()
    assert "modality: protein   # CHECK: by the name of the file" in text
    graph = built(tmp_path)
    assert graph["cell"].num_nodes == N and graph.modalities("cell") == ["protein", "rna"]
    assert graph.obs("section").index.tolist() == ["D1", "D2"]
    paired = graph["cell"].rna_mask & graph["cell"].protein_mask
    assert paired.all()


def test_the_marrow_is_one_section_of_two_modalities(data_dir: Path, tmp_path: Path) -> None:
    """Files as they were downloaded; which column tells donors apart is asked."""
    for path in (data_dir / "bmmc-citeseq-starter").glob("*.h5ad"):
        (tmp_path / path.name).symlink_to(path)
    if not list(tmp_path.iterdir()):
        pytest.skip("bmmc-citeseq-starter absent")
    found = init(tmp_path)
    (told,) = found["found"]
    assert told.startswith("openproblems_bmmc_cite_starter: ") and told.count("(h5ad)") == 2
    assert any("'batch' tells sections, or donors, apart" in text for text in found["unclear"])


def test_proteins_of_placed_cells_lie_beside_their_counts(tmp_path: Path) -> None:
    cells(cell_type=np.tile(["T", "B"], N // 2)).write_h5ad(tmp_path / "rna.h5ad")
    cells(genes=MARKERS)[::-1].copy().write_h5ad(tmp_path / "protein.h5ad")
    init(tmp_path)
    options = only_source(tmp_path).options
    assert options["beside"] == {"protein": "protein.h5ad"} and options["label"] == "cell_type"
    graph = built(tmp_path)
    assert graph["cell"].num_nodes == N and graph.modalities("cell") == ["protein", "rna"]


@pytest.mark.parametrize("other", ["cells", "genes"])
def test_other_cells_or_the_same_molecules_stay_sections_of_their_own(tmp_path: Path, other: str) -> None:
    loose().write_h5ad(tmp_path / "a.h5ad")
    second = loose(genes=MARKERS) if other == "cells" else loose()
    if other == "cells":
        second.obs_names = [f"other{i}" for i in range(N)]
    second.write_h5ad(tmp_path / "adt.h5ad")
    init(tmp_path)
    assert [one.name for one in load_config(tmp_path / "aivc.yaml").task.sections] == ["a", "adt"]


def test_counts_positions_and_metadata_in_three_tables_are_one_section(tmp_path: Path) -> None:
    table = cells(cell_type=np.tile(["T", "B"], N // 2), donor="P1", nCount_RNA=7)
    table.to_df().T.to_csv(tmp_path / "counts.csv")
    pd.DataFrame(table.obsm["spatial"], table.obs_names, ["x", "y"]).to_csv(tmp_path / "places.csv")
    table.obs[::-1].to_csv(tmp_path / "metadata.csv")
    found = init(tmp_path)
    options = only_source(tmp_path).options
    assert (options["positions"].name, options["metadata"].name) == ("places.csv", "metadata.csv")
    assert options["label"] == "cell_type" and not any("metadata.csv" in text for text in found["unclear"])
    obs = built(tmp_path).obs("cell")
    assert obs["label"].tolist() == table.obs["cell_type"].reindex(obs["barcode"]).tolist()


@pytest.mark.parametrize(("axes", "loose"), [(["x_um", "y_um"], False), (["spot_x", "spot_y"], True)])
def test_what_looks_like_positions_is_no_metadata(tmp_path: Path, axes: list[str], loose: bool) -> None:
    table = cells(cell_type=np.tile(["T", "B"], N // 2), donor="P1", nCount_RNA=7)
    table.to_df().to_csv(tmp_path / "counts.csv")
    pd.DataFrame(table.obsm["spatial"], table.obs_names, axes).to_csv(tmp_path / "places.csv")
    table.obs.to_csv(tmp_path / "metadata.csv")
    init(tmp_path)
    options = only_source(tmp_path).options
    assert (options["positions"].name, options["metadata"].name) == ("places.csv", "metadata.csv")
    assert options.get("dissociated", False) == loose


def test_positions_of_another_name_are_taken_and_told(tmp_path: Path) -> None:
    table = cells()
    table.obsm["X_spatial"] = table.obsm.pop("spatial")
    table.write_h5ad(tmp_path / "a.h5ad")
    found = init(tmp_path)
    assert any("positions are 'X_spatial' of obsm" in text for text in found["unclear"])
    assert "dissociated" not in only_source(tmp_path).options
    assert np.isfinite(built(tmp_path)["cell"].pos.numpy()).all()


@pytest.mark.parametrize(("spread", "um"), [(120.0, 1.0), (0.12, 1000.0), (1200.0, None)])
def test_a_unit_is_guessed_where_cells_would_be_as_far_apart_as_cells_are(
    tmp_path: Path, spread: float, um: float | None
) -> None:
    """Microns and millimetres; of pixels, in which cells would lie a hundred microns apart, nothing is said."""
    cells(spread=spread).write_h5ad(tmp_path / "a.h5ad")
    init(tmp_path)
    text = (tmp_path / "aivc.yaml").read_text()
    assert ("um_per_unit" in text.split("edges")[0].split("- path")[1]) == (um is not None)
    if um is not None:
        assert only_source(tmp_path).options["um_per_unit"] == um


def test_damaged_counts_are_called_counts(tmp_path: Path) -> None:
    table = cells()
    table.X = table.X.toarray()
    table.X[3, 4] = np.nan
    table.write_h5ad(tmp_path / "a.h5ad")
    found = init(tmp_path)
    assert any("expected finite counts, found 1 values" in text for text in found["unclear"])
    assert "values:" not in (tmp_path / "aivc.yaml").read_text()


@pytest.mark.parametrize(("factor", "kind"), [("one", "intensity"), ("a row", "intensity"), ("logs", "log")])
def test_counts_that_were_scaled_are_no_logarithms(tmp_path: Path, factor: str, kind: str) -> None:
    table = cells()
    x = table.X.toarray()
    by_row = np.linspace(0.1, 0.9, N)[:, None]
    table.X = {"one": x * 0.93, "a row": x * by_row, "logs": np.log1p(x / x.sum(axis=1, keepdims=True) * 100)}[factor]
    table.write_h5ad(tmp_path / "a.h5ad")
    init(tmp_path)
    assert only_source(tmp_path).options["values"] == kind


def test_genes_called_by_ids_are_named_by_the_column_of_symbols(tmp_path: Path) -> None:
    table = cells(genes=[f"ENSG{i:011d}.{i % 3}" for i in range(40)])
    table.var["ensembl"], table.var["gene_name"] = table.var_names, GENES
    table.write_h5ad(tmp_path / "a.h5ad")
    init(tmp_path)
    assert only_source(tmp_path).options["symbols"] == "gene_name"
    assert set(built(tmp_path).obs("gene").index) == set(GENES)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_of_few_markers_in_regions_is_parted(tmp_path: Path, ending: str) -> None:
    """Too narrow to be taken for counts; its regions lie on the same ground, so distances are those within one."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(3):
        part = pd.DataFrame(rng.gamma(2.0, 30.0, (N, len(MARKERS))), columns=MARKERS)
        part[["x", "y"]] = 10.0 * np.argwhere(np.ones((6, 10))) + rng.random((N, 2))
        parts.append(part.assign(ROI=f"R{i}", patient=f"P{i}", ObjectNumber=np.arange(N), celltype="T"))
    table = pd.concat(parts)[["ROI", "ObjectNumber", "x", "y", *MARKERS, "patient", "celltype"]]
    write = table.to_csv if ending == "csv" else table.to_parquet
    write(tmp_path / f"cells.{ending}", index=False)
    init(tmp_path)
    (section,) = load_config(tmp_path / "aivc.yaml").task.sections
    assert (section.sections_by, section.donor_by) == (("ROI",), "patient")
    assert section.sources[0].options["values"] == "intensity" and section.sources[0].options["um_per_unit"] == 1.0
    graph = built(tmp_path)
    assert graph.modalities("cell") == ["intensity"] and graph["cell"].num_nodes == 3 * N


def test_a_table_of_a_vendor_s_intensities_needs_no_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(5.0, 9.0, (N, len(MARKERS))), columns=MARKERS)  # some below zero
    table.insert(0, "CellID", np.arange(N))
    table[["X_centroid", "Y_centroid"]] = 10.0 * np.argwhere(np.ones((6, 10)))
    table.assign(**{"Tile X": 1}).to_csv(tmp_path / "cells.csv", index=False)
    init(tmp_path)
    assert only_source(tmp_path).reader == "intensity_table"
    graph = built(tmp_path)
    assert list(graph["cell"].intensity_names) == MARKERS


def test_a_table_of_effects_is_read_as_effects(tmp_path: Path) -> None:
    effects = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 20)), columns=GENES[:20])
    effects.iloc[2, 3] = np.nan
    effects.index = pd.Index([f"{gene}_KO" for gene in GENES[:12]], name="perturbation")
    effects.to_csv(tmp_path / "log2fc.csv")
    found = init(tmp_path)
    assert only_source(tmp_path).options == {"dissociated": True, "values": "effect"}
    assert any("else `transpose: true`" in text for text in found["unclear"])
    assert built(tmp_path)["cell"].num_nodes == 12


@pytest.mark.parametrize("joined", ["_", "+"])
def test_what_was_done_is_offered_as_the_yaml_would_have_it(tmp_path: Path, joined: str) -> None:
    done = np.array(["control", "A", "B", f"A{joined}B"])[np.arange(N) % 4]
    table = loose(perturbation=done, dose_val="10 nM", time="24h")
    table.obs.loc["c1", "perturbation"] = np.nan  # what is missing somewhere is offered all the same
    table.write_h5ad(tmp_path / "screen.h5ad")
    found = init(tmp_path)
    assert any("'perturbation' says what was done" in text for text in found["unclear"])
    separator = ", separator: _" if joined == "_" else ""
    text = (tmp_path / "aivc.yaml").read_text()
    assert f"# interventions: {{column: perturbation, kind: KIND{separator}}}   # KIND: activation, drug" in text


def test_doses_and_times_are_offered_where_they_differ(tmp_path: Path) -> None:
    drug, dose = np.array(["DMSO", "A"])[np.arange(N) % 2], np.array(["1 uM", "10 nM", "0"])[np.arange(N) % 3]
    loose(drug=drug, dose=dose, time=np.array(["24h", "72h"])[np.arange(N) % 2]).write_h5ad(tmp_path / "s.h5ad")
    init(tmp_path)
    assert "{column: drug, kind: KIND, dose: dose, hours: time}" in (tmp_path / "aivc.yaml").read_text()


def test_edges_are_offered_for_levels_that_lie_somewhere(tmp_path: Path) -> None:
    """A reference has no neighbours; who calls rows spots finds the rule for spots."""
    cells().write_h5ad(tmp_path / "section.h5ad")
    loose(cell_type=np.tile(["T", "B"], N // 2)).write_h5ad(tmp_path / "reference.h5ad")
    init(tmp_path)
    text = (tmp_path / "aivc.yaml").read_text()
    assert "    # patch: {kind: knn, k: 6}   # in place of `cell:`" in text
    swapped = text.replace("level: cell", "level: patch").replace("    cell: {kind: knn, k: 18}\n", "")
    (tmp_path / "aivc.yaml").write_text(swapped.replace("# patch: {", "patch: {"))
    graph = built(tmp_path)
    assert graph["patch", "near", "patch"].adj_t.values().numel() and graph["patch"].num_nodes == N
    (tmp_path / "section.h5ad").unlink()
    (tmp_path / "aivc.yaml").unlink()
    init(tmp_path)
    assert "edges:" not in (tmp_path / "aivc.yaml").read_text()


def test_a_table_of_genes_by_rows_is_turned_and_its_columns_say_what_was_done(tmp_path: Path) -> None:
    effects = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 6)), columns=[f"G{i}_KO" for i in range(6)])
    effects.index = pd.Index(GENES[:20], name="gene_symbol")
    effects.to_csv(tmp_path / "lfc.tsv", sep="\t")
    init(tmp_path)
    assert only_source(tmp_path).options == {"transpose": True, "dissociated": True, "values": "effect"}
    text = (tmp_path / "aivc.yaml").read_text()
    done = "interventions: {column: column, kind: KIND}"
    (tmp_path / "aivc.yaml").write_text(text.replace(f"# {done}", done).replace("KIND}", "knockout}"))
    graph = built(tmp_path)
    assert sorted(graph.obs("cell")["condition"]) == list(effects.columns)


def test_a_list_of_effects_and_files_of_others_are_named_with_what_to_do(tmp_path: Path) -> None:
    table = pd.DataFrame({"perturbation": "A", "gene": GENES, "log2FoldChange": 0.5, "padj": 0.01})
    table.to_csv(tmp_path / "de.csv", index=False)
    (tmp_path / "seurat.rds").write_bytes(gzip.compress(b"X\n\x00\x00\x00\x03" + bytes(200)))
    said = r"de.csv \(a list of perturbation, gene, .*one column a gene\), seurat.rds \(an object of R: write it"
    with pytest.raises(ReadError, match=said):
        init(tmp_path)


@pytest.mark.parametrize("columns", [("gene_target", "guide"), ("guide", "gene_target")])
def test_of_targets_and_guides_the_targets_are_offered(tmp_path: Path, columns: tuple[str, str]) -> None:
    target = np.array(["non-targeting", "A", "B"])[np.arange(N) % 3]
    guide = np.char.add(np.char.add(target, "_sg"), (np.arange(N) % 2).astype(str))
    values = {"gene_target": target, "guide": guide}
    loose(**{name: values[name] for name in columns}).write_h5ad(tmp_path / "s.h5ad")
    init(tmp_path)
    assert "{column: gene_target, kind: KIND}" in (tmp_path / "aivc.yaml").read_text()


def test_a_unit_of_doses_in_a_column_of_its_own_is_offered(tmp_path: Path) -> None:
    drug, dose = np.array(["DMSO", "A"])[np.arange(N) % 2], np.arange(N) % 3
    loose(drug=drug, dose=dose, dose_unit="nM").write_h5ad(tmp_path / "s.h5ad")
    init(tmp_path)
    assert "{column: drug, kind: KIND, unit: nM, dose: dose}" in (tmp_path / "aivc.yaml").read_text()


def test_columns_that_look_like_places_are_asked_about(tmp_path: Path) -> None:
    places = np.arange(N) * 1.5
    table = loose(CenterX_local_px=places, CenterY_local_px=places, max_size=places, proxy=places)
    table.write_h5ad(tmp_path / "a.h5ad")
    found = init(tmp_path)
    assert any("whether CenterX_local_px, CenterY_local_px are positions" in text for text in found["unclear"])


def test_an_anndata_in_zarr_is_read_as_its_twin(tmp_path: Path) -> None:
    table = cells(cell_type=np.tile(["T", "B"], N // 2))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Writing zarr v2 data", UserWarning)
        table.write_zarr(tmp_path / "a.zarr")
    init(tmp_path)
    assert only_source(tmp_path).reader == "h5ad"
    graph = built(tmp_path)
    assert graph["cell"].num_nodes == N and graph.obs("cell")["label"].nunique() == 2
    shutil.rmtree(tmp_path / "graph.zarr")
    (tmp_path / "a.zarr" / "outside").symlink_to(tmp_path)
    with pytest.raises(ReadError, match="a link"):
        built(tmp_path)


def test_what_was_done_to_profiles_is_offered_as_well(tmp_path: Path) -> None:
    """Names of genes are those of the first column, where a description says nothing."""
    lines = ["#1.3", "3\t4\t1\t2", "id\tDescription\ta\tb\tc\td", "pert_iname\tna\tDMSO\tA\tA\tB"]
    lines += ["pert_idose\tna\t0\t1 uM\t10 nM\t1 uM"]
    lines += [f"{gene}\tna\t" + "\t".join(f"{v}" for v in (-0.5, 1.5, 0.5, i)) for i, gene in enumerate("XYZ")]
    (tmp_path / "a.gct").write_text("\n".join(lines) + "\n")
    init(tmp_path)
    assert "{column: pert_iname, kind: KIND, dose: pert_idose}" in (tmp_path / "aivc.yaml").read_text()
    assert list(built(tmp_path)["cell"].effect_names) == ["X", "Y", "Z"]
