"""What a slide, section, graph or run is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aivc_graph import names
from aivc_graph.atomic import recover
from aivc_graph.errors import AivcError, ReadError
from aivc_graph.evaluation.records import read_evaluation
from aivc_graph.graph.connectivity import connectivity
from aivc_graph.graph.known import priors_told
from aivc_graph.graph.known_pairs import pair_count
from aivc_graph.graph.observations import anchor_count
from aivc_graph.graph.panels import panel_overlap
from aivc_graph.graph.schema import dissociated_sections
from aivc_graph.graph.store import read_store, store_digest, store_facts
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.io.reading import guarded, read, reader_for
from aivc_graph.io.slides import is_slide, open_slide
from aivc_graph.tissue.doubt import doubts_heard, tell
from aivc_graph.tissue.label_agreement import check_labels
from aivc_graph.tissue.registration.overlap import check_overlap
from aivc_graph.tissue.schema import check_section, describe_section
from aivc_graph.training.run_folder import FACTS, read_whole, run_facts, run_metrics


def inspect(path: Path, *, mpp: float | None = None, **options: Any) -> dict[str, Any]:
    """Say what a slide, section, graph store or run folder is, and what is wrong with it.

    Parameters
    ----------
    mpp
        Pixel size [µm] of a slide, where it does not state its own or states it wrongly.
    options
        Options of the reader, and ``reader`` itself, as a source of a configuration takes them; ``sections_by``, as its
        section does.
    """
    path = Path(path)
    if mpp is not None and not is_slide(path):
        raise ReadError(str(path), "no slide", "a slide, to go with a pixel size", "leave out --mpp")
    recover(path)
    if (path / FACTS).exists():
        return read_whole(path, describe_run)
    if (path / "levels").is_dir():
        return {"kind": "graph", **describe_graph(read_store(path)), **_said_of(path)}
    if path.suffix in (".yaml", ".yml"):
        raise ReadError(
            str(path), "a configuration", "a slide, section, graph store or run", f"build it: aivc build {path}"
        )
    if is_slide(path) and mpp is None and not options and (unplaced := _slide_without_size(path)) is not None:
        return unplaced
    given = options if mpp is None else {"reader": names.SLIDE, "mpp": mpp, **options}
    with doubts_heard() as doubts, guarded(path):
        found = describe_source(path, **given)
    return {**found, "doubts": doubts}


def describe_source(
    path: Path, reader: str | None = None, sections_by: str | Sequence[str] | None = None, **options: Any
) -> dict[str, Any]:
    """Return what a source of a configuration holds, as one section or as many; without options what it needs."""
    if sections_by is not None:
        by = (sections_by,) if isinstance(sections_by, str) else tuple(sections_by)
        chosen = reader_for(path, reader, **options)
        if "columns" in type(chosen).model_fields:
            chosen = chosen.model_copy(update={"columns": (*chosen.model_dump()["columns"], *by)})
        parts = chosen.read_by(path, by)
        return {
            "kind": "sections",
            "sections": {name: {**describe_section(one), "faults": _faults_of(one)} for name, one in parts.items()},
        }
    if reader is None and not options and (seen := reader_for(path).preview(path)) is not None:
        return seen
    section = read(path, reader=reader, check=False, **options)
    return {**describe_section(section), "faults": _faults_of(section)}


def _faults_of(section: Any) -> list[str]:
    """Return what is wrong with a section; what is doubtful about a sound one is told."""
    try:
        check_section(section)
        for text in (*check_overlap(section), *check_labels(section)):
            tell(text)
    except AivcError as error:
        return str(error).splitlines()
    return []


def _slide_without_size(path: Path) -> dict[str, Any] | None:
    """Describe a slide that does not state its pixel size, which no section can do without; `None` if it does."""
    pixels, um_per_pixel = open_slide(path)
    if um_per_pixel is not None:
        return None
    fault = ReadError(
        "pixel size",
        "none in the file",
        "0.05–5 µm",
        f"look again with --mpp 0.5, and give it as `mpp:` of the source {path.name} in the YAML",
    )
    shape = dict(zip("cyx", map(int, pixels.shape), strict=True))
    return {"kind": "slide", "shape": shape, "um_per_pixel": None, "faults": [str(fault)]}


def describe_run(run: Path) -> dict[str, Any]:
    """Return what a run was trained on and how far, whether it was evaluated, and what is wrong or doubtful about it.

    Raises
    ------
    StoreError
        If a file of the run is torn or lacks what it must say.
    """
    facts = run_facts(run / FACTS, ("graph", "seed"))
    found = {"kind": "run", **facts, **run_facts(run / "training.json", ()), "epochs": len(run_metrics(run)) - 1}
    scores = run / "evaluation.json"
    if scores.exists():
        evaluation = read_evaluation(scores)
        scored = {kind: sorted({getattr(r, kind) for r in evaluation.results}) for kind in ("task", "split")}
        found["evaluation"] = {"scores": len(evaluation.results), **scored}
    else:
        found["evaluation"] = "not evaluated"
    graph = (run / facts["graph"]).resolve()
    try:
        found |= {"faults": [], **_said_of(graph)}
        if facts.get("graph_digest", digest := store_digest(graph)) != digest:
            found["faults"] = [f"{graph}: another graph than the model was trained on"]
    except AivcError as error:
        found["faults"] = [str(error)]
    return found


def _said_of(store: Path) -> dict[str, Any]:
    """Return what was doubted when a graph was built, what its split was let share, and what was taken for controls."""
    built = store_facts(store).get("provenance", {})
    said: dict[str, Any] = {key: list(built.get(key, [])) for key in ("doubts", "leaks")}
    return said | ({"controls": built["controls"]} if built.get("controls") else {})


def describe_graph(graph: TissueGraph) -> dict[str, Any]:
    """Return node, edge and anchor counts, and the size of each split."""
    splits = {
        level: {
            split: int(graph.in_split(level, split).sum())
            for split in names.SPLITS
            if graph.in_split(level, split).any()
        }
        for level in graph.levels
    }
    loose = dissociated_sections(graph)
    return {
        "nodes": {t: int(graph[t].num_nodes) for t in graph.node_types},
        **({"dissociated, no positions": list(graph.obs(names.SECTION).index[loose])} if loose.any() else {}),
        "edges": {" ".join(r): int(graph[r].adj_t.values().numel()) for r in graph.edge_types},
        "observations": {level: graph.modalities(level) for level in graph.levels if graph.modalities(level)},
        **({"panels": panels} if (panels := panel_overlap(graph)) else {}),
        "anchors": anchor_count(graph) | pair_count(graph),
        "connectivity": connectivity(graph),
        "splits": splits,
        **({"priors": told} if (told := priors_told(graph)) else {}),
    }
