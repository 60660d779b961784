"""What Visium spots are made of, beside the Xenium cells of the neighbouring section, in blocks held out of training.

No published types lie beside these cells: they are typed by the markers of their clusters, as in `deconvolution`. The
spots' shares are then predicted from their own counts alone and compared with the typed cells beneath. The types are
themselves a prediction: this says whether the projection from spots agrees with the cells, not whether either is right.

    python benchmarks/composition.py --out benchmarks/results/composition.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from deconvolution import label_by_markers
from result_file import write_result

from aivc_graph.config import load_config
from aivc_graph.evaluation.scoring import score
from aivc_graph.graph.build import build_graph
from aivc_graph.pipeline.build import hold_out, read_section
from aivc_graph.pipeline.tasks.composition import spot_to_composition
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.fit import fit

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "xenium_visium_breast.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/composition.json"))
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    draws = [draw(seed) for seed in range(options.draws)]
    found: dict[str, Any] = {"split": "spatial block with a buffer", "n_draws": len(draws), "by_draw": draws}
    for metric in ("jsd", "rmse_shares"):
        values = {name: [one[metric][name] for one in draws] for name in draws[0][metric]}
        found[metric] = {name: round(float(np.mean(each)), 4) for name, each in values.items()}
    write_result(options.out, found)
    print(json.dumps(found, indent=1))


def draw(seed: int) -> dict[str, Any]:
    """Train and score one draw of held-out blocks."""
    config = load_config(CONFIG, [f"task.split.seed={seed}", "training.epochs=5", "training.device=cpu"])
    section = read_section(config.task.sections[0])
    label_by_markers(section)
    hold_out([section], config.task)
    graph = build_graph([section], config.graph)
    with tempfile.TemporaryDirectory() as folder:
        model = fit(graph, config.model, config.training, Path(folder))
    asked = Asked(VirtualTissue(graph, model), config)
    results, comparisons = score(spot_to_composition(asked))
    row: dict[str, Any] = {"seed": seed, "shares": shares_of(model)}
    for metric in ("jsd", "rmse_shares"):
        row[metric] = {r.predictor: r.value for r in results if r.metric == metric}
        one = next(c for c in comparisons if c.metric == metric)
        row[f"{metric}, model less {one.b}"] = [one.difference, one.lower, one.upper, f"{one.n_units} {one.unit}s"]
    return row


def shares_of(model: Any) -> dict[str, float]:
    operator = model.composition_operator("cell", "patch")
    names = ("efficiency_share", "variance_share", "calibration_share", "neighbour_share")
    return {name: float(getattr(operator, name)) for name in names}


if __name__ == "__main__":
    main()
