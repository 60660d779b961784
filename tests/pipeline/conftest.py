"""A tiny simulated tissue with its graph and its run, and a runner of command lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aivc_graph import cli
from aivc_graph.simulate.simulate import simulate
from tests.pipeline.screens import YAML, measured, profiles, sided

CONFIG = """\
task:
  name: tiny
  split: {kind: everything}
  sections:
    - name: s1
      donor: d1
      traits: {stage: early}
      sources:
        - {path: tissue/D1_untreated/spaceranger, reader: spaceranger, slide: tissue/D1_untreated/slide.ome.tif}
        - {path: tissue/D1_untreated/xenium, reader: xenium}
  features: {}
model: {latent: 4, rings: [6, 12]}
training: {epochs: 2, device: cpu}
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny simulated tissue, its configuration, a graph store and a trained run."""
    folder = tmp_path_factory.mktemp("tiny")
    simulate("tiny", folder / "tissue")
    (folder / "tiny.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIVC_DATA", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert cli.main(["build", str(folder / "tiny.yaml"), "--out", str(folder / "graph.zarr"), "--quiet"]) == 0
        given = ["train", str(folder / "tiny.yaml"), "--graph", str(folder / "graph.zarr")]
        assert cli.main([*given, "--out", str(folder / "run"), "--set", "training.epochs=3", "--quiet"]) == 0
    return folder


@pytest.fixture
def where_data_lies(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let paths of configurations start from the folder of the tiny tissue."""
    monkeypatch.setenv("AIVC_DATA", str(made))
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a runner of one command line; it gives exit code, output and errors."""

    def say(*given: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(part) for part in given])
        return code, *capsys.readouterr()

    return say


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return a folder with a screen, its configuration and predictions."""
    sided(measured()).write_h5ad(tmp_path / "screen.h5ad")
    profiles().write_h5ad(tmp_path / "said.h5ad")
    (tmp_path / "small.yaml").write_text(YAML)
    return tmp_path
