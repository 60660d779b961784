"""Inputs that people bring, each tried as they would type it: read rightly, doubted aloud, or refused with a way on."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pytest

from aivc_graph.graph.store import read_store
from aivc_graph.graph.tissue_graph import TissueGraph

Say = Callable[..., tuple[int, str, str]]


class Said(NamedTuple):
    """What a case's commands gave: exit codes, output, errors."""

    codes: list[int]
    out: str
    err: str


class Case:
    """A copy of one case's folder, in which its commands run."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder, self.say = folder, say

    def run(self, *more: str) -> Said:
        """Run the lines of ``cmd.txt``, each with `more`."""
        codes, out, err = [], "", ""
        for line in (self.folder / "cmd.txt").read_text().strip().split(";"):
            given = [word for word in shlex.split(line) if not word.startswith("AIVC_DATA=")]
            code, told, faults = self.say(*given[1:], *more)
            codes.append(code)
            out, err = out + told, err + faults
        return Said(codes, out, err)

    def built(self, *more: str) -> tuple[TissueGraph, str]:
        """Run ``cmd.txt``, which builds; return the graph and what its store says was doubted."""
        found = self.run(*more)
        assert found.codes == [0], found.err
        graph = read_store(self.folder / "g.zarr")
        return graph, "\n".join(json.loads(self.say("inspect", "g.zarr", "--json")[1])["doubts"])

    def inspected(self, *more: str) -> dict[str, Any]:
        """Run ``cmd.txt``, which inspects, and return what it says."""
        more = more if "--json" in (self.folder / "cmd.txt").read_text() else ("--json", *more)
        found = self.run(*more)
        assert found.codes == [0], found.err
        return json.loads(found.out)


@pytest.fixture
def case(
    request: pytest.FixtureRequest, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> Case:
    """Return a copy of the case whose number begins its name; skip where the cases are absent."""
    folder = data_dir.parent / "cases" / "outsiders"
    found = next(iter(folder.glob(f"{request.param}-*")), None)
    if found is None:
        pytest.skip(f"case absent: {folder}/{request.param}-*")
    shutil.copytree(found, tmp_path / found.name, copy_function=shutil.copyfile)
    monkeypatch.chdir(tmp_path / found.name)
    monkeypatch.setenv("AIVC_DATA", ".")
    return Case(tmp_path / found.name, say)


def of(number: str) -> pytest.MarkDecorator:
    """Run a test on the case of this number."""
    return pytest.mark.parametrize("case", [number], indirect=True)


@of("01")
def test_two_sections_in_one_file_are_doubted_and_parted(case: Case) -> None:
    assert "'A' and 'B' (by column 'library_id') lie on the same ground" in case.built()[1]
    graph, doubts = case.built("--set", "task.sections.0.sections_by=library_id")
    assert graph.obs("section").index.tolist() == ["A", "B"] and not doubts
    row, column = graph["cell", "near", "cell"].adj_t.to_sparse_coo().indices().numpy()
    section = graph["cell"].section_index.numpy()
    assert (section[row] == section[column]).all() and np.bincount(section).tolist() == [300, 300]


@of("02")
def test_a_table_on_labels_is_joined_to_shapes_by_id(case: Case) -> None:
    graph, doubts = case.built()
    assert graph["gene"].num_nodes == 40 and graph["cell"].rna_mask.all()
    assert "found a table of 'cell_labels'; it is joined by id" in doubts


@of("06")
def test_of_an_overview_and_a_slide_the_slide_is_read(case: Case) -> None:
    slide = case.inspected()["slides"]["slide"]
    assert sorted(slide["shape"].values()) == [3, 1600, 2400] and slide["um_per_pixel"] == 0.5


@of("08")
def test_swapped_rows_and_columns_are_told_in_the_record(case: Case) -> None:
    assert any("mirror image of the array" in one for one in case.inspected()["doubts"])


@of("10")
def test_blanks_are_no_genes(case: Case) -> None:
    graph, _ = case.built()
    assert graph["gene"].num_nodes == 40 and not graph.obs("gene").index.str.startswith("Blank").any()


@of("11")
def test_annotation_among_counts_is_no_gene(case: Case) -> None:
    graph, doubts = case.built()
    assert graph["gene"].num_nodes == 40
    assert not {"fov", "leiden", "total_counts"} & set(graph.obs("gene").index)
    assert all(name in doubts for name in ("fov", "leiden", "total_counts"))


@of("12")
def test_columns_of_positions_are_told_by_name(case: Case) -> None:
    graph, _ = case.built()
    found = anndata.read_h5ad(case.folder / "df.h5ad")
    xy = found.obsm["spatial"].loc[graph.obs("cell")["barcode"], ["x", "y"]].to_numpy()
    scale = np.ptp(graph["cell"].pos.numpy(), axis=0) / np.ptp(xy, axis=0)
    np.testing.assert_allclose(graph["cell"].pos.numpy(), xy * scale, rtol=1e-3)
    assert scale[0] == pytest.approx(scale[1], rel=1e-3)


@of("13")
def test_a_second_plane_is_doubted(case: Case) -> None:
    assert "heights over 100 µm" in case.built()[1]


@of("14")
def test_spots_that_were_not_measured_are_told(case: Case) -> None:
    assert any("30 of 300 patch nodes measured" in one for one in case.inspected()["doubts"])


@of("15")
def test_spots_off_the_tissue_are_left_out(case: Case) -> None:
    assert case.built()[0]["patch"].num_nodes == 93


@of("16")
def test_an_aggregated_matrix_is_refused_with_a_way_on(case: Case) -> None:
    found = case.run()
    assert found.codes == [2] and "libraries (-1, -2) that share 160 barcodes" in found.err
    option = "library"
    assert f"`{option}:`" in found.err and "unexpected" not in found.err
    assert case.run("--set", f"task.sections.0.sources.0.{option}=1").codes == [0]


@of("17")
def test_counts_in_raw_are_offered_and_taken(case: Case) -> None:
    found = case.run()
    assert found.codes == [2] and "as `layer:` (layers: raw)" in found.err
    graph, _ = case.built("--set", "task.sections.0.sources.0.layer=raw")
    found = anndata.read_h5ad(case.folder / "cxg.h5ad").raw.X
    assert graph["gene", "observed_in", "cell"].adj_t.values().sum() == found.sum()


@of("18")
def test_plain_text_under_a_packed_name_is_read(case: Case) -> None:
    assert case.inspected()["levels"]["cell"]["nodes"] == 200


@of("19")
def test_segmented_cells_are_read_or_refused_with_what_is(case: Case) -> None:
    found = case.run()
    assert found.codes in ([0], [2])
    assert ("cell" in found.out) if found.codes == [0] else ("binned_outputs/square_" in found.err)
    assert "`none` does without" not in found.err


@of("20")
def test_pictures_of_newer_runs_are_placed(case: Case) -> None:
    picture = "morphology_focus/ch0000_dapi.ome.tif"
    code, out, err = case.say("inspect", "outs", "--json", "--set", f"slide={picture}")
    assert code == 0 and json.loads(out)["slides"]["slide"]["um_per_pixel"] == 0.2125, err
    assert "unplaced" not in case.run().err


@of("21")
def test_proteins_are_no_controls(case: Case) -> None:
    found = case.inspected()
    told = any("3 features of type 'Protein Expression' are left out" in one for one in found["doubts"])
    assert told or any(table["features"] == 3 for table in found["observations"].values())
    assert found["observations"]["cell_rna"]["features"] == 40


@of("22")
def test_logarithms_of_another_depth_are_refused(case: Case) -> None:
    for name, told in (("p", "3,000 a row"), ("p2", "a row")):
        found = case.run("--predictions", f"{name}.h5ad")
        assert found.codes == [2] and "expected 10,000, as of the cells measured" in found.err and told in found.err
    right = case.run("--predictions", "p0.h5ad")
    results = json.loads((case.folder / "out" / "evaluation.json").read_text())["results"]
    score = next(r["value"] for r in results if r["metric"] == "mse_delta" and r["kind"] == "model")
    assert right.codes == [0] and score < 0.3


@of("23")
def test_a_sound_file_says_what_it_is_and_what_a_build_needs(case: Case) -> None:
    found = case.inspected()
    assert (found["rows"], found["features"], found["spacing_in_units"]) == (300, 50, 7.7089)
    assert [text.split(":")[0] for text in found["needs"]] == ["level", "um_per_unit", "diameter_um"]
    assert case.run("--set", "level=cell", "--set", "um_per_unit=1", "--set", "diameter_um=8").codes == [0]


@of("24")
def test_oblong_pixels_are_refused(case: Case) -> None:
    found = case.run()
    assert found.codes == [2] and "found 0.5 × 1 µm" in found.err


@of("25")
def test_targets_that_genes_are_not_named_by_are_doubted(case: Case) -> None:
    """The file's `screen:` is refused with the `task:` that does the same, which is then built as it was told."""
    found = case.run()
    told = re.search(r"`(task: .*?)` \(", found.err)
    assert found.codes == [2] and told is not None
    (case.folder / "config.yaml").write_text(told[1])
    assert case.say("build", "config.yaml", "--out", "g.zarr")[0] == 0
    (doubt,) = json.loads(case.say("inspect", "g.zarr", "--json")[1])["doubts"]
    assert "12 of 12 targets are not among the measured genes" in doubt and "symbols:" in doubt


