"""Pictures: what is drawn, in what colour, at what size; never a window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from aivc_graph.errors import ConfigError
from aivc_graph.plot.anchor_curves import anchor_curves
from aivc_graph.plot.anchor_map import DOUBTFUL, FITTED, LEFT_OUT, anchor_map
from aivc_graph.plot.composition_bars import composition_bars
from aivc_graph.plot.composition_maps import composition_maps
from aivc_graph.plot.contact_graph import contact_graph
from aivc_graph.plot.effect_map import effect_map
from aivc_graph.plot.expression_map import expression_map
from aivc_graph.plot.marker_map import marker_map
from aivc_graph.plot.niche_map import niche_map
from aivc_graph.plot.palette import COLOURS, UNKNOWN, colours_of
from aivc_graph.plot.scale_bar import _round_length
from aivc_graph.plot.training_curve import training_curve

POS = np.array([[50.0, 50.0], [150.0, 50.0], [100.0, 900.0]])


def test_colours_stay_apart_also_for_the_colour_blind() -> None:
    # Machado et al. 2009, doi:10.1109/TVCG.2009.113: full deuteranopia
    seen = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])
    first = np.array([to_rgb(colour) for colour in COLOURS[:8]]) @ seen.T
    gaps = np.linalg.norm(first[:, None] - first[None], axis=-1)[np.triu_indices(8, 1)]
    assert gaps.min() > 0.12
    assert colours_of(["b", None, "a", float("nan")]) == {"a": COLOURS[0], "b": COLOURS[1]}
    assert colours_of(["b"], order=["z", "b"])["b"] == COLOURS[1]


def test_niche_map_draws_microns_with_y_down_and_true_sizes(tmp_path: Path) -> None:
    slide = np.full((2000, 1000, 3), 200, np.uint8)
    ax = niche_map(POS, ["x", None, "y"], slide=slide, mpp=0.5, size_um=55.0)
    (discs,) = (c for c in ax.collections if len(c.get_offsets()))
    np.testing.assert_array_equal(discs.get_offsets(), POS)
    assert [tuple(c[:3]) for c in discs.get_facecolor()] == [to_rgb(COLOURS[0]), to_rgb(UNKNOWN), to_rgb(COLOURS[1])]
    assert np.asarray(discs.get_widths()) == pytest.approx(55.0)
    assert ax.get_ylim()[0] > ax.get_ylim()[1] and ax.images[0].get_extent() == [0, 500, 1000, 0]
    assert max(ax.images[0].get_array().shape) <= 1200
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["x (1)", "y (1)", "none (1)"]
    assert "100 µm" in [text.get_text() for text in ax.texts]
    ax.figure.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_twenty_niches_have_twenty_colours() -> None:
    assert len(set(colours_of([f"{i:02}" for i in range(36)]).values())) == 36
    ax = contact_graph(pd.DataFrame(np.ones((20, 20)), [*map(str, range(20))], [*map(str, range(20))]))
    discs = next(c for c in ax.collections if len(c.get_offsets()) == 20)
    assert len({tuple(colour) for colour in discs.get_facecolor()}) == 20


def test_names_are_shown_as_they_are_not_set_as_formulas(tmp_path: Path) -> None:
    ax = niche_map(POS, ["$x_{$", "$x_{$", "y"], title="<b>A$x_{$</b>")
    ax.figure.savefig(tmp_path / "map.png")
    assert ax.get_title() == "<b>A$x_{$</b>"
    expression_map(POS, [0.0, 1.0, 2.0], unit="counts", title="A$x_{$").figure.savefig(tmp_path / "genes.png")


def test_the_scale_bar_hides_no_node(tmp_path: Path) -> None:
    grid = np.stack(np.meshgrid(np.arange(20) * 100.0, np.arange(20) * 100.0), axis=-1).reshape(-1, 2)
    ax = niche_map(grid, ["x"] * len(grid), size_um=100.0)
    ax.figure.savefig(tmp_path / "map.png")
    top = min(ax.transData.inverted().transform(text.get_window_extent())[:, 1].min() for text in ax.texts)
    assert top > grid[:, 1].max() + 50.0


def test_shares_of_lines_that_cross_do_not_hide_each_other() -> None:
    names = [str(i) for i in range(8)]
    ax = contact_graph(pd.DataFrame(np.ones((8, 8)), names, names))
    places = [text.get_position() for text in ax.texts if text.get_text().endswith("%")]
    gaps = [np.hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(places) for b in places[:i]]
    assert min(gaps) > 0.05


def test_scale_bar_is_round() -> None:
    assert [_round_length(v) for v in (0.9, 1.0, 4.99, 5.0, 19, 320, 2100)] == [0.5, 1, 2, 5, 10, 200, 2000]


def test_niche_map_of_nothing_and_of_one_is_a_picture() -> None:
    assert niche_map(np.zeros((0, 2)), []).get_legend() is None
    assert niche_map(POS[:1], ["x"]).get_legend() is not None
    with pytest.raises(ConfigError, match="expected one each, found 2 labels for 3 positions"):
        niche_map(POS, ["x", "y"])
    with pytest.raises(ConfigError, match="give `mpp` in µm"):
        niche_map(POS, list("xyz"), slide=np.zeros((4, 4, 3), np.uint8))


def test_composition_bars_sum_to_one_and_keep_empty_rows() -> None:
    shares = pd.DataFrame([[2, 2, 4], [0, 0, 0]], index=["n1", "n2"], columns=["a", "b", "c"])
    ax = composition_bars(shares, counts=pd.Series({"n2": 0, "n1": 8}))
    widths = np.array([[bar.get_width() for bar in bars] for bars in ax.containers]).T
    np.testing.assert_allclose(widths, [[0.25, 0.25, 0.5], [0, 0, 0]])
    assert [text.get_text() for text in ax.texts] == ["8", "0"]
    with pytest.raises(ConfigError, match="expected shares ≥ 0"):
        composition_bars(-shares)


def test_training_curve_marks_what_is_not_finite() -> None:
    rows = [("train", 0, 2.0), ("train", 1, np.nan), ("train", 2, 1.0), ("validation", 0, 2.5), ("validation", 2, 1.5)]
    metrics = pd.DataFrame(rows, columns=["split", "step", "value"]).assign(term="loss")
    ax = training_curve(metrics, best=2)
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses if len(line.get_xdata())] == [[1]]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["loss, train", "loss, validation", "kept model"]
    with pytest.raises(ConfigError, match="no column term"):
        training_curve(metrics.drop(columns="term"))


def test_contact_graph_draws_shares_between_unlike_niches() -> None:
    names = ["core", "margin", "stroma"]
    table = pd.DataFrame([[90, 30, 0], [30, 50, 10], [0, 10, 70]], names, names)
    ax = contact_graph(table)
    assert {text.get_text() for text in ax.texts} == {"75%", "25%", *names}
    assert {text.get_text() for text in contact_graph(table, min_share=0.5).texts} == {"75%", *names}
    with pytest.raises(ConfigError, match="symmetric"):
        contact_graph(table.iloc[:, ::-1])


def test_expression_map_colours_by_value_names_its_unit_and_greys_what_was_not_measured() -> None:
    ax = expression_map(POS, [0.0, np.nan, 8.0], unit="counts per 10,000", size_um=50.0, top=4.0, title="G1")
    (discs,) = (c for c in ax.collections if len(c.get_offsets()))
    discs.update_scalarmappable()
    low, missing, high = discs.get_facecolor()[:, :3]
    assert tuple(missing) == pytest.approx(to_rgb(UNKNOWN), abs=0.01)
    assert tuple(low) == pytest.approx(to_rgb("#440154"), abs=0.01)
    assert tuple(high) == pytest.approx(to_rgb("#fde725"), abs=0.01)
    assert [a.get_ylabel() for a in ax.figure.axes[1:]] == ["counts per 10,000"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_expression_map_refuses_values_of_another_length() -> None:
    with pytest.raises(ConfigError, match="2 values for 3 positions"):
        expression_map(POS, [1.0, 2.0], unit="x")


def test_effect_map_is_grey_where_unsupported_and_white_at_nothing() -> None:
    ax = effect_map(POS, [-2.0, 0.0, 9.0], supported=[True, True, False], treated=[True, False, False], label="Δ")
    discs = next(c for c in ax.collections if len(c.get_offsets()) == 3)
    discs.update_scalarmappable()
    less, same, unknown = (tuple(colour[:3]) for colour in discs.get_facecolor())
    assert unknown == to_rgb(UNKNOWN) and min(same) > 0.95 and less[2] > less[0] + 0.3
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["treated (1)", "out of support (1)"]
    whole = effect_map(POS, [1.0, 2.0, 3.0], label="Δ")
    assert whole.get_legend() is None
    with pytest.raises(ConfigError, match="2 effects for 3 positions"):
        effect_map(POS, [1.0, 2.0], label="Δ")


@pytest.mark.parametrize(("groups", "genes"), [(3, 10), (14, 70), (20, 1000), (120, 5)])
def test_a_map_of_many_genes_and_groups_keeps_within_bounds(groups: int, genes: int) -> None:
    values = np.random.default_rng(0).normal(size=(groups, genes))
    ratio = pd.DataFrame(values, columns=[f"G{i}" for i in range(genes)])
    ax = marker_map(ratio, ratio * 0 + 0.5, label="niche")
    width, height = ax.figure.get_size_inches()
    assert width <= 15 and height <= 24
    across, down = ([one.get_text() for one in labels] for labels in (ax.get_xticklabels(), ax.get_yticklabels()))
    named = down if genes > 40 else across
    assert named == list(ratio.columns)
    shown = ax.images[0].get_array()
    assert np.allclose(shown, values.T if genes > 40 else values)


def test_composition_maps_show_the_commonest_types_above_how_sure_they_are() -> None:
    shares = pd.DataFrame({"rare": [0.1, 0.0, 0.1], "common": [0.9, 1.0, 0.9]})
    first = composition_maps(POS, shares, 0.1 * shares, size_um=55.0)
    drawn = [ax for ax in first.figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in drawn] == ["common", "rare", "common", "rare"]
    np.testing.assert_allclose(drawn[2].collections[0].get_array(), [0.09, 0.1, 0.09])
    assert len([ax for ax in composition_maps(POS, shares).figure.axes if ax.get_title()]) == 2
    with pytest.raises(ConfigError, match="widths of others"):
        composition_maps(POS, shares, shares[["rare"]])


def pairs_off(off_um: float) -> pd.DataFrame:
    """Return three pairs, one of them left out of the fit and one doubtful, whose map is off to the right."""
    told = pd.DataFrame(POS, columns=["coarse_x_um", "coarse_y_um"])
    told = told.assign(fine_x_um=told["coarse_x_um"] + off_um, fine_y_um=told["coarse_y_um"], name=["a", "b", "$c$"])
    return told.assign(sigma_um=[5.0, np.nan, 20.0], fitted=[True, False, True], doubtful=[False, False, True])


def test_anchor_map_shows_pairs_by_what_became_of_them_and_names_the_doubtful(tmp_path: Path) -> None:
    spots = pd.DataFrame(POS, columns=["x_um", "y_um"]).assign(size_um=55.0, beneath=[0.0, 3.0, 6.0])
    ax = anchor_map(spots, pairs_off(40.0), unit="cell nodes beneath each patch", title="s1: anchors")
    arrows = {tuple(to_rgb(one.get_facecolor()[0])): one for one in ax.collections if hasattr(one, "U")}
    assert set(arrows) == {to_rgb(one) for one in (FITTED, LEFT_OUT, DOUBTFUL)}
    assert all((one.U == 40.0).all() and (one.V == 0).all() for one in arrows.values())
    assert [text.get_text() for text in ax.texts if text.get_text() == "$c$"] == ["$c$"]
    (legend,) = [one for one in ax.get_children() if type(one).__name__ == "Legend"]
    assert [one.get_text() for one in legend.get_texts()] == ["fitted (1)", "left out of the fit (1)", "doubtful (1)"]
    ax.figure.savefig(tmp_path / "a.png")
    wide, deep = ax.get_xlim()[1] - ax.get_xlim()[0], ax.get_ylim()[0] - ax.get_ylim()[1]
    assert wide > 0 < deep  # y goes down, as on the slide


def test_small_errors_are_drawn_longer_and_the_legend_says_how_much() -> None:
    ax = anchor_map(pd.DataFrame(), pairs_off(2.0))
    (legend,) = [one for one in ax.get_children() if type(one).__name__ == "Legend"]
    times = float(legend.get_title().get_text().split("drawn ")[1].split(" times")[0])
    assert times > 1 and all(one.scale == pytest.approx(1 / times) for one in ax.collections if hasattr(one, "U"))
    spots = pd.DataFrame(POS, columns=["x_um", "y_um"]).assign(size_um=55.0, beneath=1.0)
    assert not [one for one in anchor_map(spots, pairs_off(2.0).iloc[:0]).collections if hasattr(one, "U")]


def test_curves_of_anchors_are_drawn_by_share_and_by_shift_with_those_told_of_the_error() -> None:
    def score(value: float) -> dict[str, float | None]:
        return {"value": value, "lower": value - 0.1, "upper": None if value == 0.4 else value + 0.1}

    columns = ("share", "shift_um", "error_told", "model", "nearest_join")
    done = [(0.2, 0.0, False, 0.4, 0.3), (1.0, 0.0, False, 0.5, 0.3), (1.0, 50.0, False, 0.2, 0.1)]
    done.append((1.0, 50.0, True, 0.35, 0.1))
    records = pd.DataFrame(
        [
            {"told": level, "by": by, **dict(zip(columns, (*one[:3], *map(score, one[3:])), strict=True))}
            for level, by in (("cell", "patch"), ("patch", "cell"))
            for one in done
        ]
    )
    axes = anchor_curves(records)
    assert axes.shape == (2, 2)
    lines = [{line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()} for ax in axes[0]]
    assert lines[0] == {"model": [[0.2, 0.4], [1.0, 0.5]], "nearest join": [[0.2, 0.3], [1.0, 0.3]]}
    assert lines[1]["model"] == [[0.0, 0.5], [50.0, 0.2]]
    assert lines[1]["model, error told"] == [[0.0, 0.5], [50.0, 0.35]]
    with pytest.raises(ConfigError, match="no column by"):
        anchor_curves(records.drop(columns="by"))
