"""Weights of rules, none negative and of sum one, by least squares on what was left out of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
TIE = 1e-4


def shares_of_rules(square: Floats, cross: Floats, beforehand: Floats) -> Floats:
    """Return the weight of each rule (rule,) of least squared error; ties go to the weights of `beforehand`.

    Parameters
    ----------
    square, cross
        Products of what the rules say with each other (rule, rule), and with the truth (rule,).

    References
    ----------
    Breiman 1996, doi:10.1007/BF00117832 (stacked regressions).
    """
    from scipy.optimize import nnls

    k = len(square)
    size = float(np.trace(square)) / k
    if size <= 0:
        return beforehand
    root = np.linalg.cholesky(square + TIE * size * np.eye(k)).T
    heavy = 1e3 * np.sqrt(size)
    aim = np.linalg.solve(root.T, cross + TIE * size * beforehand)
    found, _ = nnls(np.vstack([root, heavy * np.ones(k)]), np.r_[aim, heavy])
    return np.asarray(found / found.sum())
