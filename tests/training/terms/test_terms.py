"""The objective: each limit against a formula of its own, its shares, and what it does to training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import sparse
from torch.distributions import NegativeBinomial, Normal, kl_divergence

from aivc_graph.errors import ConfigError, TrainingError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.part import BEFORE_TRAINING
from aivc_graph.operators.state import Hidden
from aivc_graph.tissue.section import add_observation
from aivc_graph.training.checkpoint import below, load_tensors
from aivc_graph.training.fit import fit
from aivc_graph.training.objective import Objective
from aivc_graph.training.settings import TrainingConfig
from aivc_graph.training.terms.alignment import info_nce, same_state
from aivc_graph.training.terms.kl import divergence
from aivc_graph.training.terms.term import Loss, Pass
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 6}})
MODEL = ModelConfig(latent=3, rings=(4, 8), measurement={"protein": {"kind": "negative_binomial"}})
CPU = TrainingConfig(epochs=4, device="cpu", window_nodes=100)


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    """Cells with RNA and four proteins that come with the stripes' genes."""
    section = striped_section("s", n=300, levels=("cell",))
    rna = section.tables["cell_rna"]
    rate = np.repeat(rna.X.toarray().reshape(-1, 3, 10).sum(axis=2), 2, axis=1)[:, :4]
    table = ad.AnnData(np.random.default_rng(0).poisson(1.0 + rate).astype(np.float32))
    table.obs_names, table.var_names = rna.obs["barcode"].astype(str), [f"P{i}" for i in range(4)]
    add_observation(section, "cell", "protein", table)
    return build_graph([section], EDGES)


@pytest.fixture(scope="module")
def model(graph: TissueGraph) -> TissueModel:
    made = model_of(graph, MODEL)
    fit_stages(fitting_of(graph, made, [fold_of(graph, made)]), BEFORE_TRAINING)
    return made


def config(**objective: float) -> TrainingConfig:
    return CPU.model_copy(update={"objective": TrainingConfig(objective=objective).objective})


def seen(model: TissueModel, graph: TissueGraph, *, drawn: bool = False) -> Pass:
    """Return a pass in which nothing is hidden and all of both modalities is scored."""
    inputs, generator = model.prepare(graph), torch.Generator().manual_seed(3)
    parts = [part for part in model.parts_of("measurement") if part.seen]
    hidden = Hidden(
        {part.key: torch.zeros(inputs.n_nodes["cell"]) for part in parts},
        {part.key: torch.ones(len(part.plan.names)) for part in parts},
    )
    state = model(inputs, hidden, generator if drawn else None)
    return Pass(model, inputs, state, hidden, {"cell": torch.ones(inputs.n_nodes["cell"])}, generator)


def log_likelihood(one: Pass, modality: str) -> torch.Tensor:
    part, data = one.model.part("measurement", "cell", modality), one.inputs.measured("cell", modality)
    theta, counts = part.dispersion().exp(), data.counts.to_dense()
    mean = part.likelihood(one.state.z["cell"], data).mean()
    return NegativeBinomial(theta, logits=torch.log(mean / theta)).log_prob(counts).sum(dim=1)


