"""Do intervals beside effects of interventions hold, is the shrunken effect nearer, and how many changes are called?

Effects of known size are simulated: donors with an untreated and a treated section each (in studies called unlike, one
to three untreated ones and up to two treated, of different size and composition), sections that err as wholes, few
molecules that answer and many that do not, components that answer unequally. Everything goes through the functions that
a run is fitted and asked by; `sections not told apart` is of the same data with nothing estimated of whole sections.
Coverage is of 95 % intervals, of the estimate and of what is predicted (the posterior of the shrunken effect), by how
large the true effect is and of effects predicted to be larger than 0.1: a posterior is right of all effects and of
those it tells of, not of true ones of one size. `rmse` is of the estimate, of the effect shrunken together (what is
predicted) and of what components share and how they differ shrunken each by itself. `called` are effects of adjusted p
below 0.1, with variances moderated, as they are told, and as they are: false ones as a share of calls, and true ones as
a share of all that change.

    python benchmarks/effect_intervals.py --out benchmarks/results/effect_intervals.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from result_file import write_result
from scipy import stats

from aivc_graph.operators.intervention.effect_rows import Effects, effects_of
from aivc_graph.operators.intervention.joint_effects import Rows
from aivc_graph.operators.intervention.shrinkage import shrunken
from aivc_graph.operators.intervention_plan import InterventionPlan
from aivc_graph.query.abundance import benjamini_hochberg
from aivc_graph.query.effect_columns import CONFIDENCE, effect_columns

COMPONENTS, MOLECULES, REPETITIONS = 4, 300, 20
# Adjusted p below which an effect is called.
FALSE = 0.1
# Above it an effect is predicted to be there.
SHOWN = 0.1
# Effects of one size of which coverage is told.
LEAST = 100
# A section with less of a component, as a share of what is usual, does not show it.
LEAST_NODES = 0.15
# A donor's level in all components, and the variance of nodes beyond counting in sections unlike each other.
LEVEL, BEYOND = 0.3, 0.01
# Donors, share of molecules that answer, spread of their effects and of components about it, spread of whole sections.
STUDIES = {
    "usual": (6, 0.1, 0.4, 0.2, 0.1),
    "five donors": (5, 0.1, 0.4, 0.2, 0.1),
    "twelve donors": (12, 0.1, 0.4, 0.2, 0.1),
    "a third answers": (6, 0.33, 0.4, 0.2, 0.1),
    "few, large": (6, 0.05, 0.8, 0.2, 0.1),
    "all small": (6, 0.1, 0.1, 0.05, 0.1),
    "uneven sections": (6, 0.1, 0.4, 0.2, 0.25),
    "components alike": (6, 0.1, 0.4, 0.0, 0.1),
    "sections unlike": (6, 0.1, 0.4, 0.2, 0.25),
    "few, unlike": (4, 0.1, 0.4, 0.2, 0.25),
    "nothing answers": (6, 0.0, 0.0, 0.0, 0.25),
}
UNLIKE = ("sections unlike", "few, unlike")
CLASSES = {"none": (0.0, 0.0), "to 0.15": (1e-9, 0.15), "to 0.4": (0.15, 0.4), "larger": (0.4, np.inf)}
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/effect_intervals.json"))
    options = parser.parse_args()
    found = {}
    for number, (name, facts) in enumerate(STUDIES.items()):
        found[name] = study(number, name in UNLIKE, True, *facts)
        found[name]["sections not told apart"] = study(number, name in UNLIKE, False, *facts)
    sizes = {"repetitions": REPETITIONS, "components": COMPONENTS, "molecules": MOLECULES, "level": CONFIDENCE}
    write_result(options.out, sizes | {"unit": "donor", "studies": found})
    print(json.dumps(found, indent=1))


def study(number: int, unlike: bool, apart: bool, *facts: Any) -> dict[str, Any]:
    """Return how often each interval covers the true effect, by its size, and how wide they are."""
    rounds = [repetition(1000 * number + one, unlike, apart, *facts) for one in range(REPETITIONS)]
    true = np.concatenate([one["true"].ravel() for one in rounds])
    size = {name: (np.abs(true) >= low) & (np.abs(true) <= high) for name, (low, high) in CLASSES.items()}
    size = {"all": true == true, "any effect": true != 0, **size}
    size = {name: rows for name, rows in size.items() if rows.sum() >= LEAST}
    found: dict[str, Any] = {"rmse": {}}
    shown = np.concatenate([np.abs(one["shrunken"] + one["true"]).ravel() for one in rounds]) > SHOWN
    kinds = size | ({"predicted to change": shown} if shown.sum() >= LEAST else {})
    for who in ("told", "predicted"):
        away, half = (np.concatenate([one[who][i].ravel() for one in rounds]) for i in (0, 1))
        found[who] = {
            "coverage": {name: round(float((away <= half)[rows].mean()), 3) for name, rows in kinds.items()},
            "width": {name: round(float(2 * half[rows].mean()), 3) for name, rows in kinds.items()},
        }
    none = true == 0
    found["predicted to change without effect"] = round(float((none & shown).sum() / max(shown.sum(), 1)), 3)
    found["without effect, predicted to change"] = round(float((none & shown).sum() / none.sum()), 5)
    for who in ("estimate", "shrunken", "shrunken apart"):
        away = np.concatenate([one[who].ravel() for one in rounds])
        found["rmse"][who] = {name: round(float(np.sqrt((away[rows] ** 2).mean())), 3) for name, rows in size.items()}
    p = np.concatenate([one["p"].ravel() for one in rounds])
    chances = {"p below 0.05 without effect": round(float((p < 0.05)[none].mean()), 4)}
    called = {who: calls([(one["true"], one[who]) for one in rounds]) for who in ("p", "p, not moderated")}
    outside = float(np.mean([one["outside"] for one in rounds]))
    return found | chances | {"called": called, "outside": round(outside, 3)}


def calls(rounds: list[tuple[Floats, Floats]]) -> dict[str, float]:
    """Return the false share of calls and the share of changes that are called, from true effects and p-values."""
    made = [(true != 0, benjamini_hochberg(p.ravel()).reshape(p.shape) < FALSE) for true, p in rounds]
    false = np.mean([(call & ~change).sum() / max(call.sum(), 1) for change, call in made])
    power = sum((call & change).sum() for change, call in made) / max(sum(change.sum() for change, _ in made), 1)
    return {"false": round(float(false), 3), "power": round(float(power), 3)}


def repetition(
    seed: int, unlike: bool, sections: bool, donors: int, answering: float, spread: float, between: float, uneven: float
) -> Any:
    """Return true effects (component, molecule), how far off what is told of them is, intervals by half, p-values."""
    rng = np.random.default_rng(seed)
    answers = rng.random(MOLECULES) < answering
    true = answers * (rng.normal(0, spread, MOLECULES) + rng.normal(0, between, (COMPONENTS, MOLECULES)))
    rows = rows_of(rng, donors, true, uneven, unlike)
    rows = rows if sections else replace(rows, section=rows.donor)
    effects = effects_of(rows, plan_of(donors))
    copies = np.stack([one.mean[0] + one.departure[0] for one in (effects.whole, *effects.not_shrunken)])
    asked = np.zeros_like(true), copies, np.zeros_like(true), effects.whole.error[0]
    asked = *asked, donors, np.ones(COMPONENTS, bool)
    level = np.broadcast_to((1 / rows.variance).mean(axis=0), true.shape)
    told, plain = effect_columns(*asked, level), effect_columns(*asked)
    wide = told["upper"] - told["estimate"]
    return {
        "true": true,
        "told": (np.abs(told["estimate"] - true), wide),
        "predicted": (np.abs(told["shrunken"] - true), told["shrunken_upper"] - told["shrunken"]),
        "estimate": told["estimate"] - true,
        "shrunken": told["shrunken"] - true,
        "shrunken apart": apart(effects, donors) - true,
        "p": told["p"],
        "p, not moderated": plain["p"],
        "outside": (np.abs(told["shrunken"] - told["estimate"]) > wide).mean(),
    }


def apart(effects: Effects, donors: int) -> Floats:
    """Return effects of which what components share and how they differ were shrunken each by itself."""
    every, *without = effects.not_shrunken
    parts = []
    for name in ("mean", "departure"):
        own, left_out = getattr(every, name)[0], np.array([getattr(one, name)[0] for one in without])
        counting = (every.mean_error if name == "mean" else every.error)[0]
        jackknife = (donors - 1) / donors * ((left_out - own) ** 2).sum(axis=0) / counting**2
        usual = np.median(jackknife) * (donors - 1) / stats.chi2.median(donors - 1)
        parts.append(shrunken(own, counting * max(np.sqrt(usual), 1.0)))
    return np.asarray(parts[0] + parts[1])


def rows_of(rng: np.random.Generator, donors: int, true: Floats, uneven: float, unlike: bool) -> Rows:
    """Return the rows of untreated and treated sections of each donor (row, molecule)."""
    level = 0.01 / np.maximum(rng.gamma(2, 0.5, MOLECULES), 0.1)
    own = rng.normal(0, 0.3, (donors, COMPONENTS, MOLECULES)) + rng.normal(0, LEVEL, (donors, 1, MOLECULES))
    facts, y, variance = [], [], []
    for d, arm, section in arms_of(rng, donors, unlike):
        shift = rng.normal(0, uneven, MOLECULES)
        nodes = (
            rng.lognormal(0, 0.8) * rng.dirichlet(np.full(COMPONENTS, 2.0)) * COMPONENTS
            if unlike
            else np.ones(COMPONENTS)
        )
        for j in np.flatnonzero(nodes > LEAST_NODES):
            facts.append((d, arm, section, j))
            variance.append(level / nodes[j])
            beyond = BEYOND if unlike else 0.0
            y.append(own[d, j] + arm * true[j] + shift + rng.normal(0, np.sqrt(variance[-1] + beyond)))
    donor, arm, section, component = (np.array(one) for one in zip(*facts, strict=True))
    x = arm[:, None].astype(float)
    return Rows(np.array(y), np.array(variance), x, donor, section, component, np.full(1, 1e3), np.ones_like(y))


def arms_of(rng: np.random.Generator, donors: int, unlike: bool) -> list[tuple[int, int, int]]:
    """Return donor, whether treated, and number of each section; of unlike ones two donors have treated ones."""
    found = []
    for d in range(donors):
        number = (rng.integers(1, 4), rng.integers(1 if d < 2 else 0, 3)) if unlike else (1, 1)
        found += [(d, arm) for arm in (0, 1) for _ in range(number[arm])]
    return [(*one, i) for i, one in enumerate(found)]


def plan_of(donors: int) -> InterventionPlan:
    names = tuple(f"d{i}" for i in range(donors))
    return InterventionPlan(
        level="cell",
        modality="rna",
        keys=("drug:A",),
        kinds=("drug",),
        targets=({},),
        pairs=(),
        doses=((1.0, 1.0),),
        hours=((24.0, 24.0),),
        donors=names,
        seen_in=(tuple(range(donors)),),
        components=COMPONENTS,
        latent=4,
        n_molecules=MOLECULES,
    )


if __name__ == "__main__":
    main()
