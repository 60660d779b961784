"""Write the configuration that trains on a simulated study, complete and commented."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aivc_graph.simulate.multiome_files import READER_OPTIONS, RNA_FILE
from aivc_graph.simulate.presets import Preset
from aivc_graph.simulate.section import SimulatedSection


def configuration(name: str, preset: Preset, sections: Sequence[SimulatedSection]) -> str:
    """Return YAML for ``aivc train``; paths start with ``./`` and are relative to the file."""
    lines = [
        f"# A simulated study, preset {name}: {len(sections)} sections of {len(preset.donors)} donors.",
        "#",
        "#   aivc train config.yaml --out run && aivc query run niches --plot niches.png",
        "#",
        "# What is true of it lies in truth/; nothing here reads it. graph, model and training keep their defaults.",
        "",
        "task:",
        f"  name: {name}",
        *_split(preset),
        f"  # Each section: {_contents(preset)}.",
        "  sections:",
    ]
    for section in sections:
        lines += _section(section, preset)
    if preset.mpp is not None:
        lines.append("  features: {}                # describe the tile under each spot, with the built-in features")
    return "\n".join(lines) + "\n"


def _contents(preset: Preset) -> str:
    parts = ["spots with the slide under them"] if preset.mpp is not None else []
    parts.append("segmented cells with the types an annotator gave them")
    parts += ["what was done to it"] if preset.arms else []
    return ", ".join(parts)


def _split(preset: Preset) -> list[str]:
    if not preset.test:
        return ["  split: {kind: everything}   # nothing is held out"]
    lines = ["  # Whole donors are held out, so that a score says what to expect of a new one."]
    lines += ["  split:", "    kind: by_group", "    key: donor"]
    if preset.validation:
        lines.append(f"    validation: {_flow(preset.validation)}   # decides when to stop")
    return [*lines, f"    test: {_flow(preset.test)}"]


def _section(section: SimulatedSection, preset: Preset) -> list[str]:
    folder = f"./{section.name}"
    lines = [
        f"    - name: {section.name}",
        f"      donor: {section.donor}",
        f"      site: {section.site.name}",
        "      sources:",
    ]
    if preset.mpp is not None:
        lines += [
            f"        - path: {folder}/spaceranger",
            "          reader: spaceranger",
            f"          slide: {folder}/slide.ome.tif",
        ]
    if preset.multiome:
        lines += [f"        - path: {folder}/multiome/{RNA_FILE}", "          reader: h5ad"]
        lines += [f"          {key}: {_flow(value)}" for key, value in READER_OPTIONS.items()]
    else:
        lines += [f"        - path: {folder}/xenium", "          reader: xenium", "          labels: cell_types.csv"]
    if section.interventions:
        lines.append("      interventions:")
        lines += [f"        - {_flow(given)}" for given in section.interventions]
    return lines


def _flow(value: Any) -> str:
    """Return YAML on one line; fields that are not set are left out."""
    if isinstance(value, dict):
        inside = ", ".join(f"{key}: {_flow(held)}" for key, held in value.items() if held is not None)
        return f"{{{inside}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    return json.dumps(value)
