"""What-ifs of a small tissue whose response is known: exact laws, recovery, support, faults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from aivc_graph.errors import AivcError, QueryError
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline.ask import save_answer
from aivc_graph.query.questions.question import question
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.query.what_if import WhatIf
from aivc_graph.tissue.intervention import drug, knockout, ligand
from aivc_graph.training.checkpoint import load_model
from aivc_graph.training.fit import fit
from aivc_graph.training.settings import TrainingConfig
from tests.query.treated import DISC, DRUG, GENES, KNOCKOUT, near_disc, piece

EFFECT = ["estimate", "lower", "upper", "shrunken", "shrunken_lower", "shrunken_upper"]


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> VirtualTissue:
    sections = []
    for d in range(6):
        sections.append(piece(f"u{d}", f"d{d}", d))
        done = knockout("G03", hours=24)
        sections.append(piece(f"k{d}", f"d{d}", 10 + d, done, effect=lambda s, p: KNOCKOUT[s]))
        for dose, strength in ((0.1, 0.25), (0.3, 0.5), (1.0, 1.0)):
            part, seed = drug("X", dose=dose, targets={"G12": 1}), 20 + d + int(100 * dose)
            sections.append(piece(f"x{dose}{d}", f"d{d}", seed, part, effect=lambda s, p, h=strength: h * DRUG[s]))
        if d:
            sections.append(piece(f"l{d}", f"d{d}", 40 + d, ligand("G15", where=DISC), effect=near_disc))
        both = (done, drug("X", targets={"G12": 1}))
        sections.append(piece(f"b{d}", f"d{d}", 50 + d, *both, effect=lambda s, p: KNOCKOUT[s] + DRUG[s]))
    sections.append(piece("test", "t", 99, split="test"))
    graph = build_graph(sections)
    run = tmp_path_factory.mktemp("run")
    fit(graph, ModelConfig(latent=6, rings=(6, 12)), TrainingConfig(epochs=2, device="cpu"), run)
    return VirtualTissue(graph, load_model(run))


def only_test(tissue: VirtualTissue) -> np.ndarray:
    return (tissue.graph.obs("cell")["section"] == "test").to_numpy()


def effects(tissue: VirtualTissue, answer: Any) -> pd.DataFrame:
    """Return predicted change in log expression on the test section (cell, gene)."""
    table = answer.readout(by="cell")
    table = table[table["section"] == "test"]
    table["log"] = np.log1p(table["shrunken"] / table["untreated"])
    return table.pivot(index="barcode", columns="gene", values="log")[GENES]


def test_what_is_open_for_states_alone_moves_no_response(tissue: VirtualTissue) -> None:
    part, asked = tissue.model.count_operator("cell", "rna"), only_test(tissue)
    kept = {name: value.clone() for name, value in tissue.model.state_dict().items()}
    before = effects(tissue, tissue.intervene(knockout("G03"), where=asked))
    with torch.no_grad():
        part.weight_change.normal_(generator=torch.Generator().manual_seed(0))
        part.decoder_gate.opening.copy_(torch.tensor([1.0, 1.0, 0.0]))
    after = effects(tissue, tissue.intervene(knockout("G03"), where=asked))
    tissue.model.load_state_dict(kept)
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_effects_are_found_where_they_are(tissue: VirtualTissue) -> None:
    found = effects(tissue, tissue.intervene(knockout("G03"), where=only_test(tissue)))
    graph = tissue.graph
    stripe = np.minimum((graph["cell"].pos.numpy()[only_test(tissue), 0] / 100).astype(int), 2)
    stripe = pd.Series(stripe, index=graph.obs("cell")["barcode"].to_numpy()[only_test(tissue)])[found.index].to_numpy()
    assert found["G03"][stripe == 0].mean() == pytest.approx(-1.5, abs=0.3)
    assert found["G03"][stripe == 2].mean() == pytest.approx(0.0, abs=0.25)
    assert found["G20"].mean() == pytest.approx(-0.8, abs=0.2)
    assert found[["G05", "G11", "G22"]].mean().abs().max() < 0.12


def test_tissue_in_no_graph_of_the_run_responds_as_it_does_held_out(tissue: VirtualTissue) -> None:
    there = tissue.on(build_graph([piece("test", "t", 99)]))
    known, answer = tissue.intervene(knockout("G03"), where=only_test(tissue)), there.intervene(knockout("G03"))
    pd.testing.assert_frame_equal(effects(there, answer), effects(tissue, known), atol=1e-5)
    assert answer.supported.sum() == known.supported[only_test(tissue)].sum() > 490
    assert there.ask("response", intervention=["knockout:G03"], at="niche")["supported"].all()


def test_dose_zero_and_time_zero_change_nothing(tissue: VirtualTissue) -> None:
    for part in (drug("X", dose=0), drug("X", hours=0), drug("X", dose=0) + knockout("G03", hours=0)):
        table = tissue.intervene(part).readout(by="cell")
        assert (table[EFFECT] == 0).all(axis=None) and table["supported"].all()


def test_dose_is_monotone_and_fitted(tissue: VirtualTissue) -> None:
    means = [
        effects(tissue, tissue.intervene(drug("X", dose=dose), where=only_test(tissue)))["G12"].mean()
        for dose in (0.1, 0.2, 0.3, 0.6, 1.0)
    ]
    assert (np.diff(means) > 0).all()
    assert means[0] / means[4] == pytest.approx(0.25, abs=0.12) and means[2] / means[4] == pytest.approx(0.5, abs=0.15)


def test_what_lies_beyond_the_reach_does_not_move(tissue: VirtualTissue) -> None:
    where = only_test(tissue) & (np.hypot(*(tissue.graph["cell"].pos.numpy() - 150).T) <= 70)
    answer = tissue.intervene(ligand("G15"), where=where)
    table = answer.readout(by="cell", genes=["G15"])
    other = table["section"].to_numpy() != "test"
    assert (table["estimate"].to_numpy()[other] == 0).all()
    away = np.hypot(table["x_um"] - 150, table["y_um"] - 150).to_numpy()[~other] - 70
    change = np.log1p(table["shrunken"] / table["untreated"]).to_numpy()[~other]
    inside, around, rim = (np.nanmean(change[rows]) for rows in (away < 0, (away > 5) & (away < 25), away < -20))
    assert rim > 0.8 and 0.1 < around < inside
    assert np.nanmean(change[away > 90]) < 0.1


def test_together_commutes_and_is_additive_without_interaction(tissue: VirtualTissue) -> None:
    a, b = knockout("G03"), drug("X")
    ab, ba = (tissue.intervene(given).readout(by="cell") for given in (a + b, b + a))
    pd.testing.assert_frame_equal(ab, ba)
    shift, plan = tissue.model.interventions, tissue.model.plan.interventions
    assert shift is not None and plan is not None
    kept = shift.latent_pair.clone(), shift.molecule_pair.clone()
    try:
        shift.latent_pair.zero_(), shift.molecule_pair.zero_()
        where = only_test(tissue)
        own = torch.randn(7, tissue.model.plan.latent)
        fields = {row: f for part in (a, b) for row, f in tissue.intervene(part, where=where).fields.items()}
        cut = {row: type(f)(f.strength[-7:], f.exposure[-7:]) for row, f in fields.items()}
        rows = {tuple(sorted(cut)): 0}
        both = shift(own, cut, rows)
        for i in range(2):
            apart = sum(shift(own, {row: f}, {})[i] for row, f in cut.items())
            torch.testing.assert_close(both[i], apart, rtol=0, atol=1e-6)
    finally:
        shift.latent_pair.copy_(kept[0]), shift.molecule_pair.copy_(kept[1])


def test_the_predicted_effect_lies_where_it_says(tissue: VirtualTissue) -> None:
    inside, share = [], []
    for part, log_effect in ((knockout("G03"), KNOCKOUT), (drug("X"), DRUG)):
        table = tissue.intervene(part, where=only_test(tissue)).readout(by="niche", section="test")
        true = true_change(tissue, log_effect)[list(zip(table["niche"].astype(str), table["gene"], strict=True))]
        inside.append(true.between(table["shrunken_lower"].to_numpy(), table["shrunken_upper"].to_numpy()))
        share.append((table["shrunken_upper"] - table["shrunken_lower"]) / (table["upper"] - table["lower"]))
    assert np.mean(inside) >= 0.87
    assert np.min(share) > 0 and np.median(share) < 1  # no point, but closer than without drawing molecules together


def test_two_things_done_are_less_sure_than_each(tissue: VirtualTissue) -> None:
    a, b = knockout("G03"), drug("X")
    where = only_test(tissue)
    weight = tissue.intervene(a).places("niche")[1]
    each = [tissue.intervene(given, where=where).rollouts(weight, [3, 12, 20], copies=False)[3] for given in (a, b)]
    both = tissue.intervene(a + b, where=where).rollouts(weight, [3, 12, 20], copies=False)[3]
    known = np.minimum(*each) > 0
    assert known.any() and (both > 0.5 * np.maximum(*each))[known].all()


def true_change(tissue: VirtualTissue, log_effect: np.ndarray) -> pd.Series:
    """Return the true change of each gene [counts per 10,000], on average over the test cells of each niche."""
    stripe = np.minimum((tissue.graph["cell"].pos.numpy()[only_test(tissue), 0] / 100).astype(int), 2)
    log_rate = np.log(np.where(np.arange(24) // 8 == np.arange(3)[:, None], 4.0, 1.0))
    before, after = (1e4 * np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (log_rate, log_rate + log_effect))
    niche = tissue.niches().obs["niche"].astype(str).to_numpy()[only_test(tissue)]
    return pd.DataFrame((after - before)[stripe], columns=GENES).groupby(niche).mean().stack()


def test_interval_covers_the_true_effect_as_often_as_it_says(tissue: VirtualTissue) -> None:
    away, wide, answers = [], [], []
    for part, log_effect in ((knockout("G03"), KNOCKOUT), (drug("X"), DRUG)):
        table = tissue.intervene(part, where=only_test(tissue)).readout(by="niche", section="test")
        assert set(table["interval_over"]) == {"donor"} and set(table["n_units"]) == {6}
        table = table.set_index([table["niche"].astype(str), "gene"])
        true = true_change(tissue, log_effect)[table.index].to_numpy()
        away.append(np.abs(true - table["estimate"]))
        assert (table["p_adjusted"] >= table["p"]).all() and ((table["p"] < 0.05) == _excludes_nothing(table)).all()
        wide.append(table["upper"] - table["lower"])
        answers.append(np.abs(log_effect).any(axis=0)[np.tile(np.arange(24), len(table) // 24)])
    distance, half, answer = np.concatenate(away), np.concatenate(wide) / 2, np.concatenate(answers)
    assert (half > 0).all()
    assert (distance <= half).mean() >= 0.9 and (distance <= half)[answer].mean() >= 0.85
    assert (distance <= half / 2).mean() < 0.85, "intervals of half the width would pass as well"
    table = tissue.intervene(knockout("G03"), where=only_test(tissue)).readout(section="test", genes=["G20"])
    assert (table["upper"] < 0).all() and (table["p_adjusted"] < 0.01).all()


def _excludes_nothing(table: pd.DataFrame) -> pd.Series:
    return (table["lower"] > 0) | (table["upper"] < 0)


def test_untreated_places_express_what_was_counted_there(tissue: VirtualTissue) -> None:
    answer = tissue.intervene(knockout("G03"), where=only_test(tissue))
    table = answer.readout(by="niche", section="test").pivot(index="niche", columns="gene", values="untreated")[GENES]
    niche = tissue.niches().obs["niche"].to_numpy()
    counts = to_scipy_csr(tissue.graph.counts("cell", "rna")).toarray()
    for name, untreated in table.iterrows():
        own = counts[(niche == name) & only_test(tissue)].sum(axis=0)
        np.testing.assert_allclose(untreated, 1e4 * own / own.sum(), rtol=0.05)


def test_interval_is_the_jackknife_over_donors(tissue: VirtualTissue) -> None:
    answer = tissue.intervene(drug("X"), where=only_test(tissue))
    table = answer.readout(genes=["G12", "G01"])
    weight = answer._not_treated_before(*answer.places("niche"))[1]
    untreated, copies, error, _ = answer.rollouts(weight, [12, 1])
    n, left_out, centre = len(copies) - 2, (copies[2:] - untreated).reshape(6, -1), (copies[1] - untreated).ravel()
    spread = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    variance = (n - 1) / n * spread + (error.ravel() * centre) ** 2  # Efron & Stein 1981, and the level of the place
    wide, known = stats.t.ppf(0.975, n - 1) * np.sqrt(variance), table["supported"].to_numpy()
    assert n == 6 and known.any() and (error > 0).all() and (error < 0.1).all()
    np.testing.assert_allclose(table["lower"][known], (centre - wide)[known], rtol=1e-6)
    np.testing.assert_allclose(table["upper"][known], (centre + wide)[known], rtol=1e-6)


def test_interval_is_over_the_donors_it_was_given_to(tissue: VirtualTissue) -> None:
    shift, answer = tissue.model.interventions, tissue.intervene(ligand("G15"), where=only_test(tissue))
    assert shift is not None
    kept, intervals = shift.molecule_effect.clone(), {}
    try:
        for donor in (None, 0, 3):
            if donor is not None:
                shift.molecule_effect[2 + donor, ..., 15] += 1.0
            table = answer.readout(section="test", genes=["G15"])
            intervals[donor] = table[["lower", "upper"]].to_numpy()
            shift.molecule_effect.copy_(kept)
    finally:
        shift.molecule_effect.copy_(kept)
    assert set(table["n_units"]) == {5} and np.isfinite(intervals[None]).any()
    np.testing.assert_array_equal(intervals[0], intervals[None])  # d0 was never given it
    assert not np.allclose(intervals[3], intervals[None], equal_nan=True)


def test_of_few_donors_it_is_said_why_there_is_no_interval(
    tissue: VirtualTissue, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = tissue.intervene(ligand("G15"), where=only_test(tissue))
    table = answer.readout(section="test", genes=["G15"])
    assert set(table.loc[table["supported"], "why"]) == {""}
    monkeypatch.setattr(WhatIf, "_n_units", lambda _: 3)
    bare = answer.readout(section="test", genes=["G15"])
    bare = bare[bare["supported"]]
    assert len(bare) and set(bare["why"]) == {"no interval: given to 3 donors of training, of 5"}
    assert bare[["p", "p_adjusted"]].isna().all(axis=None) and np.isfinite(bare["shrunken"]).all()


def test_out_of_support_is_said(tissue: VirtualTissue) -> None:
    for part in (drug("X", dose=50), knockout("G03", hours=200)):
        answer = tissue.intervene(part)
        assert not answer.supported.any() and "outside the trained" in answer.outside[0]
        table = answer.readout(by="niche", genes=["G03"])
        assert table["lower"].isna().all() and not table["supported"].any()
        assert table["why"].str.contains("outside the trained").all()


def test_nodes_that_nothing_reaches_do_not_answer_for_those_treated(tissue: VirtualTissue) -> None:
    """Few nodes of a place are treated, none of them in support: the many that are left alone are no ground."""
    answer = tissue.intervene(knockout("G03"), where=only_test(tissue))
    first = np.flatnonzero(only_test(tissue))[:20]
    reached = np.isin(np.arange(len(answer.where)), first)
    field = {row: type(f)(f.strength * torch.from_numpy(reached), f.exposure * 0) for row, f in answer.fields.items()}
    told = replace(answer, fields=field, where=reached, supported=~reached).readout(by="niche", genes=["G03"])
    assert (told["n_treated"] > 0).any() and ((told["n_treated"] > 0) == ~told["supported"]).all()
    assert told["estimate"].isna().equals(told["n_treated"] > 0)


def test_one_after_the_other_is_said_to_be_out_of_support(tissue: VirtualTissue) -> None:
    then = tissue.intervene(knockout("G03") + drug("X", onset_hours=24))
    assert not then.supported.any() and "one after the other" in then.reasons[-1]
    together = tissue.intervene(knockout("G03", onset_hours=6) + drug("X", onset_hours=6))
    assert not any("one after" in reason for reason in together.reasons)


def test_places_average_over_their_cells(tissue: VirtualTissue) -> None:
    answer = tissue.intervene(knockout("G03"))
    cells, niches = answer.readout(by="cell", genes=["G20"]), answer.readout(by="niche", genes=["G20"])
    member, compared = tissue.niches().obs["niche"].to_numpy(), 0
    for niche, untreated, estimate in niches[["niche", "untreated", "estimate"]].itertuples(index=False):
        inside = cells[member == niche]
        assert untreated == pytest.approx(inside["untreated"].mean(), rel=1e-5, nan_ok=True)
        if (
            inside["untreated"].notna().sum() and inside["supported"][inside["untreated"].notna()].mean() > 0.99
        ):  # the others have no answer of their own
            assert estimate == pytest.approx(inside["estimate"].mean(), rel=1e-2)
            compared += 1
    assert compared


@pytest.mark.parametrize(
    ("words", "where", "said"),
    [
        ("knockout:G04", None, "no trained intervention named 'knockout:G04'"),
        ("knockout:NOGENE", None, "no trained intervention named"),
        ("knock:G03", None, "did you mean 'knockout'"),
        ("G03", None, "KIND:NAME"),
        ("drug:X@much", None, "the dose 'much'"),
        ("drug:X@-1", None, "a number from 0"),
        ("knockout:G03", "niche=77", "no niche named '77'"),
        ("knockout:G03", "section=tset", "did you mean 'test'"),
        ("knockout:G03", "disc=test:1,2", "disc=SECTION:X,Y,RADIUS"),
        ("knockout:G03", "disc=test:9999,2,5", "no cell of test inside"),
        ("knockout:G03", "nische=3", "did you mean 'niche'"),
    ],
)
def test_faulty_questions_are_named(tissue: VirtualTissue, words: str, where: str | None, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        tissue.ask("response", intervention=[words], where=where)


def test_words_ask_the_same(tissue: VirtualTissue, tmp_path: Path) -> None:
    asked = question(
        "response", {"intervention": ["drug:X@0.3"], "where": "section=test", "at": "region", "genes": "G12"}
    )
    spoken = tissue.ask(asked)
    asked.draw(tissue, spoken).figure.savefig(tmp_path / "effect.png")
    told = tissue.intervene(drug("X", dose=0.3), where=only_test(tissue)).readout(by="region", genes=["G12"])
    pd.testing.assert_frame_equal(spoken, told)
    assert (tmp_path / "effect.png").stat().st_size > 10_000


def test_as_anndata_it_is_places_by_genes(tissue: VirtualTissue, tmp_path: Path) -> None:
    asked = question("response", {"intervention": ["drug:X"], "at": "region", "genes": "G12,G03"})
    table = tissue.ask(asked)
    made = ad.read_h5ad(save_answer(asked.as_anndata(table), tmp_path / "answer.h5ad"))
    assert made.var_names.tolist() == ["G12", "G03"] and made.n_obs == len(table) / 2
    for gene in made.var_names:
        own = table[table["gene"] == gene]
        np.testing.assert_array_equal(made[:, gene].X.ravel(), own["treated"])
        for name in ("estimate", "lower", "upper", "p", "p_adjusted", "shrunken", "untreated"):
            np.testing.assert_array_equal(made[:, gene].layers[name].ravel(), own[name])
        assert (made.obs["n_treated"].to_numpy() == own["n_treated"].to_numpy()).all()
    assert {"supported", "why", "unit"} <= set(made.obs) and "gene" not in made.obs


def test_pathways_are_told_by_their_genes(tissue: VirtualTissue, tmp_path: Path) -> None:
    file = tmp_path / "weights.csv"
    follows = [("falling", gene, 1.0) for gene in ("G20", "G01", "G05", "G11", "G22")]
    follows += [("against", gene, -weight) for _, gene, weight in follows]
    pd.DataFrame([*follows, ("unmeasured", "XYZ", 1.0)], columns=["pathway", "gene", "weight"]).to_csv(
        file, index=False
    )
    answer = tissue.intervene(knockout("G03"), where=only_test(tissue))
    table = tissue.ask(
        "response", intervention=["knockout:G03"], where="section=test", at="region", readout="pathways", weights=file
    )
    table = table[table["section"] == "test"].set_index("pathway")
    assert list(table.index) == ["against", "falling"]
    assert table.loc["falling", "upper"] < 0 < table.loc["against", "lower"]
    assert table.loc["falling", "estimate"] == pytest.approx(-table.loc["against", "estimate"])
    # Against an independent fit of the same line.
    genes = answer.readout(by="region", section="test")
    weight = genes["gene"].isin([gene for _, gene, _ in follows]).to_numpy(float)
    change = np.log2(1 + genes["treated"]) - np.log2(1 + genes["untreated"])
    assert table.loc["falling", "estimate"] == pytest.approx(stats.linregress(weight, change).slope)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pathway,gene,weight\nA,Tgfb1,1\n", "same species"),
        ("pathway,gene\nA,G01\n", "no column named 'weight'"),
        ("pathway,gene,weight\nA,G01,1\nA,G01,2\n", "'G01' twice under 'A'"),
        ("pathway,gene,weight\nA,G01,much\n", "'much' in row 1"),
    ],
)
def test_faulty_weights_are_named(tissue: VirtualTissue, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(AivcError, match=said):
        tissue.intervene(knockout("G03")).readout("pathways", weights=tmp_path / "w.csv")
