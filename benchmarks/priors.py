"""Whether what is known of genes earns its place: true prior beside the same rewired, shuffled and taken away.

Interventions never seen in training (Norman 2019 in K562, all single genes and pairs of which one or both were never
seen; the L1000 plate of knock-downs): squared error over that of the context mean, by condition, the genes that were
acted on left out. Genes never measured (Xenium breast, blocks held out, five turns over all genes, each turn trained
without a fifth of them): correlation over test cells of told and measured log expression, by gene.

    AIVC_DATA=… OMP_NUM_THREADS=1 python benchmarks/priors.py --out benchmarks/results/priors.json [--only screens]

Intervals are paired, 95 %, over conditions or genes; controls are means over draws. Regulons: Garcia-Alonso et al.
2019, doi:10.1101/gr.240663.118; interactions: CellChat's network, doi:10.1038/s41467-021-21246-9; sets: Liberzon et al.
2015, doi:10.1016/j.cels.2015.12.004.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from response_sets import knock_downs
from responses import FILE, OF_NORMAN
from responses_elsewhere import interval, put
from result_file import write_result

from aivc_graph import names
from aivc_graph.config import data_folder
from aivc_graph.evaluation.responses.asking import conditions_in
from aivc_graph.evaluation.responses.questions import Question
from aivc_graph.evaluation.responses.table import Responses, responses_of
from aivc_graph.graph.known import CONTROLS, NONE, TRUE, Known, known_of
from aivc_graph.graph.priors import add_priors
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.io.priors.layout import PriorConfig, read_prior
from aivc_graph.operators.intervention.condition_rules import mean_of_context
from aivc_graph.operators.intervention.condition_stack import predict_responses

PRIORS = ("dorothea_hs_ABC.csv.gz", "cellchat_ppi_human_edges.csv.gz", "h.all.v7.0.symbols.gmt")
DRAWS = 5
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


def main() -> None:
    """Ask everything and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/priors.json"))
    parser.add_argument("--only", nargs="+", choices=("screens", "xenium"), default=("screens", "xenium"))
    options = parser.parse_args()
    for name in options.only:
        found = screens() if name == "screens" else {}
        print(name, json.dumps(found, indent=1), flush=True)
        write_result(options.out, found, part=name)


def screens() -> dict[str, Any]:
    """Return by question the error of each prior over that of the context mean, and of the true one over the others."""
    file = data_folder() / FILE
    norman = responses_of(ad.read_h5ad(file), "condition", "control", "cell_type", where=FILE)
    shrna = knock_downs(data_folder() / "l1000-shrna-plate/kd_gct.h5ad")
    asked = [
        ("norman k562", norman, put(norman, **OF_NORMAN, n_test=1)),
        *(("norman k562", norman, put(norman, **OF_NORMAN, hold="combination", seen=n, n_test=1)) for n in (1, 0)),
        ("l1000 shrna plate", shrna, put(shrna, kind="by_intervention", n_test=5)),
    ]
    return {f"{name}: {question.name}": by_prior(table, question) for name, table, question in asked if question}


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
    add_priors(graph, [read_prior(PriorConfig(path=data_folder() / "priors" / name)) for name in PRIORS])
    known = known_of(graph)
    assert known is not None
    return known


def ratio(one: Floats, other: Floats) -> float:
    """Return how much larger the mean of one is."""
    return float(one.mean() / other.mean() - 1)


if __name__ == "__main__":
    main()
