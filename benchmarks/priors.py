"""Whether what is known of genes earns its place: true prior beside the same rewired, shuffled and taken away.

Interventions never seen in training (Norman 2019 in K562, all single genes and pairs of which one or both were never
seen; the L1000 plate of knock-downs): squared error over that of the context mean, by condition, the genes that were
acted on left out. Genes never measured (Xenium breast, blocks held out, five turns over all genes, each turn fitted in
closed form without a fifth of them): correlation over test cells of told and measured log expression, by gene.

    AIVC_DATA=… OMP_NUM_THREADS=1 python benchmarks/priors.py --out benchmarks/results/priors.json [--only screens]

Intervals are paired, 95 %, over conditions or genes; controls are means over draws. Regulons: Garcia-Alonso et al.
2019, doi:10.1101/gr.240663.118; interactions: CellChat's network, doi:10.1038/s41467-021-21246-9; sets: Liberzon et al.
2015, doi:10.1016/j.cels.2015.12.004.

`reach` asks what a prior could tell of effects at all: the correlation of effects of linked genes, each about the mean
of its context, beside that of genes that are not linked; and the share of the effects' variance that the nearest by a
relation explain, each gene told by kernel ridge from all others with the penalty that is best in hindsight, beside the
same of genes under wrong names with their best penalties.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from panels import without_genes
from response_sets import knock_downs
from responses import FILE, OF_NORMAN
from responses_elsewhere import interval, put
from result_file import write_result

from aivc_graph import names
from aivc_graph.config import Config, data_folder, load_config
from aivc_graph.evaluation.intervals import interval as bounds
from aivc_graph.evaluation.responses.asking import conditions_in
from aivc_graph.evaluation.responses.questions import Question
from aivc_graph.evaluation.responses.table import Responses, responses_of
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.known import CONTROLS, NONE, REWIRED, TRUE, Known, known_of
from aivc_graph.graph.priors import add_priors
from aivc_graph.graph.profiles import add_section_profiles
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.io.priors.layout import PriorConfig, read_prior
from aivc_graph.operators.intervention.condition_rules import mean_of_context
from aivc_graph.operators.intervention.condition_stack import predict_responses
from aivc_graph.operators.measurement.unmeasured import tell_unmeasured
from aivc_graph.pipeline.build import hold_out, read_section
from aivc_graph.query.unmeasured import decoded_states, expected_unmeasured
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.prior import Prior
from aivc_graph.training.fit import fit

PRIORS = ("dorothea_hs_ABC.csv.gz", "cellchat_ppi_human_edges.csv.gz", "h.all.v7.0.symbols.gmt")
OF_TISSUE = (*PRIORS, "cellchatdb_human_interaction.csv.gz", "liana_omni_resource.csv")
DRAWS, TURNS, LEVEL, PER = 5, 5, "cell", 10_000.0
# Of `reach`: the likeness from which genes count as linked, draws of wrong names, the one context of several.
LINKED, SHUFFLES, OF_SCREEN = 0.1, 200, "k562"
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


def main() -> None:
    """Ask everything and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/priors.json"))
    parts: dict[str, Callable[[], dict[str, Any]]] = {"screens": screens, "reach": reach, "xenium": xenium}
    parser.add_argument("--only", nargs="+", choices=tuple(parts), default=tuple(parts))
    options = parser.parse_args()
    for name in options.only:
        found = parts[name]()
        print(name, json.dumps(found, indent=1), flush=True)
        write_result(options.out, found, part=name)


def screens() -> dict[str, Any]:
    """Return by question the error of each prior over that of the context mean, and of the true one over the others."""
    norman, shrna = tables().values()
    asked = [
        ("norman k562", norman, put(norman, **OF_NORMAN, n_test=1)),
        *(("norman k562", norman, put(norman, **OF_NORMAN, hold="combination", seen=n, n_test=1)) for n in (1, 0)),
        ("l1000 shrna plate", shrna, put(shrna, kind="by_intervention", n_test=5)),
    ]
    return {f"{name}: {question.name}": by_prior(table, question) for name, table, question in asked if question}


def tables() -> dict[str, Responses]:
    """Return the screens that priors are tried on."""
    norman = responses_of(ad.read_h5ad(data_folder() / FILE), "condition", "control", "cell_type", where=FILE)
    return {"norman k562": norman, "l1000 shrna plate": knock_downs(data_folder() / "l1000-shrna-plate/kd_gct.h5ad")}


