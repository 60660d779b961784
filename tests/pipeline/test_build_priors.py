"""`priors:` of a configuration: read, hung on the graph, hashed, told by inspect; and refused with all its faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.config import dump_config, load_config
from aivc_graph.errors import ConfigError, GraphError
from aivc_graph.graph.store import read_store, store_facts
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.inspect import inspect

YAML = """
task:
  name: known
  sections:
    - name: s1
      sources:
        - path: ./counts.csv
          reader: plain_table
          level: cell
          x: x
          y: y
          barcode: cell
          um_per_unit: 1
          diameter_um: 8
  priors:
    - {path: ./regulons.csv, species: mouse, names_by: ./orthologs.txt}
    - {path: ./sets.gmt}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.poisson(2.0, (60, 8)), columns=[f"GENE{i}" for i in range(8)])
    table.insert(0, "cell", [f"c{i}" for i in range(60)])
    table.assign(x=rng.uniform(0, 300, 60), y=rng.uniform(0, 300, 60)).to_csv(tmp_path / "counts.csv", index=False)
    (tmp_path / "regulons.csv").write_text("tf,target,mor\nMone,Mtwo,-1\nMone,Mthree,1\n")
    (tmp_path / "orthologs.txt").write_text("GENE0\t1\tMone\nGENE1\t2\tMtwo\n")
    (tmp_path / "sets.gmt").write_text("SET\t\tGENE3\tGENE4\tUNSEEN\n")
    (tmp_path / "known.yaml").write_text(YAML)
    return tmp_path


def test_priors_of_the_yaml_stand_in_the_graph_with_hashes_and_are_told(folder: Path) -> None:
    config = load_config(folder / "known.yaml")
    store = build(config, folder / "graph.zarr")
    graph = read_store(store)
    index, relation = graph.obs("gene").index, graph["gene", "regulates", "gene"]
    assert {"GENE0", "GENE1", "Mthree", "UNSEEN"} <= set(index) and "Mone" not in index
    assert sorted(relation.sign.tolist()) == [-1.0, 1.0]
    inputs = store_facts(store)["provenance"]["inputs"]
    assert {"priors/regulons.csv", "priors/orthologs.txt", "priors/sets.gmt"} <= set(inputs)
    said = inspect(store)["priors"]
    assert said[0].startswith("regulons.csv (regulons, mouse): regulates, 2 edges; 2 of 8 molecules of this tissue")
    assert said[1].startswith("sets.gmt (gmt, species not told): describes, vectors of 3 genes; 2 of 8 molecules")
    assert inputs["priors/sets.gmt"].startswith(said[1].split("sha256 ")[1])
    (folder / "again.yaml").write_text(dump_config(config))
    assert load_config(folder / "again.yaml") == config


def test_a_wrong_relation_and_an_unknown_key_are_faults_of_the_yaml(folder: Path) -> None:
    text = YAML.replace("species: mouse", "specie: mouse").replace("sets.gmt}", "sets.gmt, relation: describe}")
    (folder / "known.yaml").write_text(text)
    with pytest.raises(ConfigError) as told:
        load_config(folder / "known.yaml")
    assert "specie" in str(told.value) and "species" in str(told.value) and "describes" in str(told.value)


def test_without_the_table_of_names_the_file_matches_nothing_and_is_refused(folder: Path) -> None:
    (folder / "known.yaml").write_text(YAML.replace(", names_by: ./orthologs.txt", ""))
    with pytest.raises(GraphError, match=r"regulons\.csv: expected names such as GENE0, .* found names such as Mone"):
        build(load_config(folder / "known.yaml"), folder / "graph.zarr")
