"""Small public screens as tables of responses, and drawn ones whose interactions are known."""

from __future__ import annotations

import csv
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph.evaluation.responses.cells import Cells
from aivc_graph.evaluation.responses.table import Responses, responses_of

Floats = np.ndarray[Any, Any]
Parts = tuple[str, ...]
INTERACTIONS = ("adds", "saturates", "shrinks", "coefficients", "programme", "mixed")


def sets_in(folder: Path) -> dict[str, Callable[[], Responses]]:
    """Return how to read each screen in a folder of data."""
    doses = ("0.12", "0.37", "1.11", "3.33", "10")
    return {
        "korkut15": partial(korkut, folder / "korkut15-cellbox"),
        "hepg2 midas": partial(hepg2, folder / "hepg2-signalling-midas/LiverDataDREAMMIDAS.csv"),
        "mathews14": partial(mathews, folder / "mathews14-drug-combo/mathews_DLBCL.csv"),
        **{f"gi fitness {seed}": partial(fitness, folder / "norman19-gi-fitness", seed) for seed in range(5)},
        **{
            f"korkut15 thinned {seed}": partial(thinned, korkut, seed, folder / "korkut15-cellbox") for seed in (10, 11)
        },
        "gi fitness 3 thinned": partial(thinned, fitness, 10, folder / "norman19-gi-fitness", 3),
        "gi fitness 4 thinned": partial(thinned, fitness, 10, folder / "norman19-gi-fitness", 4),
        "l1000 shrna": partial(knock_downs, folder / "l1000-shrna-plate/kd_gct.h5ad"),
        "p100": partial(phosphosites, folder / "p100-mcf7-phospho/P-0029_MCF7_3H_test_p100.gct"),
        **{f"l1000 a375 {dose} uM": partial(kinases, folder / "l1000-a375-kinase-dose", (dose,)) for dose in doses},
        "l1000 a375": partial(kinases, folder / "l1000-a375-kinase-dose"),
        "l1000 lines": partial(lines, folder / "l1000-3drugs-65lines/ds.h5ad"),
        "l1000 times": partial(times, folder / "l1000-3drugs-65lines/ds.h5ad"),
        "norman and mcfaline": partial(contexts, folder / "norman19-mcfaline23-devel/devel.h5ad"),
    }


def korkut(folder: Path) -> Responses:
    """12 drugs by dose, alone and in pairs: 87 proteins and phenotypes. Korkut 2015, doi:10.7554/eLife.04640."""
    with open(folder / "node_Index.csv") as nodes:
        names = [row[-1] for row in csv.reader(nodes)][:87]
    words = [line.split()[0] for line in (folder / "expr_index.txt").read_text().splitlines() if line.strip()]
    effect = np.loadtxt(folder / "expr.csv", delimiter=",")[:, :87]
    return table_of(names, [tuple(word.split(",")) for word in words], ["sk-mel-133"] * len(words), effect)


def hepg2(path: Path) -> Responses:
    """Ligands and inhibitors, alone and in pairs, at 30 minutes. Alexopoulos 2010, doi:10.1074/mcp.M110.000406."""
    rows = pd.read_csv(path, lineterminator="\r").apply(pd.to_numeric, errors="coerce")
    treated = [name for name in rows if name.startswith("TR:") and not name.endswith("CellLine")]
    rows = rows[rows[next(name for name in rows if name.startswith("DA:"))] == 30]
    told = [name for name in rows if name.startswith("DV:") and rows[name].notna().all()]
    control = rows[treated].sum(axis=1) == 0
    effect = (rows[told] - rows.loc[control, told].mean())[~control].to_numpy(float)
    parts = [tuple(name[3:] for name in treated if row[name] > 0) for _, row in rows[~control].iterrows()]
    return table_of([name[3:] for name in told], parts, ["hepg2"] * len(parts), effect)


