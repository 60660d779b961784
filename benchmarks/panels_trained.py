"""Training on sections of which each measured a part of the genes; see `panels`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from first_model_parts import interval
from sklearn.neighbors import NearestNeighbors

from aivc_graph import names
from aivc_graph.config import Config, load_config
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.panels import measured_molecules, panel
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.ridge import ridge
from aivc_graph.pipeline.build import hold_out, read_sections
from aivc_graph.pipeline.train import train
from aivc_graph.query.predictions import measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate
from aivc_graph.splits.design import labels_of
from aivc_graph.tissue.frame import positions_um, scale_affine
from aivc_graph.tissue.section import add_level, add_observation, metadata_of, new_section

PANELS, SHARES, NEAREST, MOST, STRIPS = 4, (0.8, 0.65, 0.5), 30, 3_000, 8
# Of panels: the Xenium breast has twice as many sections to test.
DRAWS = {"xenium": 1}
LEVEL, PER = "cell", 10_000.0
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


def study(name: str) -> dict[str, Any]:
    """Return the scores of one tissue by the share of genes that each section measured."""
    sections, config = cells_of(name)
    whole = trained(sections, config, "union")
    found = {}
    for share in SHARES:
        by_draw = [scores(sections, config, whole, share, draw) for draw in range(DRAWS.get(name, 2))]
        found[str(share)] = {
            what: summary({rule: np.concatenate([one[what][rule] for one in by_draw]) for rule in by_draw[0][what]})
            for what in by_draw[0]
        }
    return found


def summary(rules: dict[str, Floats]) -> dict[str, Any]:
    """Return the mean of each rule over units, and the interval of the model's lead over each."""
    ours = rules["model"]
    said: dict[str, Any] = {rule: round(float(values.mean()), 4) for rule, values in rules.items()}
    return said | {f"model minus {rule}": interval(ours - values) for rule, values in rules.items() if rule != "model"}


