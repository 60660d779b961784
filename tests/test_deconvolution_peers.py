"""Published tools are asked once, on what they are told they are asked on, and a failure is told as such."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
GENES = ["a", "b", "c"]
# Tells as many columns of ones as there are kinds, and leaves a mark each time that it is asked.
ANSWERS = """
import sys, numpy as np
tool, given, out = sys.argv[1:]
given = np.load(given)
open(out + ".asked", "a").write(tool)
np.savez(out, told=np.ones((len(given["counts"]), 1 + given["kind"].max())), version="7", seconds=2.4)
"""


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("deconvolution_peers")
    monkeypatch.setattr(module, "environment", lambda folder, package: Path(sys.executable))
    monkeypatch.setattr(module, "TOOLS", {"one": (one_tool, "numpy", {}), "other": (other_tool, "numpy", {})})
    monkeypatch.setattr(module, "ASK", ANSWERS)
    return module


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("deconvolution_peer")


@pytest.fixture
def options(tmp_path: Path) -> SimpleNamespace:
    return SimpleNamespace(envs=tmp_path, seconds=60)


def one_tool() -> int:
    return 1


def other_tool() -> int:
    return 2


def given(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"counts": random.poisson(3.0, (4, 3)), "cells": random.poisson(3.0, (5, 3)), "kind": np.arange(5) % 2}


def test_a_tool_is_asked_once_of_an_input(peers: Any, options: Any, tmp_path: Path) -> None:
    facts: dict[str, Any] = {}
    first = peers.ask("one", given(), options, facts)
    again = peers.ask("one", given(), options, facts)
    np.testing.assert_array_equal(first["told"], again["told"])
    assert first["told"].shape == (4, 2) and set(first) == {"told"}
    assert facts == {"one": {"version": "7", "seconds": 2}}
    assert [path.read_text() for path in tmp_path.glob("*.asked")] == ["one"]


def test_other_input_or_other_code_is_asked_anew(
    peers: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.ask("one", given(), options, {})
    peers.ask("one", given(1), options, {})
    monkeypatch.setitem(peers.TOOLS, "one", (other_tool, "numpy", {}))
    peers.ask("one", given(), options, {})
    assert len(list(tmp_path.glob("one-*.asked"))) == 3


def test_what_a_tool_failed_with_is_told(peers: Any, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {}
    monkeypatch.setattr(peers, "ASK", "raise ValueError('an array in place of a tensor')")
    assert peers.ask("one", given(), options, facts) is None
    assert facts == {"one": "ValueError: an array in place of a tensor"}
    monkeypatch.setattr(peers, "ASK", "import time; time.sleep(30)")
    options.seconds = 0.1
    assert peers.ask("other", given(), options, facts) is None
    assert facts["other"] == "not done in 0.1 s"


def test_every_so_many_spots_keep_their_counts_and_truth(peers: Any) -> None:
    counts = np.arange(1, 34).reshape(11, 3)
    pos = 100.0 * np.column_stack([np.arange(11), np.arange(11) % 3])
    spots = peers.spot_section("slide", counts, pos, GENES, 27.5)
    deconvolution = sys.modules["deconvolution"]
    cells = deconvolution.reference_section(np.ones((4, 3)), ["x", "y", "x", "y"], GENES)
    # Nothing is known beneath the first spot.
    names = [f"slide:p{i}" for i in range(1, 11)]
    truth = pd.DataFrame({"x": np.arange(1, 11) / 10, "y": 1 - np.arange(1, 11) / 10}, index=names)
    held = {"nothing": np.arange(1, 11)[:, None, None] * np.ones((10, 2, 5))}
    whole = peers.Case([spots, cells], truth, lambda obs: obs.index, pd.Series(np.arange(1, 11), names), held)
    case = peers.thinned(whole, 3)
    assert peers.thinned(whole, 1) is whole
    # Nodes lie in another order than rows: the tenth spot comes before the ninth.
    np.testing.assert_array_equal(case.sections[0].tables["patch_rna"].X.toarray(), counts[[1, 4, 7, 9]])
    np.testing.assert_allclose(case.truth["x"], [0.1, 0.4, 0.7, 0.9])
    assert list(case.number) == list(case.held["nothing"][:, 0, 0]) == [1, 4, 7, 9]
    assert list(case.truth.index) == list(peers.spot_names(case)) == [f"slide:p{i}" for i in range(4)]


def test_few_cells_are_gone_over_more_often(peer: Any) -> None:
    few, many = SimpleNamespace(n_obs=282), SimpleNamespace(n_obs=100_000)
    assert 3 * peer.epochs(few, 250) >= peer.CELL_STEPS > 3 * (peer.epochs(few, 250) - 1)
    assert peer.epochs(many, 250) == 250


def test_shares_are_told_after_half_of_the_steps_and_after_all(peer: Any) -> None:
    class Model:
        def __init__(self) -> None:
            self.epochs: list[int] = []
            self.rates: list[float] = []
            self.module = SimpleNamespace(train=lambda: self.epochs.append(0))

        def train(self, max_epochs: int, lr: float, **how: object) -> None:
            self.epochs.append(max_epochs)
            self.rates.append(lr)

    model = Model()
    told = peer.legs(model, lambda: sum(model.epochs), 101, {"lr": 0.1}, lr=0.5)
    assert told == {"half": 50, "told": 101}
    assert model.epochs == [50, 0, 51]  # in between the model is told that it trains again
    assert model.rates == [0.5, 0.1]


def test_every_tool_has_its_package_and_every_set_its_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("deconvolution_peers")
    assert {package for _, package, _ in module.TOOLS.values()} == set(module.PACKAGES)
    assert set(module.SPOT_FACTS) == set(module.CASES) and set(module.EVERY) <= set(module.CASES)
    assert {name.split()[0] for name in module.OF_RNA} <= set(module.TOOLS)
