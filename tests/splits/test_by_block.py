"""Blocks of tissue: the gap holds exactly, all levels share the blocks, the draw is reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.errors import ConfigError
from aivc_graph.splits.by_block import BlockSplit
from aivc_graph.splits.everything import NoSplit
from aivc_graph.tissue.section import add_level, new_section

SIDES = (names.TRAIN, names.VALIDATION, names.TEST)


def tissue(name="s1", seed=0, n=2000, side_um=5000.0, scale=1.0, offset=0.0):
    """Return cells at random and patches on a grid, in units of `scale` µm."""
    section = new_section(name)
    frame = np.diag([scale, scale, 1.0])
    xy = np.random.default_rng(seed).uniform(0, side_um, (n, 2)) + offset
    add_level(section, names.CELL, [f"c{i}" for i in range(n)], xy / scale, 5.0, frame)
    grid = np.stack(np.meshgrid(*2 * [np.arange(0, side_um, 250.0)]), -1).reshape(-1, 2) + offset
    add_level(section, names.PATCH, [f"p{i}" for i in range(len(grid))], grid / scale, 27.5, frame)
    return section


def nodes_of(section, scale=1.0):
    """Return all positions [µm] and labels of a section, levels together."""
    xy, labels = [], []
    for level in (names.CELL, names.PATCH):
        shapes = section.shapes[level]
        xy.append(np.column_stack([shapes.geometry.x, shapes.geometry.y]) * scale)
        labels.append(shapes["split"].to_numpy(str))
    return np.concatenate(xy), np.concatenate(labels)


def least_gap(xy, labels):
    gaps = [np.inf]
    for i, a in enumerate(SIDES):
        for b in SIDES[i + 1 :]:
            if (labels == a).any() and (labels == b).any():
                gaps.append(cKDTree(xy[labels == a]).query(xy[labels == b])[0].min())
    return min(gaps)


@given(
    seed=st.integers(0, 1000),
    block=st.floats(300, 1500),
    buffer=st.floats(0, 500),
    test=st.floats(0.05, 0.4),
    validation=st.floats(0, 0.3),
    offset=st.floats(-5000, 5000),
)
@settings(max_examples=40, deadline=None)
def test_no_two_sides_are_closer_than_the_buffer(seed, block, buffer, test, validation, offset):
    section = tissue(seed=seed, n=400, offset=offset)
    split = BlockSplit(block_um=block, buffer_um=buffer, test_share=test, validation_share=validation, seed=seed)
    try:
        split([section])
    except ConfigError as error:
        assert "left beside the gaps" in str(error)
        return
    xy, labels = nodes_of(section)
    assert least_gap(xy, labels) >= buffer - 1e-6
    # A node is given up only for a node of another side's block: without the gap it would have had its block's label.
    block_of = np.floor(xy / block)
    for corner in np.unique(block_of, axis=0):
        assert len(set(labels[(block_of == corner).all(1)]) - {names.UNUSED}) <= 1


def test_only_nodes_near_a_border_are_given_up_and_tested_ones_never():
    section = tissue()
    counts = BlockSplit(block_um=1000, buffer_um=150, test_share=0.25, validation_share=0)([section])
    xy, labels = nodes_of(section)
    held = np.floor(xy / 1000)[labels == names.TEST]
    assert set(labels[(np.floor(xy / 1000)[:, None] == np.unique(held, axis=0)).all(-1).any(1)]) == {names.TEST}
    away = cKDTree(xy[labels == names.TEST]).query(xy[labels == names.UNUSED])[0]
    assert away.max() < 150 + 250  # within the gap of a block whose nodes lie at most a patch's pitch from its edge
    assert sum(counts[names.CELL].values()) == 2000 and counts[names.CELL][names.UNUSED] > 0


def test_shares_are_near_what_was_asked():
    section = tissue(n=20000)
    counts = BlockSplit(block_um=500, buffer_um=0, test_share=0.3, validation_share=0.2)([section])[names.CELL]
    assert counts[names.TEST] / 20000 == pytest.approx(0.3, abs=0.02)
    assert counts[names.VALIDATION] / 20000 == pytest.approx(0.2, abs=0.02)
    assert names.UNUSED not in counts


def test_the_draw_depends_on_seed_and_section_alone():
    alone, among = tissue("b"), tissue("b")
    BlockSplit(seed=3)([alone])
    BlockSplit(seed=3)([tissue("a"), among, tissue("c", seed=9)])
    np.testing.assert_array_equal(nodes_of(alone)[1], nodes_of(among)[1])
    other = tissue("b")
    BlockSplit(seed=4)([other])
    assert (nodes_of(alone)[1] != nodes_of(other)[1]).any()


def test_blocks_are_in_microns_whatever_the_vendors_unit():
    microns, pixels = tissue(), tissue(scale=0.25)
    BlockSplit()([microns])
    BlockSplit()([pixels])
    np.testing.assert_array_equal(nodes_of(microns)[1], nodes_of(pixels)[1])


def test_too_large_blocks_and_too_wide_gaps_are_refused():
    with pytest.raises(ConfigError, match=r"split · s1: 1 blocks for 3 labels; take a smaller `block_um`"):
        BlockSplit(block_um=20000)([tissue()])
    with pytest.raises(ConfigError, match=r"split · s1: expected some, found no train node left beside the gaps"):
        BlockSplit(block_um=1000, buffer_um=9000)([tissue()])
    with pytest.raises(ValueError, match="leave nothing to train on"):
        BlockSplit(test_share=0.6, validation_share=0.5)


def test_nothing_is_held_out_by_default():
    section = tissue()
    assert NoSplit()([section]) == {"cell": {"train": 2000}, "patch": {"train": 400}}


def test_everything_may_validate_on_some_blocks():
    section = tissue()
    counts = NoSplit(validation_share=0.2, buffer_um=50.0)([section])
    assert set(counts[names.CELL]) == {names.TRAIN, names.VALIDATION, names.UNUSED}
    xy, labels = nodes_of(section)
    assert least_gap(xy, labels) >= 50


def test_an_unplaced_section_needs_no_frame_to_train_whole():
    section = new_section("s1")
    add_level(section, names.CELL, ["a", "b"], [[0.0, 0.0], [1.0, 1.0]], 1.0, None)
    assert NoSplit()([section]) == {"cell": {"train": 2}}


def test_a_gap_narrower_than_messages_reach_is_doubted_with_the_width_it_should_have():
    assert "expected 430 µm, as far as messages reach, found 100 µm" in BlockSplit(buffer_um=100).doubt(430.2)
    assert BlockSplit(buffer_um=500).doubt(430.2) == "" == BlockSplit(buffer_um="auto").doubt(430.2)
    assert NoSplit().doubt(430.2) == "" and BlockSplit.parts_sections and not NoSplit.parts_sections


def test_a_gap_left_open_is_as_wide_as_messages_reach():
    section, design = tissue(), BlockSplit(buffer_um="auto")
    with pytest.raises(ConfigError, match="expected a width"):
        design([section])
    design.within_reach(430.0)([section])
    assert least_gap(*nodes_of(section)) >= 430.0
    assert BlockSplit(buffer_um=100).within_reach(430.0).buffer_um == 100
