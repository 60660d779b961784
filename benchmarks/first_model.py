"""The first model beside its baselines on four real questions, each held out by donor or block where labels are used.

- her2st labels: the pathologist's label from the latent, leave-donor-out, macro-F1 (logistic regression everywhere).
- her2st image → expression: train on donor C, test on B, and back; per-gene Pearson over the 250 best-expressed genes.
- osmFISH regions, DLPFC layers: adjusted Rand index of niches found without labels, baselines with the same mixture.
- simulated demo, three studies: number of niches and their agreement with the true ones, nothing given.
- Xenium → Visium: counts of spots in held-out blocks from the cells beneath; median per-gene Pearson.

    python benchmarks/first_model.py [--out FILE] [--only labels image regions simulated spots]
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, f1_score
from sklearn.mixture import GaussianMixture

from aivc_graph.config import Config, load_config
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.pipeline.build import describe_slide, hold_out, read_section
from aivc_graph.query.mixture import fit_mixture
from aivc_graph.query.states import node_states, run_windows
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate
from aivc_graph.training.fit import fit
from aivc_graph.training.ridge import ridge

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
BOOTSTRAPS = 1000
SEEDS = range(3)
NESTED = "pooled by the graph's overlaps (nested baseline)"
log = logging.getLogger("first_model")


def main() -> None:
    tasks = {
        "labels": her2st_labels,
        "image": her2st_image,
        "regions": regions,
        "simulated": simulated,
        "spots": xenium_spots,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/first_model.json"))
    parser.add_argument("--only", nargs="+", choices=tasks, default=list(tasks))
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.only:
        found[name] = tasks[name]()
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(found[name], indent=1), flush=True)


def trained(graph: TissueGraph, config: Config) -> tuple[TissueModel, dict[str, float]]:
    """Return a trained model and its label-free diagnostics."""
    with tempfile.TemporaryDirectory() as folder:
        model = fit(graph, config.model, config.training, Path(folder))
        return model, json.loads((Path(folder) / "training.json").read_text())["diagnostics"]


def interval(values: np.ndarray) -> dict[str, Any]:
    """Return the mean of one value a unit and its 95 % bootstrap interval over units."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (BOOTSTRAPS, len(values)))].mean(axis=1)
    return {
        "mean": r(values.mean()),
        "lower": r(np.quantile(means, 0.025)),
        "upper": r(np.quantile(means, 0.975)),
        "n_units": len(values),
    }


def r(value: float) -> float:
    return round(float(value), 4)


def scaled_counts(graph: TissueGraph, level: str) -> np.ndarray:
    """Return log1p counts at the training median depth (node, gene)."""
    return scale_counts(to_scipy_csr(graph.counts(level, "rna")), graph[level].rna_depth).toarray()


def neighbour_mean(x: np.ndarray, pos: np.ndarray, group: np.ndarray, k: int, *, own: bool) -> np.ndarray:
    """Return the mean over the k nearest nodes of the same group, with or without the node itself."""
    out = np.zeros_like(x)
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        near = cKDTree(pos[rows]).query(pos[rows], k=min(k + 1, len(rows)))[1]
        out[rows] = x[rows][near if own else near[:, 1:]].mean(axis=1)
    return out


# ---------------------------------------------------------------- her2st: labels


def her2st_labels() -> dict[str, Any]:
    """Leave-donor-out macro-F1 of the pathologist's label."""
    config = load_config(CONFIGS / "her2st.yaml", ["task.features=null"])
    labelled = [s for s in config.task.sections if "labels" in s.sources[0].options]
    sections = [read_section(s, config.task) for s in labelled]
    donors = [str(s.donor) for s in labelled]
    rows = []
    for i, donor in enumerate(donors):
        split = {"kind": "by_group", "key": "donor", "test": [donor], "validation": [donors[(i + 1) % len(donors)]]}
        hold_out(sections, config.task.model_copy(update={"split": split}))
        graph = build_graph(sections, config.graph)
        model, _ = trained(graph, config)
        rows.append({"donor": donor, **label_scores(graph, model)})
        log.info("labels %s", rows[-1])
    found: dict[str, Any] = {"metric": "macro-F1", "split": "leave donor out", "by_donor": rows}
    predictors = [key for key in rows[0] if key != "donor"]
    found["mean"] = {key: interval(np.array([row[key] for row in rows])) for key in predictors}
    for baseline in ("log counts", "own state (nested baseline)"):
        found[f"model minus {baseline}"] = interval(np.array([row["model"] - row[baseline] for row in rows]))
    return found


