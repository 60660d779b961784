"""What every question keeps to, whichever it is: an answer hangs neither on windows nor on the order of sections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.part import AFTER_TRAINING, BEFORE_TRAINING
from aivc_graph.pipeline.ask import flat
from aivc_graph.query import states
from aivc_graph.query.questions.question import QUESTIONS, question
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.intervention import knockout, set_interventions
from aivc_graph.tissue.section import metadata_of
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}})
# Options of those that cannot be asked without, or answer only a part of what they can.
EXAMPLES: dict[str, tuple[dict[str, Any], ...]] = {
    "niches": ({}, {"level": "region"}),
    "expression": ({"genes": ["G1", "G11"]}, {"at": "niche"}),
    "composition": ({}, {"level": "patch"}),
    "markers": ({}, {"by": "label", "n": 0}),
    "similar": ({"to_niche": 1, "n": 7}, {"to_node": "cell5", "section": "s00"}),
    "abundance": ({"by": "batch"},),
    "response": ({"intervention": ["knockout:G3@0.5"], "at": "region", "genes": "G3,G12"},),
}
# Asked of sections that share no modality, or of which one has no positions: `tests/query/test_transfer.py`,
# `test_place.py` and `test_reference_composition.py` try the order of those.
ELSEWHERE = {"transfer", "place", "type_expression"}
CASES = [(name, options) for name in sorted(set(QUESTIONS) - ELSEWHERE) for options in EXAMPLES.get(name, ({},))]


@pytest.fixture(scope="module")
def sections(striped_section: Callable[..., Any]) -> list[Any]:
    """Two sections of each of three donors, one of each treated."""
    found = []
    for donor in range(3):
        for arm in range(2):
            at = {"n": 300, "seed": 2 * donor + arm, "levels": ("cell", "patch"), "donor": f"d{donor}"}
            found.append(striped_section(f"s{donor}{arm}", **at))
            metadata_of(found[-1])["batch"] = "early" if donor else "late"
            if arm:
                set_interventions(found[-1], (knockout("G3", dose=0.5),))
    return found


@pytest.fixture(scope="module")
def tissue(sections: list[Any]) -> VirtualTissue:
    """Tissue with a model that was fitted in closed form, and its niches."""
    graph = build_graph(sections, EDGES)
    model = model_of(graph, ModelConfig(latent=3, rings=(4, 8)))
    fit_stages(fitting_of(graph, model, [fold_of(graph, model)]), (*BEFORE_TRAINING, *AFTER_TRAINING))
    return again(VirtualTissue(graph, model), graph)


def again(tissue: VirtualTissue, graph: TissueGraph) -> VirtualTissue:
    """Return a graph seen by the same model and niches, of which nothing has been asked yet."""
    return VirtualTissue(graph, tissue.model, niche_rule=tissue.niche_rule)


def rows(answer: Any) -> pd.DataFrame:
    """Return an answer as a table whose rows are in an order of their own."""
    table = answer if isinstance(answer, pd.DataFrame) else flat(answer)
    words = [name for name in table if not pd.api.types.is_float_dtype(table[name])]
    text = table.assign(**{name: table[name].astype(str) for name in words})
    return text.sort_values(words, ignore_index=True)


def assert_same(one: Any, other: Any) -> None:
    first, second = rows(one), rows(other)
    assert len(first) and list(first) == list(second)
    for name in first:
        if pd.api.types.is_float_dtype(first[name]):
            np.testing.assert_allclose(first[name], second[name], rtol=2e-3, atol=2e-3, err_msg=name)
        else:
            assert (first[name] == second[name]).all(), name


@pytest.mark.parametrize(("name", "options"), CASES)
def test_an_answer_is_the_same_by_windows(
    tissue: VirtualTissue, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    whole = tissue.ask(name, **options)
    monkeypatch.setattr(states, "WINDOW_NODES", 250)
    assert_same(again(tissue, tissue.graph).ask(name, **options), whole)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_an_answer_is_the_same_whatever_the_order_of_sections(
    tissue: VirtualTissue, sections: list[Any], name: str, options: dict[str, Any]
) -> None:
    turned = again(tissue, build_graph(sections[::-1], EDGES))
    assert list(turned.graph.obs("cell").index) != list(tissue.graph.obs("cell").index)
    assert_same(turned.ask(name, **options), tissue.ask(name, **options))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_options_read_from_text_are_those_given_in_python(name: str, options: dict[str, Any]) -> None:
    as_text = {
        key: [str(v) for v in value] if isinstance(value, list) else str(value) for key, value in options.items()
    }
    spoken, given = (question(name, one).model_dump(mode="json") for one in (as_text, options))
    assert {key: str(value) for key, value in spoken.items()} == {key: str(value) for key, value in given.items()}
