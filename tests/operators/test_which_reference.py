"""Which labelled cells tell what spots are made of, and what is said where none do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.composition.composition import CompositionProject
from aivc_graph.operators.composition.reference import ReferenceComposition
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.section import add_cells, add_observation, new_section
from tests.fitting import model_of
from tests.reference import GENES, TYPES, cells_of, reference_section, spot_section, spots_of

EDGES = GraphConfig(edges={"patch": {"kind": "knn", "k": 4}, "cell": {"kind": "knn", "k": 4}})
CONFIG = ModelConfig(latent=4)
FEW = 20


def plan_of(sections: list[Any]) -> tuple[ModelPlan, list[str]]:
    """Return the plan of a model of some sections, and what was doubted."""
    with doubts_heard() as doubts:
        plan = ModelPlan.of(build_graph(sections, EDGES), CONFIG)
    return plan, doubts


def composition_of(plan: ModelPlan) -> list[type]:
    return [spec.part_class for spec in plan.parts if spec.kind == "composition"]


def loose(maker: Callable[..., Any], seed: int = 7) -> Any:
    """Return labelled cells of a striped section without their positions."""
    source = maker("loose", n=200, seed=seed, donor="other")
    table = source.tables["cell_rna"].copy()
    table.obs_names = table.obs["barcode"].astype(str)
    section = new_section("loose", donor="other")
    add_cells(section, table.obs_names, source.shapes["cell"][["label"]])
    add_observation(section, "cell", "rna", table)
    return section


@pytest.mark.parametrize(
    ("labelled", "part"), [(0, ReferenceComposition), (FEW, ReferenceComposition), (400, CompositionProject)]
)
def test_a_few_labels_in_place_do_not_silence_a_reference(
    striped_section: Callable[..., Any], labelled: int, part: type
) -> None:
    section = striped_section("s", levels=("cell", "patch"))
    kept = np.arange(400) < labelled
    section.shapes["cell"]["label"] = np.where(kept, section.shapes["cell"]["label"].astype(object), None)
    section.shapes["cell"].loc[section.shapes["cell"].index[:3], "label"] = "seen in place alone" if labelled else None
    plan, _ = plan_of([section, loose(striped_section)])
    assert composition_of(plan) == [part]
    (types,) = plan.compositions.values()
    assert ("seen in place alone" in types) == (part is CompositionProject)


def test_a_reference_on_the_side_that_is_tested_is_doubted() -> None:
    reference = reference_section(*cells_of())
    reference.shapes["cell"]["split"] = "test"
    plan, doubts = plan_of([spot_section("s1", spots_of()[0]), reference])
    assert not plan.compositions
    assert any("none of which trains" in one and "donors that are not held out" in one for one in doubts)


@pytest.mark.parametrize("short", ["spots", "reference"])
def test_a_section_of_few_genes_that_sets_aside_those_of_others_is_named(short: str) -> None:
    counts, labels = cells_of()
    sections = [spot_section("s1", spots_of()[0]), reference_section(counts, labels)]
    if short == "spots":
        sections.append(spot_section("s2", spots_of(seed=3)[0][:, :20], GENES[:20]))
    else:
        further = new_section("few", donor="third")
        add_cells(
            further,
            [f"f{i}" for i in range(len(labels))],
            pd.DataFrame({"label": labels}, [f"f{i}" for i in range(len(labels))]),
        )
        table = sections[1].tables["cell_rna"][:, :20].copy()
        table.obs_names = [f"f{i}" for i in range(len(labels))]
        add_observation(further, "cell", "rna", table)
        sections.append(further)
    plan, doubts = plan_of(sections)
    assert list(plan.compositions.values()) == [TYPES]
    (said,) = [one for one in doubts if "tell composition anywhere" in one]
    assert "20 of 60 genes measured in " + ("s2" if short == "spots" else "few") in said
    assert ("ask it by --on" in said) == (short == "spots")


def test_sections_of_one_panel_are_not_doubted() -> None:
    sections = [spot_section("s1", spots_of()[0]), spot_section("s2", spots_of(seed=3)[0][:, :45], GENES[:45])]
    assert not any("tell composition" in one for one in plan_of([*sections, reference_section(*cells_of())])[1])


def test_labels_of_cells_without_positions_alone_make_no_niche(striped_section: Callable[..., Any]) -> None:
    section = striped_section("s", n=200)
    section.shapes["cell"] = section.shapes["cell"].drop(columns="label")
    graph = build_graph([section, loose(striped_section)], EDGES)
    tissue = VirtualTissue(graph, model_of(graph, CONFIG), seed=0)
    with doubts_heard() as doubts:
        table = tissue.composition()
    assert set(table) == {"niche", "n_nodes", "n_labelled"} and not table["n_labelled"].any()
    assert table["n_nodes"].sum() == 200 and any("cell nodes in place without a label" in one for one in doubts)
