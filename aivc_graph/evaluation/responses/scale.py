"""Whether predicted profiles are profiles of the measurement's kind: not effects, counts or another unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.tissue.log_depth import log_depth

Floats = NDArray[np.floating]

MOST_NEGATIVE = 0.1
LEAST_OF_CONTROL = 0.5
MOST_SCALE = 2.0


def check_finite(values: Any, names: NDArray[np.str_], genes: Sequence[str], where: str) -> None:
    """Raise a `ReadError` that names the first row and gene of `values` (row, gene) that is no finite number."""
    x = sparse.csr_matrix(values)
    bad = np.flatnonzero(~np.isfinite(x.data))
    if len(bad):
        row, gene = int(np.searchsorted(x.indptr, bad[0], side="right")) - 1, x.indices[bad[0]]
        found = f"{x.data[bad[0]]} for gene {genes[gene]!r} of {str(names[row])!r} ({len(bad):,} such values)"
        raise ReadError(where, found, "finite values", "mend or leave out what the model could not predict")


def ratio_to_control(profile: Floats, control: Floats) -> float:
    r"""Return the median over rows of the scale of profiles (row, gene) to that of their controls.

    .. math:: s_p = \sum_g b_{pg} c_{pg} / \sum_g c_{pg}^2

    Genes thus weigh by their expression. An intervention changes few of them much: one for a profile in the unit of the
    measurement, zero for an effect.
    """
    return float(np.median((profile * control).sum(axis=1) / np.maximum((control**2).sum(axis=1), 1e-12)))


def check_not_effects(profile: Floats, control: Floats, where: str) -> None:
    """Refuse effects (profile less control) given for profiles.

    Effects are negative in about half of their size and have no share of the control. Refused is what has more than a
    tenth of its absolute sum below zero and less than half of the control in it: a model's logarithms that fall a
    little below zero, or scatter around it where nothing is expressed, still have the control in them and pass.

    Raises
    ------
    ReadError
        Values are clearly negative and do not follow the control.
    """
    size = np.abs(profile).sum()
    negative = float(np.maximum(-profile, 0).sum() / max(size, 1e-12))
    ratio = ratio_to_control(profile, control)
    if negative > MOST_NEGATIVE and ratio < LEAST_OF_CONTROL:
        found = f"{negative:.0%} of the absolute sum below zero, and {ratio:.2f} times the control in them"
        mend = "these look like effects: add the control's profile to them, or give values that were not centred"
        raise ReadError(where, found, "profiles of expression", mend)


def check_scale(profile: Floats, control: Floats, where: str) -> None:
    """Refuse profiles whose scale cannot be that of log-normalised measurements, such as counts or undone logarithms.

    Where expression is low throughout, a logarithm and what it was taken of are nearly alike and cannot be told apart.

    Raises
    ------
    ReadError
        Profiles are not of about the size of the control; see `ratio_to_control`.
    """
    ratio = ratio_to_control(profile, control)
    if not 1 / MOST_SCALE <= ratio <= MOST_SCALE:
        found = f"profiles of {ratio:.3g} times the control (median over conditions, genes weighed by expression)"
        mend = "give log1p values normalised as the measurement was, not counts, their expm1 or effects"
        raise ReadError(where, found, f"a ratio from {1 / MOST_SCALE:g} to {MOST_SCALE:g}", mend)


def check_depth(predicted: Any, profile: Floats, table: Responses, where: str) -> None:
    """Refuse logarithms of another depth or base than those measured, such as per 3,000 counts or to the base of two.

    A mean of logarithms undone adds up to less than its cells, so that what may be either is held against both.

    Parameters
    ----------
    predicted
        Rows as they were given (row, gene), of all genes that the file has.
    profile
        The predicted profiles, of the genes shared.
    table
        What was measured.

    Raises
    ------
    ReadError
        Both state a depth and differ by more than a tenth, or sums differ by more than half.
    """
    if table.cells.counts:  # logarithms of any depth are brought to that of counts
        return
    found, cell, mean = log_depth(predicted), log_depth(table.cells.x), log_depth(table.profile)
    if found is None or cell is None or mean is None:
        return
    stated = found.stated and cell.stated
    shared = log_depth(profile) or found
    if found.agrees(cell) if stated else shared.agrees(cell) or shared.agrees(mean):
        return
    told = f"sums of expm1 of {(found if stated else shared).total:,.5g} a row"
    expected = f"{cell.total:,.5g}, as of the cells measured"
    mend = "give log1p (natural) of expression brought to the depth of the measurement"
    raise ReadError(where, told, expected, mend)
