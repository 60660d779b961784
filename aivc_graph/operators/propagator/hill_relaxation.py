"""Hill in dose, relaxation in time."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from aivc_graph.operators.part import KINDS
from aivc_graph.operators.propagator.propagator import AbstractPropagator, Floats
from aivc_graph.settings import Settings

LEAST = 1e-3
N_HALVES = 7


class HillRelaxationOptions(Settings):
    """What courses are tried.

    Parameters
    ----------
    exponents
        Exponents of the Hill curve of dose.
    hours
        Relaxation times [h].
    """

    exponents: tuple[float, ...] = (1.0, 2.0)
    hours: tuple[float, ...] = (2.0, 6.0, 12.0, 24.0, 96.0)


@KINDS["propagator"].register("hill_relaxation")
class HillRelaxation(AbstractPropagator):
    r"""What shows relaxes to what the dose calls for.

    With :math:`h(d) = d^n / (d^n + c^n)`, half-effect dose c, exponent n and relaxation time τ,

    .. math:: \dot a = (a_d - a)/\tau, \qquad
              G_{d,t}(a) = a_d + (a - a_d)\,e^{-t/\tau}, \qquad a_d = \frac{h(d)}{h(D)\,(1 - e^{-T/\tau})}

    with D and T the full dose and time. It is closed, and what was given washes out when the dose is 0. Half doses are
    told apart where there are three doses or more, times where there are two.

    Shapes
    ------
    course
        (5,): c, n, τ [h], D, T [h]
    """

    Options = HillRelaxationOptions

    def courses(self, doses: Floats, hours: Floats) -> Floats:
        """Return the usual course, half its effect at its full dose, and whatever else doses and times tell apart."""
        given = HillRelaxationOptions(**self.plan.options)
        full_dose, full_hours = (max(float(np.max(amount)), LEAST) for amount in (doses, hours))
        curves = [(full_dose, 1.0)]
        if len(np.unique(doses)) > 2:
            halves = np.geomspace(max(float(np.min(doses)), LEAST) / 2, full_dose * 2, N_HALVES)
            curves = list(product(map(float, halves), given.exponents))
        times = given.hours if len(np.unique(hours)) > 1 else (full_hours,)
        found = [(full_dose, 1.0, full_hours), *((*curve, time) for curve, time in product(curves, times))]
        return np.array([(*course, full_dose, full_hours) for course in found])

    def carry(self, course: Tensor, before: Tensor, dose: Tensor, hours: Tensor) -> Tensor:
        """Return what shows after `hours` of a dose."""
        half, exponent, tau, full_dose, full_hours = course
        called_for = _hill(dose, half, exponent) / _hill(full_dose, half, exponent) / -torch.expm1(-full_hours / tau)
        return before - (called_for - before) * torch.expm1(-hours / tau)


def _hill(dose: Tensor, half: Tensor, exponent: Tensor) -> Tensor:
    raised = dose.clamp_min(0) ** exponent
    return raised / (raised + half**exponent)
