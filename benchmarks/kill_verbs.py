"""Every verb that writes, as a command line on tiny data, and the state it finds; for `kills.py` and `places.py`.

What an evaluation and a page say takes seconds to work out and writes nothing. It is worked out once; what is then
written tells which model it is of, so that a mix shows.
"""

from __future__ import annotations

import importlib
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a demo writes once its run is there.
TOLD = (
    *("evaluation.json", "report.html", "niches.png", "contacts.png", "training.png"),
    *("niches.csv", "markers.csv", "expression.csv", "contacts.csv"),
)


@dataclass(frozen=True)
class Verb:
    """One verb: what makes the state it finds, what it does, and what of its output may be missing after a kill.

    Parameters
    ----------
    act, again
        Do what the verb does, and what a user does after a kill; return an exit code.
    out
        The file or folder that it writes, in the folder it works in.
    may_lack
        What is written after the rest, and says by itself what it is of.
    run
        The run folder that grows in place while there is no finished one yet.
    """

    name: str
    before: Callable[[Path], Any]
    act: Callable[[Path], int]
    again: Callable[[Path], int] | None = None
    out: str = ""
    may_lack: tuple[str, ...] = ()
    run: str = ""


def say(*words: str) -> Callable[[Path], int]:
    """Return what runs a command line in a folder, which stands in its words as ``{}``."""

    def act(place: Path) -> int:
        from aivc_graph.cli import main

        return main([*(word.replace("{}", str(place)) for word in words), "--quiet"])

    return act


