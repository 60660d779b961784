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
# Sections differ if molecules' squares are larger than counting makes them by so many standard errors.
SURELY = 2.0


@dataclass(frozen=True)
class ComponentPart:
    """The regression of one component's rows on its own columns, and what that leaves for sections as wholes.

    Shapes: `inverse` (molecule, column, column) of the products; `alone` (molecule, column), the solution were there no
    sections; `shared` (molecule, column, section), by how much it falls where a section rises; `information` (molecule,
    section, section) and `score` (molecule, section).
    """

    inverse: Floats
    alone: Floats
    shared: Floats
    information: Floats
    score: Floats

    @classmethod
    def of(cls, y: Floats, weight: Floats, z: Floats, section: Ints, prior: Floats, n_sections: int) -> ComponentPart:
        """Solve for one component.

        Parameters
        ----------
        y, weight
            Response and its weight (row, molecule).
        z, section
            Columns (row, column), and the section of each row (row,).
        prior
            Variance of each column (column,).
        """
        molecules, columns = weight.shape[1], z.shape[1]
        squares = (z[:, :, None] * z[:, None, :]).reshape(len(z), columns**2)
        inverse = np.linalg.inv((weight.T @ squares).reshape(molecules, columns, columns) + np.diag(1 / prior))
        crossed = np.zeros((n_sections, molecules, columns))
        for s in np.unique(section):
            crossed[s] = weight[section == s].T @ z[section == s]
        cross, one = np.ascontiguousarray(crossed.transpose(1, 2, 0)), np.eye(n_sections)[section]
        alone = (inverse @ ((weight * y).T @ z)[..., None])[..., 0]
        shared = inverse @ cross
        information = (weight.T @ one)[:, :, None] * np.eye(n_sections) - crossed.transpose(1, 0, 2) @ shared
        score = (weight * y).T @ one - (crossed.transpose(1, 0, 2) @ alone[..., None])[..., 0]
        return cls(inverse, alone, shared, information, score)

    def estimate(self, sections: SectionShifts) -> Floats:
        """Return the columns (molecule, column), given what sections differ by."""
        return np.asarray(self.alone - (self.shared @ sections.shift[..., None])[..., 0])

    def variance(self, sections: SectionShifts) -> Floats:
        """Return their variance (molecule, column), that of sections with it."""
        by_section = np.einsum("gps,gps->gp", self.shared @ sections.covariance, self.shared)
        return np.asarray(np.diagonal(self.inverse, axis1=1, axis2=2) + by_section)


@dataclass(frozen=True)
class SectionShifts:
    r"""What all components of sections have in common, as random effects of sections and of donors.

    `shift` (molecule, section) and its `covariance` given the data (molecule, section, section); they are worth
    `parameters` (molecule,). `moments` (2, 3, molecule) are :math:`|h|^2`, :math:`\operatorname{tr} M` and
    :math:`\operatorname{tr} M^2` of the score h and the information M about what sections of one donor differ by, and
    about what donors do, as `variance_between` takes them.
    """

    shift: Floats
    covariance: Floats
    parameters: Floats
    moments: Floats

    @classmethod
    def of(cls, parts: Sequence[ComponentPart], variance: Floats, donor: Ints) -> SectionShifts:
        """Tell them from all components.

        Parameters
        ----------
        variance
            Of sections, ω², and of what a donor's sections have in common (2, molecule): were that taken for nothing
            where there is some, donors' levels would tell of effects.
        donor
            Whose each section is (section,), -1 of those that are not there.
        """
        information = np.sum([part.information for part in parts], axis=0)
        score = np.sum([part.score for part in parts], axis=0)
        eye, same = np.eye(len(donor)), (donor[:, None] == donor) & (donor >= 0)
        between, of_donors = variance[:, :, None, None]
        prior = of_donors * same + between * eye
        # Of variance nought there is no inverse, and none is needed.
        covariance = prior @ np.linalg.inv(eye + information @ prior)
        within = np.diag((donor >= 0) * 1.0) - same / np.maximum(same.sum(axis=1), 1)
        donors = np.eye(donor.max(initial=-1) + 1)[donor] * (donor >= 0)[:, None]
        # Of donors is told beside what sections err by.
        beside = np.linalg.inv(eye + between * information)
        moments = [
            _moments(within @ information @ within, score @ within),
            _moments(donors.T @ (beside @ information) @ donors, np.einsum("gst,gt->gs", beside, score) @ donors),
        ]
        shift = (covariance @ score[..., None])[..., 0]
        return cls(shift, covariance, np.einsum("gst,gts->g", covariance, information), np.array(moments))


def _moments(information: Floats, score: Floats) -> Floats:
    traces = np.einsum("gss->g", information), np.einsum("gst,gst->g", information, information)
    return np.stack([(score**2).sum(axis=1), *traces])


def variance_between(squared: Floats, first: Floats, second: Floats) -> Floats:
    r"""Return the variance ω² of what sections differ by (molecule,), by the moments of what they show of it.

    .. math:: E\,|h|^2 = \operatorname{tr} M + \omega^2 \operatorname{tr} M^2

    as `SectionShifts` tells these. Few sections tell it badly of one molecule, so it is drawn towards what is usual
    among them. Where sections differ by no more than counting makes them, on average over molecules and by twice the
    error of that, it is 0 of all: single molecules that do then have effects of another shape than they are given.

    References
    ----------
    Rao 1972, doi:10.1080/01621459.1972.10481212 (variance components by moments); Smyth 2004,
    doi:10.2202/1544-6115.1027.
    """
    seen = squared > LEAST * np.maximum(first, LEAST)
    found = np.zeros(len(squared))
    if not seen.any():
        return found
    squared, first, second = squared[seen], first[seen], second[seen]
    # Degrees of freedom of a sum of unequal squares: Satterthwaite 1946, doi:10.2307/3002019.
    df = float(np.median(first**2 / second))
    if (usual := _usual(squared, first, second, df)) == 0:
        return found
    expected = first + usual * second
    found[seen] = np.maximum(moderated_variance(squared / expected, df)[0] * expected - first, 0.0) / second
    return found


def _usual(squared: Floats, first: Floats, second: Floats, df: float) -> float:
    """Return the variance by which molecules' squares are, on average of their logarithms, as expected; 0 if unsure."""
    from scipy import optimize

    due = digamma(df / 2) - np.log(df / 2)

    def beyond(variance: float) -> float:
        return float(np.log(squared / (first + variance * second)).mean() - due)

    error = float(np.log(squared / first).std() / np.sqrt(len(squared)))
    if beyond(0.0) <= SURELY * error:
        return 0.0
    return MOST**2 if beyond(MOST**2) > 0 else float(optimize.brentq(beyond, 0.0, MOST**2, xtol=1e-8))