@of("27")
def test_sections_that_share_a_third_of_their_genes_are_doubted(case: Case) -> None:
    graph, doubts = case.built()
    assert graph["gene"].num_nodes == 100 and "found 20 of 60 features shared with" in doubts
    assert "40 differ by capitals alone" in doubts


@of("29")
def test_names_as_downloaded_are_read(case: Case) -> None:
    found = case.run("--json")
    assert found.codes == [0, 0], found.err
    assert found.out.count('"nodes": 300') == 2 and found.out.count('"features": 60') == 2


def followed(case: Case) -> tuple[int, str]:
    """Write the file anew as the refusal of an old one says, and build it; return the exit code and what was told."""
    advice = re.search(r"write it as `(task: .*?)`", case.run().err, re.S)
    assert advice is not None
    (case.folder / "new.yaml").write_text(advice[1] + "\n")
    code, out, err = case.say("build", "new.yaml", "--out", "g.zarr")
    return code, out + err


def interventions(case: Case) -> set[str]:
    """Return the names of what was done in the graph that was built."""
    return {str(name).partition(":")[2] for name in read_store(case.folder / "g.zarr").obs("intervention").index}


@of("03")
def test_pairs_joined_by_another_sign_are_refused_with_the_separator(case: Case) -> None:
    code, said = followed(case)
    assert code == 2 and "'GENE0_GENE1', which reads as a pair of two conditions that are there" in said
    text = (case.folder / "new.yaml").read_text()
    (case.folder / "new.yaml").write_text(text.replace("kind: knockout", "kind: knockout, separator: _"))
    assert case.say("build", "new.yaml", "--out", "g.zarr")[0] == 0
    assert not any("_" in name for name in interventions(case)) and {"GENE0", "GENE1"} <= interventions(case)


