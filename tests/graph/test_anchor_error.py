"""The error of anchors that nothing states: told by counts where places are off, and not where they are as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geopandas import points_from_xy
from scipy import sparse

from aivc_graph.graph.anchor_error import likely_sigma
from aivc_graph.graph.anchors import SIGMA, AnchorConfig
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.nodes import gather_nodes
from aivc_graph.graph.within import overlap_with_discs
from aivc_graph.tissue.section import metadata_of

Maker = Callable[..., Any]
SIDE, WAVE_UM = 1_500.0, 150.0


def section_of(maker: Maker, off_um: float = 0.0, name: str = "s") -> Any:
    """Return cells whose expression changes over 150 µm, and spots that count the cells beneath, told `off_um` away."""
    section, rng = maker(name, n=4_000, levels=("cell", "patch"), structure=False), np.random.default_rng(0)
    at = {level: rng.random((len(section.shapes[level]), 2)) * SIDE for level in ("cell", "patch")}
    phase = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    wave = np.sin(2 * np.pi * at["cell"] @ np.array([[1.0, 0.3], [0.2, 1.0]]) / WAVE_UM)
    cells = rng.poisson(2 * np.exp(wave[:, :1] * np.cos(phase) + wave[:, 1:] * np.sin(phase)))
    beneath = overlap_with_discs(at["cell"], np.full(4_000, 10.0), at["patch"], np.full(500, 55.0))
    for level, counts in (("cell", cells), ("patch", rng.poisson(beneath @ cells))):
        told = at[level] + (off_um / np.sqrt(2) if level == "cell" else 0.0)
        section.tables[f"{level}_rna"].X = sparse.csr_matrix(counts.astype(np.float32))
        section.shapes[level]["geometry"] = points_from_xy(*told.T)
        section.shapes[level]["split"] = "train"
    return section


def sigma_of(section: Any) -> float:
    return likely_sigma(section, *(gather_nodes([section], level) for level in ("cell", "patch")))


def test_places_that_are_as_they_are_told_have_no_error(striped_section: Maker) -> None:
    assert sigma_of(section_of(striped_section)) == 0.0


def test_the_error_grows_with_how_far_places_are_off(striped_section: Maker) -> None:
    near, far = (sigma_of(section_of(striped_section, off)) for off in (20.0, 50.0))
    assert near < far and far > 10


def test_counts_that_know_nothing_of_one_another_state_no_error(striped_section: Maker) -> None:
    section = section_of(striped_section)
    table = section.tables["patch_rna"]
    table.X = table.X[np.random.default_rng(1).permutation(table.n_obs)]
    assert sigma_of(section) == 0.0
    del section.tables["cell_rna"]
    assert sigma_of(section) == 0.0


@pytest.mark.parametrize("stated", [None, 15.0])
def test_what_is_stated_comes_first_and_a_test_section_takes_that_of_others(
    striped_section: Maker, stated: float | None
) -> None:
    sections = [section_of(striped_section, 40.0, name) for name in ("a", "b")]
    for level in ("cell", "patch"):
        sections[1].shapes[level]["split"] = "test"
    if stated is not None:
        metadata_of(sections[0])["residual_um_cell"] = stated
    sigma = build_graph(sections).obs("section")
    by_counts = sigma_of(sections[0])
    expected = [by_counts, by_counts] if stated is None else [stated / np.sqrt(2), 0.0]
    assert sigma[SIGMA].tolist() == pytest.approx(expected)
    assert SIGMA not in build_graph(sections, GraphConfig(anchors=AnchorConfig(sigma_um=0.0))).obs("section")
