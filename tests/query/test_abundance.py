"""Shares by donor trait: the donor is the unit, estimate, interval and p are of one statistic, few donors get none."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aivc_graph.errors import QueryError
from aivc_graph.pipeline.ask import query
from aivc_graph.plot.abundance_dots import abundance_dots
from aivc_graph.query.abundance import benjamini_hochberg, contrasts, shares_by_donor
from aivc_graph.query.questions.question import question
from aivc_graph.query.virtual_tissue import VirtualTissue


def table(shares: dict[str, list[float]], value: list[object], donor: list[str] | None = None) -> pd.DataFrame:
    """Return shares of niches (niche → donor), with the rest in a niche of its own."""
    donors = donor or [f"d{i}" for i in range(len(value))]
    rows = [
        {"what": "niche", "name": name, "donor": d, "value": v, "share": s}
        for name, of in {**shares, "rest": list(1 - np.sum(list(shares.values()), axis=0))}.items()
        for d, v, s in zip(donors, value, of, strict=True)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_two_groups_are_welchs_t_over_donors(rng: np.random.Generator) -> None:
    share = rng.uniform(0.1, 0.4, 9)
    row = contrasts(table({"1": list(share)}, ["late"] * 5 + ["early"] * 4), "stage").iloc[0]
    told = stats.ttest_ind(share[:5], share[5:], equal_var=False)
    low, high = told.confidence_interval(0.95)
    assert (row["group"], row["against"], row["n_donors"], row["n_against"]) == ("late", "early", 5, 4)
    assert row["difference"] == pytest.approx(share[:5].mean() - share[5:].mean())
    assert (row["p"], row["lower"], row["upper"]) == pytest.approx((told.pvalue, low, high))


def test_donors_on_both_sides_are_compared_within(rng: np.random.Generator) -> None:
    tumour, normal = rng.uniform(0.1, 0.4, (2, 5))
    donors = [f"d{i}" for i in range(5)] * 2 + ["alone"]
    given = table({"1": [*tumour, *normal, 0.2]}, ["tumour"] * 5 + ["normal"] * 5 + ["normal"], donors)
    row = contrasts(given, "site").iloc[0]
    told = stats.ttest_rel(tumour, normal)
    assert (row["group"], row["p"]) == ("tumour", pytest.approx(told.pvalue))
    assert row["difference"] == pytest.approx((tumour - normal).mean())
    assert row["note"] == "within 5 donors on both sides; 1 on one side left out"
    assert row["share"] - row["share_against"] == pytest.approx(row["difference"]) and row["n_against"] == 5


def test_a_number_is_a_slope(rng: np.random.Generator) -> None:
    age, share = np.arange(40.0, 52.0), rng.uniform(0.1, 0.4, 12)
    row = contrasts(table({"1": list(share)}, list(age)), "age").iloc[0]
    told = stats.linregress(age, share)
    reach = stats.t.ppf(0.975, 10) * told.stderr
    assert (row["group"], row["difference"], row["p"]) == (
        "per unit",
        pytest.approx(told.slope),
        pytest.approx(told.pvalue),
    )
    assert (row["upper"] - row["difference"]) == pytest.approx(reach)


def test_several_groups_are_each_compared_with_all_others(rng: np.random.Generator) -> None:
    share = rng.uniform(0.1, 0.4, 12)
    found = contrasts(table({"1": list(share)}, ["a", "b", "c"] * 4), "grade")
    rows = found[found["name"] == "1"].set_index("group")
    assert list(rows.index) == ["a", "b", "c"] and set(rows["against"]) == {"all others"}
    told = stats.ttest_ind(share[::3], np.delete(share, slice(None, None, 3)), equal_var=False)
    assert rows.loc["a", "p"] == pytest.approx(told.pvalue)


def test_fewer_than_three_donors_get_no_p() -> None:
    found = contrasts(table({"1": [0.1, 0.2, 0.5, 0.6, 0.7]}, ["a", "a", "b", "b", "b"]), "stage")
    assert found[["lower", "upper", "p", "p_adjusted"]].isna().all(axis=None)
    assert found["difference"].iloc[0] == pytest.approx(0.45)
    assert set(found["note"]) == {"fewer than 3 donors in a group, so no interval and no p"}
    enough = contrasts(table({"1": [0.1, 0.2, 0.15, 0.5, 0.6, 0.7]}, list("aaabbb")), "stage")
    assert enough["p"].notna().all()


def test_what_is_the_same_in_every_donor_is_no_discovery() -> None:
    found = contrasts(table({"1": [0.25] * 6}, list("aaabbb")), "stage")
    assert (found["difference"] == 0).all() and (found["p"] == 1).all()


def test_nothing_is_found_more_often_than_stated() -> None:
    rng, low = np.random.default_rng(0), 0
    for _ in range(400):
        shares = rng.dirichlet([4, 2, 1, 1], 8)[:, :3]
        found = contrasts(table({str(i): list(s) for i, s in enumerate(shares.T)}, list("aaaabbbb")), "stage")
        low += bool((found["p_adjusted"] < 0.05).any())
    assert low / 400 < 0.08


def test_p_values_are_adjusted_by_benjamini_and_hochberg_within_what_is_counted() -> None:
    assert benjamini_hochberg(np.array([0.01, 0.04, np.nan, 0.03])) == pytest.approx(
        [0.03, 0.04, np.nan, 0.04], nan_ok=True
    )
    rng = np.random.default_rng(5)
    shares = rng.dirichlet([4, 2, 1, 1], 8)[:, :3].T
    one = table({str(i): list(s) for i, s in enumerate(shares)}, list("aaaabbbb"))
    both = pd.concat([one, one.assign(what="cell type")])
    found = contrasts(both, "stage")
    alone = contrasts(one, "stage")
    assert np.allclose(found[found["what"] == "niche"]["p_adjusted"], alone["p_adjusted"])


def test_one_value_is_refused() -> None:
    with pytest.raises(QueryError, match=r"expected two groups of donors, found one value, 'a'"):
        contrasts(table({"1": [0.1, 0.2]}, ["a", "a"]), "stage")


def test_a_run_is_asked(tiny_demo: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "abundance.csv", tmp_path / "abundance.png"
    answer = query(tiny_demo, "abundance", out, plot=plot, by="donor")
    assert set(answer["what"]) == {"niche", "cell type"} and plot.stat().st_size > 10_000
    for _, rows in answer.groupby("what"):
        assert rows["share"].sum() == pytest.approx(1) and rows["share_against"].sum() == pytest.approx(1)
    tissue = VirtualTissue.load(tiny_demo)
    niches = tissue.niches().obs
    own = niches[niches["section"].astype(str).str.startswith("D2")]
    first = answer[(answer["what"] == "niche") & (answer["name"] == "1")].iloc[0]
    assert first["group"] == "D2" and first["share"] == pytest.approx((own["niche"] == "1").mean())
    assert pd.read_csv(out)["note"].str.contains("fewer than 3 donors").all()
    assert tissue.abundance("donor").equals(answer)


def test_a_trait_of_the_nodes_and_one_that_is_not_there(tiny_demo: Path) -> None:
    tissue = VirtualTissue.load(tiny_demo)
    level = tissue.base_level
    obs = tissue.graph.obs(level)
    tissue.graph[level].obs = obs.assign(sex=np.where(obs["section"].astype(str).str.startswith("D1"), "f", "m"))
    members = {"niche": (level, tissue.niches().obs["niche"])}
    assert set(shares_by_donor(tissue.graph, "sex", members)["value"]) == {"f", "m"}
    with pytest.raises(QueryError, match=r"no trait named 'sx'.*; say it under `traits:` or `traits_by:`"):
        tissue.abundance("sx")
    with pytest.raises(QueryError, match="by"):
        question("abundance", {})


def test_dots_are_those_of_the_donors() -> None:
    given = table({"1": [0.1, 0.3, 0.5]}, ["a", "a", "b"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = abundance_dots(given, trait="stage")
    dots = sorted(float(x) for line in ax.get_lines() if line.get_marker() == "o" for x in line.get_xdata())
    assert dots == pytest.approx([10, 30, 50, 50, 70, 90])