def reach() -> dict[str, Any]:
    """Return by screen and relation how alike effects of linked genes are, and what neighbours explain at most."""
    found: dict[str, Any] = {}
    for name, table in tables().items():
        here = table.context == OF_SCREEN if OF_SCREEN in table.context else np.ones(len(table.parts), bool)
        rows = [i for i, parts in enumerate(table.parts) if len(parts) == 1 and here[i]]
        genes = [table.parts[i][0] for i in rows]
        effect = np.where(table.own[rows], 0.0, table.effect[rows])
        effect = effect - effect.mean(axis=0)
        for relation, alike in known_in(table).likeness(genes).items():
            there, rng = np.diag(alike) > 0, np.random.default_rng(0)
            wrong = [explained(alike, effect[rng.permutation(len(rows))]) for _ in range(SHUFFLES)]
            found[f"{name}: {relation}"] = {
                "genes acted on": len(genes),
                "of which known": int(there.sum()),
                **linked(alike[np.ix_(there, there)], effect[there]),
                "variance explained at most": round(explained(alike, effect), 4),
                "the same under wrong names, middle and 95 % of draws": [
                    round(float(x), 4) for x in np.quantile(wrong, (0.5, 0.95))
                ],
            }
    return found


def linked(alike: Floats, effect: Floats) -> dict[str, Any]:
    """Return the correlation of effects of pairs of genes by whether they are linked, and the interval over genes."""
    unit = effect / np.maximum(np.linalg.norm(effect, axis=1, keepdims=True), 1e-12)
    r, apart = unit @ unit.T, ~np.eye(len(unit), dtype=bool)
    near = apart & (np.abs(alike) >= LINKED)

    def lead(rows: np.ndarray) -> float:
        some = np.ix_(rows, rows)
        other = rows[:, None] != rows  # a gene drawn twice is no pair
        own, rest = near[some] & other, ~near[some] & other
        return float((r * np.sign(alike))[some][own].mean() - r[some][rest].mean()) if own.any() else np.nan

    rng = np.random.default_rng(0)
    draws = [lead(rng.integers(0, len(r), len(r))) for _ in range(400)]
    kept = np.array(draws)[np.isfinite(draws)]
    ends = bounds(kept, len(r)) if len(kept) else (np.nan, np.nan)
    return {
        "linked pairs": int(near.sum() / 2),
        "r of effects, linked": round(float((r * np.sign(alike))[near].mean()), 4) if near.any() else None,
        "r of effects, not linked": round(float(r[apart & ~near].mean()), 4),
        "linked less not": [round(float(one), 4) for one in (lead(np.arange(len(r))), *ends)],
    }


def explained(alike: Floats, effect: Floats) -> float:
    """Return the most of the effects' variance that kernel ridge tells of each gene from all others, any penalty."""
    values, vectors = np.linalg.eigh((alike + alike.T) / 2)
    shares = []
    for penalty in np.logspace(-2, 3, 11):
        hat = (vectors * (np.maximum(values, 0) / (np.maximum(values, 0) + penalty))) @ vectors.T
        missed = (effect - hat @ effect) / (1 - np.diag(hat))[:, None]
        shares.append(1 - float((missed**2).sum() / (effect**2).sum()))
    return max(0.0, *shares)


def by_prior(table: Responses, question: Question) -> dict[str, Any]:
    """Return one question's errors."""
    known = known_in(table)
    told = {TRUE: [known], NONE: [None]}
    told |= {kind: [known.control(kind, seed) for seed in range(DRAWS)] for kind in CONTROLS if kind != NONE}
    errors = {kind: np.mean([errors_of(table, question, one) for one in some], axis=0) for kind, some in told.items()}
    mean = errors_of(table, question, None, rule=True)
    targets = sorted({part for row in np.flatnonzero(question.asked) for part in table.parts[row]})
    covered = {name: int((np.diag(one) > 0).sum()) for name, one in known.likeness(targets).items()}
    return {
        "conditions": len(mean),
        "genes acted on": len(targets),
        "of which known": covered,
        "error over the context mean": {kind: interval(one, mean, ratio) for kind, one in errors.items()},
        "true prior over": {kind: interval(errors[TRUE], errors[kind], ratio) for kind in CONTROLS},
    }


def xenium() -> dict[str, Any]:
    """Return how well genes that no cell of training was counted for are told, by prior."""
    config = load_config("configs/xenium_visium_breast.yaml", ["training.device=cpu", "training.epochs=0"])
    cells = config.task.sections[0].model_copy(update={"sources": config.task.sections[0].sources[:1]})
    sections = [read_section(cells)]
    hold_out(sections, config.task)
    whole = build_graph(sections, config.graph.model_copy(update={"n_genes": None}), priors_of(OF_TISSUE))
    panel = np.flatnonzero(whole[LEVEL]["rna_panel"].numpy())
    turn = np.random.default_rng(0).permutation(len(panel)) % TURNS
    scores: dict[str, list[Floats]] = {}
    openings = []
    for now in range(TURNS):
        found, opening = one_turn(whole, panel[turn == now], config)
        openings.append(opening)
        for kind, values in found.items():
            scores.setdefault(kind, []).append(values)
    r = {kind: np.concatenate(values) for kind, values in scores.items()}
    told = {
        "genes": len(r[TRUE]),
        "opening of the true prior": openings,
        "r over test cells": {kind: round(float(values.mean()), 4) for kind, values in r.items()},
        "true prior less": {kind: interval(r[TRUE], r[kind], gain) for kind in r if kind != TRUE},
    }
    return told


