"""Parts of the page by themselves: colours, readings, areas, scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph.evaluation.records import Comparison, Result
from aivc_graph.plot.palette import nth_colour
from aivc_graph.report.area import area_shares
from aivc_graph.report.colour import contrast, ink_on, shade
from aivc_graph.report.niches import Niche, Part, _lead, border_shares, told_apart
from aivc_graph.report.page import TEMPLATES, number, percent
from aivc_graph.report.readings import READING_OF, reading
from aivc_graph.report.scores import WIDTH, Board, boards_of, summary_of
from tests.report.runs import compared, result


def palette_of(style: str, dark: bool) -> dict[str, str]:
    """Return the colours the page's style names, of the light or the dark scheme."""
    blocks = style.split(":root {")
    chosen = blocks[2 if dark else 1].split("}")[0]
    pairs = [part.split(":") for part in chosen.split(";") if "--" in part]
    return {name.strip()[2:]: value.strip().upper() for name, value in pairs}


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(dark: bool) -> None:
    colours = palette_of((TEMPLATES / "report.css").read_text(), dark)
    for ground in ("page", "soft"):
        for text in ("ink", "quiet", "link"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["accent"], colours["page"]) >= 3


def test_numbers_on_niches_and_in_shaded_tables_are_read() -> None:
    assert all(contrast(ink_on(nth_colour(i)), nth_colour(i)) >= 4.5 for i in range(36))
    assert all(contrast("#111111", shade(value, 1.0)) >= 4.5 for value in (-9, -1, -0.5, 0, 0.5, 1, np.nan))
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert shade(0.0, 1.0) == shade(1.0, 0.0) == "#FFFFFF" and shade(1.0, 1.0) != shade(-1.0, 1.0)


def test_a_reading_needs_two_voices_that_agree() -> None:
    assert reading({"CD3D": 1.0, "CD3E": 1.0, "COL1A1": 3.0}) == "T cells"
    assert reading({"CD3D": 1.0, "COL1A1": 3.0}) is None
    assert reading({"CD3D": -1.0, "CD3E": -1.0}) is None and reading({}) is None
    assert all(gene.isupper() for gene in READING_OF)


def test_niches_of_one_lead_are_told_apart() -> None:
    niches = [Niche(str(i), "#000000", "#FFFFFF", 1, 0.3, 1.0, 1, lead) for i, lead in enumerate(("x", "x", "y", None))]
    expected = pd.DataFrame(
        {"COL1A1": [9, 1, 5, 5], "DCN": [9, 1, 5, 5], "ODD": [1, 9, 5, 5]}, index=list("0123"), dtype=float
    )
    leads = [niche.lead for niche in told_apart(niches, expected)]
    assert leads == ["x, with more COL1A1", "x, with more ODD", "y", None]
    assert told_apart(niches, pd.DataFrame()) == niches


def labelled(name: str, markers: tuple[str, ...] = (), **shares: float) -> Niche:
    parts = tuple(Part(label, share, "#000000") for label, share in shares.items())
    said = tuple({"gene": gene, "log2_ratio": 2.0} for gene in markers)
    niche = Niche(name, "#000000", "#FFFFFF", 10, 0.3, 1.0, 1, markers=said, parts=parts)
    return replace(niche, lead=_lead(niche))


def test_a_niche_is_named_after_what_it_is_made_of_not_after_its_markers() -> None:
    basal = ("KRT5", "KRT14", "KRT17")
    assert labelled("1", basal, tumour=0.28, fibroblast=0.25, T=0.2).lead == "tumour and fibroblast"
    assert labelled("1", basal, tumour=0.6, fibroblast=0.4).lead == "mostly tumour"
    assert labelled("1", basal, tumour=0.4, a=0.08, b=0.08).lead == "tumour"
    assert labelled("1", basal).lead == "markers of basal epithelial cells" and labelled("1").lead is None


def test_labelled_niches_of_one_lead_are_told_apart_by_their_labels() -> None:
    niches = [labelled("0", tumour=0.6, T=0.3), labelled("1", tumour=0.8, T=0.05), labelled("2", tumour=0.7, T=0.17)]
    expected = pd.DataFrame({"COL1A1": [1, 1, 9]}, index=list("012"), dtype=float)
    leads = [niche.lead for niche in told_apart(niches, expected)]
    assert leads == ["mostly tumour, with more T", "mostly tumour, with more tumour", "mostly tumour, with more COL1A1"]


def test_shares_of_a_border_leave_out_contacts_within() -> None:
    pairs = [("1", "1", 900), ("1", "2", 30), ("1", "3", 10), ("2", "2", 50), ("2", "3", 0), ("3", "3", 5)]
    table = border_shares(pd.DataFrame(pairs, columns=["niche_a", "niche_b", "contacts"]))
    assert table.loc["1"].tolist() == [0, 0.75, 0.25] and table.loc["3"].tolist() == [1, 0, 0]
    alone = border_shares(pd.DataFrame([("1", "1", 9), ("2", "2", 9)], columns=["niche_a", "niche_b", "contacts"]))
    assert alone.isna().all(axis=None)


