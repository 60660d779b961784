"""Sections of one block, placed on each other from a configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph import names
from aivc_graph.config import load_config
from aivc_graph.errors import ConfigError
from aivc_graph.graph.store import read_store
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.card import registration_told
from aivc_graph.tissue.frame import positions_um
from tests.tissue.registration.test_serial import MIRROR, TURN, section_of

TASK = """task:
  split: {{kind: everything}}
  sections:
    - name: one
      sources: [{{path: ./one.csv, reader: plain_table, level: patch, x: x, y: y, um_per_unit: 1, diameter_um: 55}}]
    - name: two
      sources: [{{path: ./two.csv, reader: plain_table, level: patch, x: x, y: y, um_per_unit: 1, diameter_um: 55}}]
      serial: {serial}
"""


def task(folder: Path, serial: str, frame: np.ndarray = TURN) -> Path:
    """Write two sections of an L of tissue, the second in a frame of its own, and a configuration of both."""
    for name, seed, own in (("one", 1, None), ("two", 2, frame)):
        section, _ = section_of(name, seed, own)
        table = section.tables["patch_rna"]
        x, y = positions_um(section, names.PATCH).T
        counts = pd.DataFrame(np.asarray(table.X), columns=table.var_names, index=table.obs["barcode"].astype(str))
        counts.assign(x=x, y=y).to_csv(folder / f"{name}.csv")
    (folder / "task.yaml").write_text(TASK.format(serial=serial))
    return folder / "task.yaml"


def test_a_section_is_placed_on_the_one_listed_before_it(tmp_path: Path) -> None:
    graph = read_store(build(load_config(task(tmp_path, "{on: one}")), tmp_path / "g.zarr"))
    patch = graph["patch"]
    two = patch.section_index.numpy() == 1
    _, true = section_of("two", 2, TURN)
    middle = patch.pos.numpy()[two].mean(axis=0) - true.mean(axis=0)
    assert np.linalg.norm(middle) < 45 < np.linalg.norm(TURN[:2, :2] @ true.mean(axis=0) - true.mean(axis=0))
    (said,) = registration_told(graph)
    assert "section lies was found by registration" in said["says"] and "1 section" in said["says"]
    sigma = graph["patch"]["registration_sigma_um"].numpy()[two]
    assert (sigma > 0).all() and (sigma < 100).all()


def test_a_mirrored_section_is_placed_only_where_that_is_allowed(tmp_path: Path) -> None:
    config = load_config(task(tmp_path, "{on: one, allow_mirror: true}", MIRROR))
    facts = read_store(build(config, tmp_path / "g.zarr"))
    assert facts.obs("section")["residual_um_section"].notna().sum() == 1
    with pytest.raises(Exception, match="mirrored frame fits best"):
        build(load_config(task(tmp_path, "{on: one}", MIRROR)), tmp_path / "h.zarr")


@pytest.mark.parametrize(
    ("serial", "said"),
    [
        ("{on: onne}", r"task.yaml:8: .*serial.on: no section 'onne' before this one; did you mean 'one'\?"),
        ("{on: two}", "no section 'two' before this one"),
        ("{on: one, genes: 4}", "serial.genes: unknown key; did you mean 'n_genes'"),
        ("{n_genes: 4}", "serial.on: expected a value, found nothing"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(tmp_path: Path, serial: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(task(tmp_path, serial))
