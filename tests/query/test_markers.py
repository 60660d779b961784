"""Markers of groups: known shifts are found, units count and not nodes, and what cannot be told is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph import cli
from aivc_graph.errors import QueryError
from aivc_graph.operators.moderated import moderated_variance
from aivc_graph.query.markers import Units, marker_table
from aivc_graph.query.virtual_tissue import VirtualTissue

GENES, GROUPS, MARKED = 200, 3, 5


def study(
    n_units: int, shift: float, seed: int = 0, wobble: float = 0.5
) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Return counts of cells, their group and unit; genes of a unit wobble by group, the first ones mark group 0."""
    rng = np.random.default_rng(seed)
    unit, group = (part.ravel() for part in np.meshgrid(np.arange(n_units), np.arange(GROUPS), indexing="ij"))
    rate = rng.gamma(2.0, 2.0, GENES) * np.exp(rng.normal(0, wobble, (len(unit), GENES)))
    rate[group == 0, :MARKED] *= 2.0**shift
    cells = np.repeat(np.arange(len(unit)), 60)
    return sparse.csr_matrix(rng.poisson(rate[cells]).astype(np.float32)), group[cells], unit[cells]


def table(n_units: int, shift: float, seed: int = 0, paired: bool = True, wobble: float = 0.5) -> pd.DataFrame:
    counts, group, unit = study(n_units, shift, seed, wobble)
    units = Units(unit, "donor" if paired else "region", paired)
    return marker_table(counts, [f"G{i}" for i in range(GENES)], group, list("abc"), units)


@pytest.mark.parametrize("paired", [True, False])
def test_a_known_shift_is_found_and_nothing_else(paired: bool) -> None:
    found = table(6, 3.0, paired=paired)
    marked = (found["group"] == "a") & found["gene"].isin([f"G{i}" for i in range(MARKED)])
    assert (found.loc[marked, "p_adjusted"] < 0.05).all()
    inside = found["lower"][marked].le(3.0) & found["upper"][marked].ge(2.0)
    assert inside.all() and found.loc[marked, "log2_ratio"].mean() == pytest.approx(2.9, abs=0.5)
    assert (found.loc[(found["group"] == "a") & ~marked, "p_adjusted"] < 0.05).mean() < 0.02
    assert (found["n_units"] == 6).all() and (found["n_nodes"] == 360).all()


def test_units_count_and_not_nodes() -> None:
    """Genes wobble between units by far more than counts do: sixty cells a unit make nothing certain."""
    p = np.concatenate([table(4, 0.0, seed)["p"] for seed in range(6)])
    assert 0.03 < (p < 0.05).mean() < 0.08
    assert np.mean(p) == pytest.approx(0.5, abs=0.05)


def test_intervals_hold_what_is_true() -> None:
    """Without any marker the difference is 0 in the mean over units."""
    found = pd.concat([table(5, 0.0, seed, wobble=0.3) for seed in range(4)])
    held = ((found["lower"] <= 0) & (found["upper"] >= 0)).mean()
    assert 0.92 < held < 0.98


@pytest.mark.parametrize("n_units", [1, 2])
def test_few_units_tell_no_p(n_units: int) -> None:
    found = table(n_units, 3.0, wobble=0.1)
    assert found[["lower", "upper", "p", "p_adjusted"]].isna().all(axis=None)
    assert found.nlargest(MARKED, "log2_ratio")["gene"].isin([f"G{i}" for i in range(MARKED)]).all()


def test_groups_of_few_nodes_and_genes_never_counted_are_left_out() -> None:
    counts, group, unit = study(4, 0.0)
    counts = counts.tolil()
    counts[:, 7] = 0
    group[np.flatnonzero((group == 2) & (unit == 0))[:55]] = -1
    found = marker_table(
        counts.tocsr(), [f"G{i}" for i in range(GENES)], group, list("abcd"), Units(unit, "donor", True)
    )
    assert list(found["group"].unique()) == ["a", "b", "c"]
    assert found.groupby("group")["n_units"].first().to_dict() == {"a": 4, "b": 4, "c": 3}
    assert found.loc[found["gene"] == "G7", "p"].isna().all() and found.loc[found["gene"] == "G8", "p"].notna().all()


def test_variances_are_drawn_towards_what_is_usual_as_far_as_they_are_alike() -> None:
    rng = np.random.default_rng(0)
    df, prior, usual = 4, 8.0, 0.25
    true = usual * prior / rng.chisquare(prior, 5000)
    seen = true * rng.chisquare(df, 5000) / df
    found, degrees = moderated_variance(seen, df)
    assert degrees - df == pytest.approx(prior, rel=0.15)
    np.testing.assert_allclose((degrees * found - df * seen) / (degrees - df), usual, rtol=0.05)
    alike, many = moderated_variance(rng.chisquare(df, 5000) / df, df)
    assert alike.std() < 0.1 < np.std(seen) and many > 10 * df


def test_labels_are_marked_by_the_genes_of_their_stripe(
    trained: Path, tissue: VirtualTissue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "markers.csv", tmp_path / "markers.png"
    asked = ["query", str(trained), "markers", "--by", "label", "--n", "4", "--out", str(out), "--plot", str(picture)]
    assert cli.main(asked) == 0
    told = pd.read_csv(out)
    assert told.groupby("label").size().eq(4).all() and (told["interval_over"] == "region").all()
    for label, genes in told.groupby("label")["gene"]:
        assert {int(gene[1:]) // 10 for gene in genes} == {int(label.split()[-1])}
    assert (told["p_adjusted"] < 0.01).all() and picture.stat().st_size > 5000
    asked_of = tissue.ask("markers", by="label", genes="G3,G12")
    assert len(asked_of) == 6 and set(asked_of["gene"]) == {"G3", "G12"}
    assert len(tissue.ask("markers", by="label", n=0)) == 90


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "lable"}, "no column of cell nodes named 'lable'; did you mean 'label'"),
        ({"by": "barcode"}, "fewer than two values of 'barcode' with 10 counted nodes"),
        ({"genes": "G99"}, "no measured gene named 'G99'"),
        ({"n": -1}, "query markers · n: expected greater than or equal to 0, found -1"),
    ],
)
def test_what_cannot_be_asked_is_named(tissue: VirtualTissue, options: dict[str, object], said: str) -> None:
    with pytest.raises(QueryError) as caught:
        tissue.ask("markers", **options)
    assert said in str(caught.value)
