"""What is asked of a question and would change nothing is refused, and what misleads is told for what it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import QueryError
from aivc_graph.graph.build import build_graph
from aivc_graph.query.places import check_groups
from aivc_graph.query.questions.question import question
from aivc_graph.query.virtual_tissue import VirtualTissue


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("similar", {"to_niche": 1, "section": "s1"}, "--section without --to-node"),
        ("similar", {"to_node": "cell1", "k": 3}, "--k without --to-niche"),
        ("expression", {"at": "cell", "k": 3}, "`k` says how many niches there are, and the answer is a row a node"),
        ("expression", {"resolution": 2.0}, "`resolution` says how many niches"),
        ("markers", {"by": "label", "k": 3}, "the answer is a row a label; leave it out"),
        ("response", {"intervention": ["drug:X"], "hours": "2 fortnights"}, r"units are h, min, s, d, wk …"),
    ],
)
def test_options_that_would_change_nothing_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryError, match=said):
        question(name, options)


def test_weights_where_genes_are_read_are_refused(tissue: VirtualTissue, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="ask --readout pathways, or leave them out"):
        tissue.ask("response", intervention=["knockout:G3"], weights=tmp_path / "w.csv")


def test_a_section_that_is_not_there_is_named_though_nothing_is_drawn(tissue: VirtualTissue) -> None:
    with pytest.raises(QueryError, match=r"no section named 's3' \(known: s1, s2\)"):
        tissue.ask("types", section="s3")


def test_numbers_that_hardly_recur_are_no_groups(tissue: VirtualTissue) -> None:
    for name in ("markers", "composition"):
        obs = tissue.graph.obs("cell")
        before = tissue.graph["cell"].obs
        try:
            tissue.graph["cell"].obs = obs.assign(area=np.linspace(0, 1, len(obs)))
            with pytest.raises(
                QueryError, match=r"at most 50 groups of nodes, found 1,000 different numbers in 'area'"
            ):
                tissue.ask(name, by="area")
        finally:
            tissue.graph["cell"].obs = before
    check_groups("markers", "grade", pd.Series([1.0, 2.0, np.nan] * 100))


def test_one_group_alone_is_said_to_be_alone(tissue: VirtualTissue, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert tissue.ask("markers", k=1).empty
    assert "one niche alone, and nothing to set it beside" in caplog.text and "no p" not in caplog.text


def test_an_empty_niche_is_no_place(tissue: VirtualTissue, striped_section: Callable[..., Any]) -> None:
    """Of tissue that has no node of a niche of the run nothing is said, rather than that nothing changes."""
    section = striped_section("s9", n=12, levels=("cell", "patch"), seed=5)
    there = tissue.on(build_graph([section]))
    found = there.niches().obs["niche"].value_counts()
    empty = found.index[found == 0]
    assert len(empty)
    with pytest.raises(QueryError, match=f"no node of niche {empty[0]} in this tissue"):
        there.ask("response", intervention=["knockout:G3"], where=f"niche={empty[0]}")
