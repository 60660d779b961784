"""What is hidden while training: how much, of whom, and that what is held out moves nobody's lot."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph import names
from aivc_graph.operators.hiding import NODES, UNSEQUENCED_WINDOWS, draw_hidden
from aivc_graph.operators.state import Fold, Hidden, Inputs

N, GENES = 400, 50
RNA, TILE = ("cell", "rna"), ("cell", "histology")


def part(slot: tuple[str, str], *, features: bool, width: int = GENES, seen: bool = True) -> Any:
    plan = SimpleNamespace(level=slot[0], names=tuple(f"g{i}" for i in range(width)))
    return SimpleNamespace(plan=plan, slot=slot, key=slot, hides_features=features, seen=seen)


def window(held_out: int = 0) -> Inputs:
    split = torch.zeros(N + held_out, dtype=torch.int8)
    split[N:] = names.SPLITS.index(names.TEST)
    by_part = {("measurement", *slot): None for slot in (RNA, TILE)}
    nothing = torch.zeros(N + held_out, dtype=torch.int64)
    return Inputs({"cell": N + held_out}, {"cell": nothing}, {"cell": split}, {"cell": nothing}, by_part)


def draw(parts: list[Any], seed: int = 0, held_out: int = 0, **shares: float) -> Hidden:
    return draw_hidden(parts, window(held_out), np.random.default_rng(seed), **shares)


def test_about_as_many_nodes_and_molecules_are_hidden_as_asked_for() -> None:
    found = draw([part(RNA, features=True)], nodes=0.5, features=0.2)
    assert float(found.nodes[RNA].mean()) == pytest.approx(0.5, abs=0.08)
    shown = [float(draw([part(RNA, features=True)], seed, features=0.2).shown[RNA].mean()) for seed in range(20)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.05)


def test_what_has_no_molecules_to_hide_is_hidden_node_by_node_alone() -> None:
    found = draw([part(RNA, features=True), part(TILE, features=False)], nodes=0.9)
    assert set(found.shown) == {RNA}
    assert float(found.nodes[TILE].mean()) == pytest.approx(NODES, abs=0.08)


def test_of_some_windows_nobody_was_counted_where_tiles_stand_in() -> None:
    both, alone = [part(RNA, features=True), part(TILE, features=False)], [part(RNA, features=True)]
    whole = [bool(draw(both, seed).nodes[RNA].all()) for seed in range(200)]
    assert np.mean(whole) == pytest.approx(UNSEQUENCED_WINDOWS, abs=0.08)
    assert not any(bool(draw(alone, seed).nodes[RNA].all()) for seed in range(50))


@pytest.mark.parametrize("features", [0.0, 1.0])
def test_all_or_no_molecules_hidden_means_that_all_are_shown(features: float) -> None:
    assert bool(draw([part(RNA, features=True)], features=features).shown[RNA].all())


def test_who_is_held_out_is_never_hidden_and_draws_no_number() -> None:
    parts = [part(RNA, features=True), part(TILE, features=False)]
    plain, more = draw(parts), draw(parts, held_out=70)
    for slot in (RNA, TILE):
        torch.testing.assert_close(more.nodes[slot][:N], plain.nodes[slot])
        assert not more.nodes[slot][N:].any()
    torch.testing.assert_close(more.shown[RNA], plain.shown[RNA])


def test_parts_that_are_not_seen_or_not_in_the_window_are_left_alone() -> None:
    other = part(("cell", "adt"), features=True)
    found = draw([part(RNA, features=True, seen=False), other])
    assert not found.nodes and not found.shown


def test_who_may_be_seen_is_who_was_measured_and_is_not_hidden() -> None:
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0])
    hidden = Hidden({RNA: torch.tensor([1.0, 0.0, 1.0, 0.0])})
    assert hidden.seen(RNA, mask).tolist() == [0.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(hidden.seen(TILE, mask), mask)


def test_a_fold_is_of_rows_that_are_fitted_on_and_measured() -> None:
    fold = Fold(window(), {"cell": torch.tensor([1.0, 0.0, 1.0, 1.0])})
    assert fold.training("cell", torch.tensor([1.0, 1.0, 0.0, 1.0])).tolist() == [0, 3]


def test_a_window_says_what_it_holds() -> None:
    inputs = window(held_out=3)
    assert ("measurement", *RNA) in inputs and ("prediction", *RNA) not in inputs
    assert inputs.rings("cell") == [] and inputs.device == torch.device("cpu")
    assert int(inputs.in_training("cell").sum()) == N
