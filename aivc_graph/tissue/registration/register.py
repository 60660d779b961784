"""Run a registration method on a section and place the element it moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aivc_graph import names
from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import Matrix, affine_of, apply_affine, place, positions_um
from aivc_graph.tissue.registration.method import AbstractRegistration, Registration, rms_um
from aivc_graph.tissue.registration.pairs import keep_pairs
from aivc_graph.tissue.section import metadata_of


def register(
    section: Any, moving: str, fixed: str, method: AbstractRegistration, also: Sequence[str] = ()
) -> Registration:
    """Place element `moving` in the micron frame of element `fixed`.

    How far its points are likely to be off is kept in the section's metadata as ``residual_um_<moving>``, a root mean
    square distance, and of nodes one by one in their column ``registration_sigma_um``, along each axis, so that anchors
    can be weighed by it. Places known in both frames are kept as ``pairs``.

    Parameters
    ----------
    also
        Elements that share the vendor's frame of `moving`, such as its transcripts, and move with it; outlines of what
        moves do so anyway.

    Raises
    ------
    RegistrationError
        An element that is not there, a fixed element without a frame, a picture or molecules that were to be bent, and
        whatever the method raises.
    """
    where = metadata_of(section)["section"]
    for element in (moving, fixed, *also):
        if element not in section:
            known = ", ".join(name for _, name, _ in section.gen_elements())
            raise RegistrationError(where, f"no element {element!r}", mend=f"known: {known or 'none'}")
    if affine_of(section, fixed) is None:
        mend = "give its `um_per_unit`, or register it first"
        raise RegistrationError(f"{where} · {fixed}", "no transform to microns", "a placed element", mend)
    found = method(section, moving, fixed)
    outlines = [names.outlines_name(level) for level in (moving, *also)]
    moved = [moving, *also, *(one for one in outlines if one in section)]
    for element in moved:
        if found.shift_um is not None:
            _bend(section, element, found)
        place(section, element, found.affine)
    facts = metadata_of(section)
    facts.pop(f"{names.ALONG}{moving}", None)
    if along := [one for one in also if one in names.LEVELS]:
        facts[f"{names.ALONG}{moving}"] = ", ".join(along)
    keep_pairs(section, moving, fixed, found.pairs)
    for warning in found.warnings:
        doubt(f"{where} · {moving}", warning)
    if found.sigma is None:
        return found
    for level in (one for one in moved if one in names.LEVELS):
        section.shapes[level][names.REGISTRATION_SIGMA_UM.name] = found.sigma(positions_um(section, level))
    nodes = next((one for one in (moving, fixed) if one in section.shapes), None)
    residual = found.residual_um if nodes is None else rms_um(found.sigma(positions_um(section, nodes)))
    metadata_of(section)[f"{names.RESIDUAL_UM}{moving}"] = round(float(residual or 0.0), 2)
    return replace(found, residual_um=residual)


def _bend(section: Any, element: str, found: Registration) -> None:
    """Move shapes in their own units, so that the map of the whole leads to where the bent one does."""
    import shapely

    if element not in section.shapes:
        found_kind = f"{element!r}, which is no set of nodes or outlines"
        mend = "fit a similarity, or an affine"
        raise RegistrationError(f"{metadata_of(section)['section']} · {element}", found_kind, "nodes to bend", mend)
    back = np.asarray(np.linalg.inv(found.affine), np.float64)

    def bent(xy: Matrix) -> Matrix:
        return apply_affine(found.map(xy), back)

    shapes = section.shapes[element]
    shapes.geometry = shapely.transform(shapes.geometry.to_numpy(), bent)
