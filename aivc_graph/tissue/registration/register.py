"""Run a registration method on a section and place the element it moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aivc_graph import names
from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import affine_of, place
from aivc_graph.tissue.registration.method import AbstractRegistration, Registration
from aivc_graph.tissue.section import metadata_of


def register(
    section: Any, moving: str, fixed: str, method: AbstractRegistration, also: Sequence[str] = ()
) -> Registration:
    """Place element `moving` in the micron frame of element `fixed`.

    The residual is kept in the section's metadata as ``residual_um_<moving>``, so that anchors can be weighed by it.

    Parameters
    ----------
    also
        Elements that share the vendor's frame of `moving`, such as its transcripts, and move with it; outlines of what
        moves do so anyway.

    Raises
    ------
    RegistrationError
        An element that is not there, a fixed element without a frame, and whatever the method raises.
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
    for element in (moving, *also, *(one for one in outlines if one in section)):
        place(section, element, found.affine)
    for warning in found.warnings:
        doubt(f"{where} · {moving}", warning)
    if found.residual_um is not None:
        metadata_of(section)[f"residual_um_{moving}"] = round(found.residual_um, 2)
    return found