def label_scores(graph: TissueGraph, model: TissueModel) -> dict[str, float]:
    """Return macro-F1 on test nodes of the model's latent and of its baselines."""
    label = graph.obs("patch")["label"].astype(object).to_numpy()
    known = np.array([isinstance(v, str) and v != "undetermined" for v in label])
    test = graph.in_split("patch", "test").numpy() & known
    train = known & ~graph.in_split("patch", "test").numpy()
    counts = scaled_counts(graph, "patch")
    states = node_states(model, graph)["patch"]
    own = (counts - graph["section"].patch_rna_mean.numpy()[graph["patch"].section_index]) @ (
        model.count_operator("patch", "rna").loading.detach().numpy()
    )
    views = {
        "log counts": counts,
        "own state (nested baseline)": own,
        "model": np.hstack([states.z, states.context]),
    }
    scores = {}
    for name, x in views.items():
        x = (x - x[train].mean(axis=0)) / (x[train].std(axis=0) + 1e-9)
        regression = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500).fit(x[train], label[train])
        scores[name] = r(f1_score(label[test], regression.predict(x[test]), average="macro"))
    return scores


# ---------------------------------------------------------------- her2st: image → expression


def her2st_image() -> dict[str, Any]:
    """Per-gene Pearson within each test section of a donor never seen."""
    config = load_config(CONFIGS / "her2st.yaml")
    used = [s for s in config.task.sections if s.name in ("B4", "C2", "C3", "C4", "C5")]
    sections = [read_section(s, config.task) for s in used]
    for section in sections:
        describe_slide(section, config.task, config.graph.patch_um)
    rows = []
    for test in ("B", "C"):
        rows += image_fold(sections, [str(s.donor) for s in used], test, config)
        log.info("image %s", rows[-1])
    keys = ("ridge", "ridge, neighbour mean", "model without neighbours", "model")
    found: dict[str, Any] = {
        "metric": "mean per-gene Pearson, 250 genes",
        "split": "donor C → B and B → C",
        "by_section": rows,
    }
    found["mean"] = {key: interval(np.array([row[key] for row in rows])) for key in keys}
    for baseline in keys[:-1]:
        found[f"model minus {baseline}"] = interval(np.array([row["model"] - row[baseline] for row in rows]))
    return found


def image_fold(sections: list[Any], donors: list[str], test: str, config: Config) -> list[dict[str, Any]]:
    """Train with the test donor's counts taken away, and score its sections."""
    design = {"kind": "by_group", "key": "donor", "test": [test]}
    hold_out(sections, config.task.model_copy(update={"split": design}))
    train = [s for s, d in zip(sections, donors, strict=True) if d != test]
    hold_out_inside(train)
    genes = best_expressed(train, 250)
    measured = {s.attrs["aivc"]["section"]: s.tables["patch_rna"] for s in sections}
    for section, donor in zip(sections, donors, strict=True):
        if donor == test:
            del section.tables["patch_rna"]
    graph = build_graph(sections, config.graph.model_copy(update={"keep_genes": tuple(genes)}))
    for section in sections:
        section.tables["patch_rna"] = measured[section.attrs["aivc"]["section"]]
    model, _ = trained(graph, config)
    columns = graph.obs("gene").index.get_indexer(genes)
    predictions = image_predictions(graph, model, columns)
    names = graph.obs("section").index.to_numpy()[graph["patch"].section_index.numpy()]
    rows = []
    for section, donor in zip(sections, donors, strict=True):
        name = section.attrs["aivc"]["section"]
        if donor != test:
            continue
        truth, present = truth_of(graph, measured[name], name, genes)
        here = (names == name) & present & graph["patch"].histology_mask.numpy()
        row: dict[str, Any] = {"section": name}
        for key, values in predictions.items():
            row[key] = r(np.nanmean(pearson(values[here], truth[here])))
        rows.append(row)
    return rows


def hold_out_inside(train: list[Any]) -> None:
    """Label what decides how far the state is to be trusted: the last training section, or a fifth of the only one."""
    shapes = train[-1].shapes["patch"]
    inner = shapes.geometry.y.rank(pct=True) <= (0.2 if len(train) == 1 else 1.0)
    shapes.loc[inner, "split"] = "validation"


def best_expressed(sections: list[Any], n: int) -> list[str]:
    """Return the genes with most counts over the training sections, among those in all of them."""
    totals: dict[str, float] = {}
    for section in sections:
        table = section.tables["patch_rna"]
        for gene, total in zip(table.var_names, np.asarray(table.X.sum(axis=0)).ravel(), strict=True):
            totals[gene] = totals.get(gene, 0.0) + float(total)
    return sorted(totals, key=lambda gene: -totals[gene])[:n]