def write_cells(file: Path) -> Path:
    """Write an AnnData of 60 cells 20 µm apart; return its file."""
    import anndata as ad
    import numpy as np
    import pandas as pd

    counts = np.random.default_rng(0).poisson(3.0, (60, 20)) + 1
    place = np.column_stack([np.arange(60) % 10, np.arange(60) // 10]) * 20.0
    obs = pd.DataFrame({"label": ["a", "b"] * 30}, index=[f"c{i}" for i in range(60)])
    ad.AnnData(counts.astype(np.float32), obs=obs, obsm={"spatial": place}).write_h5ad(file)
    return file


def write_screen(folder: Path) -> None:
    """Write cells of four conditions and what somebody predicts of them: ``measured.h5ad`` and ``predicted.h5ad``."""
    import anndata as ad
    import numpy as np
    import pandas as pd

    rng, names = np.random.default_rng(0), np.repeat(["control", "A", "B", "C"], 40)
    rates = np.linspace(1, 8, 30) * np.exp((names[:, None] != "control") * rng.normal(0, 0.3, 30))
    cells = pd.DataFrame({"condition": names}, index=[f"c{i}" for i in range(160)])
    cells["split"] = np.where(np.isin(names, ["B", "C"]), "test", "train")
    ad.AnnData(rng.poisson(rates).astype(np.float32), obs=cells).write_h5ad(folder / "measured.h5ad")
    said = ad.AnnData(rng.poisson(rates).astype(np.float32), obs=cells[["condition"]])
    said = said[np.isin(names, ["control", "B", "C"])].copy()
    said.obs_names = [f"p{i}" for i in range(said.n_obs)]
    said.write_h5ad(folder / "predicted.h5ad")


def write_inputs(folder: Path) -> Path:
    """Write cells, a screen and the configuration that trains on the cells; return the configuration."""
    write_screen(folder)
    source = (
        f"{{path: {write_cells(folder / 'cells.h5ad')}, reader: h5ad, level: cell, um_per_unit: 1, diameter_um: 10}}"
    )
    config = folder / "cells.yaml"
    config.write_text(
        f"task: {{name: kills, sections: [{{name: s1, sources: [{source}]}}]}}\n"
        "model: {latent: 4, rings: [6, 12]}\ntraining: {epochs: 3, device: cpu}\n"
    )
    return config


def verbs(inputs: Path) -> list[Verb]:
    """Write what they work on into a folder; return every verb that writes, each with the state that it finds."""
    from aivc_graph.simulate.presets import PRESETS, UNTREATED, DonorPlan, Preset

    for name in ("tiny", "demo"):
        PRESETS[name] = Preset(150.0, (DonorPlan("D1", "site", (UNTREATED,)),), mpp=None)
    train = ("train", str(write_inputs(inputs)), "--out", "{}/run", "--overwrite")
    seed, longer = ("--set", "training.seed=1"), ("--set", "training.epochs=5")
    ask = f"{inputs}/run"
    if say(*train)(inputs) != 0 or say("evaluate", ask)(inputs) != 0:
        raise SystemExit("no run to start from")
    _shorten(inputs / "run")

    def with_run(place: Path) -> None:
        shutil.copytree(inputs / "run", place / "run")
        (place / "run/notes.txt").write_text("mine")
        (place / "run/report.html").write_text("old")

    def half_trained(place: Path) -> None:
        with_run(place)
        for name in ("run.json", "model.json", "model.safetensors", "niches.safetensors", "training.json"):
            (place / "run" / name).unlink()

    def two_runs(place: Path) -> None:
        for name in ("a", "b"):
            shutil.copytree(inputs / "run", place / name)
        for ending in ("csv", "json"):
            (place / f"table.{ending}").write_text("old")

    def data(place: Path) -> None:
        (place / "data").mkdir()
        write_cells(place / "data/cells.h5ad")

    def old(name: str) -> Callable[[Path], Any]:
        return lambda place: (place / name).write_text("old")

    def queried(name: str, option: str = "--out") -> Verb:
        words = ("query", ask, "niches", "--k", "3", option, f"{{}}/{name}")
        return Verb(f"query {name.split('.')[1]}", old(name), say(*words), out=name)

    def exported(to: str, name: str) -> Verb:
        words = ("export", ask, "--to", to, "--out", f"{{}}/{name}")

        def before(place: Path) -> None:
            say(*words)(place)
            if not (place / name).is_dir():
                (place / name).write_text("old")
                return
            (place / name / "notes.txt").write_text("mine")
            for file in [*(place / name).glob("*.geojson"), *(place / name).glob("*.h5ad")]:
                file.write_text("old")
            for file in (place / name).glob("*/zarr.json"):
                file.write_text("{}")

        return Verb(f"export {to}", before, say(*words), out=name)

    def compared(ending: str) -> Verb:
        act = say("compare", "{}/a", "{}/b", "--out", f"{{}}/table.{ending}")
        return Verb(f"compare {ending}", two_runs, act, out=f"table.{ending}")

    def aged(place: Path) -> None:
        for name in ("notes.txt", "report.html", "niches.csv", "model.json"):
            (place / "run" / name).write_text("old")

    told = tuple(f"run/{name}" for name in TOLD)
    nothing: Callable[[Path], Any] = lambda _: None  # noqa: E731
    build = ("build", str(inputs / "cells.yaml"), "--out", "{}/g.zarr")
    scored = ("evaluate", "--predictions", f"{inputs}/predicted.h5ad", "--measured", f"{inputs}/measured.h5ad")
    page, pages, demo = ("run/report.html",), ("scores/report.html",), ("demo", "--device", "cpu", "--out", "{}/run")
    return [
        Verb("simulate", nothing, say("simulate", "tiny", "--out", "{}/tissue"), out="tissue"),
        Verb("init", data, say("init", "{}/data", "--out", "{}/study.yaml"), out="study.yaml"),
        Verb("build", say(*build), say(*build, "--set", "graph.patch_um=50"), out="g.zarr"),
        Verb("train", nothing, say(*train), say(*train, "--resume"), out="run", run="run"),
        Verb("train resume", half_trained, say(*train, *longer, "--resume"), out="run", run="run"),
        Verb("train anew", with_run, say(*train, *seed), say(*train, *seed, "--resume"), out="run"),
        Verb("train on", with_run, say(*train, *longer, "--resume"), out="run"),
        Verb("evaluate", with_run, say("evaluate", "{}/run"), out="run", may_lack=page),
        Verb("evaluate tables", nothing, say(*scored, "--out", "{}/scores"), out="scores", may_lack=pages),
        compared("csv"), compared("json"),
        queried("n.csv"), queried("n.parquet"), queried("n.h5ad"), queried("n.png", "--plot"),
        exported("h5ad", "out"), exported("geojson", "out"), exported("spatialdata", "out"),
        exported("graphml", "out.graphml"),
        Verb("demo", nothing, say(*demo), out="run", may_lack=told, run="run"),
        Verb("demo again", lambda place: (say(*demo)(place), aged(place)), say(*demo), out="run"),
    ]  # fmt: skip


def _shorten(run: Path) -> None:
    """From now on write the scores of `run` as anybody's, and pages that only tell what they are of."""
    from aivc_graph.evaluation.records import read_evaluation
    from aivc_graph.io.h5ad_file import file_hashes
    from aivc_graph.report import write
    from aivc_graph.training.checkpoint import WEIGHTS

    evaluating: Any = importlib.import_module("aivc_graph.pipeline.evaluate")
    scores = read_evaluation(run / "evaluation.json")
    page: Any = write

    def scored(run: Path, truth: Any, pathways: Any, tissue: Any) -> Any:
        kept = scores.provenance | {"model": model_of(tissue), "files": file_hashes(run / WEIGHTS)}
        return scores.model_copy(update={"provenance": kept})

    def contents(run: Path, tissue: Any, scores: Path | None) -> dict[str, Any]:
        return {"model": model_of(tissue), "scores": scores and zlib.crc32(scores.read_bytes())}

    evaluating._scores, page.contents, page.render = scored, contents, lambda *name, **told: f"{name} {told}"


def model_of(tissue: Any) -> int:
    """Return a number that tells one model from another."""
    state = tissue.model.state_dict()
    return zlib.crc32(b"".join(state[name].cpu().numpy().tobytes() for name in sorted(state)))
