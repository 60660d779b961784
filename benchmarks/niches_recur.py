"""Whether niches recur over donors: found in some, told in another, and held against what an expert or the truth says.

Each donor is left out in turn: niches are fitted to the others and told in it, without labels; agreement is the
adjusted Rand index with its regions alone, the mean over donors with their interval. All methods are told the number of
labels. NMI(niche, donor) is of niches fitted to all donors together: 0 where every donor has all niches alike.

- her2st: the pathologist's regions of eight donors; `aivc train configs/her2st.yaml` with `task.features=null`.
- cohort spots, two studies: simulated, spots alone, the true niche of each.

Of DLPFC the counts of one section alone are at hand, so there is no second donor to be told in.

    AIVC_DATA=… OMP_NUM_THREADS=1 python benchmarks/niches_recur.py --runs runs/recur [--only her2st cohort]

Runs that are there are not trained again. Harmonised states have the mean and spread of every component alike in every
section (location and scale; Johnson et al. 2007, doi:10.1093/biostatistics/kxj037, without shrinkage).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from first_model_parts import CONFIGS, interval, r
from numpy.typing import NDArray
from result_file import write_result
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from aivc_graph.config import Config, load_config
from aivc_graph.pipeline.tasks.niches import UNDETERMINED
from aivc_graph.pipeline.train import train_config
from aivc_graph.query import recurrence
from aivc_graph.query.niches import Surroundings, fit_niches
from aivc_graph.query.predictions import measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate

COMPONENTS, NEAR = 15, 18
SEEDS, STUDIES = range(2), range(2)
Floats = NDArray[np.floating]
Codes = NDArray[np.integer]
Told = Callable[[NDArray[np.bool_], NDArray[np.bool_], int, int], Codes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "niches_recur.json")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=("her2st", "cohort"), default=["her2st", "cohort"])
    options = parser.parse_args()
    for name in options.only:
        found = her2st(options.runs) if name == "her2st" else cohort(options.runs)
        write_result(options.out, found, part=name)
        print(json.dumps(found, indent=1), flush=True)


def her2st(runs: Path) -> dict[str, Any]:
    """Score the pathologist's regions."""
    config = load_config(CONFIGS / "her2st.yaml", ["task.features=null"])
    tissue = trained(config, runs / "her2st")
    said = tissue.graph.obs("patch")["label"].astype(object)
    known = said.notna() & ~said.astype(str).str.lower().isin(UNDETERMINED)
    return scored(tissue, np.where(known, said.astype(str), ""))


def cohort(runs: Path) -> dict[str, Any]:
    """Score the true niches of simulated spots, study by study."""
    found = {}
    for seed in STUDIES:
        folder = runs / f"cohort_{seed}"
        if not (folder / "study").exists():
            simulate("cohort", folder / "study", seed=seed)
        config = load_config(folder / "study" / "config.yaml", ["task.features=null"])
        sections = [spots_alone(section) for section in config.task.sections]
        task = config.task.model_copy(update={"sections": tuple(sections)})
        tissue = trained(config.model_copy(update={"task": task}), folder / "run")
        tables = {s.name: pd.read_parquet(folder / "study" / "truth" / s.name / "spots.parquet") for s in sections}
        obs = tissue.graph.obs("patch")
        truth = pd.concat({k: one.set_index(one.columns[0])["niche"] for k, one in tables.items()})
        where = pd.MultiIndex.from_arrays([obs["section"].astype(str), obs["barcode"].astype(str)])
        found[f"study {seed}"] = scored(tissue, truth.reindex(where).fillna("").astype(str).to_numpy())
    return found


def spots_alone(section: Any) -> Any:
    """Return the configuration of a section without its cells."""
    sources = tuple(one for one in section.sources if one.reader != "xenium")
    return section.model_copy(update={"sources": sources, "registration": ()})


def trained(config: Config, run: Path) -> VirtualTissue:
    """Return the tissue of a run, which is trained if it is not there."""
    if not run.exists():
        train_config(config, None, run, resume=False, device="cpu")
    return VirtualTissue.load(run)


