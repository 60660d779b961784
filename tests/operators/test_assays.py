"""Measurement members on planted truth: mixtures open where they hold, rare regions of chromatin speak."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.hiding import draw_hidden
from aivc_graph.operators.measurement.background import BackgroundForeground
from aivc_graph.operators.measurement.zero_inflated import ZeroInflatedNegativeBinomial
from aivc_graph.operators.part import BEFORE_TRAINING
from aivc_graph.query.predictive_checks import predictive_checks
from aivc_graph.tissue.section import add_cells, add_observation, new_section
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

N, KINDS = 400, 3


def graph_of(counts: dict[str, np.ndarray]) -> TissueGraph:
    """Return dissociated cells, one in four of them held out, of counts by modality (cell, molecule)."""
    section, names = new_section("s", donor="d"), [f"c{i:03d}" for i in range(N)]
    add_cells(section, names, None)
    section.shapes["cell"]["split"] = np.where(np.arange(N) % 4 == 0, "validation", "train")
    for modality, values in counts.items():
        table = ad.AnnData(sparse.csr_matrix(values.astype(np.float32)))
        table.obs_names, table.var_names = names, [f"{modality}{i:03d}" for i in range(values.shape[1])]
        add_observation(section, "cell", modality, table)
    return build_graph([section])


def order(graph: TissueGraph) -> np.ndarray:
    """Return which of the cells as they were made each node is."""
    return graph.obs("cell").index.str.extract(r"c(\d+)$")[0].astype(int).to_numpy()


def closed(graph: TissueGraph, **members: str) -> TissueModel:
    chosen = {name: {"kind": kind} for name, kind in members.items()}
    model = model_of(graph, ModelConfig(latent=3, measurement=chosen))
    held_out = {level: graph.in_split(level, "validation").numpy() for level in graph.levels}
    fit_stages(fitting_of(graph, model, [fold_of(graph, model)], [fold_of(graph, model, held_out)]), BEFORE_TRAINING)
    return model


def rates(molecules: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind of each cell and its rates (cell, molecule), of which a third is five times as high."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, KINDS, N)
    profile = rng.gamma(2.0, 2.0, molecules) * np.where(np.arange(molecules) % KINDS == np.arange(KINDS)[:, None], 5, 1)
    return kind, profile[kind] * rng.gamma(8.0, 1 / 8, (N, 1))


def drawn(rate: np.ndarray, theta: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(rate * rng.gamma(theta, 1 / theta, rate.shape))


def held_out_nll(model: TissueModel, graph: TissueGraph, modality: str) -> float:
    """Return the negative log-likelihood of the held-out cells' molecules, a third of them hidden."""
    inputs, part = model.prepare(graph), model.part("measurement", "cell", modality)
    hidden = draw_hidden(model.parts_of("measurement"), inputs, np.random.default_rng(7))
    data, who = inputs.measured("cell", modality), graph.in_split("cell", "validation").float()
    with torch.no_grad():
        said = part.likelihood(model(inputs, hidden).z["cell"], data)
        return float(said.nll(part.observation(data), who, 1 - hidden.shown["cell", modality]))


def test_surplus_zeros_are_found_where_they_are_and_nowhere_else() -> None:
    _, rate = rates(30)
    counts, inflated = drawn(3 * rate, 4.0), np.arange(30) < 10
    counts[:, inflated] *= np.random.default_rng(2).random((N, 10)) > 0.4
    graph = graph_of({"rna": counts})
    model = closed(graph, rna="zero_inflated")
    part = model.part("measurement", "cell", "rna")
    opened = part.opening.numpy() > 0
    assert opened[inflated].mean() > 0.8 and opened[~inflated].mean() < 0.2
    pi = torch.sigmoid(part.mixture_logit).numpy()[inflated & opened]
    assert abs(pi.mean() - 0.4) < 0.12
    plain = closed(graph, rna="negative_binomial")
    assert held_out_nll(model, graph, "rna") < held_out_nll(plain, graph, "rna") - 20
    data = model.prepare(graph).measured("cell", "rna")
    assert isinstance(part.likelihood(torch.zeros(N, 3), data), ZeroInflatedNegativeBinomial)


def test_a_gate_that_is_shut_leaves_the_negative_binomial() -> None:
    graph = graph_of({"rna": drawn(rates(30)[1], 4.0)})
    part = closed(graph, rna="zero_inflated").part("measurement", "cell", "rna")
    part.opening.zero_()
    data = part.prepare(graph, "cpu")
    plain = closed(graph, rna="negative_binomial").part("measurement", "cell", "rna")
    z = torch.randn(N, 3)
    torch.testing.assert_close(part.likelihood(z, data).log_prob(data.counts.to_dense()),
                               plain.likelihood(z, data).log_prob(data.counts.to_dense()))  # fmt: skip


