"""Sections → co-registered tissue → graph store."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aivc_graph import names
from aivc_graph.atomic import file_digest
from aivc_graph.config import Config, SectionConfig, SourceConfig, TaskConfig
from aivc_graph.errors import AivcError, ConfigError, ReadError, StoreError, unknown_name
from aivc_graph.evaluation.receptive_field import reach_um
from aivc_graph.graph.build import build_graph, lay_graph
from aivc_graph.graph.connectivity import connectivity
from aivc_graph.graph.known_pairs import pair_count
from aivc_graph.graph.nodes import lay_windows
from aivc_graph.graph.observations import anchor_count
from aivc_graph.graph.replacing import refuse_other
from aivc_graph.graph.store import store_facts, write_store
from aivc_graph.io.cache_folder import cache_folder
from aivc_graph.io.embeddings import EmbeddingTable, add_embeddings
from aivc_graph.io.priors.layout import read_prior
from aivc_graph.io.reading import guarded, reader_for
from aivc_graph.io.staging import check_place
from aivc_graph.modalities.encoder import ExportedEncoder
from aivc_graph.modalities.histology import add_histology
from aivc_graph.modalities.morphology import add_morphology
from aivc_graph.modalities.nuclei_as_cells import add_nuclei
from aivc_graph.model.plan import message_steps
from aivc_graph.pipeline.doubts import (
    doubts_of_content,
    doubts_of_descriptions,
    doubts_of_paths,
    doubts_of_reach,
    doubts_of_registration,
    doubts_of_section,
    doubts_of_slides,
    doubts_of_types,
)
from aivc_graph.splits.design import levels_of, split_design, write_labels
from aivc_graph.splits.leakage import Duplicate, accepted_leaks, check_donors, duplicate_content
from aivc_graph.tissue.applied import InterventionColumns, set_conditions
from aivc_graph.tissue.conditions import Conditions
from aivc_graph.tissue.doubt import doubt, doubts_heard
from aivc_graph.tissue.frame import note_slide_frame
from aivc_graph.tissue.intervention import set_interventions
from aivc_graph.tissue.registration.method import registration_method
from aivc_graph.tissue.registration.overlap import check_overlap
from aivc_graph.tissue.registration.register import register
from aivc_graph.tissue.registration.serial import SerialConfig, register_serial
from aivc_graph.tissue.schema import check_section
from aivc_graph.tissue.section import merge_sections, metadata_of, only_value
from aivc_graph.tissue.thumbnail import thumbnail
from aivc_graph.training.run_folder import FACTS, run_facts

log = logging.getLogger(__name__)
RUNS = Path("runs")
EVERYTHING = {"kind": "everything"}


def build(config: Config, out: Path | None = None) -> Path:
    """Read all sections of a configuration, split them, build the graph and write its store; return where it is."""
    if not config.task.sections:
        raise ConfigError("task.sections", "no section", "at least one", "list them under task.sections")
    out = Path(out) if out is not None else RUNS / config.task.name / "graph.zarr"
    refuse_other(out)  # before hours of reading, and again when it is written
    _refuse_trained(out)
    check_place(out.parent, folder=True)
    design = split_design(**(config.task.split or EVERYTHING))
    if not any(one.columns for one in config.task.sections):
        design.check([_groups_of(one) | {names.INTERVENTIONS: one.interventions} for one in config.task.sections])
    sections: list[Any] = []
    doubts, controls = _told(doubts_of_paths(config.task)), {}
    for number, entry in enumerate(config.task.sections, 1):
        log.info("reading %s (%d of %d)", entry.name, number, len(config.task.sections))
        with doubts_heard() as heard:
            laid = read_sections(entry)
            for section, _ in laid:
                if entry.serial is not None:
                    _place_serially(section, entry.serial, sections)
                describe_cells(section, config.task)
        doubts += heard
        for section, read in laid:
            sections.append(section)
            doubts += _told(doubts_of_section(section))
            if read is not None and read.controls:
                controls[metadata_of(section)["section"]] = read.controls
    reach = reach_of(sections, config)
    twice = hold_out(sections, config.task, max(reach.values(), default=0.0))
    doubts += _told(doubts_of_reach(config.task, reach))
    doubts += _told([*doubts_of_content(twice), *doubts_of_registration(config.task, sections)])
    leaks = _told(leaks_of(sections, config.task, twice))
    doubts += _told([*doubts_of_slides(config.task), *doubts_of_descriptions(config.task, sections)])
    doubts += _told(doubts_of_types(sections))
    with doubts_heard() as heard:
        # Once the sides are known: a slide's colours are those of its training side.
        describe_slides(sections, config.task, config.graph.patch_um)
        graph = build_graph(sections, config.graph, [read_prior(one) for one in config.task.priors])
    doubts += heard
    for level, found in connectivity(graph).items():
        log.info("%s: %s", level, ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in found.items()))
    slides = {metadata_of(s)["section"]: small for s in sections if (small := thumbnail(s)) is not None}
    inputs = {name: file_digest(file) for name, file in input_files(config)}
    facts: dict[str, Any] = {"configuration": config.model_dump(mode="json"), "inputs": inputs}
    facts |= {"doubts": doubts, "leaks": leaks, "reach_um": reach, "controls": controls}
    write_store(graph, out, facts, slides)
    anchors = anchor_count(graph) | pair_count(graph)
    log.info("anchors: %s", ", ".join(f"{k} {v:,}" for k, v in anchors.items()) or "none")
    return out


def _refuse_trained(store: Path) -> None:
    """Raise a `StoreError` if `store` is the graph inside a finished run: its model would stand on another graph."""
    run = store.absolute().parent
    if store.exists() and (run / FACTS).exists() and run_facts(run / FACTS, ()).get("graph") == store.name:
        raise StoreError(
            str(store),
            "the graph of a finished run",
            "a place of its own for a new graph",
            f"choose another by --out, or train anew: aivc train CONFIG --out {run}",
        )


def read_section(config: SectionConfig) -> Any:
    """Read, merge, register and check the one section of an entry."""
    return read_sections(config)[0][0]


def read_sections(config: SectionConfig) -> list[tuple[Any, Conditions | None]]:
    """Read, merge, register and check the sections of an entry, each with how its conditions were read, if it has any.

    An entry is one section, or by `sections_by` as many as its sources hold.

    Raises
    ------
    AivcError
        Whatever is wrong with a source or a section; two sources that hold other sections.
    """
    found: dict[str, list[Any]] = {}
    for source in config.sources:
        try:
            with guarded(source.path):
                parts = _parts_of(source, config, first=source is config.sources[0])
        except AivcError as error:
            raise type(error)(f"section {config.name}", str(error)) from error
        if found and set(parts) != set(found):
            there = f"{sorted(set(parts) ^ set(found))[:5]} in one source alone"
            raise ReadError(f"section {config.name}", there, "the same sections in all sources", "check `sections_by:`")
        for name, part in parts.items():
            found.setdefault(name, []).append(part)
    return [_finished(name, parts, config) for name, parts in found.items()]


def _parts_of(source: SourceConfig, config: SectionConfig, first: bool) -> dict[str, Any]:
    """Return what a source holds of each section; the first one also says what the sections are."""
    reader = reader_for(source.path, source.reader, **source.options)
    if first and config.columns and "columns" in type(reader).model_fields:
        reader = reader.model_copy(update={"columns": (*reader.model_dump()["columns"], *config.columns)})
    if config.sections_by:
        return reader.read_by(source.path, config.sections_by)
    return {config.name: reader.read(source.path, config.name)}


def _finished(name: str, parts: list[Any], config: SectionConfig) -> tuple[Any, Conditions | None]:
    section = merge_sections(name, parts, **{k: v for k, v in _groups_of(config).items() if k != "section"})
    for key in ("donor", "context"):
        if (column := getattr(config, f"{key}_by")) is not None:
            metadata_of(section)[key] = only_value(section, column)
    for column in config.traits_by:
        metadata_of(section).setdefault(column, only_value(section, column))
    for method in config.registration:
        chosen = registration_method(method.kind, **method.options)
        register(section, method.moving, method.fixed, chosen, method.also)
    note_slide_frame(section)
    read = None
    if isinstance(config.interventions, InterventionColumns):
        read = set_conditions(section, config.interventions)
        log.info("%s: %d conditions%s", name, len(set(read.name)), f"; {said}" if (said := read.told()) else "")
    else:
        set_interventions(section, config.interventions)
    check_section(section)
    check_overlap(section)
    return section, read


def _place_serially(section: Any, serial: SerialConfig, before: list[Any]) -> None:
    """Place a section in the frame of one read `before`, and tell what is to be looked at."""
    where, known = metadata_of(section)["section"], {metadata_of(one)["section"]: one for one in before}
    if serial.on not in known:
        raise unknown_name(ConfigError, f"section {where} · serial.on", "section", serial.on, known)
    found = register_serial(section, known[serial.on], n_genes=serial.n_genes, allow_mirror=serial.allow_mirror)
    log.info("%s: placed on %s by %s, off by %.0f µm", where, serial.on, found.method, found.residual_um or 0.0)
    for warning in found.warnings:
        doubt(f"{where} on {serial.on}", warning)


def _groups_of(config: SectionConfig) -> dict[str, Any]:
    """Return what the configuration says a section is: its name, its groups where given, and its traits."""
    given = {key: getattr(config, key) for key in ("donor", "site", "platform", "batch", "context")}
    return {**config.traits, "section": config.name, **{k: value for k, value in given.items() if value is not None}}


def describe_slides(sections: list[Any], task: TaskConfig, window_um: float) -> None:
    """Describe the slides under the patches, where the task asks for it; grid windows are laid where there are none.

    Raises
    ------
    AivcError
        Whatever is wrong with a slide, an encoder or a table of embeddings; a table that holds none of any section.
    """
    if isinstance(task.features, EmbeddingTable):
        found = []
        for section in sections:
            with guarded(task.features.path_of(metadata_of(section)["section"])):
                found.append(add_embeddings(section, task.features))
        if not any(found):
            sought = ", ".join(repr(metadata_of(section)["section"]) for section in sections[:3])
            mend = "check `table:` and `section_by:`"
            raise ReadError(str(task.features.table), "embeddings of no section", f"of sections such as {sought}", mend)
    elif task.features is not None:
        for section in (one for one in sections if names.SLIDE in one.images):
            if names.PATCH not in section.shapes:
                lay_windows(section, window_um)
            add_histology(section, features=task.features, cache=cache_folder(), progress=sys.stderr.isatty())


def describe_cells(section: Any, task: TaskConfig) -> None:
    """Measure the shapes of cells, where the task asks for it; nuclei of the slide are cells where there are none."""
    if task.morphology is not None:
        add_nuclei(section, task.morphology)
        add_morphology(section, task.morphology)


def _told(doubts: list[str]) -> list[str]:
    for one in doubts:
        log.warning("%s", one)
    return doubts


def reach_of(sections: list[Any], config: Config) -> dict[str, float]:
    """Return by level how far messages come from [µm] before any edge is cut; nothing where no section is parted."""
    if not split_design(**(config.task.split or EVERYTHING)).parts_sections:
        return {}
    for section in sections:
        for level in levels_of(section):
            write_labels(section, level, names.TRAIN)
    graph = lay_graph(sections, config.graph)
    reach = reach_um(graph, message_steps(graph, config.model))
    return {level: round(reach[level], 1) for level in graph.levels if level != names.REGION}


def hold_out(sections: list[Any], task: TaskConfig, within_um: float = 0.0) -> list[Duplicate]:
    """Label every node by the task's split; refuse donors or content on two sides of it, return what is there twice.

    What the split's ``share_donors`` or ``share_content`` accepts is not refused; see `leaks_of`.

    Parameters
    ----------
    within_um
        How far messages come from [µm], for a design that leaves its gap open.
    """
    design = split_design(**(task.split or EVERYTHING)).within_reach(within_um)
    for level, labels in design(sections).items():
        log.info("split of %s: %s", level, ", ".join(f"{label} {n:,}" for label, n in labels.items() if n))
    if not getattr(design, "share_donors", True):
        check_donors(sections)
    return duplicate_content(sections, accept=design.share_content)


def leaks_of(sections: list[Any], task: TaskConfig, duplicates: list[Duplicate]) -> list[str]:
    """Say what leaks across the task's split because the task accepts it."""
    design = split_design(**(task.split or EVERYTHING))
    return accepted_leaks(sections, duplicates, share_donors=getattr(design, "share_donors", False))


