"""Morphology of treated wells: mechanisms of compounds that training never saw, beside nearest neighbours.

BBBC021, 632 wells of MCF7 in 55 plates, 516 features of images, 38 compounds of 12 mechanisms (Ljosa et al. 2013,
doi:10.1177/1087057113503553; Caie et al. 2010, doi:10.1158/1535-7163.MCT-09-1148), by `configs/bbbc021.yaml`. Compounds
are left out by fifths, all doses of one together, mechanisms spread over the fifths, so that every treatment (compound
and concentration) is told once. Beside the model stand, of the same compounds, the treatment nearest by cosine, of
medians over wells (the rule of the publication), and shrunken linear discriminants; features as the publications have
them, between the first and the 99th percentile of the untreated wells of a plate. Intervals are over compounds.

    AIVC_DATA=… OMP_NUM_THREADS=1 python benchmarks/cell_painting.py [--join FILE]

`--join` writes the table that the configuration reads, three files of the data joined, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from first_model_parts import CONFIGS
from result_file import write_result
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from aivc_graph.config import data_folder, load_config
from aivc_graph.evaluation import intervals
from aivc_graph.pipeline.train import train_config
from aivc_graph.query.types import told_types
from aivc_graph.query.virtual_tissue import VirtualTissue

OUT = Path(__file__).parent / "results" / "cell_painting.json"
CONTROL, FOLDS, DRAWS = "DMSO", 5, 2_000
ABOUT = ["well", "plate", "compound", "dose", "mechanism"]


def main() -> None:
    """Ask every compound once and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--join", type=Path)
    options = parser.parse_args()
    table = joined(data_folder() / "bbbc021-morphology")
    if options.join is not None:
        table.to_csv(options.join, index=False)
        return
    treated = table[table["mechanism"].notna()]
    treatment = treated["compound"] + " " + treated["dose"].astype(str)
    scaled = beside_untreated(table).loc[treated.index]
    said: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wells.csv"
        table.to_csv(path, index=False)
        for number, out in enumerate(fifths(treated)):
            asked = treated["compound"].isin(out)
            told = of_model(path, out, Path(folder) / f"run{number}")
            rules = {"nearest treatment": nearest, "linear discriminants": discriminants}
            answers = {
                "model": told.loc[treated.loc[asked, "well"]].groupby(treatment[asked].to_numpy()).mean().idxmax(axis=1)
            }
            for name, rule in rules.items():
                answers[name] = rule(
                    scaled[~asked], treated.loc[~asked, "mechanism"], scaled[asked], treatment[~asked], treatment[asked]
                )
            for name, found in answers.items():
                said.setdefault(name, {}).update(found.to_dict())
            print(number, out, flush=True)
    facts = treated.assign(treatment=treatment).drop_duplicates("treatment").set_index("treatment")
    found = scores(said, facts)
    print(json.dumps(found, indent=1))
    write_result(OUT, found)


def joined(folder: Path) -> pd.DataFrame:
    """Return a row a well: plate, compound, dose [µM], mechanism (none of untreated wells) and features."""
    wells = pd.read_csv(folder / "BBBC021_v1_wells.csv.gz").rename(
        columns={
            "Image_Metadata_Plate_DAPI": "plate",
            "Image_Metadata_Well_DAPI": "w",
            "Image_Metadata_Compound": "compound",
            "Image_Metadata_Concentration": "dose",
        }
    )
    known = pd.read_csv(folder / "BBBC021_v1_moa.csv").rename(columns={"concentration": "dose", "moa": "mechanism"})
    profiles = pd.read_csv(folder / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz").rename(
        columns={"Image_Metadata_Plate": "plate", "Image_Metadata_Well": "w"}
    )
    features = [name for name in profiles.columns[2:] if profiles[name].std() > 1e-9]
    table = profiles[["plate", "w", *features]].merge(wells[["plate", "w", "compound", "dose"]], on=["plate", "w"])
    table = table.merge(known, on=["compound", "dose"], how="left")
    table["mechanism"] = table["mechanism"].where(table["compound"] != CONTROL)
    table.insert(0, "well", table["plate"] + "_" + table["w"])
    return table[[*ABOUT, *features]]


