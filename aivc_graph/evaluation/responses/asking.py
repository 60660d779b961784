"""Put a question about a table of responses to a model and to every baseline, fold by fold, and lay out the answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.evaluation.intervals import Units
from aivc_graph.evaluation.responses.audit import audit_question, likeness
from aivc_graph.evaluation.responses.cells import Cells
from aivc_graph.evaluation.responses.differential import LEAST_CPM, Differential, differential_of, told_by_profile
from aivc_graph.evaluation.responses.leaks import Leaks
from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.spread import Axes, Space, axes_of
from aivc_graph.evaluation.responses.table import Responses, halves_of
from aivc_graph.evaluation.responses.views import Measured, Predicted, Replicates
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.known import Known
from aivc_graph.operators.intervention.conditions import Conditions, conditions_of

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

# A predictor learns from the training rows of a fold and returns the effect of each asked row (asked, gene).
Predictor = Callable[[Responses, Fold], Floats]
READOUT = "response"
HALVINGS = 5
OF_PROFILES = (
    "pearson_delta_profile",
    "systema_delta",
    "systema_delta_top20",
    "mse_delta",
    "rmse_delta",
    "wmse",
    "r2_weighted",
    "unbiased_mse_ratio",
    "centroid_accuracy",
    "pds_cosine",
    "pds_l1_2025",
    "perturbench_rank",
)
OF_FEW = ("mse_delta", "rmse_delta")
LEAST_GENES = 10
OF_PAIRS = ("interaction", "interaction_size", "interaction_class")
OF_CELLS = (
    "des_overlap",
    "direction_fidelity",
    "direction_reach",
    "sig_jaccard",
    "lfc_nmae",
    "energy_distance",
    "mmd_rbf",
)


@dataclass(frozen=True)
class Exam:
    """A question with all that was measured about it; whoever answers is laid out the same way.

    Parameters
    ----------
    table, question
        What is asked of what.
    rows
        The rows asked about, in the order of the table (row,).
    measured
        What was measured of them.
    axes
        The space cells are compared in, of controls and of rows that no fold asks for; None where there are no cells.
    """

    table: Responses
    question: Question
    rows: Ints
    measured: Measured
    axes: Axes | None

    def answer(self, predictor: Predictor) -> Predicted:
        """Return what a predictor says, fold by fold."""
        return self.of_effects([predictor(self.table, fold) for fold in self.question.folds])

    def baselines(self) -> dict[str, Predicted]:
        """Return what every baseline says that has what it needs in every fold."""
        found = [run_baselines(scene_of(self.table, fold), READOUT) for fold in self.question.folds]
        everywhere = [name for name in found[0] if all(name in one for one in found)]
        return {name: self.of_effects([one[name] for one in found]) for name in everywhere}

    def of_effects(self, answers: list[Floats]) -> Predicted:
        """Return effects by fold as the view of one prediction without cells."""
        effect = np.zeros_like(self.measured.profile)
        for fold, answer in zip(self.question.folds, answers, strict=True):
            effect[np.searchsorted(self.rows, np.flatnonzero(fold.asked))] = answer
        return self.of_profiles(self.measured.control + effect)

    def of_profiles(self, profile: Floats) -> Predicted:
        """Return profiles (row, gene) as the view of a prediction without cells."""
        table, control = self.table, self.table.control[self.rows]
        if self.axes is None:
            return Predicted(profile)
        tested = _mean_per_million(table.cells, control) > LEAST_CPM
        called = told_by_profile(
            profile,
            self.measured.control,
            self.measured.control_variance,
            table.n_cells[control],
            table.n_cells[self.rows],
            tested,
        )
        points = self.axes.moved(table.cells, control, profile, self.measured.control)
        return Predicted(profile, differential=called, space=Space(points, self.axes.bandwidths))

    def replicates(self) -> dict[str, Replicates]:
        """Return the ceilings: half of each row's cells as the prediction of the other, and that at full depth.

        Rows of one cell have no replicate; there are no ceilings where no row has one.
        """
        replicated = self.table.n_cells[self.rows] > 1
        if not replicated.any():
            return {}
        pairs = tuple(_halved(self, np.flatnonzero(replicated), seed) for seed in range(HALVINGS))
        return {
            "replicate_half": Replicates(pairs, replicated),
            "replicate_full_depth": Replicates(pairs, replicated, full_depth=True),
        }

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics; of few values those that compare patterns over them mean nothing."""
        if len(self.table.genes) < LEAST_GENES:
            return OF_FEW
        pairs = np.isfinite(self.measured.additive).all(axis=1).any()
        return OF_PROFILES + (OF_PAIRS if pairs else ()) + (OF_CELLS if self.axes is not None else ())

    def scored(
        self,
        model: Predicted | None,
        ablations: dict[str, Predicted] | None = None,
        *,
        no_model: str = "",
        split: str = "test",
        modality: str = "rna",
        seed: int = 0,
    ) -> Scored:
        """Return everybody's answers as a task to be scored; what was held out is resampled."""
        kinds, code = np.unique(np.array(self.question.group)[self.rows], return_inverse=True)
        units = Units(code.reshape(-1), self.question.unit, np.zeros(len(code), np.int64), tuple(map(str, kinds)))
        leaks = Leaks(self.table, self.question)
        return Scored(
            task=self.question.name,
            axis=self.question.axis,
            split=split,
            scale="cell population",
            modality=modality,
            readout=READOUT,
            measured=self.measured,
            model=model,
            no_model=no_model,
            baselines=self.baselines(),
            ceilings=self.replicates(),
            ablations=ablations or {},
            metrics=self.metrics,
            units=units,
            leakage=leaks.share,
            leaks=tuple(leaks.told),
            audit=audit_question(self.table, self.question, seed),
            folds=self._folds(),
            similarity=likeness(self.table, self.question),
            group=self.table.context[self.rows],
        )

    def _folds(self) -> dict[str, Any]:
        trained = [int(fold.train.sum()) for fold in self.question.folds]
        asked = np.unique(self.table.condition[self.rows]).tolist()
        numbers = {"asked": len(self.rows), "folds": len(trained), "trained": [min(trained), max(trained)]}
        return numbers | {"conditions": asked}


