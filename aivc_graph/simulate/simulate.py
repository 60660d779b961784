"""`simulate`: a section with known truth as files, by the name of a preset."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from aivc_graph.atomic import staged
from aivc_graph.errors import ConfigError, unknown_name
from aivc_graph.simulate.configuration import configuration
from aivc_graph.simulate.core_array import write_core_array
from aivc_graph.simulate.donors import draw_donor, draw_site, stream
from aivc_graph.simulate.imaging import see_molecules
from aivc_graph.simulate.measure import count_spots
from aivc_graph.simulate.multiome_files import write_multiome
from aivc_graph.simulate.presets import PRESETS, UNTREATED, DonorPlan, Preset
from aivc_graph.simulate.section import SimulatedSection
from aivc_graph.simulate.slide import paint_slide
from aivc_graph.simulate.slide_file import write_slide
from aivc_graph.simulate.spaceranger_files import write_spaceranger
from aivc_graph.simulate.specimen import Specimen, cut_specimen, moved
from aivc_graph.simulate.truth import write_common_truth, write_delivered, write_rates, write_section_truth
from aivc_graph.simulate.xenium_files import write_xenium

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
        ``"tiny"`` (two donors, seconds), ``"demo"`` (seven donors, a local knock-out), ``"cohort"`` (two sites,
        adjacent sections), ``"layered"`` (the front of one tumour), ``"perturb"`` (interventions × dose × time ×
        combination), ``"multiome"``, ``"large"`` (a million cells), ``"null_effect"`` and ``"null_niches"`` (nothing to
        find); or a `aivc_graph.simulate.presets.Preset` of one's own.
    out
        A folder that does not exist yet, or is empty.
    seed
        Any whole number from 0.

    Raises
    ------
    ConfigError
        Unknown preset, negative seed, or a folder that already holds something.
    StoreError
        Another process writes there, or the file system refuses, as when the disk is full.

    Examples
    --------
    >>> study = simulate("tiny", "sim", seed=1)
    """
    if isinstance(preset, str) and preset not in PRESETS:
        raise unknown_name(ConfigError, "simulate", "preset", preset, PRESETS)
    if seed < 0:
        raise ConfigError("simulate · seed", str(seed), "a whole number from 0")
    out = Path(out)
    with staged(out) as folder:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(str(out), "it already holds something", mend="name a new folder, or empty this one")
        if isinstance(preset, str):
            _write(preset, PRESETS[preset], folder, seed)
        else:
            _write("study", preset, folder, seed)
    return out


def _write(name: str, preset: Preset, folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    write_common_truth(preset.arms, folder / "truth")
    sections = []
    for plan in preset.donors:
        if preset.cores != (1, 1):
            sections += [write_core_array(preset, plan, arm, folder, seed) for arm in plan.arms]
            continue
        for specimen, arm in specimens(preset, plan, seed):
            section = specimen.under(preset.arms[arm]) if arm in preset.arms else specimen.untreated
            _write_section(section, preset, folder)
            _write_counterfactuals(specimen, preset, plan, arm, folder / "truth" / section.name / "counterfactual")
            sections.append(section)
    for section in sections:
        write_delivered(folder / section.name, folder / "truth" / section.name)
    (folder / "config.yaml").write_text(configuration(name, preset, sections), encoding="utf-8")
    log.info("simulated %d sections of %d donors", len(sections), len(preset.donors))


def specimens(preset: Preset, plan: DonorPlan, seed: int) -> Iterator[tuple[Specimen, str]]:
    """Yield one untreated piece of tissue for each section of a donor, and the name of what is done to it."""
    donor = draw_donor(plan.name, plan.site, plan.responder_share, seed, preset.niche_structure)
    site = draw_site(plan.site, seed)
    for arm in plan.arms:
        for cut in range(plan.adjacent):
            name = f"{plan.name}_{arm}" + (f"_adjacent{cut}" if cut else "")
            specimen = cut_specimen(
                donor,
                site,
                name,
                block=f"{plan.name}_{arm}",
                size_um=preset.size_um,
                seed=seed,
                to_block=moved(preset.size_um, stream(seed, "cut", name)) if cut else None,
                niche_structure=preset.niche_structure,
                effect=preset.effect,
                layered=preset.layered,
            )
            yield specimen, arm


def _write_section(section: SimulatedSection, preset: Preset, folder: Path) -> None:
    home, spots = folder / section.name, None
    home.mkdir()
    if preset.mpp is not None:
        spots, image = count_spots(section), paint_slide(section, preset.mpp)
        write_spaceranger(spots, section.genes, image, preset.mpp, home / "spaceranger")
        write_slide(image, preset.mpp, home / "slide.ome.tif")
    molecules = see_molecules(section)
    write_xenium(section, molecules, preset.mpp, home / "xenium", transcripts=preset.transcripts)
    if preset.multiome:
        write_multiome(section, molecules, home / "multiome")
    write_section_truth(section, spots, preset.mpp, folder / "truth" / section.name)


def _write_counterfactuals(specimen: Specimen, preset: Preset, plan: DonorPlan, arm: str, folder: Path) -> None:
    """Keep what would have been: nothing done, and for untreated sections whatever the preset asks."""
    write_rates(specimen.untreated, folder / f"{UNTREATED}.parquet")
    if arm == UNTREATED and plan.name in (preset.asked_of or [plan.name]):
        for name in preset.asked:
            write_rates(specimen.under(preset.arms[name]), folder / f"{name}.parquet")
