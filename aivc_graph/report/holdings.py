"""What the graph holds, in words and numbers."""

from __future__ import annotations

from typing import Any

from aivc_graph import names
from aivc_graph.graph.observations import anchor_count
from aivc_graph.graph.tissue_graph import TissueGraph

NODE_WORDS = {
    names.GENE: "genes counted, and others that are known of",
    names.PROTEIN: "proteins counted",
    names.PEAK: "open stretches of chromatin counted",
    names.CELL: "segmented cells",
    names.PATCH: "capture spots, or squares of the slide",
    names.REGION: "windows of neighbouring patches",
    names.SECTION: "sections of tissue",
    names.INTERVENTION: "interventions: what was done to the tissue",
}
RELATION_WORDS = {
    names.NEAR: "is a neighbour of",
    names.WITHIN: "lies within",
    names.OBSERVED_IN: "was counted in",
    names.TARGETS: "acts on",
    names.APPLIED_TO: "was given to",
    names.REGULATES: "is known to regulate",
    names.BINDS: "is known to bind",
    names.INTERACTS: "is known to interact with",
    names.ENCODES: "encodes",
}
ANCHOR_WORDS = {names.HISTOLOGY: "stain", names.RNA: "RNA", names.ADT: "protein", names.ATAC: "chromatin"}


def holdings_of(graph: TissueGraph) -> dict[str, Any]:
    """Return the rows of three tables: nodes by level, relations, and anchors (tissue seen by two measurements)."""
    present = [kind for kind in names.NODE_TYPES if kind in graph.node_types]
    return {
        "nodes": [
            {
                "level": kind,
                "words": NODE_WORDS[kind],
                "n": int(graph[kind].num_nodes),
                "measured": ", ".join(graph.modalities(kind)) if kind in names.LEVELS else "",
            }
            for kind in present
        ],
        "relations": [
            {
                "source": source,
                "words": RELATION_WORDS.get(name, name),
                "target": target,
                "n": int(graph[source, name, target].adj_t.values().numel()),
            }
            for source, name, target in sorted(graph.edge_types, key=_fine_to_coarse)
        ],
        "anchors": [
            {"pair": " and ".join(ANCHOR_WORDS.get(part, part) for part in pair.split("+")), "n": n}
            for pair, n in anchor_count(graph).items()
            if n
        ]
        if names.PATCH in graph.levels
        else [],
    }


def _fine_to_coarse(relation: tuple[str, str, str]) -> tuple[int, int, str]:
    source, name, target = relation
    return names.NODE_TYPES.index(source), names.NODE_TYPES.index(target), name
