"""`simulate`: a section with known truth as files, by the name of a preset."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from aivc_graph.errors import ConfigError, unknown_name
from aivc_graph.simulate.configuration import configuration
from aivc_graph.simulate.donors import draw_donor, draw_site
from aivc_graph.simulate.measure import count_cells, count_spots
from aivc_graph.simulate.presets import PRESETS, UNTREATED, DonorPlan, Preset
from aivc_graph.simulate.section import SimulatedSection
from aivc_graph.simulate.slide import paint_slide
from aivc_graph.simulate.specimen import Specimen, cut_specimen
from aivc_graph.simulate.truth import write_common_truth, write_rates, write_section_truth
from aivc_graph.simulate.vendor import write_slide, write_spaceranger, write_xenium

log = logging.getLogger(__name__)


def simulate(preset: str | Preset, out: str | Path, seed: int = 0) -> Path:
    """Write a simulated study under `out` as vendors deliver it, its truth beside it, and return `out`.

    ``config.yaml`` trains on it as it is. Each section has a folder with ``xenium`` (cells) and, where the preset has a
    slide, ``spaceranger/outs`` (spots) and ``slide.ome.tif`` (H&E), all in one frame: microns from the slide's upper
    left corner. ``truth`` holds the network and the interventions, and for each section states and rates of its cells
    and what those rates would have been under other interventions. Equal seeds give equal bytes.

    Parameters
    ----------
    preset
        A name of `aivc_graph.simulate.presets.PRESETS`, or a preset of one's own.
    out
        A folder that does not exist yet, or is empty.
    seed
        Any whole number from 0.

    Raises
    ------
    ConfigError
        Unknown preset, negative seed, or a folder that already holds something.

    Examples
    --------
    >>> simulate("tiny", "sim", seed=1)  # doctest: +SKIP
    """
    if isinstance(preset, str) and preset not in PRESETS:
        raise unknown_name(ConfigError, "simulate", "preset", preset, PRESETS)
    if seed < 0:
        raise ConfigError("simulate · seed", str(seed), "a whole number from 0")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(str(out), "it already holds something", mend="name a new folder, or empty this one")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        if isinstance(preset, str):
            _write(preset, PRESETS[preset], part, seed)
        else:
            _write("study", preset, part, seed)
        if out.exists():
            out.rmdir()
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def _write(name: str, preset: Preset, folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    write_common_truth(preset.arms, folder / "truth")
    sections = []
    for plan in preset.donors:
        for specimen, arm in specimens(preset, plan, seed):
            section = specimen.under(preset.arms[arm]) if arm in preset.arms else specimen.untreated
            _write_section(section, preset.mpp, folder)
            _write_counterfactuals(specimen, preset, plan, arm, folder / "truth" / section.name / "counterfactual")
            sections.append(section)
    (folder / "config.yaml").write_text(configuration(name, preset, sections), encoding="utf-8")
    log.info("simulated %d sections with %d cells", len(sections), sum(len(s.cell_xy) for s in sections))


def specimens(preset: Preset, plan: DonorPlan, seed: int) -> Iterator[tuple[Specimen, str]]:
    """Yield one untreated piece of tissue for each section of a donor, and the name of what is done to it."""
    donor = draw_donor(plan.name, plan.site, plan.responder_share, seed, preset.niche_structure)
    site = draw_site(plan.site, seed)
    for arm in plan.arms:
        name = f"{plan.name}_{arm}"
        yield (
            cut_specimen(
                donor,
                site,
                name,
                arm,
                preset.size_um,
                seed,
                niche_structure=preset.niche_structure,
                effect=preset.effect,
            ),
            arm,
        )


def _write_section(section: SimulatedSection, mpp: float | None, folder: Path) -> None:
    home, spots = folder / section.name, None
    home.mkdir()
    if mpp is not None:
        spots, image = count_spots(section), paint_slide(section, mpp)
        write_spaceranger(spots, section.genes, image, mpp, home / "spaceranger")
        write_slide(image, mpp, home / "slide.ome.tif")
    write_xenium(section, count_cells(section), mpp, home / "xenium")
    write_section_truth(section, spots, mpp, folder / "truth" / section.name)


def _write_counterfactuals(specimen: Specimen, preset: Preset, plan: DonorPlan, arm: str, folder: Path) -> None:
    """Keep what would have been: nothing done, and for untreated sections whatever the preset asks."""
    write_rates(specimen.untreated, folder / f"{UNTREATED}.parquet")
    if arm == UNTREATED and plan.name in (preset.asked_of or [plan.name]):
        for name in preset.asked:
            write_rates(specimen.under(preset.arms[name]), folder / f"{name}.parquet")