@of("04")
def test_a_plus_at_the_end_of_a_name_is_refused_and_one_in_brackets_is_part_of_it(case: Case) -> None:
    code, said = followed(case)
    assert code == 2 and "'NAD+'" in said and "double quotes" in said and "JQ1" not in said
    table = anndata.read_h5ad(case.folder / "s.h5ad")
    table.obs["condition"] = table.obs["condition"].astype(str).replace("NAD+", '"NAD+"')
    table.write_h5ad(case.folder / "s.h5ad")
    assert case.say("build", "new.yaml", "--out", "g.zarr")[0] == 0
    assert {"(+)-JQ1", "NAD", "NAD+"} <= interventions(case) and not {"(", ")-JQ1"} & interventions(case)


@of("05")
def test_a_vehicle_beside_a_drug_is_nothing(case: Case) -> None:
    code, said = followed(case)
    assert code == 0 and "taken for nothing done: 'DMSO' (480 rows), 'Vehicle' (200 rows)" in said
    assert "DMSO" not in interventions(case)


@of("05b")
def test_several_names_of_controls_are_all_controls_and_told(case: Case) -> None:
    code, said = followed(case)
    assert code == 0 and "'NTC' (60 rows), 'control' (100 rows), 'safe-targeting' (40 rows)" in said
    assert not {"NTC", "safe-targeting"} & interventions(case)
