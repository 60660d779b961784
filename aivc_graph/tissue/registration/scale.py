"""The vendor's own frame, brought to microns by its pixel or array pitch."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.registration.method import REGISTRATIONS, AbstractRegistration, Registration


@REGISTRATIONS.register("scale", needs="a pixel size or an array pitch")
class ScaleRegistration(AbstractRegistration):
    """Two elements share the vendor's frame; only its unit is to be turned into microns.

    Parameters
    ----------
    um_per_unit
        Microns a unit of the moving element: a slide's pixel size, 200 for the array steps of Spatial Transcriptomics.
    """

    um_per_unit: float = Field(gt=0, allow_inf_nan=False)

    def __call__(self, section: Any, moving: str, fixed: str) -> Registration:
        """Return the scale; there is nothing to measure a residual by."""
        return Registration(scale_affine(self.um_per_unit), None, "scale", "identity")
