"""Activities are the slope of the univariate linear model: by hand, by least squares, and by the t statistic."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aivc_graph.errors import QueryError
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.readouts.readout import Ground, readouts_for

GENES = [f"G{i}" for i in range(40)]
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    [("signed", GENES[i], w) for i, w in enumerate(RNG.normal(size=15))]
    + [("set", gene, 1.0) for gene in GENES[8:20]]
    + [("rare", gene, 1.0) for gene in GENES[:3]],
    columns=["source", "target", "weight"],
)
LOG = RNG.normal(size=(7, len(GENES)))


def weights_of(source: str) -> np.ndarray:
    return TABLE[TABLE["source"] == source].set_index("target")["weight"].reindex(GENES).fillna(0.0).to_numpy()


def test_activity_is_the_slope_of_least_squares() -> None:
    footprints = Footprints(TABLE, GENES)
    assert footprints.sources == ["set", "signed"]  # three targets tell of nothing
    found = footprints.of_log(LOG)
    for j, source in enumerate(footprints.sources):
        design = np.column_stack([np.ones(len(GENES)), weights_of(source)])
        np.testing.assert_allclose(found[:, j], np.linalg.lstsq(design, LOG.T, rcond=None)[0][1])


def test_over_its_error_it_is_the_t_statistic_of_the_field() -> None:
    """The score of decoupler's `ulm` is this t; it is that of the correlation of expression and weights."""
    activity = Footprints(TABLE, GENES).of_log(LOG)
    for j, source in enumerate(["set", "signed"]):
        weight = weights_of(source)
        for i, y in enumerate(LOG):
            line = stats.linregress(weight, y)
            rest = y - y.mean() - activity[i, j] * (weight - weight.mean())
            error = np.sqrt((rest**2).sum() / (len(GENES) - 2) / ((weight - weight.mean()) ** 2).sum())
            r = np.corrcoef(weight, y)[0, 1]
            assert activity[i, j] / error == pytest.approx(line.slope / line.stderr)
            assert activity[i, j] / error == pytest.approx(r * np.sqrt((len(GENES) - 2) / (1 - r**2)))


def test_by_hand() -> None:
    table = pd.DataFrame({"source": "s", "target": GENES[:5], "weight": 1.0})
    y = np.zeros((1, 10))
    y[0, :5] = 3.0
    assert Footprints(table, GENES[:10]).of_log(y)[0, 0] == pytest.approx(3.0)
    assert Footprints(table, GENES[:10]).activity(np.where(y > 0, 7.0, 0.0))[0, 0] == pytest.approx(3.0)  # log2(1 + 7)


def test_it_is_the_estimate_behind_the_score_of_decoupler() -> None:
    """Of a sample, decoupler's `ulm` gives the t of the same line."""
    decoupler = pytest.importorskip("decoupler", reason="decoupler is no dependency")
    found = decoupler.mt.ulm(pd.DataFrame(LOG, columns=GENES), TABLE, tmin=5)[0]
    for source in ("set", "signed"):
        line = [stats.linregress(weights_of(source), y) for y in LOG]
        np.testing.assert_allclose(found[source], [one.slope / one.stderr for one in line], rtol=1e-4)


def test_weights_of_other_genes_are_refused_and_without_any_nothing_is_read() -> None:
    with pytest.raises(QueryError, match="same species"):
        Footprints(TABLE, [gene.lower() for gene in GENES])
    assert "pathways" not in readouts_for("expression", Ground())
    assert {"genes", "pathways"} <= set(readouts_for("expression", Ground(footprints=Footprints(TABLE, GENES))))


def test_errors_of_genes_become_those_of_activities() -> None:
    rng, footprints = np.random.default_rng(0), Footprints(TABLE, GENES)
    counts, error = rng.uniform(50.0, 90.0, len(GENES)), rng.uniform(0.1, 1.0, len(GENES))
    drawn = footprints.activity(counts + error * rng.normal(size=(4000, len(GENES))))
    np.testing.assert_allclose(footprints.activity_error(counts, error), drawn.std(axis=0), rtol=0.05)
