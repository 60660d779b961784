"""What a build doubts of genes, slides and frames stands in its store; what the user named is not dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

Say = Callable[..., tuple[int, str, str]]


def _write(path: Path, genes: list[str], step: float = 10.0) -> None:
    x, y = (step * v.ravel() for v in np.meshgrid(np.arange(8), np.arange(8)))
    counts = np.random.default_rng(len(path.stem)).poisson(2.0, (64, len(genes))).astype(np.float32)
    obs = pd.DataFrame(index=[f"{path.stem}{i}" for i in range(64)])
    table = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes), obsm={"spatial": np.column_stack([x, y])})
    table.write_h5ad(path)


def _build(say: Say, folder: Path, sections: str, *more: object) -> tuple[int, str, str]:
    (folder / "t.yaml").write_text(f"task: {{name: t, sections: [{sections}]}}\n")
    code, _, err = say("build", folder / "t.yaml", "--out", folder / "g.zarr", *more)
    said = json.loads(say("inspect", folder / "g.zarr", "--json")[1])["doubts"] if code == 0 else []
    return code, err, "\n".join(said)


def _source(name: str, level: str = "cell") -> str:
    return f"{{path: ./{name}.h5ad, level: {level}, um_per_unit: 1.0, diameter_um: 8}}"


def test_sections_that_share_a_third_of_their_genes_are_doubted(tmp_path: Path, say: Say) -> None:
    genes = [f"GENE{i}" for i in range(30)]
    _write(tmp_path / "a.h5ad", genes)
    _write(tmp_path / "b.h5ad", genes[:10] + [gene.capitalize() for gene in genes[10:]])
    sections = ", ".join(f"{{name: {name}, donor: {name}, sources: [{_source(name)}]}}" for name in "ab")
    code, err, doubts = _build(say, tmp_path, sections)
    assert code == 0 and "10 of 30 features shared with b" in doubts and doubts in err
    assert "20 differ by capitals alone: 'GENE10', 'Gene10'" in doubts


@pytest.mark.parametrize(
    ("shared", "said"), [(0, "no feature shared by cell and patch"), (9, "9 of 30 features shared")]
)
def test_levels_of_other_names_are_refused_and_of_few_genes_doubted(
    tmp_path: Path, say: Say, shared: int, said: str
) -> None:
    genes = [f"GENE{i}" for i in range(30)]
    _write(tmp_path / "a.h5ad", genes)
    _write(tmp_path / "spots.h5ad", genes[:shared] + [f"ENSG{i:011d}" for i in range(30 - shared)])
    code, err, doubts = _build(say, tmp_path, f"{{name: s, sources: [{_source('a')}, {_source('spots', 'patch')}]}}")
    assert said in (doubts if shared else err) and code == (0 if shared else 2)


def test_levels_of_two_species_are_refused_as_such(tmp_path: Path, say: Say) -> None:
    _write(tmp_path / "a.h5ad", [f"GENE{i}" for i in range(30)])
    _write(tmp_path / "spots.h5ad", [f"Gene{i}" for i in range(30)])
    code, err, _ = _build(say, tmp_path, f"{{name: s, sources: [{_source('a')}, {_source('spots', 'patch')}]}}")
    assert code == 2 and "30 differ by capitals alone: 'GENE0', 'Gene0'" in err and "`graph.orthologs`" in err


def test_a_slide_named_without_features_is_doubted(tmp_path: Path, say: Say) -> None:
    import tifffile

    _write(tmp_path / "a.h5ad", [f"GENE{i}" for i in range(5)])
    tifffile.imwrite(tmp_path / "he.tif", np.full((128, 128, 3), 200, np.uint8))
    slide = "{path: ./he.tif, reader: slide, mpp: 1.0}"
    code, _, doubts = _build(say, tmp_path, f"{{name: s, sources: [{_source('a')}, {slide}]}}")
    assert code == 0 and "s · slide: expected features, found no `task.features`; set `task.features: {}`" in doubts


def test_what_no_section_holds_to_describe_is_doubted(tmp_path: Path, say: Say) -> None:
    """An encoder without a slide, and shapes of cells without outlines, are asked for and not done."""
    _write(tmp_path / "a.h5ad", [f"GENE{i}" for i in range(30)])
    section = f"{{name: a, sources: [{_source('a')}]}}"
    given = ("--set", "task.features={encoder: ./none.pt}", "--set", "task.morphology={}")
    code, _, doubts = _build(say, tmp_path, section, *given)
    assert code == 0
    assert "task.features: " in doubts and "found no slide in any section" in doubts
    assert "task.morphology: " in doubts and "found no outline of a cell in any section" in doubts


def test_what_moves_also_moves(tmp_path: Path) -> None:
    from aivc_graph import names
    from aivc_graph.config import load_config
    from aivc_graph.pipeline.build import read_section
    from aivc_graph.tissue.frame import affine_of

    for name in ("a", "spots"):
        _write(tmp_path / f"{name}.h5ad", [f"GENE{i}" for i in range(5)])
    method = "{kind: scale, um_per_unit: 2.0, moving: patch, fixed: cell, also: [cell]}"
    sources = f"[{_source('a')}, {_source('spots', 'patch')}]"
    (tmp_path / "t.yaml").write_text(
        f"task: {{sections: [{{name: s, sources: {sources}, registration: [{method}]}}]}}\n"
    )
    task = load_config(tmp_path / "t.yaml").task
    section = read_section(task.sections[0])
    assert [affine_of(section, level)[0, 0] for level in (names.PATCH, names.CELL)] == [2.0, 2.0]


def test_settings_of_another_graph_are_refused_beside_one(tmp_path: Path, say: Say) -> None:
    _write(tmp_path / "a.h5ad", [f"GENE{i}" for i in range(30)])
    assert _build(say, tmp_path, f"{{name: s, sources: [{_source('a')}]}}")[0] == 0
    given = ["train", tmp_path / "t.yaml", "--graph", tmp_path / "g.zarr", "--out", tmp_path / "run"]
    code, _, err = say(*given, "--set", "graph.patch_um=50")
    assert code == 2 and "expected 100.0, as it was built, found graph.patch_um 50.0; leave out --graph" in err


def test_counts_of_one_section_and_logarithms_of_another_are_refused(tmp_path: Path, say: Say) -> None:
    """Components of logarithms are no state of counts: niches would be told apart by section, and surely."""
    for name in "ab":
        _write(tmp_path / f"{name}.h5ad", [f"GENE{i}" for i in range(30)])
    logs = anndata.read_h5ad(tmp_path / "b.h5ad")
    logs.X = np.log1p(logs.X / logs.X.sum(axis=1, keepdims=True) * 1e4)
    logs.write_h5ad(tmp_path / "b.h5ad")
    told = _source("b").replace("level:", "values: log, level:")
    sections = f"{{name: a, sources: [{_source('a')}]}}, {{name: b, sources: [{told}]}}"
    (tmp_path / "t.yaml").write_text(f"task: {{name: t, sections: [{sections}]}}\ntraining: {{epochs: 0}}\n")
    code, _, err = say("train", tmp_path / "t.yaml", "--out", tmp_path / "run")
    assert code == 2 and "fewer than 10 training nodes with both rna and log_expression; add a section with both" in err
