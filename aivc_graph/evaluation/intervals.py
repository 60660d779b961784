"""Intervals by cluster bootstrap: whole donors, sections or blocks of tissue are resampled, never single nodes.

The few units that there are differ less from each other than all that there might be, and say little of by how much:
the plain 95 % of draws of five hold the truth in 84 %. So bounds are taken further out, where draws of a mean end as
often as Student's t with one degree of freedom less than units would: the expanded percentile interval.

References
----------
Hesterberg 2015, doi:10.1080/00031305.2015.1089789 (expanded percentile interval).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr, stdtrit

from aivc_graph.evaluation.metrics.metric import AbstractMetric, Answers

MIN_UNITS = 5
BLOCKS = 25
DRAWS = 1000
CHUNK = 50
LEVEL = 0.95
Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Units:
    """Who is resampled: `code` (row,) 0 … n-1, `name` of such a unit, and the `section` (row,) each row is of.

    `labels` (unit,) tell one unit from another in words; their codes if not given.
    """

    code: Ints
    name: str
    section: Ints
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", tuple(map(str, range(self.n))))

    @property
    def n(self) -> int:
        """Number of units."""
        return int(self.code.max()) + 1 if len(self.code) else 0


def units_of(donor: NDArray[np.generic], section: NDArray[np.generic], pos_um: Floats | None = None) -> Units:
    """Return the widest unit there are five of: donors, else sections, else square blocks of tissue in each section.

    Blocks tell how sure a score is for the tissue at hand; of other donors they tell nothing. Without positions, the
    sections it is, however few.
    """
    sections, section_code = np.unique(section, return_inverse=True)
    for name, values in (("donor", donor), ("section", section)):
        kinds, code = np.unique(values, return_inverse=True)
        if len(kinds) >= MIN_UNITS or (name == "section" and pos_um is None):
            return Units(code.reshape(-1), name, section_code.reshape(-1), tuple(map(str, kinds)))
    assert pos_um is not None
    n_sections = int(section_code.max()) + 1 if len(section_code) else 0
    keys = np.zeros((len(section_code), 3), np.int64)
    keys[:, 0] = section_code
    for one in range(n_sections):
        rows = section_code == one
        corner, extent = pos_um[rows].min(axis=0), np.ptp(pos_um[rows], axis=0)
        edge = max(float(np.sqrt(extent.prod() / max(BLOCKS / n_sections, MIN_UNITS))), 1e-6)
        keys[rows, 1:] = np.floor((pos_um[rows] - corner) / edge)
    blocks, code = np.unique(keys, axis=0, return_inverse=True)
    labels = tuple(f"{sections[one]}:{x},{y}" for one, x, y in blocks)
    return Units(code.reshape(-1), "block", section_code.reshape(-1), labels)


@dataclass(frozen=True)
class Halves:
    """Two halves (row, …) of one measurement, drawn apart: one as the prediction of the other is the ceiling."""

    one: Floats
    other: Floats


@dataclass(frozen=True)
class Estimate:
    """A score, its values over the resampled units, and that of each unit alone (unit,).

    No draws where units are fewer than five.
    """

    value: float
    draws: Floats | None
    by_unit: Floats

    def __sub__(self, other: Estimate) -> Estimate:
        """Return the difference from the score of another over the same units, paired."""
        draws = None if self.draws is None or other.draws is None else self.draws - other.draws
        return Estimate(self.value - other.value, draws, self.by_unit - other.by_unit)

    def bounds(self) -> tuple[float | None, float | None]:
        """Return the 95 % interval, or nothing where the draws do not support one."""
        if self.draws is None or not np.isfinite(self.draws).all():
            return None, None
        return interval(self.draws, len(self.by_unit))

    def p_of_none(self) -> float | None:
        """Return the two-sided p-value that it is zero, by Student's t with the draws' spread, if that is known."""
        if self.draws is None or not np.isfinite(self.draws).all():
            return None
        n = len(self.by_unit)
        error = _widening(n) * max(float(self.draws.std()), np.finfo(float).tiny)
        return float(2 * stdtr(n - 1, -abs(self.value) / error))


def interval(draws: Floats, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the bounds of draws (draw,) over `n` resampled units; they hold the truth at `level`."""
    beyond = float(ndtr(_widening(n) * stdtrit(n - 1, (1 - level) / 2)))
    low, high = np.quantile(draws, [beyond, 1 - beyond])
    return float(low), float(high)


