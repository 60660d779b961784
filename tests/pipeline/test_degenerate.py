"""Too little, or all alike: every verb gives a right answer, or says what to do; no library's error comes through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph.evaluation.records import read_evaluation
from tests.pipeline.screens import YAML, measured, sided

Say = Callable[..., tuple[int, str, str]]
SETTINGS = "model: {latent: 4, rings: [6, 12]}\ntraining: {epochs: 1, device: cpu}\n"
ONE_CELL = "expected 1 ≤ k ≤ number of nodes, found k = 2 for 1 nodes"
NOTHING = "nothing it could be asked"


def grid(n: int) -> np.ndarray:
    return np.column_stack([np.arange(n) % 8, np.arange(n) // 8]) * 20.0


def cells(n: int, genes: int = 20, **facts: Any) -> ad.AnnData:
    """Return cells with counts on a grid; `facts`: place, counts, label."""
    counts = facts.get("counts", np.random.default_rng(n).poisson(3.0, (n, genes)) + 1)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n)])
    if "label" in facts:
        obs["label"] = pd.Categorical(facts["label"])
    made = ad.AnnData(np.asarray(counts, np.float32), obs=obs, obsm={"spatial": facts.get("place", grid(n))})
    made.var_names = [f"G{i}" for i in range(made.n_vars)]
    return made


def write(folder: Path, sections: list[ad.AnnData], split: str = "", dissociated: bool = False) -> Path:
    entries = []
    for i, data in enumerate(sections):
        data.write_h5ad(folder / f"s{i}.h5ad")
        options = "dissociated: true" if dissociated else "level: cell, um_per_unit: 1, diameter_um: 10"
        options += ", label: label" if "label" in data.obs else ""
        source = f"{{path: {folder}/s{i}.h5ad, reader: h5ad, {options}}}"
        entries.append(f"{{name: s{i}, donor: d{i}, sources: [{source}]}}")
    config = folder / "c.yaml"
    config.write_text(f"task: {{sections: [{', '.join(entries)}]{split}}}\n{SETTINGS}")
    return config


HELD_OUT = ", split: {kind: by_group, key: donor, test: [d1]}"
# What there is, and what is said by `build`, `query niches --k 2` and `evaluate`; nothing where they answer.
CASES: dict[str, tuple[list[ad.AnnData], str, str, str, str]] = {
    "one cell": ([cells(1)], "", "", ONE_CELL, NOTHING),
    "two cells": ([cells(2)], "", "", "", NOTHING),
    "no cell": ([cells(0)], "", "expected at least one, found no node at all", "", ""),
    "one gene": ([cells(40, 1)], "", "", "", ""),
    "no gene": ([cells(40, 0)], "", "no gene among the features", "", ""),
    "on a line": ([cells(30, place=np.column_stack([np.arange(30) * 20.0, np.zeros(30)]))], "", "", "", ""),
    "in one place": ([cells(30, place=np.zeros((30, 2)))], "", "a median nearest-neighbour distance of 0 µm", "", ""),
    "zeros": ([cells(40, counts=np.zeros((40, 20)))], "", "expected counts, found zeros only; check which", "", ""),
    "one count": ([cells(40, counts=np.eye(40, 20) * (np.arange(40) < 1)[:, None])], "", "", "", NOTHING),
    "all alike": ([cells(40, counts=np.ones((40, 20)))], "", "", "", ""),
    "one type": ([cells(40, label=["a"] * 40)], "", "", "", ""),
    "a type each": ([cells(40, label=[f"t{i}" for i in range(40)])], "", "", "", ""),
    "no type": ([cells(40, label=pd.Categorical([None] * 40, categories=["a"]))], "", "", "", ""),
    "a cell a donor": ([cells(1), cells(1, 20)], HELD_OUT, "", "", ""),
    "all held out": (
        [cells(40)],
        HELD_OUT.replace("d1", "d0"),
        "all 1 groups by donor held out; hold out fewer",
        "",
        "",
    ),
    "a block": ([cells(4)], ", split: {kind: by_block}", "take a smaller `block_um`, or split by group", "", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_too_little_or_all_alike(case: str, tmp_path: Path, say: Say) -> None:
    sections, split, *expected = CASES[case]
    if case == "a cell a donor":
        sections[1].X = sections[1].X + 1  # else it is the same cell twice
        expected[2] = NOTHING
    config, run = write(tmp_path, sections, split), tmp_path / "run"
    verbs = (
        ("train", config, "--out", run),
        ("query", run, "niches", "--k", 2),
        ("evaluate", run),
        ("query", run, "composition"),
        ("query", run, "expression", "--at", "niche"),
    )
    for verb, said in zip(verbs, (*expected, "", ""), strict=True):
        code, _, err = say(*verb, "--quiet")
        assert code == (2 if said else 0) and said in err and "unexpected" not in err, (verb, err)
        if said and verb[0] == "train":
            return


@pytest.mark.parametrize(("n", "counts"), [(1, None), (5, None), (30, 0)])
def test_too_few_dissociated_cells(n: int, counts: int | None, tmp_path: Path, say: Say) -> None:
    given = cells(n) if counts is None else cells(n, counts=np.zeros((n, 20)))
    config, run = write(tmp_path, [given], dissociated=True), tmp_path / "run"
    code, _, err = say("train", config, "--out", run, "--quiet")
    assert (code, "zeros only" in err) == ((0, False) if counts is None else (2, True)) and "unexpected" not in err
    if counts is None:
        assert say("query", run, "niches")[0] == 0 and "unexpected" not in say("evaluate", run)[2]


@pytest.mark.parametrize("alike", ["one gene", "one gene, all alike in training"])
def test_a_screen_of_one_gene(alike: str, tmp_path: Path, say: Say) -> None:
    screen = sided(measured())[:, :1].copy()
    if "alike" in alike:
        values = screen.X.toarray()
        values[(screen.obs["split"] == "train").to_numpy()] = 1.0
        screen.X = values + 0.0
    screen.write_h5ad(tmp_path / "screen.h5ad")
    (tmp_path / "small.yaml").write_text(YAML)
    code, _, err = say("evaluate", tmp_path / "small.yaml", "--out", tmp_path / "out", "--quiet")
    assert "unexpected" not in err and code in (0, 2)
    if code == 0:
        assert read_evaluation(tmp_path / "out/evaluation.json").results


def test_a_sparse_matrix_that_points_outside_itself_is_named(tmp_path: Path, say: Say) -> None:
    import h5py
    from scipy import sparse

    data = cells(40)
    data.X = sparse.csr_matrix(data.X)
    config = write(tmp_path, [data])
    with h5py.File(tmp_path / "s0.h5ad", "r+") as file:
        file["X/indices"][3] = 2_000_000
    code, _, err = say("build", config, "--out", tmp_path / "g.zarr")
    assert code == 2 and "s0.h5ad · X: a damaged sparse matrix" in err
