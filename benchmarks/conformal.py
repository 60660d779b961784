"""Do conformal intervals hold for simulated donors that nobody has seen?

Every repetition draws new donors, fits ridge from a niche's types to its expression on some, calibrates on others and
looks at the rest. The unit is the donor; each niche and gene has a bound of its own. Beside them stands what intervals
look like when they rest on the donors that were fitted, and how the niche fares that is covered worst.

    python benchmarks/conformal.py --out benchmarks/results/conformal.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from result_file import write_result

from aivc_graph.evaluation.conformal import conformal
from aivc_graph.operators.regressions import ridge_path
from aivc_graph.simulate.donors import draw_donor, draw_site, stream
from aivc_graph.simulate.programmes import NICHES, TYPE_NAMES
from aivc_graph.simulate.specimen import cut_specimen

FITTED, TESTED = 8, 8
CALIBRATED = (5, 9, 19, 29)
SIZE_UM, PENALTY, PER, LEAST_CELLS = 400.0, 1.0, 1e4, 10
LEVELS = (0.5, 0.8, 0.9, 0.95)
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/conformal.json"))
    parser.add_argument("--repetitions", type=int, default=50)
    options = parser.parse_args()
    started = time.perf_counter()
    rounds = [repetition(seed) for seed in range(options.repetitions)]
    found: dict[str, Any] = {
        "repetitions": len(rounds),
        "donors": {"fitted": FITTED, "calibrated": list(CALIBRATED), "tested": TESTED},
        "unit": "donor; a bound for each niche and gene",
        "coverage": {key: summary([one[key] for one in rounds]) for key in rounds[0]},
    }
    write_result(options.out, found)
    print(json.dumps(found, indent=1), f"{time.perf_counter() - started:.0f} s")


def summary(values: list[float | str]) -> Any:
    """Return the mean over repetitions, its standard error, and the range; a refusal as it was said."""
    known = np.array([value for value in values if not isinstance(value, str)])
    if not len(known):
        return sorted({str(value) for value in values})
    error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else 0.0
    numbers = {"mean": known.mean(), "standard_error": error, "least": known.min(), "most": known.max()}
    return {key: round(float(value), 4) for key, value in numbers.items()}


def repetition(seed: int) -> dict[str, Any]:
    """Return coverage on donors never seen, by what the interval rests on."""
    n = FITTED + max(CALIBRATED) + TESTED
    donors = [measured(f"R{seed}D{i}", seed) for i in range(n)]
    shares, expression, niche = (np.concatenate(part) for part in zip(*donors, strict=True))
    donor = np.repeat(np.arange(n), [len(one[2]) for one in donors])
    fitted, tested = donor < FITTED, donor >= n - TESTED
    error = np.abs(expression - predicted(shares, expression, fitted))
    found: dict[str, Any] = {}
    for count in CALIBRATED:
        used = (donor >= FITTED) & (donor < FITTED + count)
        for level in LEVELS if count == max(CALIBRATED) else (0.9,):
            found[f"{count} donors, {level:.0%}"] = coverage(error, donor, niche, used, tested, 1 - level)
    alone, everyone = np.arange(len(donor)), np.full(len(niche), "all")
    found["the fitted donors' own errors, 90%"] = coverage(error, alone, everyone, fitted, tested, 0.1)
    used = (donor >= FITTED) & ~tested
    for name, group in (("a bound for each niche", niche), ("one bound for all niches", everyone)):
        parts = [coverage(error, donor, group, used, tested & (niche == one), 0.1) for one in np.unique(niche[tested])]
        found[f"the niche covered worst, {name}, 90%"] = min(part for part in parts if not isinstance(part, str))
    return found


def coverage(error: Floats, unit: Any, group: Any, used: Any, tested: Any, alpha: float) -> float | str:
    """Return the share of the tested errors under the bound of their group."""
    bounds = conformal(error[used], unit[used], alpha, group[used])
    inside = [
        (error[tested & (group.astype(str) == name)] <= bound.value).ravel()
        for name, bound in bounds.items()
        if bound.value is not None
    ]
    inside = [part for part in inside if len(part)]
    return float(np.concatenate(inside).mean()) if inside else next(iter(bounds.values())).reason.split(":")[0]


def predicted(shares: Floats, expression: Floats, fitted: NDArray[np.bool_]) -> Floats:
    """Return ridge from the types of a niche to its expression, fitted on `fitted`."""
    mean = expression[fitted].mean(axis=0)
    centre = shares[fitted].mean(axis=0)
    return mean + next(ridge_path(shares[fitted] - centre, expression[fitted] - mean, shares - centre, (PENALTY,)))


def measured(name: str, seed: int) -> tuple[Floats, Floats, NDArray[np.str_]]:
    """Return a donor's niches: shares of types (niche, type), log counts per 10,000 (niche, gene), and their names."""
    donor = draw_donor(name, "A", 1.0, seed)
    section = cut_specimen(donor, draw_site("A", seed), name, block=name, size_um=SIZE_UM, seed=seed).untreated
    counts = stream(seed, "counts", name).poisson(section.cell_rate)
    rows = [section.cell_niche == i for i in range(len(NICHES))]
    kept = [i for i, inside in enumerate(rows) if inside.sum() >= LEAST_CELLS]
    total = np.array([counts[rows[i]].sum(axis=0) for i in kept], float)
    shares = np.array(
        [np.bincount(section.cell_type[rows[i]], minlength=len(TYPE_NAMES)) / rows[i].sum() for i in kept]
    )
    return shares, np.log1p(total / total.sum(axis=1, keepdims=True) * PER), np.array(NICHES)[kept]


if __name__ == "__main__":
    main()
