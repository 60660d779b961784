"""How training went: each term's share of the gradient is told where there is more than one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aivc_graph.report.learning import learning_of


def run_of(folder: Path, shares: list[dict[str, float]]) -> Path:
    losses = {"train_loss": 1.0, "validation_loss": 1.1, "held_out": "validation"}
    lines = [{"epoch": 0, **losses}, *({"epoch": i + 1, **losses, "gradient": one} for i, one in enumerate(shares))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "training.json").write_text(json.dumps({"best_epoch": 1, "validation_loss": 1.1}))
    return folder


def test_shares_are_means_over_epochs_largest_first(tmp_path: Path) -> None:
    shares = [{"alignment": 0.2, "likelihood": 0.8}, {"alignment": 0.4, "likelihood": 0.6}]
    told = learning_of(run_of(tmp_path, shares))
    assert told is not None and list(told["terms"]) == ["likelihood", "alignment"]
    assert told["terms"] == pytest.approx({"likelihood": 0.7, "alignment": 0.3})


def test_of_one_term_there_is_one_share(tmp_path: Path) -> None:
    told = learning_of(run_of(tmp_path, [{"likelihood": 1.0}]))
    assert told is not None and told["terms"] == {"likelihood": 1.0}
