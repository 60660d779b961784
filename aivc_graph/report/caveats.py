"""What the numbers do not say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.graph.store import store_facts
from aivc_graph.query.answers import counted_nodes
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.words import plural
from aivc_graph.training.run_folder import run_facts

FEW_DONORS = 5


def caveats_of(tissue: VirtualTissue, *, simulated: bool, evaluated: bool) -> list[tuple[str, str]]:
    """Return what a reader must know before believing a page, as (in short, in full); only what holds for this run."""
    sections, donors = section_counts(tissue)
    found = [
        (
            "Niches are a description, not a diagnosis.",
            "They are recurrent neighbourhoods, found without labels and numbered by size. Another number of niches "
            "may serve as well: ask with --k or --resolution. Words such as “epithelium” are what the marker genes are "
            "commonly read as; nobody has looked at the slide.",
        )
    ]
    if simulated:
        found.append(
            (
                "This tissue is simulated.",
                "What is seen says how the method works where the truth is known. It says nothing about a disease.",
            )
        )
    if sections < FEW_DONORS:
        found.append(
            (
                "Intervals are over regions of the same tissue.",
                f"With {sections} {plural(sections, 'section')} they say how even the tissue is, "
                "nothing about the next patient.",
            )
        )
    elif donors is not None and donors < FEW_DONORS:
        found.append(("Few donors.", f"{donors} {plural(donors, 'donor')} cannot stand for patients at large."))
    if not any(tissue.graph.in_split(level, names.TEST).any() for level in tissue.graph.levels):
        found.append(
            (
                "Nothing was held out.",
                "All tissue was seen in training; only measurements hidden by turns decided when to stop.",
            )
        )
    bare = _uncounted(tissue)
    if bare:
        found.append(
            (
                f"Nothing was counted in {', '.join(bare)}.",
                "What is said of it rests on the slide alone, and may tell its stain more than its tissue.",
            )
        )
    if not evaluated:
        found.append(("The model was not evaluated.", "No score stands beside a baseline yet. Run: aivc evaluate RUN."))
    found.append(
        (
            "Expected is not measured.",
            "Expected expression is what the model makes of a node and its surroundings. It is smoother than the "
            "measurement by design; a single striking cell may be lost in it.",
        )
    )
    return found


def seen_donors(leakage: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what scores cannot say of new donors where training saw those that are scored, from an evaluation."""
    by_level = leakage.get("by_level", {})
    donors = max((float(one.get("donors", 0.0)) for one in by_level.values()), default=0.0)
    if not donors or "hidden" in leakage.get("by_split", {}):
        return []
    told = (
        f"{100 * donors:.0f}\N{NO-BREAK SPACE}% of what is scored is of donors that training saw in other places. "
        "The scores say how well a tissue that is partly known is completed, not what to expect of the next donor."
    )
    return [("Donors stand on both sides.", told)]


def leaks_of(run: Path) -> list[str]:
    """Return what stands on two sides of a run's split because its configuration accepts it, a sentence each."""
    facts = run_facts(run / "run.json", ("graph",))
    built = store_facts((run / facts["graph"]).resolve()).get("provenance", {})
    return [str(leak) for leak in built.get("leaks", ())]


def _uncounted(tissue: VirtualTissue) -> list[str]:
    """Return the sections of which no node was counted at the level where niches are found."""
    level = tissue.base_level
    counted = pd.Series(counted_nodes(tissue.model, tissue.graph, level))
    by_section = counted.groupby(tissue.graph.obs(level)["section"].to_numpy(), observed=True).any()
    return [str(name) for name in by_section.index[~by_section]]


def section_counts(tissue: VirtualTissue) -> tuple[int, int | None]:
    """Return the number of sections and of donors, None where donors are not named."""
    obs = tissue.graph.obs(names.SECTION)
    return len(obs), int(obs["donor"].nunique()) if "donor" in obs else None


def finding_of(tissue: VirtualTissue, niches: list[Any]) -> str:
    """Return the one sentence a reader takes home."""
    sections, donors = section_counts(tissue)
    n = sum(niche.n_nodes for niche in niches)
    of = f" of {donors} {plural(donors, 'donor')}" if donors is not None else ""
    place = f"{n:,} {plural(n, tissue.base_level)} in {sections} {plural(sections, 'section')}{of}"
    if not niches:
        return f"No niche was found among {place}."
    if len(niches) == 1:
        return (
            f"Left to itself the model tells no niches apart among {place}. Asked for a number of them (--k) it still "
            "divides the tissue; a score of niches is of such a division."
        )
    first, last = max(niches, key=lambda one: one.area), min(niches, key=lambda one: one.area)
    return (
        f"The tissue falls into {len(niches)} niches: the widest, {_named(first)}, covers {_per_cent(first.area)} "
        f"of it, the narrowest, {_named(last)}, {_per_cent(last.area)} (found among {place})."
    )


def _named(niche: Any) -> str:
    return f"niche {niche.name} ({niche.lead})" if niche.lead else f"niche {niche.name}"


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
