"""No baseline, of any readout, is fitted on or looks at a row that neither trains nor is visible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aivc_graph.evaluation.baselines.baseline import BASELINES, Scene, run_baselines

READOUTS = sorted({readout for name in BASELINES for readout in BASELINES.facts[name]["answers"]})  # type: ignore[attr-defined]
N, PARTS = 120, 6


def scene(readout: str) -> Scene:
    """Return a scene with everything a baseline may want: three sections, the last one asked, some of it visible."""
    rng = np.random.default_rng(0)
    section = np.repeat([0, 1, 2], N // 3)
    asked = (section == 2) & (np.arange(N) % 2 == 0)
    target = rng.integers(0, 3, N) if readout in ("domains", "endpoint") else rng.random((N, 4))
    parts = np.zeros((N, PARTS), bool)
    parts[np.arange(N), rng.integers(0, PARTS, N)] = True
    parts[np.arange(N), rng.integers(0, PARTS, N)] = True
    return Scene(
        target,
        train=section < 2,
        visible=~asked & (np.arange(N) % 20 != 1),
        asked=asked,
        section=section,
        pos_um=rng.random((N, 2)) * 100,
        features=rng.random((N, 1 if readout == "effect" else 5)),
        counts=rng.poisson(5.0, (N, 8)),
        profiles=rng.random((4, 8)),
        parts=parts,
        panel=np.arange(PARTS) % 4,
    )


@pytest.mark.parametrize("readout", READOUTS)
def test_what_is_neither_trained_on_nor_visible_moves_no_answer(readout: str) -> None:
    one = scene(readout)
    unseen = ~one.train & ~one.visible
    assert (unseen & ~one.asked).any()
    spoilt = one.target.copy() if readout == "domains" else one.target.astype(float)
    # Mixtures are told how many niches there are, and nothing else.
    spoilt[unseen] = spoilt[unseen][::-1] if readout == "domains" else np.nan
    answers, again = run_baselines(one, readout), run_baselines(replace(one, target=spoilt), readout)
    assert answers and set(answers) == set(again)
    for name, answer in answers.items():
        np.testing.assert_array_equal(answer, again[name], err_msg=name)


def test_spoiling_what_trains_is_seen() -> None:
    one = scene("expression")
    spoilt = np.where(one.train[:, None], 9.0, one.target)
    assert any(
        (answer != run_baselines(replace(one, target=spoilt), "expression")[name]).any()
        for name, answer in run_baselines(one, "expression").items()
    )
