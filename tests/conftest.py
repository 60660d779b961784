"""What all tests share: where the real data lies, and small sections with known structure."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test problems are small, and tests run side by side

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def loggers_as_made() -> None:
    """Undo what an earlier test's command line set: `--quiet` of one test must not silence another."""
    for name in ("aivc_graph", "aivc_graph.pipeline.demo"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remember what is costly in a folder of these tests: what an earlier session made must not pass for theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data, ``AIVC_DATA`` or ``../shared/data``; skip where it is absent."""
    folder = Path(os.environ.get("AIVC_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data absent: {folder} (set AIVC_DATA)")
    return folder


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of the demo on the tiny study; not to be written into."""
    from aivc_graph.pipeline.demo import demo

    return demo(tmp_path_factory.mktemp("demo") / "run", device="cpu", preset="tiny")


@pytest.fixture(scope="session")
def striped_section() -> Callable[..., Any]:
    """Return a maker of sections whose genes change in three stripes: cells, spots over them, tile features."""
    return _striped_section


def _striped_section(
    name: str = "s1",
    *,
    n: int = 400,
    seed: int = 0,
    levels: tuple[str, ...] = ("cell",),
    donor: str = "d1",
    structure: bool = True,
) -> Any:
    from aivc_graph.tissue.frame import scale_affine
    from aivc_graph.tissue.section import add_level, add_observation, new_section

    rng = np.random.default_rng(seed)
    genes = np.array([f"G{i}" for i in range(30)])
    section = new_section(name, donor=donor)
    side = 12.0 * np.sqrt(n)
    for level, number, radius, depth in (("cell", n, 5.0, 60), ("patch", max(n // 8, 12), 27.5, 400)):
        if level not in levels:
            continue
        pos = rng.random((number, 2)) * side
        stripe = np.minimum((pos[:, 0] / side * 3).astype(int), 2) if structure else np.zeros(number, int)
        profile = np.full((3, 30), 1.0)
        for k in range(3):
            profile[k, 10 * k : 10 * k + 10] = 4.0
        rate = profile[stripe] / profile[stripe].sum(axis=1, keepdims=True)
        counts = rng.poisson(rate * rng.gamma(5.0, depth / 5, (number, 1)))
        barcodes = [f"{level}{i}" for i in range(number)]
        columns = pd.DataFrame({"label": [f"stripe {k}" for k in stripe], "split": _validation_rows(pos, side)})
        add_level(section, level, barcodes, pos, radius, scale_affine(1.0), columns)
        table = ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
        table.obs_names, table.var_names = barcodes, genes
        add_observation(section, level, "rna", table)
        if level == "patch":
            features = ad.AnnData(
                (np.eye(3)[stripe] @ rng.normal(size=(3, 5)) + 0.3 * rng.normal(size=(number, 5))).astype(np.float32)
            )
            features.obs_names, features.var_names = barcodes, [f"f{i}" for i in range(5)]
            add_observation(section, level, "histology", features)
    return section


def _validation_rows(pos: np.ndarray, side: float) -> list[str]:
    return ["validation" if y > 0.8 * side else "train" for y in pos[:, 1]]