def examine(table: Responses, question: Question, *, cells: bool = True) -> Exam:
    """Return a question with what was measured of the rows it asks about; without `cells`, of profiles alone.

    Effects that were given have no cells.
    """
    cells = cells and table.unmeasured is None
    rows = np.flatnonzero(question.asked)
    control = table.control[rows]
    never = np.flatnonzero(~question.asked)
    axes = axes_of(table.cells, never) if cells else None
    space = Space(axes.of_rows(table.cells, rows), axes.bandwidths) if axes is not None else None
    measured = Measured(
        profile=table.profile[rows],
        control=table.profile[control],
        reference=_reference(table, question, rows),
        variance=table.variance[rows],
        control_variance=table.variance[control],
        distinction=_distinction(table, rows),
        own=table.own[rows],
        target=np.isin(table.genes, table.targets),
        context=np.unique(table.context[rows], return_inverse=True)[1].reshape(-1),
        alone=_alone(table, rows),
        differential=differential_of(table.cells, rows, control) if cells else None,
        space=space,
    )
    return Exam(table, question, rows, measured, axes)


def scene_of(table: Responses, fold: Fold) -> Scene:
    """Return what baselines may look at: effects of training rows, controls of all, and what was done to each row.

    A part that is on the panel is known by what training effects say of its gene.
    """
    return Scene(
        target=np.where(fold.train[:, None], table.learned(fold.train), np.nan),
        train=fold.train,
        visible=fold.train,
        asked=fold.asked,
        section=np.unique(table.context, return_inverse=True)[1].reshape(-1),
        pos_um=np.zeros((len(fold.train), 2)),
        features=table.profile[table.control],
        parts=table.design,
        panel=table.panel,
    )


