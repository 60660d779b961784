"""Fewer known places than there are, or wrong ones: nested by seed, at least one, moved as far as asked."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from aivc_graph.tissue.thinning import Thinning


@pytest.mark.parametrize("n", [1, 7, 200])
def test_a_smaller_share_is_part_of_a_larger_one_and_never_none(n: int) -> None:
    taken = [Thinning(share=share, seed=3).taken(n, "s1") for share in (0.01, 0.05, 0.2, 0.5, 1.0)]
    for fewer, more in pairwise(taken):
        assert (more | ~fewer).all()
    assert [int(one.sum()) for one in taken] == [int(np.ceil(share * n)) for share in (0.01, 0.05, 0.2, 0.5, 1.0)]


def test_what_is_drawn_hangs_on_the_seed_and_the_section() -> None:
    drawn = {
        (seed, section): Thinning(share=0.3, seed=seed).taken(50, section).tobytes()
        for seed in (0, 1)
        for section in ("s1", "s2")
    }
    assert len(set(drawn.values())) == 4 and drawn[0, "s1"] == Thinning(share=0.3).taken(50, "s1").tobytes()


def test_places_are_moved_as_far_as_asked_one_way_in_a_section() -> None:
    ways = [Thinning(shift_um=40.0, seed=seed).shift("s1") for seed in range(200)]
    np.testing.assert_allclose(np.linalg.norm(ways, axis=1), 40.0)
    assert np.linalg.norm(np.mean(ways, axis=0)) < 8.0  # of no direction in particular
    np.testing.assert_array_equal(ways[0], Thinning(shift_um=40.0).shift("s1"))
    assert not Thinning().shift("s1").any()
