"""The card of a run: what it was trained and scored on, what must hold for its answers, and what was not evaluated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.evaluation.intervals import Units
from aivc_graph.evaluation.risk import gaps_of
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.anchors import anchors_told
from aivc_graph.graph.known import priors_told
from aivc_graph.graph.known_pairs import pairs_of
from aivc_graph.graph.panels import panel_overlap
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.pipeline.screen_card import assumptions_of_screen, data_of_screen
from aivc_graph.pipeline.tasks.task import HIDDEN, Asked
from aivc_graph.query.screen_responses import screen_operator
from aivc_graph.report.words import plural

MOST_NAMED = 3
GROUPS = ("site", "platform", "batch")


def card_of(
    asked: Asked,
    scored: list[Scored],
    risk: dict[str, Any],
    not_asked: dict[str, str],
    leakage: dict[str, Any],
    controls: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """Return data, split, assumptions and gaps of a run, each in plain sentences or counts.

    Parameters
    ----------
    scored
        What was asked.
    risk
        What each axis came to.
    not_asked
        Tasks that were not asked, and what each needs.
    leakage
        What may leak, with how far messages reach.
    controls
        By section, which spellings of conditions were taken for nothing done, with their rows.

    References
    ----------
    Mitchell et al. 2019, doi:10.1145/3287560.3287596 (model cards).
    """
    screen = None if asked.screen is None else asked.screen[0]
    told = [*_identifiability(asked), *_confounding(asked), *_measurement(asked), *registration_told(asked.graph)]
    known = [] if (operator := screen_operator(asked.model)) is None else operator.told_of_known()
    questions = [{"name": one.task, **one.folds} for one in scored if one.folds]
    without = {one.task: f"no model: {one.no_model}" for one in scored if one.no_model}
    return {
        "data": _data(asked) | ({} if screen is None else {"screen": data_of_screen(screen)}),
        "split": _split(asked) | ({"questions": questions} if questions else {}),
        "assumptions": [
            *(told if screen is None else assumptions_of_screen(screen, controls)),
            *({"about": "priors", "says": one} for one in known),
            *gaps_told(leakage),
            *units_told([one.units for one in scored]),
        ],
        "not_evaluated": {**gaps_of(risk), "tasks": not_asked, **({"models": without} if without else {})},
    }


def _data(asked: Asked) -> dict[str, Any]:
    graph = asked.graph
    return {
        "sections": len(asked.donor),
        "donors": len(np.unique(asked.donor)),
        "nodes": {level: int(graph[level].num_nodes) for level in graph.levels},
        **({"panels": panels} if (panels := panel_overlap(graph)) else {}),
        "measured": {level: sorted(graph.modalities(level)) for level in graph.levels if graph.modalities(level)},
        "simulated": asked.truth is not None,
        **({"priors": told} if (told := priors_told(graph)) else {}),
    }


def _split(asked: Asked) -> dict[str, Any]:
    design = asked.config.task.split
    level = asked.tissue.base_level
    nodes = {side: int(asked.graph.in_split(level, side).sum()) for side in names.SPLITS}
    donor = asked.donor[asked.graph[level].section_index.numpy()]
    return {
        "design": dict(design) if design else "as labelled in the data, or nothing held out",
        "scored": "training nodes whose own observation was taken away" if asked.split == HIDDEN else asked.split,
        "level": level,
        "nodes": {side: n for side, n in nodes.items() if n},
        "donors_scored": sorted(set(map(str, donor[asked.scored(level)]))),
    }


def _identifiability(asked: Asked) -> list[dict[str, str]]:
    graph = asked.graph
    if names.INTERVENTION not in graph.node_types:
        said = "Nothing was done to this tissue. What is learned is association; no answer says what would happen if."
        return [{"about": "identifiability", "says": said}]
    given = to_scipy_csr(graph[names.INTERVENTION, names.APPLIED_TO, names.SECTION].adj_t)
    treated = np.asarray((given > 0).sum(axis=1)).ravel() > 0
    both = sorted(set(asked.donor[treated]) & set(asked.donor[~treated]))
    of_donor = [
        np.unique(asked.donor[np.asarray((given[:, [i]] > 0).todense()).ravel()]) for i in range(given.shape[1])
    ]
    kinds = [str(name) for name in graph.obs(names.INTERVENTION)["name"]]
    alone = sorted({name for name, donors in zip(kinds, of_donor, strict=True) if len(donors) == 1})
    said = (
        f"Effects are treated less untreated tissue of the same donor, which {len(both)} "
        f"{'donor has' if len(both) == 1 else 'donors have'}; "
        "they are causal only if nothing else differed between the two."
    )
    found = [{"about": "identifiability", "says": said}]
    if alone:
        said = f"Given to one donor only, so that the effect cannot be told from the donor's own: {', '.join(alone)}."
        found.append({"about": "identifiability", "says": said})
    return found


def _confounding(asked: Asked) -> list[dict[str, str]]:
    obs = asked.graph.obs(names.SECTION)
    found = []
    for group in GROUPS:
        if group not in obs or obs[group].nunique() < 2:
            continue
        table = pd.crosstab(np.asarray(asked.donor), obs[group].astype(str).to_numpy()) > 0
        apart = bool((table.sum(axis=1) == 1).all())
        said = (
            f"Every donor was measured at one {group} only: donors and {plural(2, group)} cannot be told apart."
            if apart
            else f"Some donors were measured at more than one {group}: the two can be told apart."
        )
        found.append({"about": "confounding", "says": said})
    if not found:
        said = "Site, platform and batch are not named or do not vary: their effects cannot be told from the donors'."
        found.append({"about": "confounding", "says": said})
    return found


def _measurement(asked: Asked) -> list[dict[str, str]]:
    said = (
        "Counts are modelled as negative binomial given the depth of a node; depth itself says nothing of its state. "
        "A gene that was not counted is unknown, not absent."
    )
    found = [{"about": "measurement", "says": said}]
    for where, one in panel_overlap(asked.graph).items():
        least, most = (of(one["by_section"].values()) for of in (min, max))
        said = (
            f"{where}: sections measured {least:,} to {most:,} of {one['molecules']:,} molecules, "
            f"{one['in_all_sections']:,} of them all did. What a section did not measure is told by the others, at the "
            "level that is usual there, and is scored nowhere."
        )
        found.append({"about": "panels", "says": said})
    return found + [{"about": "anchors", "says": one} for one in anchors_told(asked.graph)]


def registration_told(graph: TissueGraph) -> list[dict[str, str]]:
    """Say by element how far off what was registered is likely to be."""
    obs = graph.obs(names.SECTION)
    found = []
    for column in sorted(str(one) for one in obs if str(one).startswith(names.RESIDUAL_UM)):
        off = obs[column].dropna().astype(float)
        least, most = f"{off.min():.0f}", f"{off.max():.0f}"
        said = (
            f"Where the {column.removeprefix(names.RESIDUAL_UM)} lies was found by registration, and is likely off by "
            f"{least if least == most else f'{least} to {most}'} µm in {len(off)} {plural(len(off), 'section')}."
        )
        found.append({"about": "registration", "says": said})
    return found + _pairs_told(graph)


def _pairs_told(graph: TissueGraph) -> list[dict[str, str]]:
    """Say by what pairs each element was placed on another, how far they are off, and which are doubtful."""
    said = []
    for (kind, fine, coarse), pairs in pairs_of(graph).groupby(["kind", "fine", "coarse"]):
        fitted = pairs["fitted"].to_numpy(bool)
        sections = plural(pairs["section"].nunique(), "section")
        one = f"{fitted.sum():,} {plural(int(fitted.sum()), str(kind))} placed the {fine} on the {coarse} in "
        one += f"{pairs['section'].nunique()} {sections}, {_rms(pairs[fitted]):.0f} µm off"
        if not fitted.all():
            one += f"; {(~fitted).sum():,} that were left out of the fit, {_rms(pairs[~fitted]):.0f} µm"
        doubtful = pairs[pairs["doubtful"]]
        if len(doubtful):
            listed = [f"{name!r} of {of}" for name, of in doubtful[["name", "section"]].to_numpy()[:MOST_NAMED]]
            one += f"; doubtful {'is' if len(doubtful) == 1 else 'are'} {len(doubtful)}, such as {', '.join(listed)}"
        said.append({"about": "registration", "says": f"{one}."})
    return said


def _rms(pairs: pd.DataFrame) -> float:
    return float((pairs["residual_um"] ** 2).mean() ** 0.5)


def gaps_told(leakage: dict[str, Any]) -> list[dict[str, str]]:
    """Say by level how far the sides lie apart and how far messages would reach, where sides part a section."""
    found = []
    for level, reach in leakage.get("reach_um", {}).items():
        gap = leakage.get("receptive_field", {}).get(level, {}).get("gap_um")
        if gap is not None:
            apart = "no edge had to be cut" if gap > reach else "cut edges alone keep the sides apart"
            said = (
                f"Tested {plural(2, level)} lie {gap:.0f} µm or more from what trained; messages reach {reach:.0f} µm"
            )
            found.append({"about": "gap", "says": f"{said}: {apart}."})
    return found


def units_told(units: list[Units]) -> list[dict[str, str]]:
    """Say what intervals resample, and how many of each kind of unit."""
    kinds = {(one.name, one.n) for one in units}
    by_name: dict[str, list[int]] = {}
    for name, n in sorted(kinds):
        by_name.setdefault(name, []).append(n)
    ranges = ((name, f"{ns[0]} to {ns[-1]}" if len(ns) > 1 else str(ns[0]), ns[-1]) for name, ns in by_name.items())
    listed = ", ".join(f"{numbers} {name}{'' if most == 1 else 's'}" for name, numbers, most in ranges)
    found = [{"about": "intervals", "says": f"Intervals resample {listed}, as if these had been drawn at random."}]
    if any(name == "block" for name, _ in kinds):
        said = "Blocks are of the same tissue: such intervals say how uniform it is, nothing about another donor."
        found.append({"about": "intervals", "says": said})
    return found
