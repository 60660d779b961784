"""Whether a run answers for tissue of another array, lab and tumour as well as a run that was trained there.

A run on her2st (Spatial Transcriptomics, 200 µm apart, donors B and G held out) and one on the Visium spots of
`xenium-visium-breast` (100 µm apart, blocks held out) are both asked, with `--on`, for the same spots: those that the
run trained there held out. A quarter of these is hidden at a time, the tissue around stays visible; the score is
Pearson's r a gene over hidden spots, of the genes both runs know, and differences are with intervals by bootstrap over
blocks of tissue, or over donors.

    AIVC_DATA=… OMP_NUM_THREADS=1 python benchmarks/other_arrays.py --runs runs/arrays [--only to_visium to_her2st]

Runs that are there are not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from first_model_parts import CONFIGS, r
from numpy.typing import NDArray
from result_file import write_result

from aivc_graph.config import Config, dump_config, load_config
from aivc_graph.evaluation.intervals import Estimate, estimate, units_of
from aivc_graph.evaluation.metrics.metric import metric
from aivc_graph.pipeline.elsewhere import graph_elsewhere
from aivc_graph.pipeline.train import train_config
from aivc_graph.query.predictions import expected_log_expression, measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue

LEVEL, TURNS = "patch", 4
TEST = ("B", "G")
Floats = NDArray[np.floating]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "other_arrays.json")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=("to_visium", "to_her2st"), default=["to_visium", "to_her2st"])
    options = parser.parse_args()
    runs = {name: trained(config, options.runs / name) for name, config in configs().items()}
    for name in options.only:
        there = name.removeprefix("to_")
        found = asked_there(runs[there], next(run for other, run in runs.items() if other != there))
        write_result(options.out, found, part=name)
        print(name, json.dumps(found, indent=1), flush=True)


def configs() -> dict[str, Config]:
    """Return the configuration of either run: spots and nothing else."""
    her2st = load_config(CONFIGS / "her2st.yaml", ["task.features=null"])
    both = load_config(CONFIGS / "xenium_visium_breast.yaml", [])
    (section,) = both.task.sections
    spots = section.model_copy(update={"sources": section.sources[1:]})
    return {
        "visium": both.model_copy(update={"task": both.task.model_copy(update={"sections": (spots,)})}),
        "her2st": her2st,
    }


def trained(config: Config, run: Path) -> Path:
    """Return a run, which is trained if it is not there."""
    if not (run / "run.json").exists():
        train_config(config, None, run, resume=False, device="cpu")
    return run


def asked_there(own: Path, other: Path) -> dict[str, Any]:
    """Return how well either run tells the spots that `own` held out, in genes that both know."""
    native = VirtualTissue.load(own)
    held_out = native.graph.obs(LEVEL).index[native.graph.in_split(LEVEL, "test").numpy()]
    asked = [_on(run, own) for run in (own, other)]
    panels = [one.model.plan.panels[LEVEL]["rna"] for one in asked]
    genes = [gene for gene in panels[0] if gene in set(panels[1])]
    graph = asked[0].graph
    rows = np.flatnonzero(graph.obs(LEVEL).index.isin(held_out))
    where = [one.graph.obs(LEVEL).index.get_indexer(graph.obs(LEVEL).index[rows]) for one in asked]
    measured = measured_log_expression(asked[0].model, graph, LEVEL)[:, [panels[0].index(g) for g in genes]]
    told = {
        name: hidden_in_turn(one, at)[:, [panel.index(g) for g in genes]]
        for name, one, at, panel in zip(("trained there", "trained elsewhere"), asked, where, panels, strict=True)
    }
    section, pos = graph[LEVEL].section_index.numpy(), graph[LEVEL].pos.numpy()
    told |= {f"mean of {k} neighbours": around(measured, pos, section, rows, k) for k in (6, 18)}
    donor = graph.obs("section")["donor"].astype(str).to_numpy()[section[rows]]
    units = units_of(donor, section[rows], pos[rows])
    score = {who: estimate(metric("pearson_by_gene"), one, measured[rows], units) for who, one in told.items()}
    found: dict[str, Any] = {"genes": len(genes), "spots": len(rows), "units": f"{units.n} {units.name}s"}
    found |= {who: with_bounds(one) for who, one in score.items()}
    for who in sorted(set(told) - {"trained elsewhere"}):
        found[f"elsewhere minus {who}"] = difference(score["trained elsewhere"], score[who])
    return found


def _on(run: Path, home: Path) -> VirtualTissue:
    """Return the tissue of the run at `home`, asked of another run; of her2st, the donors that were held out."""
    config = load_config(home / "config.yaml", [])
    if any(section.donor in TEST for section in config.task.sections):
        sections = tuple(one for one in config.task.sections if one.donor in TEST)
        config = config.model_copy(update={"task": config.task.model_copy(update={"sections": sections})})
    path = home.with_suffix(".yaml")
    path.write_text(dump_config(config))
    with graph_elsewhere(run, path) as store:
        return VirtualTissue.load(run).on(store)


def hidden_in_turn(tissue: VirtualTissue, rows: NDArray[np.integer]) -> Floats:
    """Return what is expected of spots whose counts are hidden, a quarter at a time (row, gene)."""
    found: Floats = np.zeros((len(rows), len(tissue.model.plan.panels[LEVEL]["rna"])))
    turn = np.random.default_rng(0).permutation(len(rows)) % TURNS
    for one in range(TURNS):
        away = np.zeros(int(tissue.graph[LEVEL].num_nodes), bool)
        away[rows[turn == one]] = True
        left = tissue.without({(LEVEL, "rna"): away})
        told = np.zeros((len(away), found.shape[1]))
        told[away] = expected_log_expression(tissue.model, left.graph, LEVEL, away)
        found[turn == one] = told[rows[turn == one]]
    return found


def around(measured: Floats, pos: Floats, section: NDArray[np.integer], rows: NDArray[np.integer], k: int) -> Floats:
    """Return the mean of the nearest spots that are visible while a spot is hidden (row, gene)."""
    found = np.zeros((len(rows), measured.shape[1]))
    turn = np.random.default_rng(0).permutation(len(rows)) % TURNS
    for one in range(TURNS):
        hidden = np.zeros(len(measured), bool)
        hidden[rows[turn == one]] = True
        for spot in np.flatnonzero(turn == one):
            there = np.flatnonzero(~hidden & (section == section[rows[spot]]))
            near = there[np.argsort(((pos[there] - pos[rows[spot]]) ** 2).sum(axis=1))[:k]]
            found[spot] = measured[near].mean(axis=0)
    return found


def with_bounds(one: Estimate) -> dict[str, Any]:
    """Return a score with its interval."""
    return {"r": r(one.value)} | _bounds(one)


def difference(one: Estimate, other: Estimate) -> dict[str, Any]:
    """Return how much the first is above the second, over the same draws."""
    return {"mean": r(one.value - other.value)} | _bounds(one - other)


def _bounds(one: Estimate) -> dict[str, float]:
    return {name: r(end) for name, end in zip(("lower", "upper"), one.bounds(), strict=True) if end is not None}


if __name__ == "__main__":
    main()
