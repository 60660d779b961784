"""What stands on two sides of a question is told by name; random folds flatter where a question means to ask anew."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from aivc_graph.evaluation.responses.audit import audit_question, likeness
from aivc_graph.evaluation.responses.leaks import Leaks
from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.table import Responses, responses_of
from tests.evaluation.responses.test_asking import asked_of, screen


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    return screen()


def asked(made: ad.AnnData, ask: str = "combination", seen: int | None = 2) -> tuple[Responses, Question]:
    table = responses_of(made, "condition", "ctrl", "line")
    if ask == "context":
        return table, asked_of(table, "by_context")
    if ask == "target":
        return table, asked_of(table, "by_intervention", n_test=2)
    return table, asked_of(table, "by_intervention", "a", hold=ask, seen=seen, n_test=1)


def planted(made: ad.AnnData, of: str, into: str, n: int = 30) -> ad.AnnData:
    """Return the screen with `n` cells of a condition in place of another's, both in context a."""
    made = made.copy()
    here = [np.flatnonzero((made.obs["condition"] == one) & (made.obs["line"] == "a"))[:n] for one in (of, into)]
    x = made.X.toarray()
    x[here[1]] = x[here[0]]
    made.X = x
    return made


def test_a_clean_screen_leaks_nothing(cells: ad.AnnData) -> None:
    for ask, seen in (("combination", 2), ("combination", 0), ("target", None), ("context", None)):
        leaks = Leaks(*asked(cells, ask, seen))
        assert leaks.told == [] and leaks.share == 0.0


@pytest.mark.parametrize(("into", "what"), [("E", "E in a, which trains"), ("ctrl", "ctrl in a, told to everyone")])
def test_cells_under_another_name_are_told(cells: ad.AnnData, into: str, what: str) -> None:
    leaks = Leaks(*asked(planted(cells, "A+B", into)))
    assert leaks.told == [f"A+B in a holds the same cells (30) as {what}"]
    assert leaks.share == pytest.approx(1 / 2, abs=1e-6)  # of two pairs asked, one
    assert Leaks(*asked(planted(cells, "A+B", into, n=1))).told == []
    assert len(Leaks(*asked(planted(cells, "A+B", into, n=2))).told) == 1


def test_cells_of_what_is_left_out_leak_nothing(cells: ad.AnnData) -> None:
    table, question = asked(planted(cells, "X+Y", "Y+Z"), "combination", 0)
    assert len(question.folds) == 5 and Leaks(table, question).told == []  # the two share Y, and neither trains


def test_one_intervention_under_two_names_is_told(cells: ad.AnnData) -> None:
    made = cells.copy()
    pairs = np.flatnonzero(made.obs["condition"] == "A+B")
    made.obs["condition"] = made.obs["condition"].astype(str)
    made.obs.iloc[pairs[15:], 0] = "B+A"
    table = responses_of(made, "condition", "ctrl", "line")
    test = (table.condition == "A+B") & (table.context == "a")
    leaks = Leaks(
        table,
        Question("p", "intervention", (Fold(~test & ~table.is_control, test),), "condition", tuple(table.condition)),
    )
    assert leaks.told == ["A+B in a is asked, and trains as B+A in a"] and leaks.share == 1.0


def test_random_folds_flatter_a_question_of_unseen_genes(cells: ad.AnnData) -> None:
    table, question = asked(cells, "target")
    found = audit_question(table, question)
    parts = found["optimism"]["parts"]
    assert parts["gap"] > 0.3 and parts["gap"] == pytest.approx(parts["random_split"] - parts["this_split"], abs=1e-4)
    assert found["similarity"]["value"] > 0 and 0 < found["similarity"]["by_chance"] < 1
    assert found == audit_question(table, question) and found["nearest"]["n"] == 12


def test_a_copied_condition_is_as_near_as_can_be(cells: ad.AnnData) -> None:
    before, after = (likeness(*asked(one)) for one in (cells, planted(cells, "A+B", "E")))
    assert before["A+B"] < 0.9 and after["A+B"] == pytest.approx(1.0, abs=1e-9)
    assert after["C+D"] == pytest.approx(before["C+D"], abs=0.2)
    nearest = [audit_question(*asked(one))["nearest"]["to_train"] for one in (cells, planted(cells, "A+B", "E"))]
    assert nearest[1] < nearest[0]


@pytest.mark.parametrize("change", ["scaled", "one gene", "noise"])
def test_copies_that_are_not_the_same_to_the_last_digit_are_told(cells: ad.AnnData, change: str) -> None:
    made = cells.copy()
    made.X = sparse.csr_matrix(made.X).log1p()
    leaking = planted(made, "A+B", "E")
    own = np.flatnonzero((leaking.obs["condition"] == "E") & (leaking.obs["line"] == "a"))[:30]
    x = np.array(leaking.X)
    if change == "scaled":
        x[own] *= 1.01
    elif change == "one gene":
        x[own, x[own].argmax(axis=1)] += 0.5
    else:
        x[own] *= 1 + 1e-3 * np.random.default_rng(0).normal(size=x[own].shape)
    leaking.X = sparse.csr_matrix(x)
    assert Leaks(*asked(made)).told == []
    assert Leaks(*asked(leaking)).told == ["A+B in a holds the same cells (30) as E in a, which trains"]
