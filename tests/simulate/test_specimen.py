"""One piece of simulated tissue: who lives where, who hears whom, and what interventions move."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree
from scipy.stats import chi2_contingency

from aivc_graph.errors import ConfigError
from aivc_graph.simulate.donors import draw_donor, draw_site, stream
from aivc_graph.simulate.intervention import DRUGS, INTERACTIONS, part, share_of_effect
from aivc_graph.simulate.layout import GLASS
from aivc_graph.simulate.pathways import PATHWAY_NAMES, PATHWAYS, network
from aivc_graph.simulate.programmes import GENES, MIXTURE, NICHES, SIGNALS, TYPE_NAMES, type_profiles
from aivc_graph.simulate.section import SimulatedSection
from aivc_graph.simulate.signalling import LEFT, REACH, STEP_HOURS
from aivc_graph.simulate.specimen import Specimen, cells_at, cut_specimen, moved

SIZE_UM = 700.0


def specimen_of(responder_share: float = 1.0, **options: object) -> Specimen:
    donor = draw_donor("D", "A", responder_share, 0, bool(options.get("niche_structure", True)))
    return cut_specimen(donor, draw_site("A", 0), "D_untreated", "block", SIZE_UM, 0, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def specimen() -> Specimen:
    return specimen_of()


@pytest.fixture(scope="module")
def section(specimen: Specimen) -> SimulatedSection:
    return specimen.untreated


@pytest.fixture(scope="module")
def effect(specimen: Specimen) -> Callable[..., pd.DataFrame]:
    """Return log fold ``(cell, gene)`` of what is done."""

    def effect(*parts: dict[str, object]) -> pd.DataFrame:
        fold = np.log(specimen.under(parts).cell_rate) - np.log(specimen.untreated.cell_rate)
        return pd.DataFrame(fold, columns=list(GENES))

    return effect


def test_panel_mixture_and_network_are_sound() -> None:
    assert len(GENES) == len(set(GENES)) and 120 <= len(GENES) <= 200
    assert MIXTURE.shape == (len(NICHES), len(TYPE_NAMES))
    np.testing.assert_allclose(MIXTURE.sum(axis=1), 1.0)
    profiles = pd.DataFrame(type_profiles(), TYPE_NAMES, list(GENES))
    usual = {"EPCAM": "tumour", "COL1A1": "fibroblast", "PECAM1": "endothelial", "CD68": "macrophage", "MS4A1": "B"}
    for gene, kind in usual.items():
        assert profiles[gene].drop("cycling tumour" if gene == "EPCAM" else []).idxmax() == kind
    assert {kind for levels in SIGNALS.values() for kind in levels} <= set(TYPE_NAMES)
    edges = network()
    assert set(edges["source"]) | set(edges["target"]) <= set(GENES)
    assert set(edges["sign"]) == {-1, 1} and (edges["weight"] > 0).all()


def test_cells_keep_apart_and_follow_their_niche(section: SimulatedSection) -> None:
    assert 600 < len(section.cell_xy) < 1800
    assert cKDTree(section.cell_xy).query(section.cell_xy, k=2)[0][:, 1].min() > 7.0
    assert (section.layout.at(section.layout.niche, section.cell_xy) == section.cell_niche).all()
    assert (section.cell_niche != GLASS).all() and not section.layout.at(section.layout.lumen, section.cell_xy).any()
    mixture = draw_donor("D", "A", 1.0, 0).mixture
    for niche in np.unique(section.cell_niche):
        kinds = section.cell_type[section.cell_niche == niche]
        share = np.bincount(kinds, minlength=len(TYPE_NAMES)) / len(kinds)
        assert np.abs(share - mixture[niche]).max() < 4 * np.sqrt(0.25 / len(kinds))


def test_types_depend_on_place_and_without_niches_they_do_not(section: SimulatedSection) -> None:
    def p_value(kind: np.ndarray, xy: np.ndarray) -> float:
        quarter = (xy > SIZE_UM / 2) @ [1, 2]
        table = pd.crosstab(quarter, kind)
        return float(chi2_contingency(table.loc[:, table.sum() > 20]).pvalue)

    assert p_value(section.cell_type, section.cell_xy) < 1e-6
    null = specimen_of(niche_structure=False).untreated
    assert p_value(null.cell_type, null.cell_xy) > 0.01
    assert set(null.cell_niche) == {NICHES.index("stroma")} and not null.activity.any()


def test_an_adjacent_section_shows_the_block_through_its_transform(section: SimulatedSection) -> None:
    frame = moved(SIZE_UM, stream(1))
    adjacent = specimen_of(to_block=frame).untreated
    block = section.layout
    centre = np.full((1, 2), SIZE_UM / 2)
    assert 0 < np.hypot(*(frame(centre) - centre)[0]) < 80
    there = frame(adjacent.cell_xy)
    inside = ((there >= 0) & (there < SIZE_UM)).all(axis=1)
    same = block.at(block.niche, there[inside]) == adjacent.cell_niche[inside]
    unmoved = block.at(block.niche, adjacent.cell_xy[inside]) == adjacent.cell_niche[inside]
    assert same.mean() > 0.93 > unmoved.mean()


def test_at_rest_drive_and_activity_agree_and_cells_without_receptor_are_silent(
    specimen: Specimen, section: SimulatedSection
) -> None:
    np.testing.assert_allclose(specimen.signalling.drive(specimen.rest), section.activity, atol=1e-9)
    kinds = np.array(TYPE_NAMES)[section.cell_type]
    for name, pathway in PATHWAYS.items():
        activity = section.activity[:, PATHWAY_NAMES.index(name)]
        assert activity.min() >= 0 and 0.5 < activity.max() <= 1
        if pathway.receptor in SIGNALS:
            assert activity[~np.isin(kinds, list(SIGNALS[pathway.receptor]))].max() < 1e-6


@pytest.mark.parametrize("dose", [0.0, 1e-12])
def test_dose_zero_is_the_identity_and_little_does_little(specimen: Specimen, dose: float) -> None:
    parts = [
        part("knockout", "TGFB1", dose=dose),
        part("drug", "ruxolitinib", dose=dose),
        part("ligand", "IFNG", dose=dose),
    ]
    treated = specimen.under(parts)
    change = np.abs(treated.cell_rate - specimen.untreated.cell_rate)
    assert change.max() == 0 if dose == 0 else 0 < change.max() < 1e-6


def test_where_nothing_works_nothing_moves() -> None:
    specimen = specimen_of(effect=0.0)
    treated = specimen.under([part("knockout", "TGFB1"), part("drug", "erlotinib", onset_hours=12.0)])
    np.testing.assert_array_equal(treated.cell_rate, specimen.untreated.cell_rate)
    assert treated.treated.all()


def test_a_knock_out_lowers_its_transcript_and_a_drug_leaves_it(effect: Callable[..., pd.DataFrame]) -> None:
    long = 200.0
    assert np.allclose(effect(part("knockout", "EGFR", hours=long))["EGFR"], -LEFT, atol=1e-6)
    drug, knockout = effect(part("drug", "erlotinib", dose=50.0)), effect(part("knockout", "EGFR"))
    assert drug["EGFR"].abs().max() < 1e-9 and drug["DUSP6"].mean() < -0.1
    assert np.corrcoef(drug["DUSP6"], knockout["DUSP6"])[0, 1] > 0.95


def test_each_regulator_moves_its_targets_by_their_sign(effect: Callable[..., pd.DataFrame]) -> None:
    edges = network()
    for regulator, targets in edges[edges["kind"] == "regulates"].groupby("source"):
        fold = effect(part("knockout", str(regulator)))
        for target, sign in zip(targets["target"], targets["sign"], strict=True):
            assert target == regulator or fold[target].mean() * sign < 0


@pytest.mark.parametrize(("gene", "target"), [("TGFB1", "POSTN"), ("TNF", "CXCL8"), ("CXCL12", "EGR1")])
def test_a_lost_ligand_is_missed_by_neighbours_as_far_as_it_carries(
    section: SimulatedSection, effect: Callable[..., pd.DataFrame], gene: str, target: str
) -> None:
    """In rings one decay length wide around the disc, the target falls by less than half as much from ring to ring."""
    pathway = next(p for p in PATHWAYS.values() if p.ligand == gene)
    away = np.hypot(*(section.cell_xy - SIZE_UM / 2).T) - 150.0
    fold = effect(part("knockout", gene, where={"disc_um": [SIZE_UM / 2, SIZE_UM / 2, 150.0]}))[target]
    hears = (section.activity[:, list(PATHWAYS.values()).index(pathway)] > 0.15) & (away > 0)
    rings = [-fold[hears & (away >= a) & (away < a + pathway.decay_um)].mean() for a in pathway.decay_um * np.arange(3)]
    assert rings[0] > 2 * rings[1] > 4 * rings[2] > 0


def test_the_spread_recovers_the_stated_decay_length(specimen: Specimen, section: SimulatedSection) -> None:
    """What one cell's ligand adds to the signal its neighbours hear falls as exp(−d / λ) up to its reach."""
    for i, pathway in enumerate(PATHWAYS.values()):
        if pathway.ligand is None:
            continue
        kernel = specimen.signalling.kernels[i]
        cell = int(np.argmin(np.hypot(*(section.cell_xy - SIZE_UM / 2).T)))
        heard = np.asarray(kernel[:, cell].todense()).ravel()
        distance = np.hypot(*(section.cell_xy - section.cell_xy[cell]).T)
        near = heard > 0
        assert -1 / np.polyfit(distance[near], np.log(heard[near]), 1)[0] == pytest.approx(pathway.decay_um, rel=1e-6)
        assert near[distance <= REACH * pathway.decay_um].all() and distance[near].max() <= REACH * pathway.decay_um


