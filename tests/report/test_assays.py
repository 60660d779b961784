"""The page tells of each assay whether draws look like it; of a run without checks it has no such part."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from aivc_graph.errors import ConfigError
from aivc_graph.evaluation.records import Evaluation
from aivc_graph.plot.mean_variance import mean_variance
from aivc_graph.report.assays import assays_of
from tests.report.full import full_evaluation


def check(section: str, variance: float, platform: str = "", **more: Any) -> dict[str, Any]:
    pair = {"measured": 0.5, "drawn": 0.25}
    group = {"mean": {"measured": 2.0, "drawn": 1.0}, "variance": {"measured": 4.0, "drawn": 8.0}}
    told = {"level": "cell", "modality": "rna", "member": "negative_binomial", "section": section, "platform": platform}
    return {**told, "variance": variance, "zeros": pair, "background": pair, "curve": [group, group], **more}


def test_a_row_an_assay_and_platform_names_the_worst_section() -> None:
    found = assays_of([check("a", 1.0), check("b", 0.3), check("c", 1.5), check("d", 1.0, platform="x")])
    assert found is not None
    first, second = found["rows"]
    assert first["worst"] == "b" and first["sections"] == 3 and first["variance"] == "0.93"
    assert first["zeros"] == "0.500 | 0.250" and second["name"].endswith(", x")
    assert found["picture"].uri.startswith("data:image/png")
    patches = assays_of([check("a", 1.0, level="patch")])
    assert patches is not None and patches["rows"][0]["name"] == "rna of patches"


def test_features_have_no_zeros() -> None:
    one = check("a", 1.0)
    del one["zeros"], one["background"]
    found = assays_of([one])
    assert found is not None and found["rows"][0]["zeros"] == "–"
    mixed = assays_of([one | {"modality": "histology"}, check("a", 1.0)])
    assert mixed is not None and [row["zeros"] for row in mixed["rows"]] == ["–", "0.500 | 0.250"]


def test_without_checks_there_is_no_part_of_the_page() -> None:
    assert assays_of([]) is None and assays_of(full_evaluation().assays) is None


def test_checks_are_kept_in_the_record() -> None:
    whole = full_evaluation().model_copy(update={"assays": (check("a", 1.0),)})
    assert Evaluation.model_validate(whole.model_dump(mode="json")).assays[0]["section"] == "a"


def test_a_picture_needs_its_columns_and_leaves_out_what_no_logarithm_shows() -> None:
    with pytest.raises(ConfigError, match="no column drawn_mean, drawn_variance"):
        mean_variance(pd.DataFrame({"assay": ["a"], "mean": [1.0], "variance": [1.0]}))
    groups = pd.DataFrame({"assay": ["a"] * 2, "mean": [1.0, 0.0], "variance": [1.0, 2.0]})
    axes = mean_variance(groups.assign(drawn_mean=1.0, drawn_variance=[0.0, 2.0]))
    assert [len(line.get_xdata()) for line in axes.lines] == [1, 1]
