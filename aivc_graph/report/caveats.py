"""What the numbers do not say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.graph.store import store_facts
from aivc_graph.operators.prediction.tile import TilePrediction
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
            "They are recurrent neighbourhoods, found without labels and numbered by size. Other numbers of niches "
            "may be as good: set --k or --resolution. A niche is named after the labels of its nodes; without "
            "labels, “markers of T cells” means just that: no pathologist has confirmed it on the slide.",
        )
    ]
    if simulated:
        found.append(
            (
                "This tissue is simulated.",
                "Results show how the method performs where the truth is known. They say nothing about any disease.",
            )
        )
    if sections < FEW_DONORS:
        found.append(
            (
                "Intervals are over regions of the same tissue.",
                f"With {sections} {plural(sections, 'section')} they reflect variation within the tissue, "
                "not between patients.",
            )
        )
    elif donors is not None and donors < FEW_DONORS:
        found.append(
            ("Few donors.", f"{donors} {plural(donors, 'donor')} are too few to generalise to other patients.")
        )
    if not any(tissue.graph.in_split(level, names.TEST).any() for level in tissue.graph.levels):
        found.append(
            (
                "Nothing was held out.",
                "The model was trained on all tissue; early stopping used masked measurements only.",
            )
        )
    found += _of_slides(tissue)
    if not evaluated:
        found.append(
            ("The model was not evaluated.", "There are no scores against baselines yet. Run: aivc evaluate RUN.")
        )
    found.append(
        (
            "Expected is not measured.",
            "Expected expression is the model's estimate from a node and its surroundings. It is smoother than the "
            "measurement by design, so a single unusual cell may not show.",
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
        f"{100 * donors:.0f}\N{NO-BREAK SPACE}% of the scored nodes are from donors with other tissue in training. "
        "The scores show how well partly known tissue is completed, not what to expect for a new donor."
    )
    return [("Donors are in both training and test.", told)]


def leaks_of(run: Path) -> list[str]:
    """Return what stands on two sides of a run's split because its configuration accepts it, a sentence each."""
    facts = run_facts(run / "run.json", ("graph",))
    built = store_facts((run / facts["graph"]).resolve()).get("provenance", {})
    return [str(leak) for leak in built.get("leaks", ())]


def _of_slides(tissue: VirtualTissue) -> list[tuple[str, str]]:
    """Return what to know of places of which there is a slide and nothing else."""
    found = []
    bare = _uncounted(tissue)
    if bare:
        found.append(
            (
                f"Nothing was counted in {', '.join(bare)}.",
                "Results there rest on the slide alone and may reflect staining rather than tissue.",
            )
        )
    for level in _by_features_alone(tissue):
        found.append(
            (
                f"What a slide says of expression, its features say by themselves ({level}).",
                "The state adds nothing that donors never trained on bear out, so it has no say: what is expected of a "
                f"{level} with a tile and no counts is regression on the features of its tile.",
            )
        )
    return found


def _by_features_alone(tissue: VirtualTissue) -> list[str]:
    """Return the levels at which features tell expression and the state has no share in it."""
    tiles = [part for part in tissue.model.parts_of("prediction") if isinstance(part, TilePrediction)]
    return [part.plan.level for part in tiles if part.map.fitted and not part.state_share.item()]


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
        return f"No niche was found in {place}."
    if len(niches) == 1:
        return (
            f"The model found no distinct niches in {place}. With --k it still divides the tissue into a given number; "
            "scores of niches refer to such a division."
        )
    first, last = max(niches, key=lambda one: one.area), min(niches, key=lambda one: one.area)
    return (
        f"{len(niches)} niches were found in {place}. The largest, {_named(first)}, covers {_per_cent(first.area)} "
        f"of the tissue; the smallest, {_named(last)}, {_per_cent(last.area)}."
    )


def _named(niche: Any) -> str:
    return f"niche {niche.name} ({niche.lead})" if niche.lead else f"niche {niche.name}"


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
