"""What every part of a model keeps to, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aivc_graph.errors import QueryError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.graph.windows import windows
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import Gate
from aivc_graph.operators.hiding import draw_hidden
from aivc_graph.operators.part import BEFORE_TRAINING, KINDS
from aivc_graph.operators.prediction import modality
from aivc_graph.query.questions.question import QUESTIONS, question
from aivc_graph.tissue.intervention import Intervention, knockout, set_interventions
from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS
from aivc_graph.tissue.section import add_observation
from aivc_graph.training.fit import fit
from aivc_graph.training.settings import TrainingConfig
from aivc_graph.training.terms.likelihood import likelihood
from aivc_graph.training.terms.term import Loss
from tests.fitting import fit_stages, fitting_of, fold_of, model_of
from tests.reference import cells_of, reference_section, spot_section, spots_of

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}})
CONFIG = ModelConfig(latent=3, rings=(4, 8))
# Members that are chosen, not usual.
CHOSEN = {"rna": "zero_inflated", "protein": "negative_binomial", "atac": "bernoulli"}
OTHERS = CONFIG.model_copy(update={"measurement": {name: {"kind": kind} for name, kind in CHOSEN.items()}})
BOTH_CONFIGS = pytest.mark.parametrize("config", [CONFIG, OTHERS], ids=["usual", "chosen"])
BOTH = ("cell", "patch")
# Nothing of it is a number to be fitted: the depth that counts are scaled to, and what is told of a plan.
GIVEN = ("target_depth", "opening")


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    """Two sections of each of three donors, one of each treated in full, with cells, spots and tile features.

    Cells also carry conditions of their own, as those of a screen do, counts of proteins and open regions, and
    intensities of markers.
    """
    sections = []
    for donor in range(3):
        for arm in range(2):
            section = striped_section(f"s{donor}{arm}", n=500, seed=2 * donor + arm, levels=BOTH, donor=f"d{donor}")
            _add_counts(section, "protein", 6, 1.0, seed=2 * donor + arm)
            _add_counts(section, "atac", 15, 0.3, seed=2 * donor + arm)
            _add_intensities(section, seed=2 * donor + arm)
            if arm:
                _lower(section, "G3")
                set_interventions(section, (knockout("G3", dose=0.5),))
            sections.append(section)
    graph = build_graph(sections, EDGES)
    n = int(graph["cell"].num_nodes)
    graph["cell"].obs["condition"] = np.random.default_rng(0).choice(["control", "G1", "G2", "G1+G2"], n)
    return graph


def _add_counts(section: Any, modality: str, features: int, rate: float, seed: int) -> None:
    """Count molecules of each cell, a third of which come with each stripe's genes."""
    rna = section.tables["cell_rna"]
    means = rate * (1.0 + np.repeat(rna.X.toarray().reshape(-1, 3, 10).sum(axis=2), features // 3, axis=1))
    table = ad.AnnData(np.random.default_rng(seed).poisson(means).astype(np.float32))
    table.obs_names, table.var_names = rna.obs["barcode"].astype(str), [f"{modality}{i}" for i in range(features)]
    add_observation(section, "cell", modality, table)


def _add_intensities(section: Any, seed: int) -> None:
    """Image eight markers of each cell, with heavy tails, six of which come with each stripe's genes."""
    rna = section.tables["cell_rna"]
    rate = np.repeat(np.log1p(rna.X.toarray().reshape(-1, 3, 10).sum(axis=2)), 2, axis=1)
    noise = np.random.default_rng(seed).standard_t(2.5, (len(rate), 8))
    table = ad.AnnData(np.sinh(np.column_stack([rate, 0 * rate[:, :2]]) + 0.2 * noise).astype(np.float32))
    table.obs_names, table.var_names = rna.obs["barcode"].astype(str), [f"M{i}" for i in range(8)]
    add_observation(section, "cell", "intensity", table)


def _lower(section: Any, gene: str) -> None:
    table = section.tables["cell_rna"]
    counts = table.X.toarray()
    counts[:, list(table.var_names).index(gene)] = 0
    table.X = type(table.X)(counts)


@pytest.fixture(scope="module")
def closed(graph: TissueGraph) -> TissueModel:
    """A model of `graph` with everything fitted that is fitted before training."""
    return _closed(graph, CONFIG)


def _closed(graph: TissueGraph, config: ModelConfig) -> TissueModel:
    model = model_of(graph, config)
    fold = fold_of(graph, model)
    fit_stages(fitting_of(graph, model, [fold], [fold_of(graph, model, _validation(graph))]), BEFORE_TRAINING)
    return model


def _validation(graph: TissueGraph) -> dict[str, np.ndarray]:
    return {level: graph.in_split(level, "validation").numpy() for level in graph.levels}


def test_every_kind_has_a_part_here(graph: TissueGraph) -> None:
    by_reference = build_graph([spot_section("spots", spots_of()[0]), reference_section(*cells_of())], EDGES)
    cases = ((graph, CONFIG), (graph, OTHERS), (by_reference, CONFIG))
    parts = [part for there, config in cases for part in ModelPlan.of(there, config).parts]
    assert {(part.kind, part.member) for part in parts} == {
        (kind, name) for kind, members in KINDS.items() for name in members
    }


@BOTH_CONFIGS
def test_every_parameter_learns_and_everything_else_is_fitted(
    graph: TissueGraph, config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that neither a fit nor a gradient moves says nothing; that it stands for something is an illusion."""
    monkeypatch.setattr(
        modality, "MOST_CELLS", 600
    )  # maps among four modalities: enough to move, in a third of the time
    start = TissueModel(ModelPlan.of(graph, config))
    trained = fit(graph, config, TrainingConfig(epochs=3, device="cpu", window_nodes=1500), tmp_path)
    first = dict(start.named_parameters())
    still = [name for name, p in trained.named_parameters() if torch.equal(p, first[name]) and "hidden" not in name]
    assert still == []
    # A lift to windows that measure nothing stays mean pooling: of each member some part must move.
    moved, there = set(), set()
    for old, new in zip(start.parts(), trained.parts(), strict=True):
        for name, value in new.named_buffers():
            if value.numel():
                there.add((type(new).__name__, name))
                if not torch.equal(value, old.get_buffer(name)):
                    moved.add((type(new).__name__, name))
    # Shares and reaches that nothing here supports stay at their start; where each is fitted they are seen to move.
    assert {name for name in there - moved if not name[1].endswith(("share", "reach", *GIVEN))} == set()


@BOTH_CONFIGS
def test_each_part_starts_at_the_baseline_and_is_no_worse_on_held_out_tissue(
    graph: TissueGraph, config: ModelConfig, request: pytest.FixtureRequest
) -> None:
    """The mean profile of the section: what a decoder that says nothing expects."""
    model = request.getfixturevalue("closed") if config is CONFIG else _closed(graph, config)
    told, plain = _held_out(model, graph), model_of(graph, config)
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        for part in plain.parts_of("measurement"):
            part.weight.zero_()
            if hasattr(part, "opening"):
                part.opening.zero_()
    baseline = _held_out(plain, graph)
    for key, total in told.total.items():
        assert float(total) <= float(baseline.total[key]) * 1.0005, key
    # Three stripes with genes of their own: there is something to say.
    assert float(told.total["cell", "rna"]) < 0.97 * float(baseline.total["cell", "rna"])


def _held_out(model: TissueModel, graph: TissueGraph) -> Loss:
    inputs = model.prepare(graph)
    hidden = draw_hidden(model.parts_of("measurement"), inputs, np.random.default_rng(5))
    counted = {level: torch.from_numpy(rows).float() for level, rows in _validation(graph).items()}
    with torch.no_grad():
        return likelihood(model, inputs, model(inputs, hidden), hidden, counted, 1.0)


def test_what_is_shown_is_not_scored(graph: TissueGraph, closed: TissueModel) -> None:
    inputs = closed.prepare(graph)
    part = closed.part("measurement", "cell", "rna")
    hidden = draw_hidden(closed.parts_of("measurement"), inputs, np.random.default_rng(1))
    counted = {level: torch.ones(n) for level, n in inputs.n_nodes.items()}
    with torch.no_grad():
        state, data = closed(inputs, hidden), inputs.measured("cell", "rna")
        shares = part.likelihood(state.z["cell"], data).shares()
        scored = float(likelihood(closed, inputs, state, hidden, counted, 1.0).total["cell", "rna"])
        apart = {name: float(_nll(shares, data, mask, part)) for name, mask in _by_turn(hidden).items()}
    assert scored == pytest.approx(apart["hidden"], rel=1e-4)
    assert scored != pytest.approx(apart["shown"], rel=0.1)


def _by_turn(hidden: Any) -> dict[str, Tensor]:
    shown = hidden.shown["cell", "rna"]
    return {"shown": shown, "hidden": 1 - shown}


def _nll(shares: Tensor, data: Any, molecule: Tensor, part: Any) -> Tensor:
    """Return the negative log-likelihood of hidden molecules, from torch's own negative binomial."""
    counts, theta = data.counts.to_dense(), part.dispersion().exp()
    mean = (shares * counts.sum(dim=1, keepdim=True)).clamp_min(1e-10)
    said = torch.distributions.NegativeBinomial(theta, probs=mean / (mean + theta), validate_args=False)
    return -(said.log_prob(counts) * molecule).sum()


def test_the_halo_is_not_counted(graph: TissueGraph, closed: TissueModel) -> None:
    """Losses of windows add up to that of the whole graph, each node once."""

    def total(nodes: int) -> tuple[float, float, int]:
        loss, pieces = Loss(), list(windows(graph, closed.steps, nodes))
        for window in pieces:
            inputs = closed.prepare(window.graph)
            nothing = draw_hidden(closed.parts_of("measurement"), inputs, np.random.default_rng(0))
            for key in nothing.nodes:
                nothing.nodes[key].zero_()
            for key in nothing.shown:
                nothing.shown[key].fill_(1.0)
            core = {level: mask.float() for level, mask in window.core.items()}
            with torch.no_grad():
                loss.add(likelihood(closed, inputs, closed(inputs, nothing), nothing, core, 1.0))
        return float(loss.total["cell", "rna"]), loss.number["cell", "rna"], len(pieces)

    whole, cut = total(10**6), total(300)
    assert whole[2] == 1 and cut[2] > 3
    assert cut[:2] == pytest.approx(whole[:2], rel=1e-4)


def test_an_expert_that_is_surer_is_heard_more(graph: TissueGraph, closed: TissueModel) -> None:
    inputs = closed.prepare(graph)
    part = closed.part("measurement", "patch", "rna")
    own = part.encode(inputs.measured("patch", "rna"))
    kept, distances = part.log_precision.clone(), []
    for more in (0.0, 3.0):
        part.log_precision.copy_(kept + more)
        distances.append(float((closed.encode(inputs, _nothing()).z["patch"] - own).detach().norm()))
    part.log_precision.copy_(kept)
    assert distances[1] < 0.2 * distances[0]


def _nothing() -> Any:
    from aivc_graph.operators.state import Hidden

    return Hidden()


def test_shut_gates_leave_the_closed_form(graph: TissueGraph, closed: TissueModel) -> None:
    inputs = closed.prepare(graph)
    with torch.no_grad():
        before = closed(inputs).z["cell"]
        kept = {name: p.clone() for name, p in closed.named_parameters()}
        torch.manual_seed(0)
        for p in closed.parameters():
            p.add_(0.3 * torch.randn_like(p))
        gates = [module for module in closed.modules() if isinstance(module, Gate)]
        opened = closed(inputs).z["cell"]
        for gate in gates:
            gate.opening[gate.question] = 0.0
        shut = closed(inputs).z["cell"]
        for gate in gates:
            gate.opening.fill_(1.0)
        for name, p in closed.named_parameters():
            p.copy_(kept[name])
    assert not torch.allclose(opened, before, atol=1e-3)
    share = closed.part("lift", "cell", "patch").share
    assert torch.isfinite(share).all() and (share >= 0).all() and (share <= 1).all()
    torch.testing.assert_close(shut, before, atol=1e-5, rtol=1e-4)


def test_no_module_of_the_trainer_or_model_names_a_modality_or_a_level() -> None:
    """A modality named there would have to be named again for the next one."""
    import inspect

    from aivc_graph.training import fit as trainer
    from aivc_graph.training import objective
    from aivc_graph.training.terms import likelihood as likelihood_term

    for module in (trainer, objective, likelihood_term):
        text = inspect.getsource(module)
        assert not any(f"names.{word}" in text for word in ("RNA", "ADT", "ATAC", "HISTOLOGY", "CELL", "PATCH"))


DOSES, TIMES = np.array([0.0, 0.1, 0.5, 1.0, 4.0]), np.array([0.0, 1.0, 6.0, 24.0, 72.0])


@pytest.mark.parametrize("member", sorted(KINDS["propagator"]))
def test_a_propagator_keeps_to_its_contract_on_every_course_it_may_take(member: str) -> None:
    kind = KINDS["propagator"][member]
    part = kind(kind.Plan(level="cell", keys=("knockout:G3",)))
    for seen in ((DOSES[2:3], TIMES[3:4]), (DOSES, TIMES)):
        courses = torch.from_numpy(part.courses(*seen))
        assert torch.isfinite(courses).all() and courses.dtype == torch.float64
        full_dose, full_hours = (torch.tensor(float(amount.max())) for amount in seen)
        dose, hours = (
            torch.from_numpy(all_[all_ <= one.max()]) for all_, one in zip((DOSES, TIMES), seen, strict=True)
        )
        for course in courses:
            check_propagator(part, course, dose, hours, full_dose, full_hours)
    still = part.strength(0, 0.0, 24.0), part.strength(0, 1.0, 0.0)
    assert still == (0.0, 0.0)


def check_propagator(
    part: Any, course: Tensor, dose: Tensor, hours: Tensor, full_dose: Tensor, full_hours: Tensor
) -> None:
    """Raise unless identity, nothing of nothing, scale, monotony and, where it says so, closure hold on a course."""
    nothing, before = torch.zeros(()).double(), torch.linspace(-0.5, 1.5, 5).double()
    torch.testing.assert_close(part.carry(course, before, full_dose, nothing), before, rtol=0, atol=0)
    assert not part.carry(course, nothing, nothing, hours).any()
    assert float(part.carry(course, nothing, full_dose, full_hours)) == pytest.approx(1.0)
    shown = part.carry(course, nothing, dose[:, None], hours)
    assert torch.isfinite(shown).all() and (shown.diff(dim=0) >= 0).all() and (shown.diff(dim=1) >= 0).all()
    if part.closed:
        for first in hours:
            apart = part.carry(course, part.carry(course, before[:, None], full_dose, first), full_dose, hours)
            torch.testing.assert_close(apart, part.carry(course, before[:, None], full_dose, first + hours))


@pytest.mark.parametrize("kind", sorted(INTERVENTION_KINDS))
def test_a_kind_of_intervention_says_how_it_acts(kind: str) -> None:
    facts = INTERVENTION_KINDS[kind]
    given = Intervention(kind=kind, name="G3")
    assert given.unit == facts.unit and given.targets == ({} if facts.sign is None else {"G3": facts.sign})
    assert facts.sign in (None, -1.0, 1.0) and facts.unit
    # What is not of a gene says nothing of what stays inside, and what stays inside is of a target.
    assert not (facts.inside and facts.sign is None)


@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_a_question_says_what_it_asks_what_it_takes_and_where_its_answer_goes(name: str) -> None:
    member, facts = QUESTIONS[name], QUESTIONS.facts[name]
    assert facts["asks"] and facts["example"] and (member.__doc__ or "").strip()
    assert all(field.description for field in member.model_fields.values())
    assert set(member.endings) <= {".csv", ".parquet", ".h5ad"}
    with pytest.raises(QueryError, match=f"query {name} · mood: unknown key; .*this question takes: "):
        question(name, {"mood": 1})


def test_parts_are_modules_of_buffers_and_parameters(closed: TissueModel) -> None:
    for part in closed.parts():
        assert isinstance(part, nn.Module) and part.slot and part.name == "_".join(part.slot)
        assert type(part)(type(part).Plan.model_validate(part.plan.model_dump(mode="json"))).slot == part.slot
