"""The contract of a registration method, its result, and the registry of methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.registry import Registry, made
from aivc_graph.settings import Settings
from aivc_graph.tissue.frame import Matrix, apply_affine


@dataclass(frozen=True)
class Registration:
    """Where an element lies.

    Parameters
    ----------
    affine
        ``(3, 3)`` map from the moving element's own units to microns of the fixed frame.
    residual_um
        How far the moving element's points are likely to be off [µm], root mean square distance; `None` where the
        method cannot measure it.
    method
        Name of the method.
    orientation
        Nearest of the eight orientations, such as ``"rotate90"``, that the map gives to the moving frame.
    scores
        Score of each orientation, empty where none was scored; higher is better.
    n_points
        Landmarks, or blocks of tissue, behind `residual_um`.
    warnings
        What the user should look at.
    sigma
        The same by place: standard deviation [µm] along each axis at points ``(point, 2)`` of the fixed frame, the
        root mean square distance over √2; `None` where the method cannot measure it.
    shift_um
        How a map that is bent goes on from `affine`: shift ``(point, 2)`` [µm] of points of the fixed frame.
    pairs
        Places known in both frames, a row each: see `aivc_graph.tissue.registration.pairs.KnownPairs.told`.
    """

    affine: Matrix
    residual_um: float | None
    method: str
    orientation: str
    scores: dict[str, float] = field(default_factory=dict)
    n_points: int = 0
    warnings: list[str] = field(default_factory=list)
    sigma: Callable[[Matrix], Matrix] | None = None
    shift_um: Callable[[Matrix], Matrix] | None = None
    pairs: pd.DataFrame | None = None

    def map(self, xy: Matrix) -> Matrix:
        """Return where points ``(point, 2)`` of the moving element come to lie [µm], by the map as it is bent."""
        placed = apply_affine(xy, self.affine)
        return placed if self.shift_um is None else placed + self.shift_um(placed)


def rms_um(sigma_um: Matrix) -> float:
    """Return the root mean square distance of points that are off by `sigma_um` ``(point,)`` along each axis."""
    return float(np.sqrt(2 * np.mean(np.square(sigma_um))))


class AbstractRegistration(Settings, ABC):
    """One way to place an element. Its fields are the keys a YAML `registration` may give beside ``kind``."""

    @abstractmethod
    def __call__(self, section: Any, moving: str, fixed: str) -> Registration:
        """Return where element `moving` lies in the micron frame of element `fixed`; change nothing.

        Raises
        ------
        RegistrationError
            If it cannot be placed, or only by a mirrored frame that nobody allowed.
        """


REGISTRATIONS: Registry[type[AbstractRegistration]] = Registry("registration method", "aivc_graph.tissue.registration")


def registration_method(kind: str, **options: Any) -> AbstractRegistration:
    """Return the method called `kind`, such as ``registration_method("scale", um_per_unit=0.5)``."""
    return made(REGISTRATIONS.get(kind, where="registration"), options, f"registration · {kind}", "method")
