"""What spots are made of, told by where dissociated cells are placed, beside the part that tells composition.

    OMP_NUM_THREADS=1 AIVC_DATA=… python benchmarks/placing_composition.py

The set `xenium_visium` of `deconvolution.py`, with its truth and baselines. ``cells placed``: the cells of each type
that `place --level patch --by place` expects in a spot, as shares; cells of a kind keep their number over the section,
and it is the reference that has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deconvolution import CASES, Floats, baselines, judge
from result_file import write_result

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.query.questions.place import PlaceQuestion
from aivc_graph.query.virtual_tissue import VirtualTissue


def main() -> None:
    case = CASES["xenium_visium"]()
    shares = placed(case.sections)
    found = judge(case, lambda counts, cells, kind, n: baselines(counts, cells, kind, n) | {"cells placed": shares})
    found = {key: found[key] for key in ("spots", "genes", "by_predictor", "rmse_model_less")}
    print(json.dumps(found, indent=1))
    write_result(Path(__file__).parent / "results" / "placing.json", found, part="composition")


def placed(sections: list[Any]) -> Floats:
    """Return the shares of types (spot, type) among cells placed in each counted spot, types as the part has them."""
    graph = build_graph(sections, GraphConfig(edges={"patch": {"kind": "knn", "k": 6}}))
    model = TissueModel(ModelPlan.of(graph, ModelConfig(latent=4, rings=(6,)))).eval()
    question = PlaceQuestion(level="patch", by="place")
    table = question.as_table(question.answer(VirtualTissue(graph, model)))
    types = model.part("composition", "cell", "patch").plan.types
    cells: Floats = table[[f"cells_{kind}" for kind in types]].to_numpy(float)
    return cells / cells.sum(axis=1, keepdims=True).clip(1e-12)


if __name__ == "__main__":
    main()
