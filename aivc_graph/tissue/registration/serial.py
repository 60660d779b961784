"""Place one section of a block in the frame of the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import Faults, RegistrationError
from aivc_graph.settings import Settings
from aivc_graph.tissue.frame import affine_of, place, positions_um
from aivc_graph.tissue.registration.intensity import IntensityRegistration
from aivc_graph.tissue.registration.layer import Layer, genes_of_both, level_layer, slide_layer
from aivc_graph.tissue.registration.method import Registration
from aivc_graph.tissue.registration.pairs import move_pairs
from aivc_graph.tissue.section import metadata_of


class SerialConfig(Settings):
    """Place a section on the one cut next to it; see `register_serial`.

    Parameters
    ----------
    on
        Name of a section that is listed before.
    n_genes
        Genes used, the best-expressed ones of those that both measured.
    allow_mirror
        Accept a section that was mounted upside down.
    """

    on: str = Field(min_length=1)
    n_genes: int = Field(default=60, ge=1)
    allow_mirror: bool = False


def register_serial(moving: Any, fixed: Any, *, n_genes: int = 60, allow_mirror: bool = False) -> Registration:
    """Move a whole section into the micron frame of the one cut next to it, and return how.

    Outline of nodes, tissue and stain of the slides, and expression are each tried, where both sections have them; the
    one that is surest where tissue was left out is taken. Every placed element of `moving` moves along. Its nodes keep
    how sure their place is as ``registration_sigma_um``.

    Parameters
    ----------
    moving, fixed
        Sections whose elements are placed, each in a frame of its own.
    n_genes
        Genes used of those that both measured.
    allow_mirror
        Accept a section that was mounted upside down.

    Raises
    ------
    RegistrationError
        Sections that share nothing to be placed by, or that nothing brings together.

    Examples
    --------
    >>> register_serial(second, first).residual_um < 50
    True
    """
    where = f"{metadata_of(moving)['section']} on {metadata_of(fixed)['section']}"
    tried, faults = list[Registration](), Faults(RegistrationError)
    for signal, one, other in _layers(moving, fixed, n_genes):
        try:
            method = IntensityRegistration(signal="expression" if one.profile else "density", allow_mirror=allow_mirror)
            found = method.align(one, other)
            to_um = found.affine @ np.linalg.inv(one.to_um)
            tried.append(replace(found, affine=to_um, method=f"serial ({signal})"))
        except RegistrationError as error:
            faults.messages.append(f"{where} · {signal}: {error}")
    if not tried:
        faults.raise_if_any()
        raise RegistrationError(where, "nothing that both show", "levels or slides that are placed", "read them first")
    best = min(tried, key=lambda one: one.residual_um or np.inf)
    for _, name, _ in moving.gen_elements():
        if name not in moving.tables and (own := affine_of(moving, name)) is not None:
            place(moving, name, best.affine @ own)
    move_pairs(moving, best.affine)
    if best.sigma is not None:
        for level in (one for one in names.LEVELS if one in moving.shapes):
            moving.shapes[level][names.REGISTRATION_SIGMA_UM.name] = best.sigma(positions_um(moving, level))
    metadata_of(moving)[f"{names.RESIDUAL_UM}{names.SECTION}"] = round(float(best.residual_um or 0.0), 2)
    return best


def _layers(moving: Any, fixed: Any, n_genes: int) -> Iterator[tuple[str, Layer, Layer]]:
    """Yield what both sections show: the name of it, and it in either."""
    both = (moving, fixed)
    if all(names.SLIDE in one.images and affine_of(one, names.SLIDE) is not None for one in both):
        for stain in (False, True):
            one, other = (slide_layer(section, stain=stain) for section in both)
            yield ("stain" if stain else "tissue of the slide"), one, other
    for level in (names.PATCH, names.CELL):
        if not all(level in one.shapes and affine_of(one, level) is not None for one in both):
            continue
        yield f"outline of {level}", level_layer(moving, level), level_layer(fixed, level)
        key = names.table_name(level, names.RNA)
        if all(key in one.tables for one in both):
            genes = genes_of_both(moving.tables[key], fixed.tables[key], n_genes)
            if genes:
                yield f"expression of {level}", level_layer(moving, level, genes), level_layer(fixed, level, genes)