def mathews(path: Path) -> Responses:
    """Two drug pairs by dose, log viability. Mathews Griner 2014, doi:10.1073/pnas.1311846111."""
    parts, context, effect = [], [], []
    for name, own in pd.read_csv(path).groupby("experiment"):
        base = np.log(own.viability[(own.conc_a == 0) & (own.conc_b == 0)].iloc[0])
        for row in own.itertuples():
            given = ((row.drug_a, row.conc_a), (row.drug_b, row.conc_b))
            done = tuple(f"{drug} {dose}" for drug, dose in given if dose > 0)
            if done:
                parts.append(done)
                context.append(str(name))
                effect.append([np.log(max(row.viability, 0.01)) - base])
    return table_of(["viability"], parts, context, np.array(effect))


def fitness(folder: Path, seed: int, n_genes: int = 24, n_pairs: int = 40) -> Responses:
    """Growth of some genes and pairs, two replicates. Norman 2019, doi:10.1126/science.aax4438."""
    gene = pd.read_csv(folder / "CRISPRa_K562_sgRNA_to_gene.txt", sep="\t", index_col=0)["gene"]
    pairs, singles = [], []
    for replicate in (1, 2):
        stem = f"CRISPRa_K562_replicate{replicate}_"
        both = pd.read_csv(folder / f"{stem}phenotypeMatrix_abbaAveraged.txt", sep="\t", index_col=0)
        both.index, both.columns = gene.reindex(both.index), gene.reindex(both.columns)
        pairs.append(both.groupby(level=0).mean().T.groupby(level=0).mean().T)
        one = pd.read_csv(folder / f"{stem}singlePhenotypes_abbaAveraged.txt", sep="\t", index_col=0)["b.mean"]
        singles.append(one.groupby(gene.reindex(one.index).to_numpy()).mean())
    rng = np.random.default_rng(seed)
    names = [name for name in singles[0].index if name != "negative" and all(name in one.index for one in pairs)]
    own = sorted(rng.permutation(names)[:n_genes])
    both = [(a, b) for i, a in enumerate(own) for b in own[i + 1 :]]
    drawn = [both[i] for i in rng.permutation(len(both))[:n_pairs]]
    done: list[Parts] = [(name,) for name in own] + drawn
    effect = [[one[name] for one in singles] for name in own] + [[one.loc[pair] for one in pairs] for pair in drawn]
    kept = np.isfinite(effect).all(axis=1)
    done = [one for one, keep in zip(done, kept, strict=True) if keep]
    return table_of(["replicate 1", "replicate 2"], done, ["k562"] * len(done), np.array(effect)[kept])


def thinned(read: Callable[..., Responses], seed: int, *given: Any) -> Responses:
    """Leave out half of the single perturbations of a screen, so that parts of pairs were never seen alone."""
    table = read(*given)
    rng = np.random.default_rng(seed)
    kept = [i for i, parts in enumerate(table.parts) if len(parts) > 1 or (len(parts) == 1 and rng.random() < 0.5)]
    return table_of(table.genes, [table.parts[i] for i in kept], table.context[kept].tolist(), table.effect[kept])


def knock_downs(path: Path) -> Responses:
    """Genes knocked down, most of them among those measured. Subramanian 2017, doi:10.1016/j.cell.2017.10.049."""
    data = ad.read_h5ad(path)
    name = data.obs.pert_iname.astype(str).to_numpy()
    control = (data.obs.pert_type != "trt_sh").to_numpy() | np.isin(name, ["GFP", "EMPTY_VECTOR", "UnTrt"])
    effect = np.asarray(data.X, float) - np.asarray(data.X, float)[control].mean(axis=0)
    genes = data.var.pr_gene_symbol.astype(str)
    return pooled(genes, [((one,), "plate") for one in name[~control]], effect[~control])


def kinases(folder: Path, doses: Sequence[str] = ()) -> Responses:
    """55 kinase inhibitors on A375, the doses as contexts. Niepel 2017, doi:10.1038/s41467-017-01383-w."""
    values, columns, rows = gct(folder / "LJP005_A375_24H_X1_B19_test_l1000.gct")
    effect = values - values[(columns.pert_type == "ctl_vehicle").to_numpy()].mean(axis=0)
    kept = (columns.pert_type == "trt_cp").to_numpy() & (columns.pert_dose.isin(doses) if doses else True)
    keys = [((name,), dose) for name, dose in zip(columns.pert_iname[kept], columns.pert_dose[kept], strict=True)]
    return by_amount(pooled(rows.pr_gene_symbol, keys, effect[kept]), 0)