def scored(tissue: VirtualTissue, label: NDArray[Any]) -> dict[str, Any]:
    """Return agreement within donors left out, and what niches share with donors, of every method."""
    found_in, k = tissue.surroundings, len(np.unique(label[label != ""]))
    several = {one: len(np.unique(label[(found_in.donor == one) & (label != "")])) for one in np.unique(found_in.donor)}
    donors, every = [one for one, n in several.items() if n > 1], np.ones(len(label), bool)
    found: dict[str, Any] = {"niches": k, "donors": len(donors), "level": found_in.level}
    agreement = {}
    for name, tell in methods_of(tissue).items():
        rows = np.zeros((len(SEEDS), len(donors)))
        for i, seed in enumerate(SEEDS):
            for j, one in enumerate(donors):
                out = found_in.donor == one
                labelled = label[out] != ""
                rows[i, j] = adjusted_rand_score(label[out][labelled], tell(~out, out, k, seed)[labelled])
        shared = [normalized_mutual_info_score(found_in.donor, tell(every, every, k, seed)) for seed in SEEDS]
        agreement[name] = rows.mean(axis=0)
        found[name] = {
            "ari_donor_left_out": interval(agreement[name]),
            "by_seed": [r(one) for one in rows.mean(axis=1)],
        }
        found[name] |= {"by_donor": [r(one) for one in agreement[name]], "nmi_niche_donor": r(np.mean(shared))}
        print(name, found[name], flush=True)
    model = agreement.pop("model")
    return found | {f"model minus {name}": interval(model - one) for name, one in agreement.items()}


def methods_of(tissue: VirtualTissue) -> dict[str, Told]:
    """Return what tells, by name: fitted to the first rows, the niches of the second."""
    found_in = tissue.surroundings
    graph, level = tissue.graph, found_in.level
    section, pos = graph[level].section_index.numpy(), graph[level].pos.numpy()
    x = centred(measured_log_expression(tissue.model, graph, level), section)
    values, vectors = np.linalg.eigh(x.T @ x)
    own = x @ vectors[:, np.argsort(-values)[:COMPONENTS]]
    near = neighbour_mean(own, pos, section)
    even = near / np.stack([near[section == one].std(axis=0) for one in range(section.max() + 1)])[section]
    return {
        "model": of_model(found_in, recurrence.EVENNESS, recurrence.AXES),
        "model, donors not evened": of_model(found_in, recurrence.EVENNESS[:1], recurrence.AXES),
        "model, all axes, donors not evened": of_model(found_in, recurrence.EVENNESS[:1], recurrence.AXES[:1]),
        "own mixture": of_states(own),
        "neighbour mean": of_states(near),
        "harmonised neighbour mean": of_states(even),
    }


def of_model(found_in: Surroundings, evenness: tuple[float, ...], axes: tuple[int | None, ...]) -> Told:
    """Return the model's niches, with some of the choices there are."""

    def told(fitted: NDArray[np.bool_], asked: NDArray[np.bool_], k: int, seed: int) -> Codes:
        kept = recurrence.EVENNESS, recurrence.AXES
        recurrence.EVENNESS, recurrence.AXES = evenness, axes
        try:
            return fit_niches(found_in.among(fitted), k, 1.0, seed)(found_in.among(asked)).argmax(axis=1)
        finally:
            recurrence.EVENNESS, recurrence.AXES = kept

    return told


def of_states(x: Floats) -> Told:
    """Return parts of a mixture with one covariance, best of three starts."""

    def told(fitted: NDArray[np.bool_], asked: NDArray[np.bool_], k: int, seed: int) -> Codes:
        found = GaussianMixture(k, covariance_type="tied", n_init=3, random_state=seed).fit(x[fitted])
        return np.asarray(found.predict(x[asked]))

    return told


def centred(x: Floats, section: Codes) -> Floats:
    """Return values less their section's mean."""
    x = np.array(x, dtype=float)
    for one in np.unique(section):
        x[section == one] -= x[section == one].mean(axis=0)
    return x


def neighbour_mean(x: Floats, pos: Floats, section: Codes) -> Floats:
    """Return the mean over the 18 nearest neighbours in the section (node, component)."""
    mean = np.zeros_like(x)
    for one in np.unique(section):
        rows = np.flatnonzero(section == one)
        near = cKDTree(pos[rows]).query(pos[rows], k=NEAR + 1)[1]
        mean[rows] = x[rows][near[:, 1:]].mean(axis=1)
    return mean


if __name__ == "__main__":
    main()
