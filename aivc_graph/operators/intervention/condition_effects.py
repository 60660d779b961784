"""The responses of a screen as a part of a model: what its training conditions did, and what they tell of others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.graph.known import Known, known_of
from aivc_graph.graph.screens import (
    EFFECT,
    Setting,
    amount_label,
    genes_of,
    log_amounts,
    screened,
    settings_of,
    values_of,
)
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.graph.windows import windows
from aivc_graph.operators.gate import RESPONSE
from aivc_graph.operators.intervention.condition_profiles import profiles_of
from aivc_graph.operators.intervention.condition_stack import (
    RULES,
    Kind,
    LeftOut,
    Stack,
    Starts,
    answers,
    fit_stack,
    kind_of,
)
from aivc_graph.operators.intervention.conditions import Conditions, Floats, Mask, conditions_of
from aivc_graph.operators.part import KINDS, LAST_ANSWERS, AbstractPart, Fitting, Shape
from aivc_graph.settings import Settings

# Most sources of variance there are, see `likenesses`, and the rest.
SOURCES = 10
Piece = tuple[TissueGraph, Mask]


class ConditionsPlan(Settings):
    """What a screen trained: where its values stand, their names, and every setting of its training nodes.

    Parameters
    ----------
    level, modality
        Whose values they are.
    genes
        Name of each value.
    settings
        Context, parts, doses and hours of each row; controls have no parts.
    known
        What was known of genes beforehand: the sources of `Known`.
    """

    level: str
    modality: str
    genes: tuple[str, ...]
    settings: tuple[tuple[str, tuple[str, ...], tuple[float, ...], tuple[float, ...]], ...]
    known: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[Setting, ...]:
        """The setting of each row."""
        return tuple(Setting(*one) for one in self.settings)


class Told(NamedTuple):
    """What is said of a condition.

    Parameters
    ----------
    effect, error
        Its effect, and the root mean square error of training conditions that were left out as it is asked (gene,); not
        a number where none was.
    n_left_out
        How many were.
    doubts
        Why it is out of support; nothing where it is not.
    setting
        The condition, with the doses and hours that were taken.
    """

    effect: Floats
    error: Floats
    n_left_out: int
    doubts: tuple[str, ...]
    setting: Setting


@KINDS["intervention"].register("condition_effects")
class ConditionEffects(AbstractPart):
    r"""Tells the response to any condition from those of training, by `predict_responses`.

    All it holds is fitted in closed form and kept in buffers. ``total`` and ``number`` (row, gene) are sums over nodes
    and of how many, so that they add over pieces of a graph; an effect is the profile of a row less that of the
    controls of its context, of the same hours where there are any. Where effects themselves were given they are taken
    as they are, and a gene that was not measured in a row counts there as the mean of the others.

    Doses and hours are told apart as contexts are, each dose of a context having the context's untreated state.
    """

    kind: ClassVar[str] = "intervention"
    question: ClassVar[str] = RESPONSE
    Plan = ConditionsPlan
    plan: ConditionsPlan
    stages: ClassVar[Mapping[str, str]] = {LAST_ANSWERS: "fit_windows"}
    total: Tensor
    number: Tensor
    start: Tensor
    start_known: Tensor
    products: Tensor
    left_out: Tensor
    missed: Tensor
    openings: Tensor

    def __init__(self, plan: ConditionsPlan) -> None:
        super().__init__(plan)
        several = sorted({len(one.parts) for one in plan.rows if one.parts})
        self.kinds = [
            Kind(n, unseen, *seen)
            for n in several
            for unseen in range(n + 1)
            for seen in itertools.product((False, True), repeat=2)
        ]
        shape, k = (len(plan.settings), len(plan.genes)), len(RULES) + bool(plan.known) + 1
        self.hold("total", torch.zeros(shape, dtype=torch.float64))
        self.hold("number", torch.zeros(shape, dtype=torch.float64))
        self.hold("start", torch.full((SOURCES,), torch.nan, dtype=torch.float64))
        self.hold("start_known", torch.full((SOURCES + len(plan.known),), torch.nan, dtype=torch.float64))
        self.hold("products", torch.zeros((len(self.kinds), k, k), dtype=torch.float64))
        self.hold("left_out", torch.zeros(len(self.kinds), dtype=torch.int64))
        self.hold("openings", torch.zeros((len(self.kinds), 2), dtype=torch.float64))
        self.hold("missed", torch.zeros((len(self.kinds), shape[1]), dtype=torch.float64))

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[ConditionsPlan]:
        """Return the plan of a graph of which some training nodes were treated, as their condition says."""
        plan = cls.plan_of(graph)
        return [] if plan is None else [plan]

    @property
    def slot(self) -> tuple[str, ...]:
        """The level and modality of the conditions."""
        return (self.plan.level, self.plan.modality)

    @staticmethod
    def plan_of(graph: TissueGraph) -> ConditionsPlan | None:
        """Return the plan of a graph, None where no training node was treated."""
        place = screened(graph)
        if place is None:
            return None
        settings, of_node = settings_of(graph, *place)
        trained = np.unique(of_node[graph.in_split(place[0], names.TRAIN).numpy() & (of_node >= 0)])
        rows = [settings[i] for i in trained]
        if not any(one.parts for one in rows):
            return None
        known = known_of(graph)
        return ConditionsPlan(
            level=place[0],
            modality=place[1],
            genes=genes_of(graph, *place),
            settings=tuple(map(tuple, rows)),
            known=() if known is None else known.sources,
        )

    def fit_windows(self, fitting: Fitting) -> None:
        """Fit to the training nodes of the whole graph, window by window."""
        whole = windows(fitting.source, (), fitting.window_nodes)
        self.fit(((one.graph, one.core[self.plan.level].numpy()) for one in whole), fitting.seed)

    def fit(self, pieces: Iterable[Piece], seed: int = 0) -> None:
        """Sum over pieces of the graph, each with its nodes that count (node,), and see what conditions tell.

        Of the nodes that count, those of training settings in the training split are read.
        """
        self.total.zero_()
        self.number.zero_()
        place, known = {one: i for i, one in enumerate(self.plan.rows)}, None
        for graph, counted in pieces:
            known = known or (known_of(graph) if self.plan.known else None)
            settings, of_node = settings_of(graph, self.plan.level, self.plan.modality)
            row_of = np.array([place.get(one, -1) for one in settings] + [-1])[of_node]
            rows = np.flatnonzero(counted & graph.in_split(self.plan.level, names.TRAIN).numpy() & (row_of >= 0))
            self._add(values_of(graph, self.plan.level, self.plan.modality, rows).toarray(), row_of[rows])
        given = self._conditions([], known)[0]
        stack = fit_stack(given, self.kinds, seed)
        for held, found in zip((self.start, self.start_known), stack.start or (), strict=False):
            if found is not None:
                held[: len(found)] = torch.from_numpy(found)
        for i, kind in enumerate(self.kinds):
            if kind in stack.evidence:
                told = stack.evidence[kind]
                self.products[i], self.left_out[i] = torch.from_numpy(told.products), told.n
                self.missed[i] = torch.from_numpy(told.missed)
                self.openings[i] = torch.tensor([told.opening, told.knowing])

    def predict(
        self,
        parts: Iterable[str],
        context: str,
        dose: float | tuple[float, ...] | None = None,
        hours: float | tuple[float, ...] | None = None,
        untreated: Floats | None = None,
        known: Known | None = None,
    ) -> Told:
        """Return the effect of a condition; what is given at dose 0, or for no time, does nothing, for sure.

        Parameters
        ----------
        parts, context
            What is done, and where.
        dose, hours
            One for all parts, or one a part in their alphabetical order; those most used in training if not given.
        untreated
            Profile of the untreated state of a context that training has not (gene,).
        known
            What the graph knows of genes, where the run was trained with it.

        Raises
        ------
        QueryError
            If nothing is done, or doses or hours are not as many as parts; nothing known where training knew something.
        """
        own = tuple(sorted(set(parts)))
        if not own:
            raise QueryError("response", "no part", "what is done", "name at least one intervention")
        asked = Setting(context, own, self._amounts(own, dose, 2, "dose"), self._amounts(own, hours, 3, "hours"))
        done, nothing = asked.at_work(), np.zeros(len(self.plan.genes))
        if not done.parts:
            return Told(nothing, nothing, 0, (), asked)
        given, rows = self._conditions([done], known, {} if untreated is None else {context: untreated})
        stack = self._stack()
        told = stack.evidence.get(kind_of(given, int(np.flatnonzero(rows)[0])))
        n = 0 if told is None else told.n
        error = np.full(len(self.plan.genes), np.nan) if told is None or not n else np.sqrt(told.missed / n)
        return Told(answers(given, rows, stack)[0], error, n, self.doubts(done), asked)

    def doubts(self, asked: Setting) -> tuple[str, ...]:
        """Say what of a setting training has not: a part, the context, a dose or a duration within its range."""
        treated = [one for one in self.plan.rows if one.parts]
        said = [f"{part} was never done in training" for part in asked.parts if not _having(treated, part)]
        if asked.context not in {one.context for one in treated}:
            said.append(f"no condition of {asked.context} trains")
        for field, unit in (("doses", "dose"), ("hours", "hours")):
            for part, value in zip(asked.parts, getattr(asked, field), strict=False):
                seen = [
                    getattr(one, field)[one.parts.index(part)] for one in _having(treated, part) if getattr(one, field)
                ]
                if not seen and _having(treated, part):
                    said.append(f"training states no {unit} of {part}: {value:g} is not told from any other")
                elif seen and not min(seen) <= value <= max(seen):
                    said.append(f"{unit} {value:g} of {part} is outside {min(seen):g} to {max(seen):g}")
        return tuple(said)

    def told_of_known(self) -> list[str]:
        """Say how far what was known of genes beforehand is let through, by what is asked; nothing without any."""
        told: dict[str, None] = {}
        for kind, number, (_, knowing) in zip(self.kinds, self.left_out.tolist(), self.openings.tolist(), strict=True):
            if self.plan.known and number and kind.unseen:
                told[f"{kind.unseen} of {kind.parts} never seen: {knowing:.0%}, by {number} left out"] = None
        return [f"What is known of genes is let through by what left-out conditions gain; {one}." for one in told]

    def profile(self, context: str, hours: tuple[float, ...] = ()) -> Floats | None:
        """Return the untreated profile of a context (gene,), of controls of these hours if any; None without any."""
        controls = [i for i, one in enumerate(self.plan.rows) if not one.parts and one.context == context]
        same = [i for i in controls if set(self.plan.rows[i].hours) == set(hours) and hours]
        rows = same or controls
        if not rows or not float(self.number[rows].sum()):
            return None
        return self._profiles(self.total[rows].sum(dim=0)[None], self.number[rows].sum(dim=0)[None])[0]

    def _add(self, values: Floats, row: NDArray[np.integer]) -> None:
        known = np.isfinite(values)
        at = torch.from_numpy(row.astype(np.int64))
        self.total.index_add_(0, at, torch.from_numpy(np.where(known, values, 0.0)))
        self.number.index_add_(0, at, torch.from_numpy(known.astype(np.float64)))

    def _profiles(self, total: Tensor, number: Tensor) -> Floats:
        if self.plan.modality in names.MOLECULE_OF:
            return profiles_of(total.numpy(), number.numpy().max(axis=1), True)
        return np.asarray((total / number.clamp(min=1)).numpy())

    def _effects(self) -> tuple[Floats, Mask]:
        """Return the effect of each row (row, gene), and which rows have one (row,)."""
        profile, rows = self._profiles(self.total, self.number), self.plan.rows
        measured = self.number.numpy() > 0
        has = np.array([bool(one.parts) for one in rows]) & measured.any(axis=1)
        if self.plan.modality == EFFECT:
            mean = self.total.numpy()[has].sum(axis=0) / np.maximum(self.number.numpy()[has].sum(axis=0), 1)
            return np.where(measured, profile, mean), has
        for i in np.flatnonzero(has):
            control = self.profile(rows[i].context, rows[i].hours)
            has[i] = control is not None
            profile[i] -= 0.0 if control is None else control
        return profile, has

    def _conditions(
        self, asked: list[Setting], known: Known | None, untreated: dict[str, Floats] | None = None
    ) -> tuple[Conditions, Mask]:
        """Return training rows and the `asked` ones as a table, and which those are (row,)."""
        effect, has = self._effects()
        kept = [one for one, keep in zip(self.plan.rows, has, strict=True) if keep]
        rows = kept + asked
        parts = sorted({part for one in rows for part in one.parts})
        design = np.array([[part in one.parts for part in parts] for one in rows], bool).reshape(len(rows), len(parts))
        places, first, context = np.unique([amount_label(one) for one in rows], return_index=True, return_inverse=True)
        states = np.full((len(places), len(self.plan.genes)), np.nan)
        for i, row in enumerate(first):
            state = self.profile(rows[row].context, rows[row].hours)
            state = (untreated or {}).get(rows[row].context) if state is None else state
            states[i] = np.nan if state is None else state
        panel = np.array([self.plan.genes.index(part) if part in self.plan.genes else -1 for part in parts], np.int64)
        train = np.arange(len(rows)) < len(kept)
        whole = np.concatenate([effect[has], np.zeros((len(asked), effect.shape[1]))])
        alike = self._alike(parts, known)
        _, place = np.unique([rows[row].context for row in first], return_inverse=True)
        amounts = np.array([log_amounts(rows[row]) for row in first])
        table = conditions_of(whole, design, context.reshape(-1), train, panel, states, alike, place, amounts)
        return table, ~train

    def _alike(self, parts: list[str], known: Known | None) -> Floats | None:
        """Return how alike parts are by each source that training knew (source, part, part)."""
        if not self.plan.known:
            return None
        if known is None:
            found = f"training knew {', '.join(self.plan.known)} of genes, and here nothing is known"
            raise QueryError("response", found, mend="give what the run's graph knows")
        told, nothing = known.likeness(parts), np.zeros((len(parts), len(parts)))
        return np.stack([told.get(name, nothing) for name in self.plan.known])

    def _stack(self) -> Stack:
        plain, further = (one.numpy()[np.isfinite(one.numpy())] for one in (self.start, self.start_known))
        start = Starts(plain, further if len(further) else None) if len(plain) else None
        held = (self.products.numpy(), self.left_out.tolist(), self.missed.numpy(), *self.openings.T.tolist())
        evidence = {kind: LeftOut(*one) for kind, one in zip(self.kinds, zip(*held, strict=True), strict=True)}
        return Stack(start, evidence)

    def _amounts(
        self, parts: tuple[str, ...], given: float | tuple[float, ...] | None, field: int, name: str
    ) -> tuple[float, ...]:
        if given is None or given == ():
            return tuple(value for part in parts for value in self._usual(part, field))
        values = given if isinstance(given, tuple) else (given,) * len(parts)
        if len(values) != len(parts):
            raise QueryError("response", f"{len(values)} values of {name}", f"one, or {len(parts)}", "give one a part")
        return tuple(map(float, values))

    def _usual(self, part: str, field: int) -> list[float]:
        """Return the most used amount of a part, of all parts where it was never done; nothing where none is known."""
        treated = [one for one in self.plan.rows if one.parts and one[field]]
        seen = [float(one[field][one.parts.index(part)]) for one in _having(treated, part)]
        seen = seen or [float(value) for one in treated for value in one[field]]
        return [max(sorted(set(seen)), key=seen.count)] if seen else []


def _having(rows: list[Setting], part: str) -> list[Setting]:
    return [one for one in rows if part in one.parts]