def test_far_from_a_local_application_nothing_moves_at_all(
    section: SimulatedSection, effect: Callable[..., pd.DataFrame]
) -> None:
    reach = REACH * max(p.decay_um for p in PATHWAYS.values())
    corner = section.cell_xy[np.argmin(section.cell_xy.sum(axis=1))]
    away = np.hypot(*(section.cell_xy - corner).T)
    where = {"disc_um": [*corner, 40.0]}
    fold = effect(part("ligand", "TGFB1", hours=STEP_HOURS, where=where)).abs().max(axis=1)
    assert (away > 40 + reach).sum() > 100 and fold[away > 40 + reach].max() == 0 < fold[away < 40].max()
    later = effect(part("ligand", "TGFB1", hours=2 * STEP_HOURS, where=where)).abs().max(axis=1)
    assert (
        later[away > 40 + 2 * reach].max() == 0 < later[away > 40 + REACH * PATHWAYS["tgf_beta"].decay_um].max() < 0.05
    )


def test_places_are_discs_niches_types_and_single_cells(specimen: Specimen, section: SimulatedSection) -> None:
    stroma = {"column": "niche", "equals": "stroma"}
    assert (cells_at(section, stroma) == (section.cell_niche == NICHES.index("stroma"))).all()
    one = {"column": "cell_id", "equals": "aaaaaaah-1"}
    assert list(np.flatnonzero(specimen.under([part("ligand", "IFNG", where=one)]).treated)) == [7]
    with pytest.raises(ConfigError, match=r"no column named 'nich'; did you mean 'niche'\?"):
        cells_at(section, {"column": "nich", "equals": "stroma"})


