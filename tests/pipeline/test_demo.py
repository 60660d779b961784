"""The whole way by one command: the same bytes again, and nobody's study lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from aivc_graph.config import load_config
from aivc_graph.errors import ConfigError
from aivc_graph.pipeline.demo import demo, simulate_anew
from aivc_graph.simulate.presets import PRESETS, UNTREATED, DonorPlan, Preset

pytestmark = pytest.mark.usefixtures("where_data_lies")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TABLES = ("niches", "markers", "expression", "contacts")
PICTURES = ("niches", "contacts", "training")


def test_a_study_of_ones_own_is_neither_trained_into_nor_replaced(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "tissue/truth").mkdir(parents=True)
    (tmp_path / "tissue/config.yaml").write_text("mine")
    code, _, err = say("demo", "--out", tmp_path)
    assert code == 2 and "already holds something" in err
    code, _, err = say("train", made / "tiny.yaml", "--graph", made / "graph.zarr", "--out", tmp_path / "tissue")
    assert code == 2 and "a simulated study" in err
    assert (tmp_path / "tissue/config.yaml").read_text() == "mine"


def test_the_demo_gives_the_same_bytes_again_and_replaces_an_older_one(
    tiny_demo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aivc_graph.pipeline.demo")
    (tmp_path / "demo/tissue/truth").mkdir(parents=True)
    (tmp_path / "demo/checkpoints").mkdir()
    for part in ("run.json", "graph.zarr"):
        (shutil.copytree if part == "graph.zarr" else shutil.copy)(tiny_demo / part, tmp_path / "demo" / part)
    (tmp_path / "demo/tissue/old").write_text("of an earlier demo")
    out = demo(tmp_path / "demo", device="cpu", preset="tiny")
    assert not (out / "tissue/old").exists()
    files = [
        *(f"{name}.csv" for name in TABLES),
        *(f"{name}.png" for name in PICTURES),
        "evaluation.json",
        "report.html",
    ]
    assert [name for name in files if (out / name).read_bytes() != (tiny_demo / name).read_bytes()] == []
    stages = [r.getMessage().split(":")[0] for r in caplog.records if r.name == "aivc_graph.pipeline.demo"]
    assert stages == ["simulate", "inspect", "build", "train", "evaluate", "query", "report"]
    truth = [pd.read_parquet(file) for file in out.glob("tissue/truth/*/cells.parquet")]
    assert len(pd.read_csv(out / "niches.csv")) == sum(map(len, truth))
    assert all(len(pd.read_csv(out / f"{name}.csv")) for name in ("expression", "contacts"))
    assert "log2_ratio" in pd.read_csv(out / "markers.csv")  # none where so little tissue is of one niche
    assert all(np.ptp(imread(out / f"{name}.png")[..., :3]) > 0.5 for name in PICTURES)
    assert "Found and true" in (out / "report.html").read_text()


def test_a_finished_demo_of_another_seed_or_study_is_refused_before_anything_is_written(
    tiny_demo: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "tissue/truth").mkdir(parents=True)
    (tmp_path / "tissue/old").write_text("of the finished demo")
    (tmp_path / "graph.zarr").mkdir()
    shutil.copy(tiny_demo / "run.json", tmp_path / "run.json")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = say("demo", "--out", tmp_path, "--seed", 1)
    assert code == 2 and "found a finished run of task tiny, seed 0; name another by --out" in err
    with pytest.raises(ConfigError, match="expected none, or one of seed 1, found a finished run of seed 0"):
        demo(tmp_path, device="cpu", preset="tiny", seed=1)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_killed_demo_simulated_is_made_again_and_another_study_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", Preset(120.0, (DonorPlan("D1", "site", (UNTREATED,)),), mpp=None))
    tissue = tmp_path / "tissue"
    simulate_anew("tiny", tissue, 0)
    simulate_anew("tiny", tissue, 0)  # nothing yet beside it: it was killed while it read the sections
    with pytest.raises(ConfigError, match="already holds something; name another by --out"):
        simulate_anew("tiny", tissue, 1)
    before = (tissue / "truth/D1_untreated/cells.parquet").read_bytes()
    (tissue / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="already holds something"):
        simulate_anew("tiny", tissue, 0)
    assert (tissue / "truth/D1_untreated/cells.parquet").read_bytes() == before and (tissue / "notes.txt").exists()
    (tmp_path / "checkpoints").mkdir()
    simulate_anew("tiny", tissue, 1)
    assert (tissue / "truth/D1_untreated/cells.parquet").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "tissue"]


def test_the_demos_configuration_is_the_one_shipped(made: Path) -> None:
    shipped = {section.name: section for section in load_config(CONFIGS / "demo.yaml").task.sections}
    written = {section.name: section for section in load_config(made / "tissue/config.yaml").task.sections}
    assert len(shipped) == 3 and set(shipped) < set(written)
    for name, section in shipped.items():
        assert section.sources == written[name].sources and section.donor == written[name].donor
        assert [part.key for part in section.interventions] == [part.key for part in written[name].interventions]
