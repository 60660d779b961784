"""What spots are made of, told by cells of another donor, library or platform: sets with known truth to develop by.

None is of ``deconvolution``, so that a change may be settled here and judged there. Spots are put together of cells
that are not in the reference, thinned, and seen by a platform that catches a gene e^N(0, σ²) times as well:

- ``marrow``, ``marrow_back``: bone marrow, one donor told by the other (Luecken et al. 2021, GEO GSE194122); seven
  types. There: few types a spot, deep; back: all types mixed, few molecules.
- ``cortex``: nuclei of ten libraries told by those of two (Chen et al. 2019, doi:10.1038/s41587-019-0290-0).
- ``tumour``: cells of a breast tumour told by others of it (Wu et al. 2021, doi:10.1038/s41588-021-00911-1), whose
  profiles are moved by e^N(0, 0.3²) a type and gene, as another patient's.
- ``layers``: windows of 100 µm over half of the osmFISH cells of a mouse cortex (Codeluppi et al. 2018,
  doi:10.1038/s41592-018-0175-z), told by the other half; 33 genes.
- ``simulated``: spots of seven donors told by the cells of the eighth; cohort of seed 31.

Beside the model and the baselines of ``deconvolution`` stands what else the model's own fit might say: the likeliest
amounts (``likeliest``), their mean with its answer (``half likeliest``), its answer where no type may be absent
(``all there``), and after two rounds (``two rounds``).

    python benchmarks/deconvolution_donors.py --out benchmarks/results/deconvolution_donors.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import torch
from deconvolution import DATA, Case, Floats, baselines, judge, reference_section, simulated, spot_section
from result_file import write_result
from scipy import sparse

from aivc_graph.operators.composition import reference_fit
from aivc_graph.operators.composition.mixture import Hill, Prior, Seen
from aivc_graph.operators.composition.reference_material import Material, profiles
from aivc_graph.operators.composition.reference_width import contents, of_cells

SPOTS = 300
UM_PER_PIXEL = 0.065
# First words of the names of clusters to a class of cells, in the order in which they are looked for.
MARROW = {
    "Mono": "Monocyte",
    "NK": "NK",
    "ILC": "NK",
    "Transitional": "B",
    "T": "T",
    "MAIT": "T",
    "B": "B",
    "Plasma": "B",
    "blast": "Erythroid",
    "Reticulo": "Erythroid",
    "prog": "Progenitor",
    "HSC": "Progenitor",
    "DC": "Dendritic",
}


def mixed(
    counts: Floats, labels: Floats, depth: float, uneven: float, few: bool, seed: int
) -> tuple[Floats, pd.DataFrame]:
    """Return counts of spots of 2 to 10 cells (spot, gene), and the true shares of types.

    A molecule is seen with probability `depth`; `few`: one to four types a spot, all as often, else all of them, by
    weights drawn about how often they are.
    """
    random = np.random.default_rng(seed)
    types, number = np.unique(labels, return_counts=True)
    caught = depth * np.exp(random.normal(0, uneven, counts.shape[1]))
    pooled, truth = [], []
    for _ in range(SPOTS):
        some = random.choice(types, random.integers(1, 5), replace=False) if few else types
        weight = None if few else random.dirichlet(3 * number / number.sum() + 0.1)
        kinds = random.choice(some, random.integers(2, 11), p=weight)
        drawn = [random.choice(np.flatnonzero(labels == one)) for one in kinds]
        truth.append([(kinds == one).mean() for one in types])
        pooled.append(random.poisson(counts[drawn].sum(axis=0) * caught))
    return np.array(pooled), pd.DataFrame(truth, [f"made:p{i}" for i in range(SPOTS)], list(types))


def made(cells: tuple[Floats, Floats], spots: tuple[Floats, pd.DataFrame], genes: list[str]) -> Case:
    """Return a case of cells with labels, and counts of spots with true shares, in rows of twenty."""
    pos = 100.0 * np.array([(i % 20, i // 20) for i in range(len(spots[0]))])
    sections = [spot_section("made", spots[0], pos, genes, 27.5), reference_section(*cells, genes)]
    return Case(sections, spots[1], lambda obs: obs.index)


def marrow(there: str, here: str, depth: float, uneven: float, few: bool, seed: int) -> Case:
    """Spots of one donor of bone marrow told by cells of another."""
    found = ad.read_h5ad(DATA / "bmmc-citeseq-starter" / "openproblems_bmmc_cite_starter.output_rna.h5ad")
    labels = np.array([next(to for word, to in MARROW.items() if word in one) for one in found.obs["cell_type"]])
    counts, donor = found.layers["counts"].toarray(), found.obs["batch"].astype(str).to_numpy()
    ours, theirs, genes = donor == here, donor == there, list(found.var_names)
    return made((counts[theirs], labels[theirs]), mixed(counts[ours], labels[ours], depth, uneven, few, seed), genes)


def cortex() -> Case:
    """Spots of nuclei of ten libraries told by those of two."""
    folder = DATA / "snareseq-mouse-cortex"
    counts = sparse.load_npz(folder / "GxC1.npz").T.toarray().astype(np.float32)
    facts = pd.read_csv(folder / "meta_c1.csv", index_col=0)
    labels = facts["cluster (remapped)"].astype(str).to_numpy()
    clear, theirs = labels != "Mis", facts["Batch"].isin(["09A", "09B"]).to_numpy()
    genes = (folder / "genes.txt").read_text().split()
    spots = mixed(counts[clear & ~theirs], labels[clear & ~theirs], 1.0, 0.7, False, 3)
    return made((counts[clear & theirs], labels[clear & theirs]), spots, genes)


def tumour() -> Case:
    """Spots of cells of a tumour told by others, their profiles moved."""
    found = ad.read_h5ad(DATA / "scrna-breast-wu" / "wu_CID4465.h5ad")
    counts, labels = found.X.toarray(), found.obs["celltype_major"].astype(str).to_numpy()
    random = np.random.default_rng(4)
    theirs = random.random(len(counts)) < 0.5
    seen = counts[theirs].sum(axis=0) > 0
    counts = counts[:, seen]
    types, kind = np.unique(labels, return_inverse=True)
    moved = counts * np.exp(random.normal(0, 0.3, (len(types), counts.shape[1])))[kind]
    genes = list(found.var_names[seen])
    spots = mixed(moved[~theirs], labels[~theirs], 0.05, 1.0, True, 5)
    return made((counts[theirs], labels[theirs]), spots, genes)


def layers() -> Case:
    """Windows of a mouse cortex told by half of its cells."""
    with h5py.File(DATA / "osmfish-mouse-ssc" / "osmFISH_SScortex_mouse_all_cells.loom") as file:
        clear, counts = file["col_attrs/Valid"][:] == 1, file["matrix"][:].T
        labels = np.array([one.decode().split()[0].capitalize() for one in file["col_attrs/ClusterName"][:]])
        pos = UM_PER_PIXEL * np.column_stack([file["col_attrs/X"][:], file["col_attrs/Y"][:]])
        genes = [one.decode() for one in file["row_attrs/Gene"][:]]
    counts, labels, pos = counts[clear], labels[clear], pos[clear]
    random = np.random.default_rng(6)
    theirs = random.random(len(labels)) < 0.5
    step = np.floor(pos[~theirs] / 100).astype(int)
    window, home, number = np.unique(step, axis=0, return_inverse=True, return_counts=True)
    truth, kept = pd.crosstab(home.ravel(), labels[~theirs], normalize="index"), np.flatnonzero(number >= 4)
    pooled = np.stack([counts[~theirs][home.ravel() == one].sum(axis=0) for one in kept])
    seen = random.poisson(0.5 * pooled * np.exp(random.normal(0, 0.5, len(genes))))
    spots = spot_section("layers", seen, 100.0 * window[kept] + 50, genes, 50.0)
    names = [f"layers:p{i}" for i in range(len(kept))]
    cells = reference_section(counts[theirs], labels[theirs], genes)
    return Case([spots, cells], truth.loc[kept].set_axis(names), lambda obs: obs.index)


@torch.no_grad()
def variants(counts: Floats, cells: Floats, kind: Floats, n: int) -> dict[str, Floats]:
    """Return what else the fit of the model might say (spot, type), beside the baselines."""
    near, alone = sparse.csr_matrix((len(counts), len(counts))), np.zeros(len(kind), np.int64)
    patches, loose = (torch.from_numpy(one).float() for one in (counts, cells))
    found = Material(patches, near, loose, kind, alone, np.arange(counts.shape[1]))
    start, content = profiles(loose, kind, n), contents(found, n)
    opening, rounds, _ = reference_fit.choose_opening(found, start)

    def at(seen: Seen) -> Hill:
        return Hill.of(patches * seen.weight, seen.rates * seen.weight)

    def told(draws: torch.Tensor) -> Floats:
        return of_cells(draws, content).mean(dim=2).double().numpy()

    seen, early = (reference_fit.see(found, start, opening, one) for one in (rounds, 2))
    prior, hill = reference_fit.fit_prior(patches, seen), at(seen)
    likeliest, ours = told(hill.at.float()[:, :, None]), told(hill.draws(prior))
    others = {
        "likeliest": likeliest,
        "half likeliest": (likeliest + ours) / 2,
        "all there": told(hill.draws(Prior(torch.ones(n), prior.mean))),
        "two rounds": told(at(early).draws(reference_fit.fit_prior(patches, early))),
    }
    return baselines(counts, cells, kind, n) | others


CASES: dict[str, Callable[[], Case]] = {
    "marrow": lambda: marrow("s1d1", "s1d2", 0.2, 0.5, True, 1),
    "marrow_back": lambda: marrow("s1d2", "s1d1", 0.01, 1.0, False, 2),
    "cortex": cortex,
    "tumour": tumour,
    "layers": layers,
    "simulated": lambda: simulated(31),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/deconvolution_donors.json"))
    parser.add_argument("--sets", nargs="+", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    for name in options.sets:
        found = judge(CASES[name](), variants)
        write_result(options.out, found, part=name)
        print(name, json.dumps(found, indent=1), flush=True)


if __name__ == "__main__":
    main()
