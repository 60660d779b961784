"""A leaking run fails; where its configuration accepts the leak, every page says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aivc_graph.config import Config, TaskConfig, load_config
from aivc_graph.errors import TissueError
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.card import gaps_told
from aivc_graph.pipeline.doubts import doubts_of_registration
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.train import train_config
from aivc_graph.report.caveats import seen_donors
from aivc_graph.report.write import write_report
from aivc_graph.simulate.simulate import simulate
from tests.splits.screens import section_of

SPLIT_HALF = ["train", "train", "train", "test", "test", "unused"]
SETTINGS = ("model.latent=4", "model.rings=[6,12]", "training.epochs=1", "training.device=cpu")


def leaking(folder: Path, share_content: bool) -> Config:
    """Return a study whose test donor is a training donor under another name."""
    split = {"kind": "by_group", "test": ["new"], "share_content": share_content}
    sections = [
        {"name": name, "donor": donor, "sources": [{"path": f"./tissue/{of}/xenium", "reader": "xenium"}]}
        for name, donor, of in (("a", "old", "D1_untreated"), ("b", "new", "D1_untreated"), ("c", "c", "D2_untreated"))
    ]
    file = folder / "leaking.yaml"
    file.write_text(json.dumps({"task": {"name": "leaking", "split": split, "sections": sections}}))
    return load_config(file, SETTINGS)


def test_content_under_two_names_fails_unless_accepted_and_then_every_page_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(simulate("tiny", tmp_path / "tissue") / "truth")
    with pytest.raises(TissueError, match=r"a · table 'cell_rna': .*\(\d+\) as b · table.*share_content: true"):
        build(leaking(tmp_path, False), tmp_path / "graph.zarr")
    assert not (tmp_path / "graph.zarr").exists()
    run = train_config(leaking(tmp_path, True), None, tmp_path / "run", resume=False, device="cpu").folder
    caplog.clear()
    found = evaluate(run).leakage
    assert len(found["accepted"]) == 1 and "a · table 'cell_rna' holds the same rows of counts" in found["accepted"][0]
    assert "the split leaks: a · table" in caplog.text
    assert found["by_split"] == {"test": 1.0} and found["by_level"]["cell"]["duplicates"] > 0.9
    assert found["groups"]["cell"]["donor"] == 0.0  # by its name alone it is another donor
    assert found["nearest"]["cell"]["ratio"] < 0.9
    assert found["receptive_field"]["cell"]["overlap"] == 0.0
    page = write_report(run).read_text()
    assert "Part of the test data was seen in training:" in page and "holds the same rows of counts" in page


@pytest.mark.parametrize(("kind", "told"), [("intensity", 1), ("affine_file", 0)])
def test_a_section_placed_by_what_both_sides_hold_is_doubted(kind: str, told: int) -> None:
    source = {"path": "x", "reader": "slide"}
    made = {"name": "s", "sources": [source], "registration": [{"kind": kind, "moving": "slide", "fixed": "cell"}]}
    task = TaskConfig.model_validate({"sections": [made]})
    section = section_of("s")
    section.shapes["cell"]["split"] = "train"
    assert doubts_of_registration(task, [section]) == []
    section.shapes["cell"]["split"] = SPLIT_HALF
    found = doubts_of_registration(task, [section])
    assert len(found) == told
    assert not found or "s: expected nothing fitted on two sides, found registration by intensity" in found[0]


def test_a_completed_map_is_not_taken_for_a_new_donor() -> None:
    ((short, told),) = seen_donors({"by_split": {"test": 1.0}, "by_level": {"cell": {"donors": 1.0}}})
    assert short == "Donors are in both training and test." and told.startswith("100\N{NO-BREAK SPACE}%")
    assert seen_donors({"by_split": {"test": 0.0}, "by_level": {"cell": {"donors": 0.0}}}) == []
    assert seen_donors({"by_split": {"hidden": 1.0}, "by_level": {"cell": {"donors": 1.0}}}) == []
    assert seen_donors({}) == []


def test_the_card_says_whether_edges_had_to_be_cut() -> None:
    found = {"patch": {"gap_um": 173.4}, "cell": {"gap_um": 900.2}, "region": {"gap_um": None}}
    told = gaps_told({"reach_um": {"patch": 745.3, "cell": 893.3, "region": 893.3}, "receptive_field": found})
    patches, cells = (one["says"] for one in told)
    assert patches.startswith("Tested patches lie 173 µm or more from what trained; messages reach 745 µm: cut edges")
    assert cells == "Tested cells lie 900 µm or more from what trained; messages reach 893 µm: no edge had to be cut."
    assert gaps_told({"receptive_field": found}) == []  # whole sections held out
