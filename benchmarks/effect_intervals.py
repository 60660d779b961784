"""Do the intervals that stand beside effects of interventions hold, and would one about the shrunken effect?

Effects of known size are simulated: donors with an untreated and a treated section each, sections that err as wholes,
few molecules that answer and many that do not, components that answer unequally. Everything goes through the functions
that a run is fitted and asked by. Coverage is of 90 % intervals, by how large the true effect is; beside what is told
stand the two intervals that a shrunken effect could have: that of how much it moves when donors are left out, and that
of its posterior. `outside` is how often the shrunken effect lies outside of the 95 % interval of the unshrunken one.

    python benchmarks/effect_intervals.py --out benchmarks/results/effect_intervals.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from result_file import write_result
from scipy import stats

from aivc_graph.operators.intervention.effect_rows import Effects, effects_of
from aivc_graph.operators.intervention.joint_effects import Rows, _inflation
from aivc_graph.operators.intervention.shrinkage import shrunken
from aivc_graph.operators.intervention_plan import InterventionPlan
from aivc_graph.query.effect_columns import CONFIDENCE, effect_columns

COMPONENTS, MOLECULES, REPETITIONS, LEVEL = 4, 300, 20, 0.9
# Effects of one size of which coverage is told.
LEAST = 100
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
}
CLASSES = {"none": (0.0, 0.0), "to 0.15": (1e-9, 0.15), "to 0.4": (0.15, 0.4), "larger": (0.4, np.inf)}
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/effect_intervals.json"))
    found = {name: study(i, *facts) for i, (name, facts) in enumerate(STUDIES.items())}
    options = parser.parse_args()
    sizes = {"repetitions": REPETITIONS, "components": COMPONENTS, "molecules": MOLECULES, "level": LEVEL}
    write_result(options.out, sizes | {"unit": "donor", "studies": found})
    print(json.dumps(found, indent=1))


def study(number: int, *facts: Any) -> dict[str, Any]:
    """Return how often each interval covers the true effect, by its size, and how wide they are."""
    rounds = [repetition(1000 * number + one, *facts) for one in range(REPETITIONS)]
    true = np.concatenate([one["true"].ravel() for one in rounds])
    size = {name: (np.abs(true) >= low) & (np.abs(true) <= high) for name, (low, high) in CLASSES.items()}
    size = {"all": true == true, "any effect": true != 0, **size}
    size = {name: rows for name, rows in size.items() if rows.sum() >= LEAST}
    found: dict[str, Any] = {}
    for who in ("told", "shrunken, donors left out", "shrunken, posterior"):
        away, half = (np.concatenate([one[who][i].ravel() for one in rounds]) for i in (0, 1))
        found[who] = {
            "coverage": {name: round(float((away <= half)[rows].mean()), 3) for name, rows in size.items()},
            "width": {name: round(float(2 * half[rows].mean()), 3) for name, rows in size.items()},
            "rmse": {name: round(float(np.sqrt((away[rows] ** 2).mean())), 3) for name, rows in size.items()},
        }
    p = np.concatenate([one["p"].ravel() for one in rounds])
    chances = {"p below 0.05 without effect": round(float((p < 0.05)[true == 0].mean()), 4)}
    outside = float(np.mean([one["outside"] for one in rounds]))
    return found | chances | {"outside": round(outside, 3)}


def repetition(seed: int, donors: int, answering: float, spread: float, between: float, uneven: float) -> Any:
    """Return true effects (component, molecule), and how far off each kind of interval is and how wide by half."""
    rng = np.random.default_rng(seed)
    answers = rng.random(MOLECULES) < answering
    true = answers * (rng.normal(0, spread, MOLECULES) + rng.normal(0, between, (COMPONENTS, MOLECULES)))
    effects = effects_of(rows_of(rng, donors, true, uneven), plan_of(donors))
    copies = np.stack([one.mean[0] + one.departure[0] for one in (effects.whole, *effects.not_shrunken)])
    told = effect_columns(np.zeros_like(true), copies, np.zeros_like(true), donors, np.ones(COMPONENTS, bool))
    narrower = stats.t.ppf(0.5 + LEVEL / 2, donors - 1) / stats.t.ppf(0.5 + CONFIDENCE / 2, donors - 1)
    wide = (told["upper"] - told["lower"]) / 2
    moves, posterior = shrunken_errors(effects, donors)
    reach = stats.t.ppf(0.5 + LEVEL / 2, donors - 1)
    return {
        "true": true,
        "told": (np.abs(told["estimate"] - true), wide * narrower),
        "shrunken, donors left out": (np.abs(told["shrunken"] - true), reach * moves),
        "shrunken, posterior": (np.abs(told["shrunken"] - true), reach * posterior),
        "p": told["p"],
        "outside": (np.abs(told["shrunken"] - told["estimate"]) > wide).mean(),
    }


def shrunken_errors(effects: Effects, donors: int) -> tuple[Floats, Floats]:
    """Return the error of shrunken effects by the jackknife of the shrinkage, and their posterior standard deviation.

    The slope of the posterior mean is the posterior variance over that of the error (Tweedie's formula).
    """
    moved, left_over = [], []
    for name in ("mean", "departure"):
        every, *without = (getattr(one, name)[0] for one in effects.not_shrunken)
        counting = getattr(effects.not_shrunken[0], f"{name}_error")[0]
        error = _inflation(every, np.array(without), counting) * counting
        step = 1e-4
        slope = (local(every + step, every, error) - local(every - step, every, error)) / (2 * step)
        around = np.array(without) - np.mean(without, axis=0)
        moved.append(around * slope), left_over.append(around * np.sqrt(np.maximum(slope, 0)))
    sums = ((mean[:, None] + departure) for mean, departure in (moved, left_over))
    own, posterior = (np.sqrt((donors - 1) / donors * (one**2).sum(axis=0)) for one in sums)
    return own, posterior


def local(at: Floats, estimate: Floats, error: Floats) -> Floats:
    """Return posterior means of estimates moved together a little, so that the prior hardly moves."""
    return shrunken(np.stack([at, estimate]), np.stack([error, error]))[0]


def rows_of(rng: np.random.Generator, donors: int, true: Floats, uneven: float) -> Rows:
    """Return the rows of an untreated and a treated section a donor (row, molecule)."""
    level = 0.01 / np.maximum(rng.gamma(2, 0.5, MOLECULES), 0.1)
    own = rng.normal(0, 0.3, (donors, COMPONENTS, MOLECULES))
    section = rng.normal(0, uneven, (donors, 2, MOLECULES))
    facts = [(d, arm, j) for d in range(donors) for arm in (0, 1) for j in range(COMPONENTS)]
    donor, arm, component = (np.array(one) for one in zip(*facts, strict=True))
    y = own[donor, component] + arm[:, None] * true[component] + section[donor, arm]
    variance = np.broadcast_to(level, y.shape)
    y = y + rng.normal(0, np.sqrt(level), y.shape)
    return Rows(y, variance, arm[:, None].astype(float), donor, component, np.full(1, 1e3), np.ones_like(y))


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
