"""Runs that cannot be asked what an intervention would do say why: nothing was done, or nobody was left untreated."""

from __future__ import annotations

from pathlib import Path

import pytest

from aivc_graph.errors import QueryError
from aivc_graph.graph.build import build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.intervention import knockout
from aivc_graph.training.checkpoint import load_model
from aivc_graph.training.fit import fit
from aivc_graph.training.settings import TrainingConfig
from tests.query.treated import piece


def test_a_tissue_without_interventions_says_so(tmp_path: Path) -> None:
    graph = build_graph([piece("u", "d", 0)])
    fit(graph, ModelConfig(latent=4, rings=(6,)), TrainingConfig(epochs=1, device="cpu"), tmp_path)
    with pytest.raises(QueryError, match="trained without interventions"):
        VirtualTissue(graph, load_model(tmp_path)).intervene(knockout("G03"))


def test_treated_sections_of_donors_that_were_never_untreated_are_told_apart(tmp_path: Path) -> None:
    graph = build_graph([piece("u", "d", 0), piece("k", "e", 1, knockout("G03"))])
    fit(graph, ModelConfig(latent=4, rings=(6,)), TrainingConfig(epochs=0, device="cpu"), tmp_path)
    with pytest.raises(QueryError, match=r"found no donor with treated and untreated sections .*`donor:`"):
        VirtualTissue(graph, load_model(tmp_path)).intervene(knockout("G03"))
