"""The niches of a run as a file: read as written, told apart from damage, done without where an older run has none."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from aivc_graph.errors import StoreError
from aivc_graph.plot.palette import nth_colour
from aivc_graph.query.niche_file import FILE, load_niches, niches_of_training, save_niches
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.checkpoint import load_tensors, save_tensors


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the run folder that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_niches_are_read_as_they_were_fitted(tissue: VirtualTissue, tmp_path: Path) -> None:
    found = niches_of_training(tissue.model, tissue.graph, tissue.diagnostics, tissue.seed)
    rule = dataclasses.replace(found, evenness=0.5)
    save_niches(rule, tmp_path)
    read = load_niches(tmp_path, tissue.model)
    assert read is not None
    for name in ("level", "made_of", "coupling", "evenness"):
        assert getattr(read, name) == getattr(rule, name)
    for one, other in ((read.mixture, rule.mixture), (read.kinds, rule.kinds)):
        assert type(one) is type(other)
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, vars(other)[name])
    np.testing.assert_array_equal(read.spread, rule.spread)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_training_stores_the_niches_with_their_numbers_and_colours(trained: Path, tissue: VirtualTissue) -> None:
    _, facts = load_tensors(trained / FILE)
    expected = [{"niche": str(i + 1), "colour": nth_colour(i)} for i in range(tissue.niches().n_vars)]
    assert facts["niches"] == expected and facts["fitted_on"] == "train nodes" and facts["level"] == "cell"


def test_a_run_without_the_file_has_the_niches_of_its_whole_graph(run: Path) -> None:
    (run / FILE).unlink()
    tissue = VirtualTissue.load(run)
    assert tissue.niches().uns["niches"]["of"] == "this tissue"
    np.testing.assert_array_equal(tissue.niches().X, tissue.niches(resolution=1.0).X)
    again = tissue.on(tissue.graph).niches()
    np.testing.assert_array_equal(again.X, tissue.niches().X)


def test_a_damaged_file_is_named(run: Path) -> None:
    tensors, facts = load_tensors(run / FILE)
    facts.pop("format")
    wrong = {
        "no niches that can be read": ({name: t for name, t in tensors.items() if name != "kinds.means"}, facts),
        "expected the 4 of the run's model, found niches in 3": (tensors | {"spread": tensors["spread"][:3]}, facts),
        "no niches that can be read .'mixture'": (tensors, {k: v for k, v in facts.items() if k != "mixture"}),
    }
    for said, (kept, told) in wrong.items():
        save_tensors(kept, told, run / FILE)
        with pytest.raises(StoreError, match=rf"{FILE}.*{said}"):
            VirtualTissue.load(run)
    (run / FILE).write_bytes(b"\x80\x04pickled")
    with pytest.raises(StoreError, match="not a readable safetensors file"):
        VirtualTissue.load(run)
