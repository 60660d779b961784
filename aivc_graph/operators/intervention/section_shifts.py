"""What whole sections differ by, beside what was done to them: staining, lot, place in the organ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from aivc_graph.operators.moderated import LEAST, moderated_variance

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

# Standard deviation of natural logarithms between sections of a donor, the largest that is looked for.
MOST = 3.0


def within_donors(section: Ints, donor: Ints) -> Floats:
    """Return orthonormal contrasts between the sections of each donor (section, contrast), from those of rows (row,).

    What the sections of a donor have in common is the donor's.
    """
    found = [np.zeros((section.max(initial=-1) + 1, 0))]
    for d in np.unique(donor):
        own = np.unique(section[donor == d])
        # Helmert's contrasts: each section against the mean of those before it.
        for i in range(1, len(own)):
            column = np.zeros(section.max(initial=-1) + 1)
            column[own[:i]], column[own[i]] = -1.0, i
            found.append(column / np.sqrt(i * (i + 1)))
    return np.column_stack(found)


@dataclass(frozen=True)
class ComponentPart:
    """The regression of one component's rows on its own columns, and what that leaves for effects that all share.

    Shapes: `inverse` (molecule, column, column) of the products; `alone` (molecule, column), the solution were nothing
    shared; `shared` (molecule, column, effect), by how much it falls where an effect rises; `information` (molecule,
    effect, effect) and `score` (molecule, effect).
    """

    inverse: Floats
    alone: Floats
    shared: Floats
    information: Floats
    score: Floats

    @classmethod
    def of(cls, y: Floats, weight: Floats, z: Floats, whole: Floats, prior: Floats) -> ComponentPart:
        """Solve for one component.

        Parameters
        ----------
        y, weight
            Response and its weight (row, molecule).
        z, whole
            Columns, and how far the row shows each effect that components share (row, column or effect).
        prior
            Variance of each column (column,).
        """

        def products(a: Floats, b: Floats) -> Floats:
            both = (a[:, :, None] * b[:, None, :]).reshape(len(a), a.shape[1] * b.shape[1])
            return (weight.T @ both).reshape(weight.shape[1], a.shape[1], b.shape[1])

        inverse = np.linalg.inv(products(z, z) + np.diag(1 / prior))
        cross, weighted = products(z, whole), (weight * y).T
        alone = (inverse @ (weighted @ z)[..., None])[..., 0]
        shared = inverse @ cross
        information = products(whole, whole) - cross.transpose(0, 2, 1) @ shared
        score = weighted @ whole - (cross.transpose(0, 2, 1) @ alone[..., None])[..., 0]
        return cls(inverse, alone, shared, information, score)

    def estimate(self, sections: SectionShifts) -> Floats:
        """Return the columns (molecule, column), given what sections differ by."""
        return np.asarray(self.alone - (self.shared @ sections.shift[..., None])[..., 0])

    def variance(self, sections: SectionShifts) -> Floats:
        """Return their variance (molecule, column), that of sections with it."""
        by_section = np.einsum("gpq,gpq->gp", self.shared @ sections.covariance, self.shared)
        return np.asarray(np.diagonal(self.inverse, axis1=1, axis2=2) + by_section)


@dataclass(frozen=True)
class SectionShifts:
    r"""What donors and contrasts of their sections differ by in all components alike, as random effects.

    Contrasts vary by ω², `variance` (molecule,), donors by what is given: were nothing in common theirs, their levels
    would tell of effects. `covariance` given the data (molecule, effect, effect) and `shift` (molecule, effect), donors
    first; they are worth `parameters` (molecule,).
    """

    variance: Floats
    covariance: Floats
    shift: Floats
    parameters: Floats

    @classmethod
    def of(cls, parts: Sequence[ComponentPart], n_donors: int, of_donors: float) -> SectionShifts:
        """Tell them from all components; `of_donors` is the variance of the first `n_donors` effects."""
        information = np.sum([part.information for part in parts], axis=0)
        score = np.sum([part.score for part in parts], axis=0)
        donors, contrasts = slice(n_donors), slice(n_donors, None)
        cross = information[:, donors, contrasts]
        known = np.linalg.inv(information[:, donors, donors] + np.eye(n_donors) / of_donors) @ cross
        within = information[:, contrasts, contrasts] - cross.transpose(0, 2, 1) @ known
        variance = variance_between(within, score[:, contrasts] - np.einsum("gdc,gd->gc", known, score[:, donors]))
        prior = np.repeat(variance[:, None], score.shape[1], axis=1)
        prior[:, donors] = of_donors
        # Of variance nought there is no inverse, and none is needed.
        inside = np.eye(score.shape[1]) + information * prior[:, None]
        covariance = prior[:, :, None] * np.linalg.inv(inside)
        shift = (covariance @ score[..., None])[..., 0]
        return cls(variance, covariance, shift, np.einsum("gpq,gqp->g", covariance, information))


def variance_between(information: Floats, score: Floats) -> Floats:
    r"""Return the variance ω² of what sections differ by (molecule,), by the moments of what they show of it.

    .. math:: E\,|h|^2 = \operatorname{tr} M + \omega^2 \operatorname{tr} M^2

    with the score h and the information M. Few sections tell it badly of one molecule, so it is drawn towards what is
    usual among them; where sections differ by no more than counting makes them, it is 0.

    References
    ----------
    Rao 1972, doi:10.1080/01621459.1972.10481212 (variance components by moments); Smyth 2004,
    doi:10.2202/1544-6115.1027.
    """
    first, second = np.einsum("gpp->g", information), np.einsum("gpq,gpq->g", information, information)
    squared = (score**2).sum(axis=1)
    seen = squared > LEAST * np.maximum(first, LEAST)
    found = np.zeros(len(score))
    if not seen.any():
        return found
    first, second, squared = first[seen], second[seen], squared[seen]
    # Degrees of freedom of a sum of unequal squares: Satterthwaite 1946, doi:10.2307/3002019.
    df = float(np.median(first**2 / second))
    usual = _usual(first, second, squared, df)
    expected = first + usual * second
    found[seen] = np.maximum(moderated_variance(squared / expected, df)[0] * expected - first, 0.0) / second
    return found


def _usual(first: Floats, second: Floats, squared: Floats, df: float) -> float:
    """Return the variance by which molecules' squares are, on average of their logarithms, as expected."""
    from scipy import optimize

    due = digamma(df / 2) - np.log(df / 2)

    def beyond(variance: float) -> float:
        return float(np.log(squared / (first + variance * second)).mean() - due)

    if beyond(0.0) <= 0:
        return 0.0
    return MOST**2 if beyond(MOST**2) > 0 else float(optimize.brentq(beyond, 0.0, MOST**2, xtol=1e-8))
