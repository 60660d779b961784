"""Does a section's set of neighbourhoods tell an endpoint better than its composition? Pancreas of 12 donors, 3 stages.

Imaging mass cytometry (Damond et al. 2019, doi:10.1016/j.cmet.2018.11.014): each donor's stage of disease told by all
others, by the rule of `aivc_graph.evaluation.readouts.endpoint`. Of sections: shares of types; second moments of the
composition around each cell (after COVET, Haviv et al. 2024, doi:10.1038/s41587-024-02193-4) and of a cell's type with
it, whose sums are the shares of types; shares of kinds of neighbourhood of several scales. Each alone, beside
composition, and gated: it is departed from for a donor left out only if donors among the others, left out in turn,
gain by it.

    python benchmarks/endpoint_sets.py --out benchmarks/results/endpoint_sets.json
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from result_file import write_result
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans
from sklearn.metrics import f1_score

from aivc_graph.evaluation import intervals
from aivc_graph.evaluation.readouts.endpoint import endpoint
from aivc_graph.evaluation.readouts.readout import Ground
from aivc_graph.operators.gate import opening_of

TABLE = "imc-pancreas/t1d/diabetesData_cells.csv.gz"
NEIGHBOURS, KINDS, FITTED, BOOTSTRAPS = 18, (4, 8, 12, 16, 20), 15_000, 1_000
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/endpoint_sets.json"))
    options = parser.parse_args()
    cells = pd.read_csv(Path(os.environ.get("AIVC_DATA", "../shared/data")) / TABLE)
    by_section = [part for _, part in cells.groupby("imageID", sort=True)]
    donor = np.array([str(part["case"].iloc[0]) for part in by_section])
    outcome = pd.Categorical([part["stage"].iloc[0] for part in by_section]).codes.astype(np.int64)
    sets = sets_of(by_section, sorted(cells["cellType"].unique()))
    composition, told = sets.pop("composition"), {}
    told["composition"] = endpoint(composition, Ground(donor=donor, outcome=outcome))
    for name, values in sets.items():
        both = np.hstack([composition, values])
        told[name] = endpoint(values, Ground(donor=donor, outcome=outcome))
        told[f"{name} and composition"] = endpoint(both, Ground(donor=donor, outcome=outcome))
        told[f"{name} and composition, gated"] = gated(composition, both, donor, outcome)
    found = {name: scored(one, told["composition"], donor, outcome) for name, one in told.items()}
    write_result(options.out, {"macro F1": found, "donors": len(np.unique(donor)), "sections": len(donor)})
    print(json.dumps(found, indent=1))


def sets_of(by_section: list[pd.DataFrame], types: list[str]) -> dict[str, Floats]:
    """Return what sections are made of by rule (section, column)."""
    own = [(part["cellType"].to_numpy()[:, None] == np.array(types)).astype(float) for part in by_section]
    around = [about(part[["x", "y"]].to_numpy(), one) for part, one in zip(by_section, own, strict=True)]
    pairs = list(zip(own, around, strict=True))
    every = np.sqrt(np.concatenate(around))
    some = np.random.default_rng(0).permutation(len(every))[:FITTED]
    kinds = []
    for k in KINDS:
        fitted = KMeans(k, n_init=1, random_state=0).fit(every[some])
        kinds.append(np.stack([np.bincount(fitted.predict(np.sqrt(one)), minlength=k) / len(one) for one in around]))
    return {
        "composition": np.stack([one.mean(axis=0) for one in own]),
        "second moments around": np.stack([(near.T @ near / len(near)).ravel() for near in around]),
        "own type with those around": np.stack([(one.T @ near / len(near)).ravel() for one, near in pairs]),
        "kinds of neighbourhood": np.hstack(kinds),
    }


def about(place: Floats, own: Floats) -> Floats:
    """Return the composition of the nearest neighbours of each cell (cell, type)."""
    near = cKDTree(place).query(place, k=min(NEIGHBOURS + 1, len(place)))[1][:, 1:]
    return np.asarray(own[near].mean(axis=1))


def gated(base: Floats, more: Floats, donor: NDArray[Any], outcome: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class of each section by `base`, or by `more` where the other donors, left out in turn, gain by it."""
    found = np.asarray(endpoint(base, Ground(donor=donor, outcome=outcome))).copy()
    departed = endpoint(more, Ground(donor=donor, outcome=outcome))
    for one in np.unique(donor):
        rest = donor != one
        ground = Ground(donor=donor[rest], outcome=outcome[rest])
        right = [endpoint(values[rest], ground) == outcome[rest] for values in (base, more)]
        gain = right[1].astype(float) - right[0]
        if opening_of(np.array([gain[donor[rest] == each].mean() for each in np.unique(donor[rest])])) > 0:
            found[~rest] = departed[~rest]
    return found


def scored(
    told: NDArray[np.int64], rule: NDArray[np.int64], donor: NDArray[Any], outcome: NDArray[np.int64]
) -> dict[str, float]:
    """Return macro F1, and by how much it is above that of a rule with its 95 % interval over donors."""
    rows = {one: np.flatnonzero(donor == one) for one in np.unique(donor)}
    rng, leads = np.random.default_rng(0), []
    for _ in range(BOOTSTRAPS):
        drawn = np.concatenate([rows[one] for one in rng.choice(list(rows), len(rows))])
        leads.append(macro_f1(outcome[drawn], told[drawn]) - macro_f1(outcome[drawn], rule[drawn]))
    low, high = intervals.interval(np.array(leads), len(rows))
    value, lead = macro_f1(outcome, told), macro_f1(outcome, told) - macro_f1(outcome, rule)
    figures = {"value": value, "lead": lead, "lower": low, "upper": high}
    return {name: round(float(figure), 4) for name, figure in figures.items()}


def macro_f1(outcome: NDArray[np.int64], told: NDArray[np.int64]) -> float:
    return float(f1_score(outcome, told, labels=np.unique(outcome), average="macro", zero_division=0))


if __name__ == "__main__":
    main()
