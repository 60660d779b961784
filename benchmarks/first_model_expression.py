"""`first_model`: expression from H&E on the other donor, and spots from the cells beneath them."""

from __future__ import annotations

from typing import Any

import numpy as np
from first_model_parts import CONFIGS, interval, log, neighbour_mean, r, scaled_counts, trained
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.config import Config, load_config
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.ridge import ridge
from aivc_graph.pipeline.build import describe_slides, hold_out, read_section
from aivc_graph.query.states import hide_all, run_windows

NESTED = "pooled by the graph's overlaps (nested baseline)"


def her2st_image() -> dict[str, Any]:
    """Per-gene Pearson within each test section of a donor never seen."""
    config = load_config(CONFIGS / "her2st.yaml")
    used = [s for s in config.task.sections if s.name in ("B4", "C2", "C3", "C4", "C5")]
    sections = [read_section(s) for s in used]
    describe_slides(sections, config.task, config.graph.patch_um)
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


def xenium_spots() -> dict[str, Any]:
    """Median per-gene Pearson of log-normalised spot counts with what the cells beneath predict, in held-out blocks."""
    rows = []
    for seed in range(3):
        config = load_config(CONFIGS / "xenium_visium_breast.yaml", [f"task.split.seed={seed}"])
        section = read_section(config.task.sections[0])
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
