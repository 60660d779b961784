"""Structures held out: no scaffold on two sides, no like molecules across clusters, unknown ones unused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph import names
from aivc_graph.errors import ConfigError
from aivc_graph.splits.by_scaffold import ScaffoldSplit
from aivc_graph.splits.design import split_design
from aivc_graph.splits.molecules import butina_clusters, parse_molecules, scaffold_of, similarity_of
from aivc_graph.tissue.intervention import drug, knockout
from tests.splits.screens import plate, section_of

pytest.importorskip("rdkit")
SIDES = (names.TRAIN, names.VALIDATION, names.TEST)
RINGS = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "c1ccc2ccccc2c1", "c1ccoc1", "C1CCNCC1", "c1ccc2[nH]ccc2c1")
CHAINS = ("C", "CC", "CCO", "CCN", "C(=O)O", "F", "OC", "")


def molecules() -> pd.DataFrame:
    """Return 56 small molecules of seven ring systems, one drug a row, and a vehicle."""
    smiles = [chain + ring for ring in RINGS for chain in CHAINS]
    rows = [{"condition": f"drug{i}", "smiles": text} for i, text in enumerate(smiles)]
    return pd.DataFrame([*rows, {"condition": "DMSO", "smiles": "CS(C)=O"}])


@given(seed=st.integers(0, 30), n_test=st.integers(1, 3), n_validation=st.integers(0, 2))
@settings(max_examples=8, deadline=None)
def test_no_scaffold_is_on_two_sides(seed: int, n_test: int, n_validation: int) -> None:
    table = molecules()
    labels = ScaffoldSplit(n_test=n_test, n_validation=n_validation, seed=seed).label(table)
    drugs = table["condition"] != "DMSO"
    scaffold = [scaffold_of(one) for one in parse_molecules(table["smiles"][drugs]).values()]
    of_side = [set(np.array(scaffold)[(labels[drugs] == side).to_numpy()]) for side in SIDES]
    assert [len(found) for found in of_side] == [7 - n_test - n_validation, n_validation, n_test]
    assert len(set.union(*of_side)) == 7 and labels.iloc[-1] == names.TRAIN


@given(seed=st.integers(0, 30), least=st.floats(0.2, 0.7), n_validation=st.integers(0, 2))
@settings(max_examples=12, deadline=None)
def test_nothing_alike_is_on_two_sides_of_clusters(seed: int, least: float, n_validation: int) -> None:
    table = molecules()[:-1]
    split = ScaffoldSplit(by="cluster", similarity=least, n_test=2, n_validation=n_validation, seed=seed)
    try:
        labels = split.label(table).to_numpy()
    except ConfigError as error:
        assert "no condition left" in str(error) or "held out" in str(error) or "to draw" in str(error)
        return
    like = similarity_of(list(parse_molecules(table["smiles"]).values()))
    for i, a in enumerate(SIDES):
        for b in SIDES[i + 1 :]:
            across = like[np.ix_(labels == a, labels == b)]
            assert across.size == 0 or across.max() < least
    assert set(labels) <= set(names.SPLITS)


def test_clusters_are_those_of_an_independent_implementation() -> None:
    from rdkit.ML.Cluster import Butina

    like = similarity_of(list(parse_molecules(molecules()["smiles"]).values()))
    far = [1 - float(like[i, j]) for i in range(len(like)) for j in range(i)]
    theirs = Butina.ClusterData(far, len(like), 0.6, isDistData=True, reordering=True)
    centre = butina_clusters(like, 0.4)
    ours = [np.flatnonzero(centre == one) for one in np.unique(centre)]
    assert sorted(map(len, ours), reverse=True)[:3] == sorted(map(len, theirs), reverse=True)[:3]
    for one in ours:  # every member is like the centre
        assert (like[centre[one[0]], one] >= 0.4).all()


def test_similarity_is_that_of_an_independent_implementation() -> None:
    from rdkit.Chem import rdFingerprintGenerator
    from rdkit.DataStructs import TanimotoSimilarity

    found = list(parse_molecules(molecules()["smiles"][:12]).values())
    prints = [rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048).GetFingerprint(m) for m in found]
    expected = [[TanimotoSimilarity(a, b) for a in prints] for b in prints]
    np.testing.assert_allclose(similarity_of(found), expected, atol=1e-6)


def test_one_molecule_written_in_two_ways_stays_on_one_side() -> None:
    smiles = ["OC(=O)c1ccccc1", "c1ccccc1C(O)=O", "[Na+].[O-]C(=O)c1ccccc1", "C1CCCCC1", "CCO", "CCCl"]
    table = pd.DataFrame({"condition": list("abcdef"), "smiles": smiles})
    for seed in range(6):
        labels = ScaffoldSplit(n_test=2, seed=seed).label(table)
        assert labels[:3].nunique() == 1
    chains = {ScaffoldSplit(n_test=1, seed=s).label(table)[4:].nunique() for s in range(8)}
    assert chains == {1, 2}  # without rings they are no group together


def test_unknown_structures_are_unused_and_combinations_follow_their_parts(caplog) -> None:
    table = pd.DataFrame(
        {
            "condition": ["a", "b", "c", "a+b", "c+d", "b+d", "control"],
            "smiles": [
                "c1ccccc1",
                "C1CCCCC1",
                None,
                ("c1ccccc1", "C1CCCCC1"),
                ("", "c1ccncc1"),
                ("C1CCCCC1", None),
                "",
            ],
        }
    )
    labels = ScaffoldSplit(test=["c1ccccc1"]).label(table)
    assert labels.tolist() == ["test", "train", "unused", "test", "train", "unused", "train"]
    assert "2 of 7 rows without a known molecule are unused" in caplog.text


def test_sections_give_the_structure_with_the_drug() -> None:
    given = [drug("x", targets={"G": -1}, smiles=s) for s in ("Cc1ccccc1", "CC1CCCCC1")]
    sections = [section_of(f"s{i}", one) for i, one in enumerate([*given, knockout("TP53")])]
    sections.append(section_of("unknown", drug("y", targets={"G": -1})))
    assert split_design("by_scaffold", test=["c1ccccc1"])(sections) == {"cell": {"train": 12, "test": 6, "unused": 6}}


def test_what_is_no_molecule_is_named_and_the_nearest_scaffold_offered() -> None:
    table = molecules()
    with pytest.raises(ConfigError, match="no scaffold named 'c1ccccc'; did you mean 'c1ccccc1'"):
        ScaffoldSplit(test=["c1ccccc"]).label(table)
    table.loc[:1, "smiles"] = ["C1CC", "water"]
    with pytest.raises(ConfigError, match=r"(?s)smiles 'C1CC': expected SMILES.*smiles 'water'"):
        ScaffoldSplit(n_test=1).label(table)
    with pytest.raises(ConfigError, match="no column named 'smiles'"):
        ScaffoldSplit(n_test=1).label(table.drop(columns="smiles"))


def test_without_rdkit_it_is_said_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ConfigError, match=r"no RDKit in this environment; install it: pip install 'aivc-graph\[chem"):
        ScaffoldSplit(n_test=1).label(molecules())


def test_the_compounds_of_a_real_plate(data_dir: Path) -> None:
    path = data_dir / "p100-mcf7-phospho/P-0029_MCF7_3H_test_p100.gct"
    if not path.exists():
        pytest.skip(f"absent: {path}")
    table = plate(path)
    table["condition"] = table["condition"].str.replace("+", " ")
    for by in ("scaffold", "cluster"):
        labels = ScaffoldSplit(by=by, n_test=6, n_validation=3).label(table)
        assert set(labels[table["condition"] == "DMSO"]) == {names.TRAIN}
        assert labels.groupby(table["condition"]).nunique().max() == 1 and (labels == names.TEST).sum() >= 18
        structures = {side: set(table["smiles"][(labels == side) & (table["condition"] != "DMSO")]) for side in SIDES}
        of = {side: {scaffold_of(m) for m in parse_molecules(found).values()} for side, found in structures.items()}
        if by == "scaffold":
            assert not of["test"] & (of["train"] | of["validation"])
        like = similarity_of(list(parse_molecules([*structures["test"], *structures["train"]]).values()))
        n = len(structures["test"])
        assert by == "scaffold" or like[:n, n:].max() < 0.4


def test_thousands_of_drugs_are_read(data_dir: Path) -> None:
    drugs = data_dir / "priors/repurposing_drugs_smiles.csv.gz"
    if not drugs.exists():
        pytest.skip(f"absent: {drugs}")
    table = pd.read_csv(drugs).rename(columns={"pert_iname": "condition"}).head(400)
    table["condition"] = table["condition"].str.replace("+", " ")
    labels = ScaffoldSplit(n_test=60, n_validation=20).label(table)
    assert labels.value_counts()[names.TEST] >= 60 and set(labels) <= set(SIDES)
