"""The contract of parts: which member serves, what it holds, and which stage it is fitted in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from aivc_graph.errors import ConfigError
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.lateral.ring_mean import RingMeanLateral
from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement
from aivc_graph.operators.measurement.poisson import PoissonMeasurement
from aivc_graph.operators.measurement.zero_inflated import ZeroInflatedMeasurement
from aivc_graph.operators.part import (
    AFTER_TRAINING,
    BEFORE_TRAINING,
    ENCODERS,
    KINDS,
    LAST_ANSWERS,
    MESSAGES,
    Fitting,
    Shape,
)
from aivc_graph.operators.state import Fold
from tests.operators.parts import lateral, neighbours, shift

CHOSEN: dict[str, Any] = {
    "measurement": {"rna": {"kind": "zero_inflated", "extra": 3}},
    "lateral": {"kind": "ring_mean"},
}


def test_a_member_serves_where_it_was_chosen_or_is_the_usual_one() -> None:
    shape = Shape(4, (6,), CHOSEN)
    assert shape.picks(ZeroInflatedMeasurement, "negative_binomial", "rna")
    assert not shape.picks(NegativeBinomialMeasurement, "negative_binomial", "rna")
    assert shape.picks(NegativeBinomialMeasurement, "negative_binomial", "adt")  # of which nothing was chosen
    assert shape.member("measurement", "poisson", "atac") is PoissonMeasurement
    assert shape.member("lateral", "ring_mean") is RingMeanLateral


def test_options_are_what_was_given_beside_the_kind() -> None:
    shape = Shape(4, (6,), CHOSEN)
    assert shape.options("measurement", "rna") == {"extra": 3}
    assert shape.options("measurement", "adt") == shape.options("lateral") == shape.options("lift") == {}


def test_a_member_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"ring_median.*ring_mean"):
        Shape(4, (6,), {"lateral": {"kind": "ring_median"}}).member("lateral", "ring_mean")


def test_a_part_is_fitted_in_its_stages_alone() -> None:
    made = lateral(3, 2)
    assert made.fits(MESSAGES) == made.fit and made.fits(ENCODERS) is None
    assert neighbours(5, 2).fits(LAST_ANSWERS) is not None
    for kind, registry in KINDS.items():
        for name in registry:
            member = registry.get(name)
            assert set(member.stages) <= {*BEFORE_TRAINING, *AFTER_TRAINING}, f"{kind} {name}"
            assert all(callable(getattr(member, method)) for method in member.stages.values()), f"{kind} {name}"


def test_what_is_fitted_in_closed_form_does_not_learn_and_is_kept() -> None:
    made = lateral(3, 2)
    learning, kept = {name for name, _ in made.named_parameters()}, set(made.state_dict())
    assert "ring_weight" in kept - learning and "share" in kept - learning
    assert any(name.startswith("correction") for name in learning)


def test_a_part_is_named_by_its_slot() -> None:
    made = neighbours(5, 2)
    assert made.slot == ("cell", "rna") and made.name == "cell_rna"
    assert made.steps() == [] and shift(1, 2, 3, 4).prepare(TissueGraph(), "cpu") is None


def test_a_fit_looks_at_everyone_once_and_knows_donors() -> None:
    graph = TissueGraph()
    graph["section"].obs = pd.DataFrame({"donor": ["b", "a", None, "b"]}, index=["s0", "s1", "s2", "s3"])
    one, other = (Fold(None, {"cell": torch.ones(1)}) for _ in range(2))  # type: ignore[arg-type]
    rest = np.random.default_rng(0), 0, graph, 100, np.full(4, -1)
    training = [one]
    assert Fitting(None, training, training, *rest).everyone is training  # type: ignore[arg-type]
    apart = Fitting(None, training, [other], *rest)  # type: ignore[arg-type]
    assert [fold is given for fold, given in zip(apart.everyone, (one, other), strict=True)] == [True, True]
    donor = apart.donor
    assert donor[0] == donor[3] and len(set(donor.tolist())) == 3