def _widening(n: int) -> float:
    """Return by how much the spread of means over `n` units is larger than that over draws of them."""
    return float(np.sqrt(n / (n - 1)))


def resampled(units: Units, seed: int = 0) -> Floats | None:
    """Return how often each unit is drawn (draw, unit); ``None`` where there are fewer than five.

    References
    ----------
    Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x (bootstrapping clustered data).
    """
    if units.n < MIN_UNITS:
        return None
    rng = np.random.default_rng(seed)
    return rng.multinomial(units.n, np.full(units.n, 1 / units.n), size=DRAWS).astype(float)


def estimate(metric: AbstractMetric, predicted: Answers, measured: Answers, units: Units) -> Estimate:
    """Return the metric and its bootstrap draws; equal units give equal draws, so differences are paired.

    A metric that is taken within sections is averaged over them, each as often as it was drawn. Two halves of a
    measurement are compared with each other and brought to full depth.
    """
    n, read = units.n, metric.values
    if isinstance(predicted, Halves):
        predicted, measured = predicted.one, predicted.other
        read = lambda totals: np.array([metric.at_full_depth(one) for one in metric.values(totals)])  # noqa: E731
    stratum = units.section if metric.within_sections else np.zeros(len(units.code), np.int64)
    pieces, place = np.unique(np.column_stack([stratum, units.code]), axis=0, return_inverse=True)
    sums = metric.statistics(predicted, measured, place.reshape(-1), len(pieces), units.section)
    flat = sums.reshape(len(pieces), -1)
    strata = [(flat[pieces[:, 0] == s], pieces[pieces[:, 0] == s, 1]) for s in np.unique(pieces[:, 0])]

    def weighted(weights: Floats) -> Floats:
        parts = [weights[i : i + CHUNK] for i in range(0, len(weights), CHUNK)]
        return np.concatenate([_mean_over(strata, part, read, sums.shape[1:]) for part in parts])

    whole, drawn = weighted(np.ones((1, n)))[0], resampled(units)
    return Estimate(float(whole), None if drawn is None else weighted(drawn), weighted(np.eye(n)))


def _mean_over(
    strata: list[tuple[Floats, Ints]], weights: Floats, read: Callable[[Floats], Floats], shape: tuple[int, ...]
) -> Floats:
    total, number = np.zeros(len(weights)), np.zeros(len(weights))
    for sums, code in strata:
        drawn = weights[:, code]
        often = drawn.mean(axis=1)
        found, some = np.full(len(often), np.nan), often > 0
        if some.any():
            found[some] = read((drawn[some] @ sums).reshape(-1, *shape))
        counts = (often > 0) & np.isfinite(found)
        total += np.where(counts, often * np.where(counts, found, 0.0), 0.0)
        number += np.where(counts, often, 0.0)
    return np.where(number > 0, total / np.maximum(number, 1e-12), np.nan)


def holm(p_values: list[float | None], families: Sequence[Hashable]) -> list[float | None]:
    """Return p-values adjusted for how many there are of their family, in their order; ``None`` stays.

    Over all scores of an evaluation at once none of a few units could ever stand out. So the scores of one task and
    readout are a family.

    References
    ----------
    Holm 1979, Scandinavian Journal of Statistics 6, 65–70.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    for family in dict.fromkeys(families):
        known = sorted((p, i) for i, p in enumerate(p_values) if p is not None and families[i] == family)
        highest = 0.0
        for rank, (p, i) in enumerate(known):
            highest = max(highest, min(1.0, p * (len(known) - rank)))
            adjusted[i] = highest
    return adjusted
