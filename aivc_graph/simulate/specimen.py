"""One piece of tissue on which anything can be tried: the same cells with and without an intervention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.errors import ConfigError, unknown_name
from aivc_graph.simulate.cells import cell_depths, draw_shapes, draw_types, lack_of_oxygen, place_cells
from aivc_graph.simulate.donors import Donor, stream
from aivc_graph.simulate.intervention import Part
from aivc_graph.simulate.layout import Layout, draw_bands, draw_layout
from aivc_graph.simulate.pathways import PATHWAY_NAMES
from aivc_graph.simulate.programmes import CELLS_PER_MM2, GENES, NICHES, TYPE_NAMES, type_profiles, type_strengths
from aivc_graph.simulate.section import BlockFrame, SimulatedSection, Site, cell_names
from aivc_graph.simulate.signalling import Signalling, State, kernels

Array = NDArray[np.float64]

CLUMPING = 0.6

WAVES, WARP_UM = 3, 3.0


@dataclass(frozen=True)
class Specimen:
    """An untreated section, and what is needed to know it under any intervention.

    Parameters
    ----------
    untreated
        The section as it is.
    signalling, rest
        How its cells signal, and their state when nothing is done.
    log_rate
        Natural log of the expected counts without any signal, ``(cell, gene)``.
    effect
        Factor on every effect; 0 for interventions that do nothing.
    """

    untreated: SimulatedSection
    signalling: Signalling
    rest: State
    log_rate: Array
    effect: float = 1.0

    def under(self, parts: Sequence[Part]) -> SimulatedSection:
        """Return the same cells after `parts`: other activities and rates, everything else and its noise as they were.

        Raises
        ------
        ConfigError
            A place that names no column of the cells.
        """
        section = self.untreated
        reached = [cells_at(section, given["where"]) & section.responder for given in parts]
        state = self.signalling.follow(self.rest, parts, reached, self.effect)
        return replace(
            section,
            activity=state.activity,
            cell_rate=np.exp(self.log_rate + state.log_fold()),
            treated=np.any([cells_at(section, given["where"]) for given in parts], axis=0)
            if parts
            else section.treated,
            interventions=tuple(parts),
        )


def cells_at(section: SimulatedSection, where: dict[str, Any] | None) -> NDArray[np.bool_]:
    """Return the cells ``(cell,)`` of a place; all of them where none is given.

    Parameters
    ----------
    where
        ``{"disc_um": [x, y, radius]}``, or a column and its value, ``{"column": "niche", "equals": "stroma"}``; columns
        are ``niche``, ``type`` and ``cell_id``.
    """
    if where is None:
        return np.ones(len(section.cell_xy), bool)
    if where.get("disc_um") is not None:
        x, y, radius = where["disc_um"]
        return np.hypot(*(section.cell_xy - (x, y)).T) <= radius
    columns = {
        "niche": np.array(NICHES)[section.cell_niche],
        "type": np.array(TYPE_NAMES)[section.cell_type],
        "cell_id": cell_names(len(section.cell_xy)),
    }
    if where.get("column") not in columns:
        raise unknown_name(ConfigError, "simulate · where", "column", str(where.get("column")), columns)
    return columns[where["column"]] == where["equals"]


def cut_specimen(
    donor: Donor,
    site: Site,
    name: str,
    block: str,
    size_um: float,
    seed: int,
    niche_structure: bool = True,
    effect: float = 1.0,
    to_block: BlockFrame | None = None,
    layered: bool = False,
) -> Specimen:
    """Draw one section of `donor`; equal seeds and names give equal sections, equal blocks the same architecture.

    Parameters
    ----------
    name, block
        The section's and the block's names.
    size_um
        Edge of the section.
    niche_structure
        Without it one mixture and one density everywhere, and cells that do not signal.
    effect
        Factor on what interventions do.
    to_block
        Where it lies in its block; in the block's own frame by default.
    layered
        Whether the niches are the bands of one tumour's front, in place of nests in stroma.
    """
    place = stream(seed, "block", block)
    layout = draw_bands(size_um, place) if layered else draw_layout(size_um, place, donor.abundance)
    if to_block is not None:
        layout = layout.seen_from(size_um, to_block)
    if not niche_structure:
        layout = layout.without_niches()
    rng = stream(seed, "section", name)
    xy, niche = place_cells(layout, size_um, CELLS_PER_MM2, rng)
    kind = draw_types(xy, niche, donor.mixture, CLUMPING * niche_structure, rng)
    angle, nucleus, area = draw_shapes(layout, xy, kind, rng)
    depth = cell_depths(kind, rng) * site.depth
    responder = rng.random(len(xy)) < donor.responder_share
    signalling = _signalling(layout, xy, kind, donor, niche_structure)
    rest = signalling.rest()
    log_rate = np.log(depth)[:, None] + np.log(type_profiles())[kind] + donor.gene_shift + site.gene_shift
    untreated = SimulatedSection(
        name=name,
        donor=donor.name,
        block=block,
        site=site,
        seed=int(rng.integers(2**31)),
        size_um=size_um,
        genes=GENES,
        layout=layout,
        to_block=to_block or unmoved(),
        cell_xy=xy,
        cell_type=kind,
        cell_niche=niche,
        cell_angle=angle,
        nucleus_um=nucleus,
        cell_area_um2=area,
        activity=rest.activity,
        cell_rate=np.exp(log_rate + rest.log_fold()),
        treated=np.zeros(len(xy), bool),
        responder=responder,
    )
    return Specimen(untreated, signalling, rest, log_rate, effect)


def unmoved() -> BlockFrame:
    """Return the identity."""
    return BlockFrame(np.eye(3), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros(0))


def moved(size_um: float, rng: np.random.Generator) -> BlockFrame:
    """Draw how an adjacent section lies: turned by up to 15°, shifted by up to 40 µm, warped by some 5 µm."""
    turn, half = np.deg2rad(rng.uniform(4, 15) * rng.choice([-1, 1])), size_um / 2
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:2, 2] = half - matrix[:2, :2] @ (half, half) + rng.uniform(-40, 40, 2)
    heading, amplitude = rng.uniform(0, 2 * np.pi, WAVES), rng.normal(0, WARP_UM, (WAVES, 2))
    direction = np.column_stack([np.cos(heading), np.sin(heading)])
    return BlockFrame(matrix, amplitude, direction, rng.uniform(0.5, 1.0, WAVES) * size_um, 2 * heading)


def _signalling(layout: Layout, xy: Array, kind: NDArray[np.int64], donor: Donor, niche_structure: bool) -> Signalling:
    made = np.expm1(type_strengths())
    output = (made / np.maximum(made.max(axis=0), 1.0))[kind] * np.exp(donor.gene_shift)
    field = np.zeros((len(xy), len(PATHWAY_NAMES)))
    if not niche_structure:
        return Signalling({i: 0.0 * kernel for i, kernel in kernels(xy).items()}, output, field)
    field[:, PATHWAY_NAMES.index("hypoxia")] = lack_of_oxygen(layout, xy, kind)
    return Signalling(kernels(xy), output, field)