def beside_untreated(table: pd.DataFrame) -> pd.DataFrame:
    """Return features from 0 to 1 between the first and the 99th percentile of untreated wells of the plate."""
    features = table.columns[len(ABOUT) :]
    untreated = table[table["compound"] == CONTROL].groupby("plate")[list(features)]
    low, high = (untreated.quantile(q).loc[table["plate"]].to_numpy() for q in (0.01, 0.99))
    values = (table[features].to_numpy() - low) / np.where(high - low > 1e-9, high - low, np.inf)
    return pd.DataFrame(values, table.index, features)


def fifths(treated: pd.DataFrame) -> list[list[str]]:
    """Return the compounds of each fifth; of a mechanism they are dealt out one after the other."""
    order = treated.drop_duplicates("compound").sort_values(["mechanism", "compound"])["compound"].tolist()
    return [order[i::FOLDS] for i in range(FOLDS)]


def of_model(path: Path, out: list[str], run: Path) -> pd.DataFrame:
    """Return the probability of each mechanism of wells, told by a run that has not seen the compounds `out`."""
    given = [f"task.sections.0.sources.0.path={path}", f"task.split.test={json.dumps(out)}"]
    train_config(load_config(CONFIGS / "bbbc021.yaml", given), None, run, resume=False, device="cpu")
    tissue = VirtualTissue.load(run)
    told = told_types(tissue.model, tissue.graph, "cell")[0]
    wells = tissue.graph.obs("cell")["barcode"].astype(str)
    return pd.DataFrame(told, index=wells.to_numpy(), columns=list(tissue.model.plan.types["cell"]))


def nearest(x: pd.DataFrame, y: pd.Series, asked: pd.DataFrame, of: pd.Series, of_asked: pd.Series) -> pd.Series:
    """Return the mechanism of the treatment nearest by cosine, of medians over wells."""
    known, wanted = x.groupby(of).median(), asked.groupby(of_asked).median()
    mechanism = y.groupby(of).first()
    unit = [one.to_numpy() / np.linalg.norm(one.to_numpy(), axis=1, keepdims=True) for one in (known, wanted)]
    return pd.Series(mechanism.loc[known.index].to_numpy()[(unit[1] @ unit[0].T).argmax(axis=1)], wanted.index)


def discriminants(x: pd.DataFrame, y: pd.Series, asked: pd.DataFrame, of: pd.Series, of_asked: pd.Series) -> pd.Series:
    """Return the likeliest mechanism by linear discriminants with a shrunken covariance, the mean over wells."""
    rule = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x.to_numpy(), y.to_numpy())
    told = pd.DataFrame(rule.predict_proba(asked.to_numpy()), columns=rule.classes_)
    return told.groupby(of_asked.to_numpy()).mean().idxmax(axis=1)


def scores(said: dict[str, dict[str, str]], facts: pd.DataFrame) -> dict[str, Any]:
    """Return the share of treatments told right, and the model's less each rule's, with intervals over compounds."""
    right = {k: (pd.Series(v).loc[facts.index] == facts["mechanism"]).astype(float).to_numpy() for k, v in said.items()}
    code = pd.factorize(facts["compound"])[0]
    number, rng = np.bincount(code), np.random.default_rng(0)
    drawn = rng.integers(0, len(number), (DRAWS, len(number)))

    def interval(values: np.ndarray) -> list[float]:
        sums = np.bincount(code, values)
        means = sums[drawn].sum(axis=1) / number[drawn].sum(axis=1)
        return [round(float(one), 4) for one in (values.mean(), *intervals.interval(means, len(number)))]

    found: dict[str, Any] = {"treatments": len(facts), "compounds": len(number)}
    found["accuracy"] = {name: interval(one) for name, one in right.items()}
    found["model less"] = {name: interval(right["model"] - one) for name, one in right.items() if name != "model"}
    return found


if __name__ == "__main__":
    main()
