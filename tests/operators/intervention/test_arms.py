"""What was done to which section of which donor, what that makes a plan of, and who is compared with whom."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr
from aivc_graph.operators.intervention.contrasts import (
    HANDED_ON,
    _averager,
    _between_borders,
    _exposures,
    _tiles,
    _where_others_were,
)
from aivc_graph.operators.intervention_plan import (
    InterventionPlan,
    donor_of_sections,
    section_arms,
    training_sections,
)

KEYS = ("drug:A", "knockout:G1")
SIDE = 8  # nodes along either side of a section
EACH = SIDE * SIDE
# Section by section: donor, split, and dose, hours and onset of what was given.
SECTIONS = (
    ("d1", "train", {}),
    ("d1", "train", {"drug:A": (2.0, 24.0, 0.0)}),
    ("d2", "train", {}),
    ("d2", "train", {"drug:A": (1.0, 24.0, 0.0), "knockout:G1": (1.0, 24.0, 0.0)}),
    ("d3", "train", {"drug:A": (5.0, 48.0, 0.0)}),  # without an untreated counterpart
    ("d1", "test", {"knockout:G1": (1.0, 96.0, 0.0)}),
    ("d2", "train", {"drug:A": (1.0, 12.0, 0.0), "knockout:G1": (1.0, 24.0, 0.0)}),  # one ended before
    (None, "train", {}),
)


def edges(weight: np.ndarray) -> torch.Tensor:
    return to_torch_csr(sparse.csr_matrix(weight.astype(np.float32)))


@pytest.fixture(scope="module")
def graph() -> TissueGraph:
    """Return squares of cells whose neighbours are those beside, above and below, and what was done to them."""
    graph, n = TissueGraph(), len(SECTIONS)
    graph["gene"].obs = pd.DataFrame(index=["G0", "G1", "G2"])
    graph["section"].obs = pd.DataFrame({"donor": [donor for donor, *_ in SECTIONS]}, index=[f"s{i}" for i in range(n)])
    graph["section"].num_nodes = n
    cell, place = graph["cell"], np.arange(SIDE) * 10.0
    square = np.stack(np.meshgrid(place, place, indexing="ij"), axis=-1).reshape(-1, 2)
    cell.pos = torch.from_numpy(np.tile(square, (n, 1))).float()
    cell.num_nodes, cell.section_index = n * EACH, torch.arange(n).repeat_interleave(EACH)
    cell.split = torch.tensor([names.SPLITS.index(split) for _, split, _ in SECTIONS]).repeat_interleave(EACH)
    cell.rna_mask, cell.rna_panel = torch.ones(n * EACH, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    apart = np.abs(square[:, None] - square[None]).sum(axis=2)
    near = sparse.block_diag([sparse.csr_matrix((apart == 10.0).astype(np.float32))] * n)
    graph["cell", "near", "cell"].adj_t = to_torch_csr(near.tocsr())
    graph["intervention"].obs = pd.DataFrame({"kind": [key.split(":")[0] for key in KEYS]}, index=list(KEYS))
    targets = graph["intervention", "targets", "gene"]
    targets.adj_t, targets.sign = edges(np.array([[0, 0], [0, 1.0], [0.5, 0]])), torch.tensor([-1.0, 1.0])
    applied = graph["intervention", "applied_to", "section"]
    applied.adj_t = edges(np.array([[arm.get(key, (0.0,))[0] for key in KEYS] for *_, arm in SECTIONS]))
    given = [arm[key] for *_, arm in SECTIONS for key in KEYS if key in arm]
    applied.hours, applied.onset_hours = (torch.tensor([one[i] for one in given]) for i in (1, 2))
    graph["intervention", "applied_to", "cell"].adj_t = applied.adj_t
    return graph


@pytest.fixture(scope="module")
def plan(graph: TissueGraph) -> InterventionPlan:
    made = InterventionPlan.of(graph, 5)
    assert made is not None
    return made


def test_arms_and_donors_are_those_of_each_section(graph: TissueGraph) -> None:
    assert section_arms(graph, "cell") == [arm for *_, arm in SECTIONS]
    assert donor_of_sections(graph) == ["d1", "d1", "d2", "d2", "d3", "d1", "d2", "s7"]
    assert training_sections(graph, "cell") == [0, 1, 2, 3, 4, 6, 7]


def test_a_plan_is_of_what_training_donors_can_compare(plan: InterventionPlan) -> None:
    """Not of the donor without an untreated section, nor of the test section, nor of what had ended before."""
    assert plan.keys == KEYS and plan.kinds == ("drug", "knockout") and plan.pairs == (KEYS,)
    assert plan.donors == ("d1", "d2") and plan.seen_in == ((0, 1), (1,))
    assert plan.doses == ((1.0, 2.0), (1.0, 1.0)) and plan.hours == ((24.0, 24.0), (24.0, 24.0))
    assert (plan.level, plan.modality, plan.latent, plan.n_molecules) == ("cell", "rna", 5, 3)


def test_targets_are_signed_by_what_is_done_to_them(plan: InterventionPlan) -> None:
    assert plan.targets == ({"G2": 0.5}, {"G1": -1.0})


def test_without_treated_training_tissue_there_is_no_plan(graph: TissueGraph) -> None:
    other = graph.__copy__()
    other["cell"].split = torch.full((len(SECTIONS) * EACH,), names.SPLITS.index(names.TEST))
    assert InterventionPlan.of(other, 5) is None


def test_positions_between_the_borders_of_a_section_do_not_depend_on_its_size() -> None:
    pos = np.random.default_rng(0).random((40, 2))
    found = _between_borders(pos)
    assert found.min() == 0.0 and found.max() == 1.0
    np.testing.assert_allclose(found, _between_borders(pos * [7.0, 300.0] + [5.0, -80.0]), atol=1e-12)
    assert np.isfinite(_between_borders(np.zeros((3, 2)))).all()  # one place alone


def test_untreated_tissue_is_taken_as_if_treated_where_that_of_its_donor_was(
    graph: TissueGraph, plan: InterventionPlan
) -> None:
    strength = np.zeros((len(SECTIONS) * EACH, 2), np.float32)
    left = graph["cell"].pos[:EACH, 0].numpy() < 30
    strength[EACH : 2 * EACH, 0] = left  # of the first donor's section a part
    strength[3 * EACH : 4 * EACH, 0] = 1.0  # of the second donor's all of it
    found = _where_others_were(graph, plan, strength)
    np.testing.assert_array_equal(found[:EACH, 0], left)
    assert not found[:EACH, 1].any()
    assert not found[2 * EACH : 3 * EACH].any()  # where all was treated, no place is any other
    np.testing.assert_array_equal(found[EACH : 2 * EACH], strength[EACH : 2 * EACH])
    assert not found[-EACH:].any()  # the section without a donor


@pytest.mark.parametrize(("share", "pieces"), [(1.0, 1), (0.25, 4), (1 / 16, 16)])
def test_tiles_of_untreated_sections_are_as_large_as_what_is_treated_of_others(
    graph: TissueGraph, plan: InterventionPlan, share: float, pieces: int
) -> None:
    treated = np.zeros(len(SECTIONS) * EACH, bool)
    treated[EACH : EACH + 3] = True
    tile = _tiles(graph, plan, treated, share)
    assert (tile[EACH : 2 * EACH] == -1).all()
    for s in (0, 2, 7):
        assert np.bincount(tile[s * EACH : (s + 1) * EACH]).tolist() == [EACH // pieces] * pieces


def test_what_reaches_a_node_is_within_what_is_near_and_all_of_it_where_all_was_treated(
    graph: TissueGraph, plan: InterventionPlan
) -> None:
    strength = np.zeros((len(SECTIONS) * EACH, 2), np.float32)
    strength[:EACH, 0], strength[EACH, 1] = 1.0, 1.0
    found = _exposures(graph, plan, strength)
    assert found.shape == (len(strength), 2, len(HANDED_ON))
    np.testing.assert_allclose(found[:EACH, 0], 1.0, atol=1e-5)
    assert not found[EACH:, 0].any()
    away = graph["cell"].pos[:EACH].sum(dim=1).numpy()
    assert set(np.flatnonzero(found[EACH : 2 * EACH, 1, 0])) == set(np.flatnonzero(away == 10.0))
    assert (found[EACH : 2 * EACH, 1, -1] > 0).sum() > (found[EACH : 2 * EACH, 1, 1] > 1e-3).sum() > 2


def test_the_mean_of_a_group_is_over_its_own_nodes() -> None:
    group, values = np.array([1, -1, 0, 1, 1]), np.array([[1.0], [99.0], [5.0], [2.0], [6.0]])
    np.testing.assert_allclose(_averager(group, 3) @ values, [[5.0], [3.0], [0.0]])