def lines(path: Path) -> Responses:
    """Three drugs on 65 cell lines. Subramanian 2017, doi:10.1016/j.cell.2017.10.049."""
    data = ad.read_h5ad(path)
    keys = [((name,), cell) for name, cell in zip(data.obs.pert_iname.astype(str), data.obs.cell_id, strict=True)]
    return pooled(data.var.pr_gene_symbol.astype(str), keys, np.asarray(data.X, float))


def times(path: Path) -> Responses:
    """The same three drugs, by hours rather than by line: 6 h is told from 24 h alone, and 24 h from 6 h."""
    data = ad.read_h5ad(path)
    hours = data.obs.pert_itime.astype(str).str.split(" &").str[0]
    keys = [((name,), hour) for name, hour in zip(data.obs.pert_iname.astype(str), hours, strict=True)]
    return by_amount(pooled(data.var.pr_gene_symbol.astype(str), keys, np.asarray(data.X, float)), 1)


def contexts(path: Path) -> Responses:
    """One line of Norman 2019 and three of McFaline-Figueroa 2023, with the untreated profile of each."""
    return responses_of(ad.read_h5ad(path), "condition", "control", "cell_type", where=str(path))


def phosphosites(path: Path) -> Responses:
    """31 compounds, 96 phosphosites. Abelin 2016, doi:10.1074/mcp.M116.058354."""
    values, columns, rows = gct(path)
    values = np.where(np.isnan(values), np.nanmean(values, axis=0), values)
    control = (columns.pert_iname == "DMSO").to_numpy()
    keys = [((name,), "mcf7") for name in columns.pert_iname[~control]]
    return pooled(rows.index.astype(str), keys, values[~control] - values[control].mean(axis=0))


def drawn(how: str, seed: int, noise: float, known: bool) -> Responses:
    """Draw a screen: 22 parts, seven in ten of them also alone, and 16 pairs; 300 genes in eight programmes.

    Effects differ in size by a factor of e^0.8; with `known`, a gene's own programmes are what its perturbation moves.
    Pairs add, saturate, shrink to 0.7, add with a coefficient each of 0.4 to 1.2, move programmes of their own, or do
    one of these at random.
    """
    rng = np.random.default_rng(seed)
    programmes = rng.normal(size=(8, 300)) * (rng.random((8, 300)) < 0.3)
    target = rng.permutation(300)[:22]
    use = programmes[:, target].T if known else rng.normal(size=(22, 8)) * (rng.random((22, 8)) < 0.3)
    use = use + 0.5 * rng.normal(size=use.shape) * (rng.random(use.shape) < 0.3)
    effect = (use + 0.5 * rng.normal(size=8)) @ programmes + 0.3 * rng.normal(size=(22, 300))
    effect *= np.exp(0.8 * rng.normal(size=22))[:, None]
    effect /= effect.std()
    every = [(i, j) for i in range(22) for j in range(i + 1, 22)]
    both = [every[i] for i in rng.permutation(len(every))[:16]]
    rows: list[tuple[int, ...]] = [(i,) for i in range(22) if rng.random() < 0.7] + both
    whole = np.stack(
        [effect[one[0]] if len(one) == 1 else _pair(effect[list(one)], how, programmes, rng) for one in rows]
    )
    names = [f"G{i}" for i in target]
    done = [tuple(names[i] for i in row) for row in rows]
    return table_of(
        [f"G{i}" for i in range(300)], done, ["drawn"] * len(done), whole + noise * rng.normal(size=whole.shape)
    )


def _pair(both: Floats, how: str, programmes: Floats, rng: np.random.Generator) -> Floats:
    how = str(rng.choice(INTERACTIONS[:-1])) if how == "mixed" else how
    sums = both.sum(axis=0)
    if how == "saturates":
        return np.asarray(both.clip(min=0).max(axis=0) + both.clip(max=0).min(axis=0))
    if how == "coefficients":
        return np.asarray(rng.uniform(0.4, 1.2, 2) @ both)
    if how == "programme":
        size = 0.7 * sums.std() / (programmes.std() * np.sqrt(len(programmes)))
        return np.asarray(sums + size * rng.normal(size=len(programmes)) @ programmes)
    return np.asarray(0.7 * sums if how == "shrinks" else sums)