def test_background_is_told_from_foreground() -> None:
    """Half the proteins are bound to one kind of cell alone; the state, made of RNA, does not know which cells fail."""
    kind, rate = rates(30)
    rng, levels = np.random.default_rng(3), np.full((N, 10), 8.0)
    bound = (np.arange(10)[None] % KINDS == kind[:, None]) & (np.arange(10) < 6) & (rng.random((N, 10)) < 0.6)
    proteins = drawn(np.where(bound, 80.0, levels), 20.0, seed=4)
    graph = graph_of({"rna": drawn(rate, 4.0), "protein": proteins})
    mixture, plain = closed(graph), closed(graph, protein="negative_binomial")
    part = mixture.part("measurement", "cell", "protein")
    opened = part.opening.numpy() > 0
    assert opened[:6].all()
    assert held_out_nll(mixture, graph, "protein") < held_out_nll(plain, graph, "protein") - 25
    inputs = mixture.prepare(graph)
    with torch.no_grad():
        said = part.likelihood(mixture(inputs).z["cell"], inputs.measured("cell", "protein"))
    assert isinstance(said, BackgroundForeground)
    background, bound = torch.sigmoid(said.odds()).numpy()[:, :6], bound[order(graph), :6]
    assert background[bound].mean() < background[~bound].mean() - 0.2
    torch.testing.assert_close(said.shares().sum(dim=1), torch.ones(N))


def chromatin(depth: float) -> tuple[np.ndarray, np.ndarray]:
    """Return kinds and counts of regions: half are open everywhere, half rare and of one kind alone."""
    rng = np.random.default_rng(5)
    kind = rng.integers(0, KINDS, N)
    rare = (np.arange(60)[None] % KINDS == kind[:, None]) * 0.6 + 0.05
    profile = np.concatenate([np.full((N, 60), 4.0), rare], axis=1)
    return kind, rng.poisson(depth * profile / profile.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("member", ["poisson", "bernoulli"])
def test_chromatin_alone_makes_a_state_of_its_kinds(member: str) -> None:
    kind, counts = chromatin(150.0)
    graph = graph_of({"atac": counts})
    model = closed(graph, atac=member)
    part, data = model.part("measurement", "cell", "atac"), model.prepare(graph).measured("cell", "atac")
    assert float(part.importance[60:].mean()) > 1.3 * float(part.importance[:60].mean())
    with torch.no_grad():
        z = part.encode(data).numpy()
    kind = kind[order(graph)]
    centres = np.stack([z[kind == k].mean(axis=0) for k in range(KINDS)])
    nearest = ((z[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == kind).mean() > 0.75
    mean = held_out_nll(model, graph, "atac")
    part.weight.zero_()
    assert mean < held_out_nll(model, graph, "atac")


def test_of_a_deep_cell_as_many_regions_are_open_as_were_found() -> None:
    _, counts = chromatin(400.0)
    graph = graph_of({"atac": counts})
    part = closed(graph, atac="bernoulli").part("measurement", "cell", "atac")
    data = part.prepare(graph, "cpu")
    with torch.no_grad():
        said = part.likelihood(torch.zeros(N, 3), data).mean().sum(dim=1)
    found = part.observation(data).to_dense().sum(dim=1)
    assert float(found.mean()) == pytest.approx((counts > 0).sum(axis=1).mean(), rel=1e-5)
    assert float((said - found).abs().max()) < 0.02 * float(found.mean())


def test_checks_tell_a_likelihood_that_does_not_fit() -> None:
    """Draws look like what was measured; of a dispersion that is far off they do not."""
    graph = graph_of({"rna": drawn(rates(30)[1], 1.0)})
    model, everyone = closed(graph), {"cell": np.ones(N, bool)}
    (good,) = predictive_checks(model, graph, everyone)
    assert good["member"] == "negative_binomial" and good["section"] == "s" and good["nodes"] == 300
    assert abs(np.log(good["variance"])) < 0.4 and off(good, "zeros") < 0.06
    model.part("measurement", "cell", "rna").log_dispersion.fill_(5.0)
    (bad,) = predictive_checks(model, graph, everyone)
    assert bad["variance"] > 1.5 and off(bad, "zeros") > 0.1
    assert [set(group) for group in good["curve"]] == [{"mean", "variance", "zeros"}] * len(good["curve"])


def off(check: dict[str, Any], name: str) -> float:
    return abs(check[name]["measured"] - check[name]["drawn"])