def posterior(one: Pass) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and precision as the product of experts, term by term."""
    told = [(part, one.inputs.measured(*part.slot)) for part in one.model.parts_of("measurement") if part.seen]
    precision = sum(part.precision(data) for part, data in told)
    return sum(part.precision(data) * part.encode(data) for part, data in told) / precision, precision


def divergences(one: Pass) -> torch.Tensor:
    mean, precision = posterior(one)
    prior = Normal(0.0, one.model.state_maker("cell").variance.sqrt())
    return kl_divergence(Normal(mean, precision.rsqrt().expand_as(mean)), prior).sum(dim=1)


def by_hand(one: Pass) -> dict[str, torch.Tensor]:
    n, widths = one.inputs.n_nodes["cell"], {"rna": 30, "protein": 4}
    likelihoods = (-log_likelihood(one, m).sum() / (n * width) for m, width in widths.items())
    return {"likelihood": sum(likelihoods), "kl": divergences(one).sum() / (n * sum(widths.values()))}


def test_by_default_the_objective_is_the_likelihood_alone(model: TissueModel, graph: TissueGraph) -> None:
    objective, one = Objective(graph, TrainingConfig()), seen(model, graph)
    assert objective.weights == {"likelihood": 1.0} and not list(objective.parameters()) and not objective.draws
    losses = objective(one)
    assert torch.equal(objective.value(losses), losses["likelihood"].mean())
    torch.testing.assert_close(objective.value(losses), by_hand(one)["likelihood"], rtol=1e-4, atol=0)


def test_without_alignment_and_prior_it_is_that_of_a_multimodal_vae(model: TissueModel, graph: TissueGraph) -> None:
    objective, one = Objective(graph, config(kl=0.7)), seen(model, graph, drawn=True)
    assert objective.draws
    expected = by_hand(one)
    value = objective.value(objective(one))
    torch.testing.assert_close(value, expected["likelihood"] + 0.7 * expected["kl"], rtol=1e-4, atol=0)
    assert expected["kl"].item() > 0.01


def test_of_one_modality_it_is_the_evidence_lower_bound(striped_section: Callable[..., Any]) -> None:
    alone = build_graph([striped_section("s", n=200, levels=("cell",))], EDGES)
    made = model_of(alone, MODEL)
    fit_stages(fitting_of(alone, made, [fold_of(alone, made)]), BEFORE_TRAINING)
    one = seen(made, alone, drawn=True)
    bound = log_likelihood(one, "rna").sum() - divergences(one).sum()
    objective = Objective(alone, config(kl=1.0))
    torch.testing.assert_close(objective.value(objective(one)), -bound / (200 * 30), rtol=1e-4, atol=0)


def test_divergence_is_that_of_torch_and_nothing_is_said_of_nobody() -> None:
    mean, precision, variance = torch.randn(5, 3), torch.rand(5, 3) + 0.1, torch.tensor([1.0, 0.5, 4.0])
    expected = kl_divergence(Normal(mean, precision.rsqrt()), Normal(0.0, variance.sqrt())).sum(dim=1)
    torch.testing.assert_close(divergence(mean, precision, variance), expected)
    precision[2] = 0.0
    found = divergence(mean.requires_grad_(), precision, variance)
    assert found[2].item() == 0.0
    found.sum().backward()
    assert torch.isfinite(mean.grad).all()


def test_states_are_drawn_with_the_spread_that_measurements_leave(model: TissueModel, graph: TissueGraph) -> None:
    inputs, generator = model.prepare(graph), torch.Generator().manual_seed(0)
    nobody = {part.key: torch.zeros(300) for part in model.parts_of("measurement")}
    nobody = {key: one.index_fill(0, torch.tensor([7]), 1.0) for key, one in nobody.items()}
    lateral = next(iter(model.blocks[0]["lateral"].values()))
    own: list[torch.Tensor] = []
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(lateral), "pass_on", lambda part, state, inputs: own.append(state.z["cell"]))
        for _ in range(400):
            state = model(inputs, Hidden(nobody), generator)
    drawn = torch.stack(own)
    assert (drawn[:, 7] == 0).all()
    rest = torch.arange(300) != 7
    away = (drawn.mean(dim=0) - state.mean["cell"]) * state.precision["cell"].sqrt()
    assert float(away[rest].abs().max()) < 5 / math.sqrt(400)
    ratio = (drawn.var(dim=0) * state.precision["cell"])[rest].mean(dim=0)
    torch.testing.assert_close(ratio, torch.ones(3), atol=0.05, rtol=0)


def test_with_alignment_alone_it_is_a_dual_encoder(model: TissueModel, graph: TissueGraph) -> None:
    objective, one = Objective(graph, config(likelihood=0.0, alignment=1.0)), seen(model, graph)
    value = objective.value(objective(one))
    told = [part.encode(one.inputs.measured(*part.slot)) for part in model.parts_of("measurement") if part.seen]
    mean, precision = posterior(one)
    scaled = [t / model.state_maker("cell").variance.sqrt() for t in told]
    x, y = (t / t.norm(dim=1, keepdim=True) for t in scaled)
    total = 0.0
    for a, b in ((x, y), (y, x)):
        for v in range(300):
            apart = ((mean - mean[v]) ** 2 * precision / 2).sum(dim=1) > 3
            others = torch.exp(b[apart] @ a[v] / 0.1).sum()
            own = torch.exp(a[v] @ b[v] / 0.1)
            total += 0.5 * (torch.log(own + others) - torch.log(own)).item()
    assert value.item() == pytest.approx(total / 300, rel=1e-4)
    model.zero_grad(set_to_none=True)  # fits of decoders leave theirs
    value.backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    model.zero_grad(set_to_none=True)
    assert moved and {name for name in moved if "measurement" not in name or ".correction." not in name} == set()


def test_what_cannot_be_told_apart_is_no_negative() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]])
    sure = torch.full_like(first, 100.0)
    same = same_state([(first, sure), (first, sure)])
    assert same.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    assert same_state([(first, sure / 1e4)] * 2).all()
    cold = torch.tensor(0.05)
    apart, together = info_nce(first, first, torch.eye(3) > 0, cold), info_nce(first, first, same, cold)
    assert float(apart) > 1.0 and float(together) < 1e-6


def test_the_temperature_is_learnt_within_bounds(graph: TissueGraph) -> None:
    term = Objective(graph, config(alignment=1.0)).terms["alignment"]
    assert term.temperature.item() == pytest.approx(0.1)
    for far, bound in ((-50.0, 0.01), (50.0, 1.0)):
        with torch.no_grad():
            term.log_temperature.fill_(far)
        assert term.temperature.item() == pytest.approx(bound)


def related(graph: TissueGraph, stripe_of: tuple[int, ...]) -> TissueGraph:
    """Join each protein to the genes of a stripe, in place of what it was joined to."""
    stripe = np.array([int(name[1:]) // 10 for name in graph.obs("gene").index])
    edges = sparse.csr_matrix((stripe == np.array(stripe_of)[:, None]).astype(np.float32))
    graph["gene", "encodes", "protein"].adj_t = to_torch_csr(edges)
    return graph


def test_with_a_prior_related_molecules_go_with_the_same_states(model: TissueModel, graph: TissueGraph) -> None:
    values = {}
    for name, stripe_of in (("true", (0, 0, 1, 1)), ("wrong", (1, 1, 0, 0))):
        given = related(graph, stripe_of)
        objective, one = Objective(given, config(prior=0.5)), seen(model, graph)
        losses = objective(one)
        spread = model.state_maker("cell").variance.sqrt()
        gene, protein = ((model.part("measurement", "cell", m).decoder() * spread).detach() for m in ("rna", "protein"))
        target, source = to_scipy_csr(given["gene", "encodes", "protein"].adj_t).nonzero()
        generator = torch.Generator().manual_seed(3)
        other = target[torch.randperm(len(target), generator=generator).numpy()]
        alike, chance = ((gene[source] * protein[end]).sum(dim=1) for end in (target, other))
        expected = torch.log1p(torch.exp(-alike)).mean() + torch.log1p(torch.exp(chance)).mean()
        torch.testing.assert_close(losses["prior"].mean(), expected, rtol=1e-4, atol=0)
        torch.testing.assert_close(objective.value(losses), losses["likelihood"].mean() + 0.5 * expected)
        values[name] = expected.item()
        given["gene", "encodes", "protein"].sign = -torch.ones(len(source), dtype=torch.int8)
        lowered = Objective(given, config(prior=0.5))(seen(model, graph))["prior"].mean()
        expected = torch.log1p(torch.exp(alike)).mean() + torch.log1p(torch.exp(-chance)).mean()
        torch.testing.assert_close(lowered, expected, rtol=1e-4, atol=0)
        del given["gene", "encodes", "protein"]["sign"]
    assert values["true"] < values["wrong"]


def test_a_prior_wants_relations(striped_section: Callable[..., Any]) -> None:
    alone = build_graph([striped_section("s", n=50, levels=("cell",))], EDGES)
    with pytest.raises(TrainingError, match=r"objective.prior: expected at least one, found a graph without relations"):
        Objective(alone, config(prior=0.1))


def test_shares_are_those_of_the_norms_of_gradients(model: TissueModel, graph: TissueGraph) -> None:
    objective, one = Objective(graph, config(alignment=0.3, kl=0.1)), seen(model, graph, drawn=True)
    learning = [*model.parameters(), *objective.parameters()]
    losses = objective(one)
    norms = {}
    for name, weight in objective.weights.items():
        (weight * losses[name].mean()).backward(retain_graph=True)
        norms[name] = math.sqrt(sum(float(p.grad.square().sum()) for p in learning if p.grad is not None))
        for p in learning:
            p.grad = None
    shares = objective.shares(losses, learning)
    assert sum(shares.values()) == pytest.approx(1.0) and min(shares.values()) > 0
    assert shares == pytest.approx({name: norm / sum(norms.values()) for name, norm in norms.items()})
    assert Objective(graph, TrainingConfig()).shares({"likelihood": Loss()}, []) == {"likelihood": 1.0}


def test_weights_of_modalities_are_those_given(model: TissueModel, graph: TissueGraph) -> None:
    one = seen(model, graph)
    given = TrainingConfig(modality_weight={"protein": 0.25})
    loss = Objective(graph, given)(one)["likelihood"]
    assert loss.weight == {("cell", "rna"): 1.0, ("cell", "protein"): 0.25}


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ({"alinment": 1.0}, "no term of the objective named 'alinment'; did you mean 'alignment'"),
        ({"likelihood": 0.0}, "every term has weight 0"),
        ({"kl": -1.0}, "greater than or equal to 0"),
    ],
)
def test_a_wrong_weight_is_told(objective: dict[str, float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainingConfig(objective=objective)


def test_training_with_all_terms_resumes_and_tells_their_shares(graph: TissueGraph, tmp_path: Path) -> None:
    every = config(kl=0.1, alignment=0.3)
    fit(graph, MODEL, every, tmp_path / "whole")
    fit(graph, MODEL, every.model_copy(update={"epochs": 2}), tmp_path / "cut")
    fit(graph, MODEL, every, tmp_path / "cut", resume=True)
    one, other = (load_tensors(tmp_path / of / "checkpoints/last.safetensors")[0] for of in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert float(one["objective.terms.alignment.log_temperature"]) != pytest.approx(math.log(0.1), abs=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    for line in lines[1:]:
        assert line["gradient"].keys() == line["terms"].keys() == {"alignment", "kl", "likelihood"}
        assert sum(line["gradient"].values()) == pytest.approx(1.0, abs=1e-3)


def test_alignment_brings_modalities_of_a_cell_nearer_than_without(graph: TissueGraph, tmp_path: Path) -> None:
    told = {}
    for name, weight in (("off", 0.0), ("on", 1.0)):
        trained = fit(graph, MODEL, config(alignment=weight).model_copy(update={"epochs": 15}), tmp_path / name)
        trained.load_state_dict(below(load_tensors(tmp_path / name / "checkpoints/last.safetensors")[0], "model."))
        one = seen(trained, graph)
        told[name] = Objective(graph, config(alignment=1.0))(one)["alignment"].mean().item()
    assert told["on"] < 0.95 * told["off"]


def test_what_no_modality_could_be_weighed_or_aligned_is_refused(striped_section: Callable[..., Any]) -> None:
    section = striped_section("s", n=50, levels=("cell",))
    section.shapes["cell"] = section.shapes["cell"].drop(columns="label")
    alone = build_graph([section], EDGES)
    with pytest.raises(TrainingError, match=r"objective.alignment: expected two .*, found one modality"):
        Objective(alone, config(alignment=1.0))
    with pytest.raises(ConfigError, match=r"modality_weight: no modality named 'protien'; did you mean 'protein'"):
        Objective(alone, TrainingConfig(modality_weight={"protien": 2.0}))