def conditions_in(table: Responses, fold: Fold, known: Known | None = None) -> Conditions:
    """Return what may be learned from in a fold: effects of its training rows, and what was done to all rows.

    With what is `known` of genes it also says how alike those are to which it was done.
    """
    _, first, context = np.unique(table.context, return_index=True, return_inverse=True)
    untreated = table.profile[table.control[first]]
    told = {} if known is None else known.likeness(table.targets)
    alike = np.stack(list(told.values())) if told else None
    place = None if table.place is None else np.unique(table.place[first], return_inverse=True)[1]
    return conditions_of(
        table.learned(fold.train),
        table.design,
        context.reshape(-1),
        fold.train,
        table.panel,
        untreated,
        alike,
        place,
        None if table.amounts is None else table.amounts[first],
    )


def _reference(table: Responses, question: Question, rows: Ints) -> Floats:
    found = np.zeros((len(rows), len(table.genes)))
    for fold in question.folds:
        for one in np.unique(table.context[fold.asked]):
            here = fold.train & (table.context == one)
            mean = table.learned(fold.train)[here if here.any() else fold.train].mean(axis=0)
            asked = np.flatnonzero(fold.asked & (table.context == one))
            found[np.searchsorted(rows, asked)] = table.profile[table.control[asked]] + mean
    return found


def _distinction(table: Responses, rows: Ints) -> Floats:
    """Return how far each row is from the mean of all other conditions of its context, in standard errors."""
    variance = np.nan_to_num(table.variance)
    found = np.zeros((len(rows), len(table.genes)))
    for one in np.unique(table.context[rows]):
        here = (table.context == one) & ~table.is_control
        n = here.sum() - 1
        own = np.flatnonzero(table.context[rows] == one)
        if n < 1:
            continue
        at = rows[own]
        mean = (table.profile[here].sum(axis=0) - table.profile[at]) / n
        error = variance[at] + (variance[here].sum(axis=0) - variance[at]) / n**2
        found[own] = (table.profile[at] - mean) / np.sqrt(np.maximum(error, 1e-12))
    return np.where(np.isfinite(table.variance[rows]), found, 0.0)


def _alone(table: Responses, rows: Ints) -> Floats:
    """Return the measured effects of both parts of each pair alone, in the same context (row, 2, gene)."""
    at = {(table.context[i], parts): i for i, parts in enumerate(table.parts)}
    found = np.full((len(rows), 2, len(table.genes)), np.nan)
    for i, row in enumerate(rows):
        alone = [at[key] for part in table.parts[row] if (key := (table.context[row], (part,))) in at]
        if len(alone) == len(table.parts[row]) == 2:
            found[i] = table.effect[alone]
    return found


def _halved(exam: Exam, kept: Ints, seed: int) -> tuple[Predicted, Measured]:
    """Return one half of the `kept` rows' cells as the prediction of the other; both face the whole control."""
    table, rows, n = exam.table, exam.rows[kept], len(exam.table.parts)
    first, second = table.halves(seed)
    whole = exam.measured.take(kept)
    twice = 2 * whole.variance
    called: list[Differential | None] = [None, None]
    space: list[Space | None] = [None, None]
    if exam.axes is not None:
        control = table.is_control[table.cells.row]
        half = np.where(control, 0, halves_of(table.cells.row, seed))
        cells = Cells(table.cells.x, table.cells.row + n * half, table.cells.counts)
        for k in (0, 1):
            called[k] = differential_of(cells, rows + n * k, table.control[rows])
            space[k] = Space(exam.axes.of_rows(cells, rows + n * k), exam.axes.bandwidths)
    one, other = first[rows], second[rows]
    own = whole.own | ~np.isfinite(one) | ~np.isfinite(other)
    one, other = (np.where(np.isfinite(half), half, whole.control) for half in (one, other))
    measured = dataclasses.replace(
        whole, profile=other, variance=twice, own=own, differential=called[1], space=space[1]
    )
    return Predicted(one, twice, called[0], space[0]), measured


def _mean_per_million(cells: Cells, control: Ints) -> Floats:
    means = {
        one: np.asarray(cells.take(cells.of(one)).per_million().mean(axis=0)).ravel() for one in np.unique(control)
    }
    return np.stack([means[one] for one in control])