def of_states(follows: bool, seed: int, noise: float = 0.5) -> Responses:
    """Draw 12 parts in five contexts whose untreated states lie at random on a line, 300 genes.

    What a part does is shared, half of its variance, and otherwise `follows` the line or is of the context alone.
    """
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(5, 1))
    untreated = 3 * rng.normal(size=300) + place * rng.normal(size=300) + 0.3 * rng.normal(size=(5, 300))
    own = place[..., None] * rng.normal(size=(12, 300)) if follows else rng.normal(size=(5, 12, 300))
    effect = (rng.normal(size=(12, 300)) + own + noise * rng.normal(size=own.shape)).reshape(60, 300)
    keys = [(f"G{i}", f"context {c}") for c in range(5) for i in range(12)]
    controls = {f"context {c}": profile for c, profile in enumerate(untreated)}
    genes = [f"G{i}" for i in range(300)]
    return table_of(genes, [(part,) for part, _ in keys], [context for _, context in keys], effect, controls)


def pooled(genes: Sequence[str], keys: Sequence[tuple[Parts, Hashable]], effect: Floats) -> Responses:
    """Return the table of the mean effect of each (parts, context)."""
    names = sorted(set(keys), key=str)
    code = np.array([names.index(key) for key in keys])
    mean = np.stack([effect[code == i].mean(axis=0) for i in range(len(names))])
    return table_of(genes, [parts for parts, _ in names], [str(context) for _, context in names], mean)


def by_amount(table: Responses, which: int) -> Responses:
    """Say that contexts are doses (0) or hours (1) of one place."""
    amounts = np.zeros((len(table.context), 2))
    amounts[:, which] = np.log([float(one.split()[0]) for one in table.context])
    return replace(table, place=np.full(len(table.context), "one"), amounts=amounts)


def table_of(
    genes: Sequence[str],
    parts: Sequence[Parts],
    context: Sequence[str],
    effect: Floats,
    controls: Mapping[str, Floats] | None = None,
) -> Responses:
    """Return effects as a table of responses without cells, a control of zero in each context unless they are given."""
    contexts = sorted(set(context))
    done = [tuple(sorted(one)) for one in parts] + [()] * len(contexts)
    where = np.array([*context, *contexts])
    order = sorted(range(len(done)), key=lambda i: (where[i], done[i]))
    control = {where[i]: at for at, i in enumerate(order) if not done[i]}
    level = (
        np.zeros((len(contexts), effect.shape[1])) if controls is None else np.stack([controls[c] for c in contexts])
    )
    rows = effect + level[[contexts.index(one) for one in context]]
    profile = np.vstack([rows, level])[order]
    return Responses(
        genes=tuple(map(str, genes)),
        condition=np.array(["+".join(done[i]) or "control" for i in order]),
        context=where[order],
        parts=tuple(done[i] for i in order),
        n_cells=np.ones(len(done)),
        profile=profile,
        variance=np.full(profile.shape, np.nan),
        control=np.array([control[where[i]] for i in order]),
        cells=Cells(sparse.csr_matrix((0, profile.shape[1])), np.zeros(0, int), False),
    )


def gct(path: Path) -> tuple[Floats, pd.DataFrame, pd.DataFrame]:
    """Return the values (sample, readout) of a GCT 1.3 file, and what it says of samples and of readouts."""
    with open(path) as file:
        next(file)
        n_rows, n_columns, n_own, n_about = map(int, next(file).split())
        cells = [line.rstrip("\n").split("\t") for line in file]
    about = pd.DataFrame({line[0]: line[1 + n_own :] for line in cells[1 : 1 + n_about]})
    body = cells[1 + n_about : 1 + n_about + n_rows]
    rows = pd.DataFrame([line[1 : 1 + n_own] for line in body], columns=cells[0][1 : 1 + n_own])
    values = pd.DataFrame([line[1 + n_own : 1 + n_own + n_columns] for line in body]).apply(
        pd.to_numeric, errors="coerce"
    )
    return values.to_numpy(float).T, about, rows
