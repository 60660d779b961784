"""A small screen with known effects, and what is predicted of it, for the tests of tables and predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph.evaluation.records import Evaluation

GENES, CELLS = 40, 24
NAMES = ("control", "A", "B", "C", "D", "E", "A+B", "C+D", "A+C", "B+D", "D+E")
YAML = """\
task:
  name: small
  sections:
    - name: small
      sources: [{path: ./screen.h5ad, dissociated: true}]
      interventions: {column: condition, control: control, kind: activation}
  split: {kind: by_intervention, hold: combination, seen: 2, n_test: 1}
training: {epochs: 1, device: cpu}
"""


def effects(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    alone = {part: rng.normal(size=GENES) * (rng.random(GENES) < 0.4) for part in "ABCDE"}
    return {name: sum((alone[p] for p in name.split("+") if p in alone), np.zeros(GENES)) for name in NAMES}


def measured(seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    base = np.log(np.random.default_rng(9).gamma(2.0, 2.0, GENES))
    x = np.concatenate([rng.poisson(np.exp(base + effect), (CELLS, GENES)) for effect in effects().values()])
    return table(x, np.repeat(NAMES, CELLS).tolist())


def table(x: Any, names: list[str], **columns: Any) -> ad.AnnData:
    obs = pd.DataFrame({"condition": names, **columns}, index=[f"c{i}" for i in range(len(names))])
    made = ad.AnnData(sparse.csr_matrix(np.asarray(x, float)), obs=obs)
    made.var_names = [f"G{i}" for i in range(GENES)]
    return made


def sided(given: ad.AnnData, names: tuple[str, ...] = ("A+B", "C+D")) -> ad.AnnData:
    given.obs["split"] = ["test" if name in names else "train" for name in given.obs["condition"]]
    return given


def profiles(names: tuple[str, ...] = ("A+B", "C+D"), depth: float = 1e4) -> ad.AnnData:
    """Return true expected profiles as log1p of counts per 10,000 or of another depth, one row a condition."""
    base = np.log(np.random.default_rng(9).gamma(2.0, 2.0, GENES))
    rate = np.exp(base + np.stack([effects()[name] for name in names]))
    return table(np.log1p(depth * rate / rate.sum(axis=1, keepdims=True)), list(names))


def sets(folder: Path) -> Path:
    """Write four sets of ten genes each."""
    lines = [f"set{k}\t\t" + "\t".join(f"G{10 * k + i}" for i in range(10)) for k in range(4)]
    (folder / "sets.gmt").write_text("\n".join(lines))
    return folder / "sets.gmt"


def planted(made: ad.AnnData, of: str = "A+B", into: str = "E") -> ad.AnnData:
    """Return a screen in which cells of an asked condition stand under the name of one that trains."""
    x, name = made.X.toarray(), made.obs["condition"].to_numpy()
    x[name == into] = x[name == of]
    made.X = sparse.csr_matrix(x)
    return made


def values(found: Evaluation) -> dict[tuple[str, str], float | None]:
    return {(one.metric, one.predictor): one.value for one in found.results}
