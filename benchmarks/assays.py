"""Measurement members beside each other on real data: held-out likelihood, seconds, what more modalities are worth.

    AIVC_DATA=… OMP_NUM_THREADS=1 nice -n 10 python benchmarks/assays.py

Bone marrow, RNA and protein (Luecken 2021, openreview.net/forum?id=gN35BGa1Rt), each donor asked in turn of a model of
the other; mouse cortex, RNA and chromatin (Chen 2019, doi:10.1038/s41587-019-0290-0), cells of two libraries asked of a
model of three others. Models are the closed form alone. Writes ``benchmarks/results/assays.json``: nats a value of
held-out cells, their own observation of the modality hidden, by member, with the difference to the negative binomial
and its interval over cells; the error of half the proteins told by RNA, and by RNA and the other half; seconds of a
likelihood with its gradient, of 2,000 nodes and 1,000 molecules, and of a whole training step, over those of the
negative binomial.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result_file import write_result

from aivc_graph import names
from aivc_graph.config import load_config
from aivc_graph.evaluation import intervals
from aivc_graph.graph.store import read_store
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.hiding import draw_hidden
from aivc_graph.operators.measurement.background import BackgroundForeground
from aivc_graph.operators.measurement.bernoulli import Bernoulli
from aivc_graph.operators.measurement.distribution import NegativeBinomial
from aivc_graph.operators.measurement.poisson import Poisson
from aivc_graph.operators.measurement.zero_inflated import ZeroInflatedNegativeBinomial
from aivc_graph.operators.part import BEFORE_TRAINING, Fitting
from aivc_graph.operators.state import Fold, Hidden
from aivc_graph.pipeline.build import build
from aivc_graph.training.terms.likelihood import likelihood

OUT = Path(__file__).parent / "results" / "assays.json"
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DRAWS, CHUNK, MOST_ASKED = 2_000, 100, 600
TRIALS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], int]] = {
    "bone marrow, s1d2 asked": ("bmmc", (), ("protein", "rna"), 1),
    "bone marrow, s1d1 asked": ("bmmc", ("task.split.test=[s1d1]",), ("protein", "rna"), 1),
    "cortex, 09K and 09L asked": ("snareseq", (), ("atac",), 3),
}
MEMBERS = {
    "protein": ("negative_binomial", "background"),
    "rna": ("negative_binomial", "zero_inflated"),
    "atac": ("negative_binomial", "poisson", "bernoulli"),
}


def main() -> None:
    """Score every member on every trial and write the figures."""
    found: dict[str, Any] = {"seconds over those of the negative binomial": seconds()}
    for name, (config, more, modalities, sections) in TRIALS.items():
        graph = graph_of(config, more, sections)
        found[name] = {one: members(graph, one) for one in modalities}
        if "protein" in modalities:
            found[name]["half the proteins"] = halves(graph)
        print(name, json.dumps(found[name]), flush=True)
        write_result(OUT, found)


def graph_of(config: str, more: tuple[str, ...], sections: int) -> TissueGraph:
    """Return the graph of a committed configuration, some settings changed, of whose sections the first few train."""
    with tempfile.TemporaryDirectory() as folder:
        graph = read_store(build(load_config(CONFIGS / f"{config}.yaml", list(more)), Path(folder) / "g.zarr"))
    store = graph[names.CELL]
    train = graph.in_split(names.CELL, names.TRAIN)
    left = train & ~torch.isin(store.section_index, store.section_index[train].unique()[:sections])
    store.split = torch.where(left, names.SPLITS.index(names.VALIDATION), store.split)
    return graph


def fitted(graph: TissueGraph, **members: str) -> TissueModel:
    """Return the closed form with the members given by modality, but for its answers; training cells choose."""
    chosen = {name: {"kind": kind} for name, kind in members.items()}
    torch.manual_seed(0)
    model = TissueModel(ModelPlan.of(graph, ModelConfig(measurement=chosen))).eval()
    train = {level: graph.in_split(level, names.TRAIN).float() for level in model.plan.levels}
    with torch.no_grad():
        for part in model.parts_of("measurement"):
            part.begin(graph)
        folds = [Fold(model.prepare(graph), train)]
        nobody = np.full(int(graph[names.SECTION].num_nodes), -1)
        fitting = Fitting(model, folds, folds, np.random.default_rng(0), 0, graph, 40_000, nobody)
        for stage in BEFORE_TRAINING:
            for part in model.parts():
                if (one := part.fits(stage)) is not None:
                    one(fitting)
    return model


@torch.no_grad()
def members(graph: TissueGraph, modality: str) -> dict[str, Any]:
    """Return nats a value by member, and less those of the negative binomial over the same values."""
    told: dict[str, Any] = {}
    nats: dict[str, np.ndarray] = {}
    for kind in MEMBERS[modality]:
        started = time.process_time()
        model = fitted(graph, **{modality: kind})
        part = model.part("measurement", names.CELL, modality)
        nats[kind] = by_cell(model, graph, modality)
        told[kind] = {
            "nats": round(float(nats[kind].mean()), 4),
            "cpu seconds": round(time.process_time() - started, 1),
        }
        if hasattr(part, "opening"):
            told[kind]["share let through"] = round(float(part.opening.mean()), 3)
        told[kind]["step"] = step_seconds(model, graph)
        if kind not in ("negative_binomial", "bernoulli"):
            told[kind]["less the negative binomial"] = interval(nats[kind] - nats["negative_binomial"])
    first = told["negative_binomial"]["step"]
    for one in told.values():
        one["step"] = round(one["step"] / first, 2)
    if "bernoulli" in nats:
        # Whether a region is open is another observation: the Poisson says that as well.
        as_open = by_cell(fitted(graph, atac="poisson"), graph, modality, opened=True)
        told["bernoulli"]["less the Poisson of open or closed"] = interval(nats["bernoulli"] - as_open)
    return told


def by_cell(model: TissueModel, graph: TissueGraph, modality: str, *, opened: bool = False) -> np.ndarray:
    """Return nats a value of each held-out cell (cell,), its own observation of the modality hidden."""
    inputs, part = model.prepare(graph), model.part("measurement", names.CELL, modality)
    data = inputs.measured(names.CELL, modality)
    hidden = Hidden(nodes={part.key: torch.ones(inputs.n_nodes[names.CELL])})
    said, observed = part.likelihood(model(inputs, hidden).z[names.CELL], data), part.observation(data)
    rows = torch.nonzero(graph.in_split(names.CELL, names.TEST)).ravel()
    rows = rows[:: -(-len(rows) // MOST_ASKED)]
    counts, found = to_scipy_csr(observed), []
    for some in rows.split(CHUNK):
        one = said.at(some)
        if opened:
            one = Bernoulli(one.z, one.weight, one.bias, one.section, one.depth)
        values = torch.from_numpy(counts[some.numpy()].toarray())
        found.append(-one.log_prob(values).mean(dim=1))
    return torch.cat(found).double().numpy()


@torch.no_grad()
def halves(graph: TissueGraph) -> dict[str, Any]:
    """Return the error in log share of half the proteins of held-out cells, told by RNA and by the other half too."""
    model = fitted(graph)
    inputs, part = model.prepare(graph), model.part("measurement", names.CELL, "protein")
    data, n = inputs.measured(names.CELL, "protein"), len(part.plan.names)
    rows = graph.in_split(names.CELL, names.TEST)
    true = torch.log1p(1e4 * data.counts.to_dense()[rows] / data.counts.to_dense()[rows].sum(dim=1, keepdim=True))
    squares: dict[str, list[np.ndarray]] = {"RNA": [], "RNA and half": []}
    for turn in (0, 1):
        shown = (torch.from_numpy(np.random.default_rng(0).permutation(n)) % 2 == turn).float()
        asks = {
            "RNA": Hidden(nodes={part.key: torch.ones(len(rows))}),
            "RNA and half": Hidden(shown={part.key: shown}),
        }
        for name, hidden in asks.items():
            shares = part.likelihood(model(inputs, hidden).z[names.CELL], data).shares()[rows]
            wrong = (torch.log1p(1e4 * shares) - true)[:, shown == 0]
            squares[name].append(wrong.square().mean(dim=1).double().numpy())
    whole = {name: np.mean(both, axis=0) for name, both in squares.items()}
    told: dict[str, Any] = {name: round(float(np.sqrt(one.mean())), 4) for name, one in whole.items()}
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(rng_rows), len(rng_rows)) for rng_rows in [whole["RNA"]] for _ in range(DRAWS)]
    gains = [np.sqrt(whole["RNA and half"][i].mean()) - np.sqrt(whole["RNA"][i].mean()) for i in drawn]
    ends = intervals.interval(np.array(gains), len(whole["RNA"]))
    told["difference"] = [round(one, 4) for one in (told["RNA and half"] - told["RNA"], *ends)]
    return told


@torch.enable_grad()
def step_seconds(model: TissueModel, graph: TissueGraph) -> float:
    """Return the least processor time of five training steps."""
    inputs, best = model.prepare(graph), float("inf")
    counted = {level: graph.in_split(level, names.TRAIN).float() for level in model.plan.levels}
    for seed in range(5):
        hidden = draw_hidden(model.parts_of("measurement"), inputs, np.random.default_rng(seed))
        started = time.process_time()
        likelihood(model, inputs, model(inputs, hidden), hidden, counted, 1.0).mean().backward()
        best = min(best, time.process_time() - started)
    return best


def interval(values: np.ndarray) -> list[float]:
    """Return the mean and its 95 % interval over cells."""
    rng = np.random.default_rng(0)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(DRAWS)])
    return [round(float(one), 4) for one in (values.mean(), *intervals.interval(means, len(values)))]


def seconds(nodes: int = 2_000, molecules: int = 1_000, latent: int = 16) -> dict[str, float]:
    """Return the time of a likelihood and its gradient over that of the negative binomial."""
    from scipy import sparse

    torch.manual_seed(0)
    z, weight, bias = torch.randn(nodes, latent), 0.1 * torch.randn(molecules, latent), torch.zeros(1, molecules)
    counts = torch.poisson(torch.full((nodes, molecules), 0.3))
    observed = to_torch_csr(sparse.csr_matrix(counts.numpy()))
    common = (z, weight, bias, torch.zeros(nodes, dtype=torch.int64), counts.sum(dim=1))
    of_each, opened = torch.zeros(molecules), torch.full((molecules,), -1.0)
    opened[molecules // 5 :] = -torch.inf
    laws = {
        "negative_binomial": NegativeBinomial(*common, of_each),
        "poisson": Poisson(*common),
        "bernoulli": Bernoulli(*common),
        "zero_inflated, a fifth let through": ZeroInflatedNegativeBinomial(*common, of_each, opened),
        "background": BackgroundForeground(*common, of_each, bias - 1, of_each, torch.zeros(molecules, latent)),
    }
    ones = torch.ones(nodes), torch.ones(molecules)
    best = {}
    for name, law in laws.items():
        law.z.requires_grad_()
        best[name] = min(_step(law, observed, ones) for _ in range(5))
    return {name: round(one / best["negative_binomial"], 2) for name, one in best.items()}


def _step(law: Any, observed: torch.Tensor, weights: tuple[torch.Tensor, torch.Tensor]) -> float:
    started = time.process_time()
    torch.autograd.grad(law.nll(observed, *weights), law.z)
    return time.process_time() - started


if __name__ == "__main__":
    main()