def input_files(config: Config) -> Iterator[tuple[str, Path]]:
    """Yield every file a configuration names that is there, under the section that it is of and its place there."""
    for prior in config.task.priors:
        for path in (prior.path, prior.names_by):
            yield from () if path is None else _files_in("priors", path)
    for section in config.task.sections:
        for path in dict.fromkeys(_paths_of(section)):
            yield from _files_in(section.name, path)
    if isinstance(features := config.task.features, ExportedEncoder):
        yield from _files_in("features", features.encoder)
    elif isinstance(features, EmbeddingTable):
        for path in features.files():
            yield from _files_in(f"features/{path.parent.name}", path)


def _files_in(of: str, path: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            yield f"{of}/{file.relative_to(path.parent)}", file


def _paths_of(section: SectionConfig) -> Iterator[Path]:
    for source in section.sources:
        yield source.path
        for value in source.options.values():
            yield from [value] if isinstance(value, Path) else []
            if isinstance(value, dict):  # files named beside it, such as those of other modalities
                yield from (source.path.parent / one for one in value.values() if isinstance(one, str))
    for method in section.registration:
        yield from (value for value in method.options.values() if isinstance(value, Path))


def changed_inputs(config: Config, store: Path) -> list[str]:
    """Return which files that a graph store was built from hold something else now; those that are gone do not."""
    built = store_facts(store)["provenance"].get("inputs", {})
    return [name for name, file in input_files(config) if name in built and file_digest(file) != built[name]]
