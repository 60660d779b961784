"""A small trained tissue of three stripes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aivc_graph.graph.build import build_graph
from aivc_graph.pipeline.train import train
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.query.stripes import BOTH, CONFIG, GRAPH


@pytest.fixture(scope="session")
def trained(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of two sections of three stripes."""
    sections = [
        striped_section("s1", n=500, levels=BOTH, seed=1),
        striped_section("s2", n=500, levels=BOTH, seed=2, donor="d2"),
    ]
    return train(build_graph(sections, GRAPH), CONFIG, tmp_path_factory.mktemp("striped") / "run").folder


@pytest.fixture(scope="session")
def tissue(trained: Path) -> VirtualTissue:
    return VirtualTissue.load(trained)