def test_area_is_of_tissue_not_of_cells() -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((4000, 2)) * [500, 1000]
    sparse = rng.random((400, 2)) * [500, 1000] + [500, 0]
    pos, niche = np.vstack([dense, sparse]), np.repeat([0, 1], [4000, 400])
    shares = area_shares(pos, niche, np.zeros(len(pos)), 3)
    assert shares.sum() == pytest.approx(1) and shares[2] == 0
    assert 0.4 < shares[1] < 0.6  # a tenth of the cells, half of the area
    both = area_shares(np.vstack([pos, pos]), np.tile(niche, 2), np.repeat(["a", "b"], len(pos)), 3)
    np.testing.assert_allclose(both, shares)
    assert area_shares(pos[:1], niche[:1], np.zeros(1), 2).tolist() == [0, 0]
    unknown = np.where(niche == 1, -1, niche)
    np.testing.assert_allclose(area_shares(pos, unknown, np.zeros(len(pos)), 2), [1, 0])


def boards(results: list[Any], comparisons: list[Any] | None = None) -> dict[str, list[Board]]:
    """Return the boards of plain records, as `evaluation.json` holds them."""
    return boards_of([Result(**one) for one in results], [Comparison(**one) for one in comparisons or []])


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.booleans())
def test_the_best_baseline_stands_first_and_all_marks_lie_on_the_axis(values: list[float], higher: bool) -> None:
    rows = [result("model", "model", 0.5, None, higher_is_better=higher)]
    rows += [result(f"b{i}", "baseline", v, None, higher_is_better=higher) for i, v in enumerate(values)]
    (board,) = boards(rows)["modality"]
    assert board.rows[0].kind == "model"
    assert board.rows[1].value == (max(values) if higher else min(values))
    assert all(row.x is not None and 0 <= row.x <= WIDTH and row.x_lower is None for row in board.rows)


@pytest.mark.parametrize(
    ("comparison", "said"),
    [
        ([compared("model", "ridge", 0.02)], "Better than the best baseline, ridge: gain +0.020 [+0.010, +0.030]."),
        ([compared("ridge", "model", 0.02)], "Worse than the best baseline, ridge: gain −0.020 [−0.030, −0.010]."),
        ([compared("model", "ridge", 0.02, 0.05)], "No clear difference from the best baseline, ridge"),
        (
            [compared("model", "ridge", 2e-4, 1e-4)],
            "Better than the best baseline, ridge: gain +0.00020 [+0.00010, +0.00030].",
        ),
        ([compared("model", "ridge", 0.02, None)], "Against the best baseline, ridge: +0.020; too few units"),
        ([compared("model", "mean", 0.3)], "The best baseline is ridge; the two were not compared"),
        ([compared("model", "ridge", 0.02, metric="r2")], "The best baseline is ridge; the two were not compared"),
        ([], "The best baseline is ridge; the two were not compared"),
    ],
)
def test_what_is_said_of_the_model_follows_from_the_paired_difference(comparison: list[Any], said: str) -> None:
    rows = [result("model", "model", 0.42), result("mean", "baseline", 0.1), result("ridge", "baseline", 0.4)]
    (board,) = boards(rows, comparison)["modality"]
    assert board.verdict.startswith(said)
    better, worse, neither = (int(said.startswith(word)) for word in ("Better", "Worse", "No clear"))
    told = f"better than the best baseline in {better}, clearly worse in {worse}, neither in {neither}"
    told += "." if better or worse or neither else "; 1 without an interval."
    assert summary_of({"modality": [board]}).endswith(told)


def test_two_readouts_of_one_task_keep_their_own_comparison() -> None:
    rows = [
        result(name, kind, value, readout=readout)
        for readout, values in (("cells", (0.5, 0.4)), ("captured", (0.3, 0.29)))
        for name, kind, value in zip(("model", "ridge"), ("model", "baseline"), values, strict=True)
    ]
    pairs = [compared("model", "ridge", gain, readout=of) for of, gain in (("captured", 0.01), ("cells", 0.1))]
    said = [board.verdict for board in boards(rows, pairs)["modality"]]
    assert "gain +0.100" in said[0] and "gain +0.010" in said[1]


def test_a_score_without_baseline_or_value_claims_nothing() -> None:
    (board,) = boards([result("model", "model", None)])["modality"]
    assert board.verdict.startswith("No baseline beside it") and board.rows[0].x is None
    assert boards([]) == {axis: [] for axis in ("modality", "scale", "context", "intervention")}


def test_numbers_are_written_for_people() -> None:
    written = [number(v) for v in (0, 0.123456, -12.3456, 1234.5, 1e-9, float("nan"), None)]
    assert written == ["0", "0.123", "−12.3", "1,234", "0.000000", "–", "–"]
    assert [percent(v) for v in (0.0, 0.021, 0.25, 1.0, float("nan"))] == [
        "0.0\xa0%",
        "2.1\xa0%",
        "25\xa0%",
        "100\xa0%",
        "–",
    ]
