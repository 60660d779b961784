"""Anybody's predictions are scored beside plain rules; what cannot be matched, or was copied, is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from aivc_graph import cli
from aivc_graph.errors import ReadError
from aivc_graph.evaluation.records import read_evaluation
from aivc_graph.pipeline.evaluate_predictions import evaluate_predictions
from aivc_graph.pipeline.evaluate_tables import evaluate_table
from tests.pipeline.screens import CELLS, GENES, NAMES, measured, planted, profiles, sets, sided, table, values


def refused(written: Path, said: ad.AnnData | None = None, true: ad.AnnData | None = None, **given: Any) -> str:
    for name, one in (("said", said), ("screen", true)):
        if one is not None:
            one.write_h5ad(written / f"{name}.h5ad")
    with pytest.raises(ReadError) as raised:
        evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out", **given)
    assert not (written / "out/evaluation.json").exists()
    return str(raised.value)


def logged() -> ad.AnnData:
    """Return the screen as log1p of counts per 80: low values, as of a panel, that also undone are below twenty."""
    true = sided(measured())
    x = true.X.toarray()
    true.X = sparse.csr_matrix(np.log1p(80 * x / x.sum(axis=1, keepdims=True)))
    return true


def test_predictions_of_profiles_are_matched_by_name_at_any_depth(written: Path) -> None:
    said = profiles()[:, ::-1].copy()
    said.write_h5ad(written / "said.h5ad")
    found = evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    rows = values(found)
    assert rows["pearson_delta_profile", "model"] > 0.9 > rows["pearson_delta_profile", "global_mean"]
    assert (
        rows["pds_cosine", "model"] == 1.0 and rows["energy_distance", "model"] < rows["energy_distance", "no_change"]
    )
    assert found.provenance["conditions"] == {"asked": 2, "train": 8, "predicted but not measured": 0}
    assert read_evaluation(written / "out/evaluation.json") == found


def test_predicted_cells_are_judged_as_cells(written: Path) -> None:
    again = measured(seed=1)
    again[again.obs["condition"].isin(["A+B", "C+D", "control"])].copy().write_h5ad(written / "said.h5ad")
    rows = values(evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out"))
    assert rows["pearson_delta_profile", "model"] > 0.9 and abs(rows["energy_distance", "model"]) < 0.3
    assert rows["unbiased_mse_ratio", "model"] < 0.1
    assert rows["sig_jaccard", "model"] > 0.4


def test_predictions_all_alike_are_said_aloud(written: Path, caplog: pytest.LogCaptureFixture) -> None:
    alike = profiles(("A+B", "A+B"))
    alike.obs["condition"] = ["A+B", "C+D"]
    alike.write_h5ad(written / "said.h5ad")
    with caplog.at_level("WARNING", logger="aivc_graph"):
        found = evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    assert found.provenance["collapsed"] == ["predictions"] and "all alike" in caplog.text


def test_without_a_split_what_is_predicted_is_tested(written: Path) -> None:
    measured().write_h5ad(written / "screen.h5ad")
    found = evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    assert found.provenance["split"] == "what is predicted is tested, all else trains"
    assert found.provenance["conditions"]["train"] == 8


def test_what_cannot_be_matched_is_refused(written: Path) -> None:
    other = profiles()
    other.var_names = [f"ENSG{i}" for i in range(GENES)]
    assert "0 of the 40 measured genes, such as 'G0'" in refused(written, said=other)
    assert "no prediction of 1 tested conditions, such as 'C+D'" in refused(written, said=profiles(("A+B",)))
    assert "did you mean 'condition'" in refused(written, said=profiles(), condition="conditions")
    large = profiles()
    large.X = large.X * 100.0
    assert "expected profiles up to 20" in refused(written, said=large)
    torn = sided(measured())
    torn.obs.iloc[-1, 1] = "test"
    assert "'D+E' has cells that train and cells that test" in refused(written, said=profiles(), true=torn)
    none = sided(measured())
    none.X = none.X * 0
    assert "expected measured expression, found no count above zero" in refused(written, said=profiles(), true=none)
    for name, made in (("predictions", profiles()), ("measured", sided(measured()))):
        made.layers["log"], made.X = made.X.copy(), None
        other = {"said": made} if name == "predictions" else {"said": profiles(), "true": made}
        message = refused(written, **{"true": sided(measured()), **other})
        assert f"· {name}: expected values in X, found no X (layers: log)" in message
    second = sided(measured())
    second.obs.loc[second.obs["condition"] == "E", "condition"] = "non-targeting"
    told = "found 'non-targeting' beside 'control', in which nothing was done either; give all controls one name"
    assert told in refused(written, said=profiles(), true=second)
    mine = sided(measured(), NAMES[1:])
    everything = refused(written, said=profiles(NAMES[1:]), true=mine)
    assert "no condition to train on" in everything


def test_what_is_measured_as_logarithm_needs_predictions_of_the_kind(written: Path) -> None:
    true = sided(measured())
    true.X = sparse.csr_matrix(np.log1p(true.X.toarray()))
    again = measured(seed=1)
    message = refused(written, said=again[again.obs["condition"].isin(["A+B", "C+D"])].copy(), true=true)
    assert "expected log-normalised values, as measured, found counts" in message


def test_predictions_are_read_as_pathways_by_weights_given(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--predictions", str(written / "said.h5ad"), "--measured", str(written / "screen.h5ad")]
    out = ["--out", str(written / "out")]
    assert cli.main(["evaluate", *given, *out, "--weights", str(sets(written))]) == 0
    assert "pathways" in capsys.readouterr().out
    found = read_evaluation(written / "out/evaluation.json")
    assert any(one.readout == "pathways" for one in found.results)
    (written / "other.gmt").write_text("A\t\t" + "\t".join(f"g{i}" for i in range(9)))
    assert cli.main(["evaluate", *given, *out, "--weights", str(written / "other.gmt")]) == 2
    assert "same species" in capsys.readouterr().err


def test_predictions_of_what_trains_under_another_name_are_refused(written: Path) -> None:
    leaking = sided(planted(measured()))
    assert "A+B holds the same cells (24) as E, which trains" in refused(written, true=leaking)
    files = [str(written / name) for name in ("said.h5ad", "screen.h5ad")]
    asked = ["evaluate", "--predictions", files[0], "--measured", files[1], "--out", str(written / "let")]
    assert cli.main([*asked, "--share-content", "--quiet"]) == 0
    assert "Part of the test data was seen" in (written / "let/report.html").read_text()
    twice = sided(measured(), ("A+B", "C+D"))
    twice.obs.loc[twice.obs["condition"] == "D+E", "condition"] = "B+A"
    assert "A+B is asked, and trains as B+A" in refused(written, true=twice)


def test_predictions_that_are_the_measured_cells_are_refused(written: Path) -> None:
    both = [one[one.obs["condition"] == name] for one, name in ((measured(), "A+B"), (measured(seed=1), "C+D"))]
    copied = table(np.concatenate([one.X.toarray() for one in both]), np.repeat(["A+B", "C+D"], CELLS).tolist())
    message = refused(written, said=copied)
    assert "the prediction of A+B holds measured cells of it (24)" in message and "of C+D" not in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, base: x - base, "these look like effects"),
        (lambda x, _: np.expm1(x), "times the control"),
        (lambda x, _: 3 * x, "times the control"),
    ],
)
def test_values_of_another_scale_than_measured_are_refused(written: Path, change: Any, said: str) -> None:
    true, other = logged(), profiles(depth=80)
    base = np.asarray(true[true.obs["condition"] == "control"].X.mean(axis=0))
    other.X = sparse.csr_matrix(change(other.X.toarray(), base))
    assert said in refused(written, said=other, true=true)


def test_effects_are_refused_beside_counts_but_profiles_a_little_below_zero_pass(written: Path) -> None:
    effect, below = profiles(), profiles(depth=80)
    effect.X = sparse.csr_matrix(effect.X.toarray() - effect.X.toarray().mean(axis=0))
    assert "these look like effects" in refused(written, said=effect)
    below.X = sparse.csr_matrix(below.X.toarray() - 0.05)
    logged().write_h5ad(written / "screen.h5ad")
    below.write_h5ad(written / "said.h5ad")
    evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")


def test_what_is_not_finite_is_named_by_gene_and_row(written: Path) -> None:
    torn = profiles()
    x = torn.X.toarray()
    x[1, 3] = np.nan
    torn.X = sparse.csr_matrix(x)
    assert "nan for gene 'G3' of 'C+D'" in refused(written, said=torn)


def test_predictions_that_are_the_measured_mean_or_cells_scaled_are_refused(written: Path) -> None:
    true = logged()
    own = [true[true.obs["condition"] == name].X.toarray() for name in ("A+B", "C+D")]
    mean = table(np.stack([x.mean(axis=0) for x in own]), ["A+B", "C+D"])
    assert "the prediction of A+B is the measured profile itself" in refused(written, said=mean, true=true)
    scaled = table(1.0001 * np.concatenate(own), np.repeat(["A+B", "C+D"], CELLS).tolist())
    assert "the prediction of C+D holds measured cells of it (24)" in refused(written, said=scaled, true=true)


def test_few_controls_are_warned_of_and_one_is_refused(written: Path, caplog: pytest.LogCaptureFixture) -> None:
    true = sided(measured())
    kept = [np.r_[:n, CELLS : true.n_obs] for n in (1, 9)]
    assert "found 1 control cell (control in context all)" in refused(written, true=true[kept[0]].copy())
    true[kept[1]].copy().write_h5ad(written / "screen.h5ad")
    with caplog.at_level("WARNING", logger="aivc_graph"):
        evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    assert "9 control cells (control in context all)" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", logger="aivc_graph"):
        evaluate_table(written / "small.yaml", written / "out")
    assert "9 control cells (control in context all)" in caplog.text


def test_names_and_labels_that_do_not_match_are_told(written: Path) -> None:
    true = sided(measured())
    true.obs["split"] = true.obs["split"].str.upper()
    assert "expected 'train' and 'test', found the labels 'TEST', 'TRAIN'" in refused(written, true=true)
    wrong = profiles()
    wrong.obs["condition"] = ["A+B", "C+DD"]
    told = refused(written, said=wrong, true=sided(measured()))
    assert "predicted but not measured: 'C+DD' (did you mean 'C+D'?)" in told
    wrong.obs["condition"] = ["B+A", "C+D"]
    wrong.write_h5ad(written / "said.h5ad")
    found = evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    assert found.provenance["conditions"] == {"asked": 2, "train": 8, "predicted but not measured": 0}


def test_what_is_no_file_of_the_kind_is_called_so(written: Path) -> None:
    (written / "said.h5ad").write_bytes(b"")
    assert "said.h5ad: not an HDF5 file" in refused(written)
    (written / "said.h5ad").unlink()
    (written / "said.h5ad").mkdir()
    assert "found a folder; name the file inside it" in refused(written)