def truth_of(graph: TissueGraph, table: Any, section: str, genes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return measured log expression in graph order, scaled over the graph's genes, and who was measured."""
    rows = graph.obs("patch").index.get_indexer(f"{section}:" + table.obs_names.astype(str))
    panel = graph.obs("gene").index
    counts = sparse.csr_matrix(table.X).tocsc()
    place = table.var_names.get_indexer(panel)
    counts = sparse.hstack(
        [counts[:, [i]] if i >= 0 else sparse.csc_matrix((len(rows), 1)) for i in place], format="csr"
    )
    values = np.zeros((graph["patch"].num_nodes, len(genes)))
    values[rows] = scale_counts(counts, graph["patch"].rna_depth)[:, panel.get_indexer(genes)].toarray()
    present = np.zeros(len(values), bool)
    present[rows] = True
    return values, present


def image_predictions(graph: TissueGraph, model: TissueModel, columns: np.ndarray) -> dict[str, np.ndarray]:
    """Return predicted expression (patch, gene) of the model and of ridge on the same features."""
    section = graph["patch"].section_index.numpy()
    x = graph["patch"].histology.numpy() - graph["section"].patch_histology_mean.numpy()[section]
    y = scaled_counts(graph, "patch") - graph["section"].patch_rna_mean.numpy()[section]
    both = (graph["patch"].histology_mask & graph["patch"].rna_mask & ~graph.in_split("patch", "test")).numpy()
    x = x / graph["section"].patch_histology_spread.numpy()[section]
    fitted = x @ ridge(x[both], y[both][:, columns], section[both])
    depth = graph["patch"].rna_depth
    logits = np.log1p(depth * np.exp(expression_logits(graph, model, lateral=True)[:, columns]))
    alone = np.log1p(depth * np.exp(expression_logits(graph, model, lateral=False)[:, columns]))
    smoothed = neighbour_mean(fitted, graph["patch"].pos.numpy(), section, 6, own=True)
    return {
        "ridge": fitted,
        "ridge, neighbour mean": smoothed,
        "model without neighbours": alone,
        "model": logits,
    }


def expression_logits(
    graph: TissueGraph, model: TissueModel, *, lateral: bool, hide: tuple[tuple[str, str], ...] = ()
) -> np.ndarray:
    """Return log expected share of each gene (patch, gene); without lateral messages a node is encoded alone."""
    panel = graph["patch"].rna_panel.numpy()
    out = np.zeros((graph["patch"].num_nodes, len(panel)))
    for inputs, state, core, rows in run_windows(model, graph, hide):
        if not lateral:
            from aivc_graph.query.states import hide_all

            state = model.encode(inputs, hide_all(inputs, hide))
        shares = model.expression(state, inputs, "patch").detach().log().numpy()
        mask = core["patch"].numpy()
        out[np.ix_(rows["patch"].numpy()[mask], panel)] = shares[mask]
    return out


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlation of each column; NaN where the truth is constant, 0 where the prediction is."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where((b**2).sum(axis=0) > 0, (a * b).sum(axis=0) / np.maximum(norm, 1e-12), np.nan)


# ---------------------------------------------------------------- regions and layers


def regions() -> dict[str, Any]:
    """Adjusted Rand index of niches with regions (osmFISH) and layers (DLPFC)."""
    return {name: region_scores(name, level, k) for name, level, k in (("osmfish", "cell", 11), ("dlpfc", "patch", 7))}


def region_scores(name: str, level: str, k: int) -> dict[str, Any]:
    """ARI of the model's niches and of mixtures on own and neighbour-mean states; the interval is over blocks."""
    config = load_config(CONFIGS / f"{name}.yaml")
    section = read_section(config.task.sections[0], config.task)
    hold_out([section], config.task)
    graph = build_graph([section], config.graph)
    model, diagnostics = trained(graph, config)
    label = graph.obs(level)["label"].astype(object).to_numpy()
    known = np.array([isinstance(v, str) and v not in ("nan", "Excluded") for v in label])
    pos = graph[level].pos.numpy()
    own = (scaled_counts(graph, level) - graph["section"][f"{level}_rna_mean"].numpy()) @ (
        model.count_operator(level, "rna").loading.detach().numpy()
    )
    one = np.zeros(len(own), int)
    total = ((own - own.mean(axis=0)) ** 2).sum()
    means = {n: neighbour_mean(own, pos, one, n, own=False) for n in (6, 10, 18, 24, 30)}
    error = {n: float(((own - m) ** 2).sum() / total) for n, m in means.items()}
    best = min(error, key=error.__getitem__)
    assigned = {"own state": [mixture(own, k, seed, 1) for seed in SEEDS]}
    for n, mean in means.items():
        assigned[f"mean of {n} neighbours"] = [mixture(mean, k, seed, n) for seed in SEEDS]
    tissues = [VirtualTissue(graph, model, diagnostics, seed) for seed in SEEDS]
    assigned["model"] = [t.niches(k=k, level=level).obs["niche"].cat.codes.to_numpy() for t in tissues]
    nested = f"mean of {best} neighbours"
    context, shared = tissues[0].states[level].context, config.model.rings[-1]
    assigned["model, field off"] = [mixture(context, k, seed, shared) for seed in SEEDS]
    assigned["model, field off, ten random starts, one scale"] = [random_starts(context, k, seed) for seed in SEEDS]
    assigned[f"{nested}, ten random starts, one scale"] = [random_starts(means[best], k, seed) for seed in SEEDS]
    part = [np.random.default_rng(seed).random(len(own)) < 0.9 for seed in SEEDS]
    parts = {
        "model, field off": [mixture(context, k, 0, shared, rows) for rows in part],
        nested: [mixture(means[best], k, 0, best, rows) for rows in part],
    }
    default = tissues[0].niches(level=level).obs["niche"].cat.codes.to_numpy()
    return {
        "metric": "adjusted Rand index",
        "labels": k,
        "nested baseline": f"{nested} (least leave-one-out error)",
        "leave_one_out_error": {str(n): r(e) for n, e in error.items()},
        "over seeds": {key: spread(label[known], [a[known] for a in runs]) for key, runs in assigned.items()},
        "fitted to 90 % of nodes": {key: spread(label[known], [a[known] for a in runs]) for key, runs in parts.items()},
        "number of niches not given": {
            "niches": int(default.max()) + 1,
            "model": r(adjusted_rand_score(label[known], default[known])),
        },
        "model minus nested": block_interval(label, known, pos, assigned["model"], assigned[nested]),
        "model minus own state": block_interval(label, known, pos, assigned["model"], assigned["own state"]),
    }


def spread(label: np.ndarray, runs: list[np.ndarray]) -> dict[str, float]:
    """Return mean, least and greatest ARI over runs."""
    scores = [adjusted_rand_score(label, run) for run in runs]
    return {"mean": r(np.mean(scores)), "least": r(min(scores)), "greatest": r(max(scores))}


def mixture(x: np.ndarray, k: int, seed: int, shared: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the components, for all nodes, of the mixture the model's niches use, fitted to `rows`."""
    return fit_mixture(x[rows], k, 1.0, seed, shared).log_density(x).argmax(axis=1)


def random_starts(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return components of scikit-learn's mixture with one covariance, the best of ten random starts."""
    return GaussianMixture(k, covariance_type="tied", n_init=10, random_state=seed).fit_predict(x)


def simulated() -> dict[str, Any]:
    """Return the number of niches found in three simulated studies of five, and their agreement with the truth."""
    rows = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            study = Path(folder)
            simulate("demo", study, seed=seed)
            config = load_config(study / "config.yaml", ["task.features=null"])
            sections = [read_section(s, config.task) for s in config.task.sections]
            hold_out(sections, config.task)
            tables = [
                (s.name, pd.read_parquet(study / "truth" / s.name / "cells.parquet")) for s in config.task.sections
            ]
            graph = build_graph(sections, config.graph)
        truth = pd.concat([t.set_index(f"{name}:" + t["cell_id"].astype(str))["niche"] for name, t in tables])
        label = truth.reindex(graph.obs("cell").index).astype(str).to_numpy()
        asked = VirtualTissue(graph, *trained(graph, config), seed)
        row: dict[str, Any] = {"seed": seed, "true": truth.nunique()}
        for name, k in (("number not given", None), ("true number given", truth.nunique())):
            niche = asked.niches(k=k, level="cell").obs["niche"].cat.codes.to_numpy()
            row[name] = {"niches": int(niche.max()) + 1, "model": r(adjusted_rand_score(label, niche))}
        rows.append(row)
        log.info("simulated %s", row)
    return {"metric": "adjusted Rand index", "by_study": rows}


def block_interval(
    label: np.ndarray, known: np.ndarray, pos: np.ndarray, a: list[np.ndarray], b: list[np.ndarray]
) -> dict[str, Any]:
    """Return the difference in ARI, mean over seeds, and its interval over resampled blocks of tissue."""
    edge = np.sqrt(np.prod(np.ptp(pos, axis=0)) / 30)
    step = np.floor((pos - pos.min(axis=0)) / edge).astype(int)
    block = np.unique(step, axis=0, return_inverse=True)[1].reshape(-1)
    members = [np.flatnonzero((block == i) & known) for i in np.unique(block[known])]
    rng, differences = np.random.default_rng(0), []
    for _ in range(200):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        pairs = zip(a, b, strict=True)
        differences.append(
            np.mean(
                [
                    adjusted_rand_score(label[rows], x[rows]) - adjusted_rand_score(label[rows], y[rows])
                    for x, y in pairs
                ]
            )
        )
    whole = np.mean(
        [
            adjusted_rand_score(label[known], x[known]) - adjusted_rand_score(label[known], y[known])
            for x, y in zip(a, b, strict=True)
        ]
    )
    return {
        "mean": r(whole),
        "lower": r(np.quantile(differences, 0.025)),
        "upper": r(np.quantile(differences, 0.975)),
        "n_units": len(members),
    }


# ---------------------------------------------------------------- Xenium → Visium


def xenium_spots() -> dict[str, Any]:
    """Median per-gene Pearson of log-normalised spot counts with what the cells beneath predict, in held-out blocks."""
    rows = []
    for seed in range(3):
        config = load_config(CONFIGS / "xenium_visium_breast.yaml", [f"task.split.seed={seed}"])
        section = read_section(config.task.sections[0], config.task)
        hold_out([section], config.task)
        rows.append({"seed": seed, **spot_scores(section, config)})
        log.info("spots %s", rows[-1])
    keys = [k for k in rows[0] if k not in ("seed", "n_spots", "blocks", "difference_by_block")]
    differences = np.array([d for row in rows for d in row.pop("difference_by_block")])
    return {
        "metric": "median per-gene Pearson over test spots, genes of both panels, log-normalised",
        "split": "spatial block with a buffer, three draws",
        "by_draw": rows,
        "mean": {key: r(np.mean([row[key] for row in rows])) for key in keys},
        f"model minus {NESTED}, block by block": interval(differences),
    }


def spot_scores(section: Any, config: Config) -> dict[str, Any]:
    graph = build_graph([section], config.graph)
    model, _ = trained(graph, config)
    shared = (graph["patch"].rna_panel & graph["cell"].rna_panel).numpy()
    test = graph.in_split("patch", "test").numpy()
    cells, spots = (
        to_scipy_csr(graph.counts("cell", "rna"))[:, shared],
        to_scipy_csr(graph.counts("patch", "rna"))[:, shared],
    )
    truth = log_shares(spots.toarray())
    predictions = {f"pooled within {radius} µm": log_shares(pooled(graph, cells, radius)) for radius in (27.5, 89, 148)}
    overlap = to_scipy_csr(graph["cell", "within", "patch"].adj_t)
    predictions[NESTED] = log_shares(np.asarray((overlap @ cells).todense()))
    hide = (("patch", "rna"),)
    predictions["model"] = log_shares(np.exp(expression_logits(graph, model, lateral=True, hide=hide)[:, shared]))
    scores = {key: r(np.nanmedian(pearson(values[test], truth[test]))) for key, values in predictions.items()}
    pos = graph["patch"].pos.numpy()
    block = np.unique(np.floor(pos / config.task.split["block_um"]), axis=0, return_inverse=True)[1].reshape(-1)
    differences = []
    for i in np.unique(block[test]):
        here = test & (block == i)
        if here.sum() >= 15:
            ours, theirs = (pearson(predictions[key][here], truth[here]) for key in ("model", NESTED))
            differences.append(float(np.nanmedian(ours) - np.nanmedian(theirs)))
    return {**scores, "n_spots": int(test.sum()), "blocks": len(differences), "difference_by_block": differences}


def pooled(graph: TissueGraph, cells: sparse.csr_matrix, radius_um: float) -> np.ndarray:
    """Return summed counts of the cells of the same split within a radius of each spot."""
    near = cKDTree(graph["patch"].pos.numpy()).sparse_distance_matrix(
        cKDTree(graph["cell"].pos.numpy()), radius_um, output_type="coo_matrix"
    )
    same = graph["patch"].split.numpy()[near.row] == graph["cell"].split.numpy()[near.col]
    weights = sparse.csr_matrix(
        (np.ones(same.sum()), (near.row[same], near.col[same])), shape=(graph["patch"].num_nodes, cells.shape[0])
    )
    return np.asarray((weights @ cells).todense())


def log_shares(counts: np.ndarray) -> np.ndarray:
    return np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 100)


if __name__ == "__main__":
    main()