def test_non_responders_do_not_move() -> None:
    none = specimen_of(responder_share=0.0)
    treated = none.under([part("knockout", "STAT1")])
    np.testing.assert_array_equal(treated.cell_rate, none.untreated.cell_rate)
    half = specimen_of(responder_share=0.5)
    fold = np.log(half.under([part("knockout", "STAT1")]).cell_rate / half.untreated.cell_rate)[:, GENES.index("STAT1")]
    assert 0.4 < half.untreated.responder.mean() < 0.6
    assert (fold[half.untreated.responder] < -1).all() and fold[~half.untreated.responder].max() == 0


@pytest.mark.parametrize("name", DRUGS)
def test_dose_follows_hill(name: str) -> None:
    drug = DRUGS[name]
    share = [share_of_effect(part("drug", name, dose=d)) for d in (0.0, drug.half_dose_um, 1e6)]
    np.testing.assert_allclose(share, [0.0, 0.5, 1.0], atol=1e-4)


def test_effects_come_with_time_and_wash_out(effect: Callable[..., pd.DataFrame]) -> None:
    course = [effect(part("ligand", "IFNG", hours=h))["CXCL9"].mean() for h in (3.0, 6.0, 24.0, 48.0)]
    assert 0 < course[0] < course[1] < course[2] < course[3] < 1.3 * course[2]
    # An unrelated knock-out only lets three more days pass before the tissue is measured.
    gone = effect(part("ligand", "IFNG"), part("knockout", "TP63", onset_hours=24.0, hours=72.0))["CXCL9"].mean()
    assert 0 < gone < 0.05 * course[2]


def test_interaction_of_a_pair_is_recovered_and_others_add(effect: Callable[..., pd.DataFrame]) -> None:
    coefficient = INTERACTIONS[("drug", "ruxolitinib"), ("knockout", "TGFB1")]
    dose, hours = 5.0, 200.0
    drug, knockout = part("drug", "ruxolitinib", dose=dose, hours=hours), part("knockout", "TGFB1", hours=hours)
    both = effect(drug, knockout)["TGFB1"] - (effect(drug)["TGFB1"] + effect(knockout)["TGFB1"])
    np.testing.assert_allclose(both / -LEFT, coefficient * share_of_effect(drug), atol=0.05)
    other = part("knockout", "EPCAM", hours=hours)
    apart = effect(other) + effect(knockout)
    np.testing.assert_allclose(effect(other, knockout), apart, atol=1e-9)


def test_together_order_does_not_matter_one_after_the_other_it_does(effect: Callable[..., pd.DataFrame]) -> None:
    first, second = part("ligand", "IFNG"), part("drug", "ruxolitinib", dose=5.0)
    pd.testing.assert_frame_equal(effect(first, second), effect(second, first), rtol=1e-12, atol=1e-12)
    ab = effect(first, {**second, "onset_hours": 24.0})["CXCL9"].mean()
    ba = effect(second, {**first, "onset_hours": 24.0})["CXCL9"].mean()
    assert ba > ab + 0.3


def test_unknown_interventions_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no target named 'TGFB2'; did you mean 'TGFBR2'\?"):
        part("knockout", "TGFB2")
    with pytest.raises(ConfigError, match=r"no kind named 'knock'"):
        part("knock", "TGFB1")