def one_turn(whole: TissueGraph, gone: np.ndarray, config: Config) -> tuple[dict[str, Floats], float]:
    """Train without the genes `gone`, and return the correlation of each that is known, by prior."""
    mask = np.isin(np.flatnonzero(whole[LEVEL]["rna_panel"].numpy()), gone)
    cut = without_genes(whole, mask)
    add_section_profiles(cut)
    with tempfile.TemporaryDirectory() as folder:
        tissue = VirtualTissue(cut, fit(cut, config.model, config.training, Path(folder)))
    known = known_of(cut)
    assert known is not None
    names_gone = cut.obs(names.GENE).index[gone]
    genes = [gene for gene, there in zip(names_gone, known.has(list(names_gone)), strict=True) if there]
    part = tissue.model.count_operator(LEVEL, names.RNA)
    weight, profile = part.decoder().detach().double().numpy(), part.log_profile.double().numpy()
    test = cut.in_split(LEVEL, "test").numpy() & cut[LEVEL]["rna_mask"].numpy()
    counts = to_scipy_csr(whole.counts(LEVEL, names.RNA))[test]
    depth = np.asarray(to_scipy_csr(cut.counts(LEVEL, names.RNA))[test].sum(axis=1))
    measured = np.log1p(
        PER * counts[:, whole.obs(names.GENE).index.get_indexer(genes)].toarray() / np.maximum(depth, 1)
    )

    decoded = tuple(one[test] for one in decoded_states(tissue, LEVEL))

    def scored(one: Known) -> tuple[Floats, float]:
        told = tell_unmeasured(one, part.plan.names, weight, profile, genes)
        said = np.log1p(expected_unmeasured(told, *decoded)[0])
        return np.array([pearson(a, b) for a, b in zip(said.T, measured.T, strict=True)]), told.opening

    parts = {
        "relations alone": replace(known, vectors=np.full((len(known.genes), 0), np.nan)),
        "vectors alone": replace(known, relations={}),
        "vectors permuted": replace(known, vectors=known.control(REWIRED, 0).vectors),
    }
    found = {
        kind: np.mean([scored(known.control(kind, seed))[0] for seed in range(DRAWS)], axis=0) for kind in CONTROLS
    }
    true, opening = scored(known)
    return {TRUE: true, **found, **{name: scored(one)[0] for name, one in parts.items()}}, round(opening, 3)


def pearson(a: Floats, b: Floats) -> float:
    """Return the correlation of two columns, 0 where one does not vary."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 and b.std() > 1e-9 else 0.0


def errors_of(table: Responses, question: Question, known: Known | None, *, rule: bool = False) -> Floats:
    """Return the squared error of each condition (condition,), of the operator or of the context mean."""
    found = []
    for fold in question.folds:
        given, rows = conditions_in(table, fold, known), np.flatnonzero(fold.asked)
        said = given.told(mean_of_context(given, rows)) if rule else predict_responses(given, fold.asked)
        missed = np.where(table.own[rows], np.nan, (said - table.effect[rows]) ** 2)
        found.append(np.nanmean(missed, axis=1))
    return np.concatenate(found)


def known_in(table: Responses) -> Known:
    """Return what the priors know of the genes that were measured or acted on."""
    graph = TissueGraph()
    index = pd.Index(sorted({*table.genes, *table.targets}), dtype=object)
    graph[names.GENE].obs, graph[names.GENE].num_nodes = pd.DataFrame(index=index), len(index)
    add_priors(graph, priors_of(PRIORS))
    known = known_of(graph)
    assert known is not None
    return known


def priors_of(files: tuple[str, ...]) -> list[Prior]:
    """Return the priors in files of the folder of data."""
    return [read_prior(PriorConfig(path=data_folder() / "priors" / name, species="human")) for name in files]


def gain(one: Floats, other: Floats) -> float:
    """Return how much larger the mean of one is, absolutely."""
    return float((one - other).mean())


def ratio(one: Floats, other: Floats) -> float:
    """Return how much larger the mean of one is."""
    return float(one.mean() / other.mean() - 1)


if __name__ == "__main__":
    main()
