"""Sections as large as one likes: an array of independent cores, of which one is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from aivc_graph.simulate.donors import draw_donor, draw_site
from aivc_graph.simulate.imaging import see_molecules
from aivc_graph.simulate.presets import DonorPlan, Preset
from aivc_graph.simulate.programmes import CELL_TYPES, background_profiles
from aivc_graph.simulate.section import SimulatedSection, cell_names
from aivc_graph.simulate.specimen import cut_specimen
from aivc_graph.simulate.truth import cell_states
from aivc_graph.simulate.xenium_files import XeniumFolder

GAP_UM: Final = 100.0


def write_core_array(preset: Preset, plan: DonorPlan, arm: str, folder: Path, seed: int) -> SimulatedSection:
    """Write one section core by core: ``xenium``, and ``truth/<section>/cells.parquet`` (rates would be gigabytes).

    Returns
    -------
    SimulatedSection
        Its first core, under the section's name.
    """
    import pyarrow as pa
    from pyarrow import parquet

    name = f"{plan.name}_{arm}"
    truth = folder / "truth" / name
    truth.mkdir(parents=True)
    cores = _cores(preset, plan, arm, seed)
    first, at = next(cores)
    schema = pa.Schema.from_pandas(cell_states(first, cell_names(len(first.cell_xy))), preserve_index=False)
    with (
        XeniumFolder(folder / name / "xenium", first.genes) as xenium,
        parquet.ParquetWriter(truth / "cells.parquet", schema) as states,
    ):
        for core, corner in chain([(first, at)], cores):
            names = xenium.append(core, see_molecules(core).counts, corner)
            states.write_table(pa.Table.from_pandas(cell_states(core, names, corner), schema, preserve_index=False))
    return replace(first, name=name)


def _cores(
    preset: Preset, plan: DonorPlan, arm: str, seed: int
) -> Iterator[tuple[SimulatedSection, tuple[float, float]]]:
    """Yield each core and where its upper left corner lies."""
    donor = draw_donor(plan.name, plan.site, plan.responder_share, seed, preset.niche_structure)
    site = draw_site(plan.site, seed)
    for row, column in np.ndindex(*preset.cores):
        name = f"{plan.name}_{arm}_{row}_{column}"
        specimen = cut_specimen(
            donor, site, name, name, preset.size_um, seed, preset.niche_structure, preset.effect, layered=preset.layered
        )
        section = specimen.under(preset.arms[arm]) if arm in preset.arms else specimen.untreated
        pitch = preset.size_um + GAP_UM
        yield _with_background(section, preset.background_genes), (column * pitch, row * pitch)


def _with_background(section: SimulatedSection, number: int) -> SimulatedSection:
    """Return the section with genes that no signal moves added to its panel."""
    depth = np.array([cell.depth for cell in CELL_TYPES.values()])[section.cell_type] * section.site.depth
    rate = depth[:, None] * background_profiles(number)[section.cell_type]
    genes = tuple(f"BG{i + 1:03d}" for i in range(number))
    return replace(section, genes=section.genes + genes, cell_rate=np.hstack([section.cell_rate, rate]))