def cells_of(name: str) -> tuple[list[Any], Config]:
    """Return sections of cells alone, held out as the study says; of one section strips of equal numbers of cells."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path("configs/xenium_visium_breast.yaml")
        if name != "xenium":
            path = simulate(name, Path(temporary) / "tissue", seed=0) / "config.yaml"
        config = load_config(path, ["training.device=cpu"])
        sections = [one for entry in config.task.sections for one, _ in read_sections(entry)]
        hold_out(sections, config.task)
        if len(sections) > 1:
            return [cells(one, slice(None), "") for one in sections], config
        x = positions_um(sections[0], LEVEL)[:, 0]
        strip = np.searchsorted(np.quantile(x, np.arange(1, STRIPS) / STRIPS), x)
        return [cells(sections[0], np.flatnonzero(strip == i), f" {i}") for i in range(STRIPS)], config


def cells(section: Any, rows: Any, suffix: str) -> Any:
    """Return a section of some cells of another, with their counts and their side of the split."""
    facts = metadata_of(section)
    found = new_section(facts["section"] + suffix, donor=facts.get("donor"))
    table = section.tables[f"{LEVEL}_rna"]
    barcodes = section.shapes[LEVEL].index[rows]
    columns = labels_of(section, LEVEL).loc[barcodes].to_frame(names.SPLIT.name)
    add_level(found, LEVEL, barcodes, positions_um(section, LEVEL)[rows], 5.0, scale_affine(1.0), columns)
    add_observation(found, LEVEL, "rna", table[table.obs_names.isin(barcodes)].copy())
    return found


def cut(sections: list[Any], panels: list[np.ndarray]) -> list[Any]:
    """Return the sections as if each had measured the genes of its panel alone."""
    found = []
    for section, genes in zip(sections, panels, strict=True):
        facts, shapes, table = metadata_of(section), section.shapes[LEVEL], section.tables[f"{LEVEL}_rna"]
        one = new_section(facts["section"], donor=facts.get("donor"))
        columns = labels_of(section, LEVEL).to_frame(names.SPLIT.name)
        add_level(one, LEVEL, shapes.index, positions_um(section, LEVEL), 5.0, scale_affine(1.0), columns)
        add_observation(one, LEVEL, "rna", table[:, table.var_names.isin(genes)].copy())
        found.append(one)
    return found


def trained(sections: list[Any], config: Config, genes: str) -> VirtualTissue:
    """Return the tissue of a run on the sections."""
    edges = {LEVEL: config.graph.edges[LEVEL]}
    graph = build_graph(sections, GraphConfig(genes=genes, edges=edges))
    with tempfile.TemporaryDirectory() as folder:
        run = train(graph, Config(model=config.model, training=config.training), Path(folder) / "run", device="cpu")
        return run.tissue


def scores(
    sections: list[Any], config: Config, whole: VirtualTissue, share: float, draw: int
) -> dict[str, dict[str, Floats]]:
    """Return by what is asked, and by rule, one score a section with test cells (section,)."""
    genes, rng = np.array(panel(whole.graph, LEVEL, "rna")), np.random.default_rng(draw)
    panels = [genes[rng.random(len(genes)) < share] for _ in range(PANELS)]
    parts = cut(sections, [panels[i % PANELS] for i in range(len(sections))])
    union, shared = (trained(parts, config, how) for how in ("union", "shared"))
    asked, columns = whole.on(union.graph), np.searchsorted(genes, panel(union.graph, LEVEL, "rna"))
    truth = measured_log_expression(whole.model, whole.graph, LEVEL)[:, columns]
    section = union.graph[LEVEL].section_index.numpy()
    test = np.flatnonzero(union.graph.in_split(LEVEL, names.TEST).numpy())
    test = np.sort(np.random.default_rng(0).permutation(test)[:MOST])
    hidden = ~measured_molecules(union.graph, LEVEL, "rna").numpy()
    told = {"model": told_by(union), "trained on all genes": told_by(asked)[:, columns]}
    states = {
        "model": state_of(union), "trained on all genes": state_of(asked), "trained on shared genes": state_of(shared)
    }  # fmt: skip
    for rule, (values, state) in rules(union, latent=whole.model.latent).items():
        told[rule], states[rule] = values, state
    r = {rule: by_section(values, truth, section, test, hidden) for rule, values in told.items() if values is not None}
    true = neighbours(state_of(whole)[test])
    kept = {rule: shared_neighbours(state[test], true, section[test]) for rule, state in states.items()}
    return {"genes not measured, r": r, "neighbours kept": kept}


def told_by(tissue: VirtualTissue) -> Floats:
    """Return expected log expression (cell, gene)."""
    return np.log1p(tissue.expression(at=LEVEL).X * float(tissue.model.count_operator(LEVEL, "rna").target_depth) / PER)


def state_of(tissue: VirtualTissue) -> Floats:
    """Return what the counts of each cell alone say of its state (cell, latent)."""
    with torch.no_grad():
        part = tissue.model.count_operator(LEVEL, "rna")
        return np.asarray(part.encode(tissue.model.prepare(tissue.graph).measured(LEVEL, "rna")).numpy())


def rules(tissue: VirtualTissue, latent: int) -> dict[str, tuple[Floats | None, Floats]]:
    """Return by rule log expression about the section's mean (cell, gene), and the state (cell, latent)."""
    graph: TissueGraph = tissue.graph
    section, train = graph[LEVEL].section_index.numpy(), graph.in_split(LEVEL, names.TRAIN).numpy()
    there = measured_molecules(graph, LEVEL, "rna").numpy()[section]
    mean = graph[names.SECTION][f"{LEVEL}_rna_mean"].numpy()[section]
    x = np.nan_to_num(measured_log_expression(tissue.model, graph, LEVEL)) - mean
    by_all = there.all(axis=0)
    axes = components(x[train], latent)
    zeros = x @ axes
    scaled = zeros / there.mean(axis=1, keepdims=True)
    found: dict[str, tuple[Floats | None, Floats]] = {
        "zeros": (zeros @ axes.T, zeros), "scaled up": (scaled @ axes.T, scaled)
    }  # fmt: skip
    if by_all.any():
        completed = {"ridge": x.copy(), "nearest": x.copy()}
        for one in np.unique(there, axis=0):
            rows, lacking = np.flatnonzero((there == one).all(axis=1)), np.flatnonzero(~one)
            for others in np.unique(there[:, lacking].T, axis=0):
                asked = lacking[(others == there[:, lacking].T).all(axis=1)]
                known = np.flatnonzero(train & others)
                known = np.sort(np.random.default_rng(0).permutation(known)[: 4 * MOST])
                to_genes = ridge(x[known][:, by_all], x[known][:, asked], section[known])
                completed["ridge"][np.ix_(rows, asked)] = x[rows][:, by_all] @ to_genes
                tree = NearestNeighbors(n_neighbors=NEAREST).fit(x[known][:, by_all])
                near = tree.kneighbors(x[rows][:, by_all])[1]
                completed["nearest"][np.ix_(rows, asked)] = x[known][:, asked][near].mean(axis=1)
        for rule, values in completed.items():
            found[rule] = (values, values @ components(values[train], latent))
    return found


def components(x: Floats, latent: int) -> Floats:
    """Return the first principal components of centred rows (gene, latent)."""
    return np.asarray(np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :latent])


def by_section(told: Floats, truth: Floats, section: Any, test: Any, hidden: Any) -> Floats:
    """Return the mean over genes that a section did not measure of the correlation over its test cells (section,)."""
    found = []
    for one in np.unique(section[test]):
        rows, genes = test[section[test] == one], np.flatnonzero(hidden[one])
        a, b = (values[np.ix_(rows, genes)].astype(float) for values in (told, truth))
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        varies = b.std(axis=0) > 0
        size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))[varies]
        found.append(float(((a * b).sum(axis=0)[varies] / np.maximum(size, 1e-12)).mean()))
    return np.array(found)


def neighbours(state: Floats) -> Any:
    """Return the nearest others of each cell (cell, neighbour)."""
    return NearestNeighbors(n_neighbors=NEAREST + 1).fit(state).kneighbors(state)[1][:, 1:]


def shared_neighbours(state: Floats, true: Any, section: Any) -> Floats:
    """Return which share of the nearest cells, of all sections, are nearest in truth, by section (section,)."""
    kept = np.array([len(np.intersect1d(p, q)) / NEAREST for p, q in zip(neighbours(state), true, strict=True)])
    return np.array([kept[section == one].mean() for one in np.unique(section)])
