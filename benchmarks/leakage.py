"""What leaks under the splits of three real tissues, beside a random split of the same nodes; data alone, no training.

For each: L(π) and its value by chance, distance to the nearest training node beside that to the nearest other tested
node, groups on both sides, how far messages reach beside the gap, and the optimism gap of two fixed probes.

    python benchmarks/leakage.py [--out FILE] [--only her2st xenium_visium_breast osmfish]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph import names
from aivc_graph.config import Config, load_config
from aivc_graph.evaluation.audit import audit_graph
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.plan import ModelPlan
from aivc_graph.pipeline.build import hold_out, read_section
from aivc_graph.splits.design import levels_of, write_labels

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RANDOM = "random nodes"
# Splits by tissue: the one of its configuration, and others that could be asked.
BLOCK = {"kind": "by_block", "block_um": 800, "buffer_um": 0, "test_share": 0.25, "validation_share": 0.0}
SPLITS: dict[str, dict[str, dict[str, Any]]] = {
    "her2st": {
        "by donor": {"kind": "by_group", "key": "donor", "test": ["G"]},
        "by section, donors shared": {"kind": "by_group", "key": "section", "test": ["C2"], "share_donors": True},
        "by block, gap 400 µm": {**BLOCK, "block_um": 1500, "buffer_um": 400},
    },
    "xenium_visium_breast": {"by block": BLOCK, "by block, gap 100 µm": {**BLOCK, "buffer_um": 100}},
    "osmfish": {
        "by block": {**BLOCK, "block_um": 400},
        "by block, gap 100 µm": {**BLOCK, "block_um": 400, "buffer_um": 100},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/leakage.json"))
    parser.add_argument("--only", nargs="+", choices=SPLITS, default=list(SPLITS))
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.only:
        found[name] = of_tissue(name)
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(name, json.dumps({split: row["short"] for split, row in found[name].items()}, indent=1))


def of_tissue(name: str) -> dict[str, Any]:
    """Return the audit of every split of one tissue; the random one has as many tested nodes as the first."""
    config = load_config(CONFIGS / f"{name}.yaml", ["task.features=null"])
    sections = [read_section(section) for section in config.task.sections]
    found = {}
    for split, design in SPLITS[name].items():
        hold_out(sections, config.task.model_copy(update={"split": design}))
        graph = build_graph(sections, config.graph)
        found[split] = audited(graph, config)
        if RANDOM not in found:
            level = graph.levels[0]
            share = float((graph[level].split == names.SPLITS.index(names.TEST)).float().mean())
            found[RANDOM] = random_split(sections, share, config)
    return found


def random_split(sections: list[Any], share: float, config: Config) -> dict[str, Any]:
    """Return the audit where nodes are drawn one by one, as is often done."""
    rng = np.random.default_rng(0)
    for section in sections:
        for level in levels_of(section):
            tested = rng.random(len(section.shapes[level])) < share
            write_labels(section, level, np.where(tested, names.TEST, names.TRAIN))
    return audited(build_graph(sections, config.graph), config)


def audited(graph: TissueGraph, config: Config) -> dict[str, Any]:
    """Return the audit of a labelled graph, and the figures a table would show."""
    sides: list[dict[str, np.ndarray]] = [{}, {}]
    plan = ModelPlan.of(graph, config.model)
    for level in plan.counts:
        counted = np.asarray(to_scipy_csr(graph.counts(level, names.RNA)).sum(axis=1)).ravel() > 0
        for side, split in zip(sides, (names.TRAIN, names.TEST), strict=True):
            side[level] = graph.in_split(level, split).numpy() & counted
    found = audit_graph(graph, sides[0], sides[1], plan.steps)
    short = {}
    for level, similarity in found["similarity"].items():
        optimism = {probe: one["gap"] for probe, one in found["optimism"][level].items()}
        short[level] = {
            "L over chance": round(similarity["value"] / similarity["by_chance"], 4),
            "nearest, train over test": found["nearest"][level]["ratio"],
            "optimism gap": optimism,
            "overlap of messages": found["receptive_field"][level]["overlap"],
        }
    return {"short": short, **found}


if __name__ == "__main__":
    main()
