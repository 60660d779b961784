"""What spots are made of, beside published tools on the same counts, cells and genes, in environments of their own.

    python benchmarks/deconvolution_peers.py [--sets hippocampus …] [--tools rctd …] [--envs DIR]

Makes a virtual environment for each tool's package in ``--envs``, on top of this one, and installs it there by pip, or
takes the one that is there; ``deconvolution_peer`` says how each is run, on one thread. What a tool said is kept in
``--envs`` under the hash of its input and of its code, and not asked again: a stop loses one tool. A tool that fails,
or takes longer than ``--seconds``, is written with what it said. Sets and truth are those of ``deconvolution``, of
Visium every fourth spot, so that cell2location comes to its end; truth is looked at for scores alone.

``NAME half``: after half of the steps. ``NAME cells``: shares divided by the molecules of a cell of the type, as the
baseline's, for tools that tell shares of RNA. ``coverage_90`` of cell2location: shares of its posterior's draws, which
are never 0, as most true ones are; ``coverage_90_present``: of types that are there.

Writes ``benchmarks/results/deconvolution_peers.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import subprocess
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from deconvolution import CASES, PRESENT, Case, Floats, baselines, judge, spot_section
from deconvolution_peer import TOOLS
from result_file import write_result

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.operators.composition.reference_width import CONTENT_SHARE
from aivc_graph.query.answers import node_table

HERE = Path(__file__).parent
OUT = HERE / "results" / "deconvolution_peers.json"
# cell2location 0.1.5 asks for what later releases of Pyro no longer have, scvi-tools 1.5 for what it no longer has.
PACKAGES = {
    "scvi-tools": ["scvi-tools==1.4.2"],
    "cell2location": ["cell2location==0.1.5", "scvi-tools==1.4.2", "pyro-ppl<1.9"],
    "tangram-sc": ["tangram-sc==1.0.4"],
    "rctd-py": ["rctd-py==0.4.0"],
}
ASK = "import sys, deconvolution_peer; deconvolution_peer.main(*sys.argv[1:])"
# How many cells a spot holds about, and how even capture is (200, or 20 where spots of an array differ), which the
# authors of cell2location ask of the user. Of Visium: 17,136 cells under 709 spots of 55 µm, 100 µm apart.
SPOT_FACTS = {
    "xenium_visium": (7, 20),
    "merfish": (17, 200),
    "simulated": (8, 20),
    "hippocampus": (6, 200),
    "cerebellum": (6, 200),
}
EVERY = {"xenium_visium": 4}
OF_RNA = ("stereoscope", "destvi", "rctd")


def main() -> None:
    """Install the tools, judge all on each set, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--seconds", type=int, default=1200)
    parser.add_argument("--envs", type=Path, default=Path("peers"))
    options = parser.parse_args()
    options.envs.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        found = contest(name, options)
        write_result(OUT, found, part=name)
        print(name, json.dumps(found, indent=1), flush=True)


def contest(name: str, options: Any) -> dict[str, Any]:
    """Return the scores of the model, the baselines and the tools on a set."""
    case = thinned(CASES[name](), EVERY.get(name, 1))
    names = spot_names(case)
    facts: dict[str, Any] = {}
    answers: dict[str, dict[str, Floats]] = {}

    def peers(counts: Floats, cells: Floats, kind: Floats, n: int) -> dict[str, Floats]:
        given = {"counts": counts.astype(np.float32), "cells": cells.astype(np.float32), "kind": kind}
        given |= {"section": np.array([one.rsplit(":", 1)[0] for one in names])}
        given |= dict(zip(("cells_a_spot", "detection_alpha"), map(np.float64, SPOT_FACTS[name]), strict=True))
        content = np.stack([cells[kind == one].mean(axis=0) for one in range(n)]).sum(axis=1) ** CONTENT_SHARE
        told: dict[str, Floats] = {}
        for tool in options.tools:
            found = ask(tool, given, options, facts)
            if found is None:
                continue
            answers[tool] = found
            told[tool] = found["told"]
            if tool in OF_RNA:
                amount = found["told"] / np.where(content > 0, content, 1.0)
                told[f"{tool} cells"] = amount / np.maximum(amount.sum(axis=1, keepdims=True), 1e-12)
            if "half" in found:
                told[f"{tool} half"] = found["half"]
        return baselines(counts, cells, kind, n) | told

    found = judge(case, peers)
    true = case.truth.reindex(names, columns=found["types"])
    known = true.notna().any(axis=1).to_numpy()
    true = true.fillna(0.0).to_numpy()[known]
    for tool in [one for one in answers if "lower" in answers[one]]:
        lower, upper = (answers[tool][end][known] for end in ("lower", "upper"))
        inside = (lower <= true + 1e-6) & (true <= upper + 1e-6)
        facts[tool] |= {"coverage_90": round(float(inside.mean()), 3)}
        facts[tool] |= {"coverage_90_present": round(float(inside[true > PRESENT].mean()), 3)}
        facts[tool] |= {"mean_interval": round(float((upper - lower).mean()), 3)}
    return found | {"tools": facts}


def thinned(case: Case, step: int) -> Case:
    """Return a case of one section with every so many of the spots whose truth is known."""
    if step == 1:
        return case
    spots, cells = case.sections
    obs = node_table(build_graph(case.sections, GraphConfig()), "patch")
    kept = np.flatnonzero(obs.index.isin(case.truth.index))[::step]
    name, names = str(obs["section"].iloc[0]), obs.index[kept]
    table = spots.tables["patch_rna"]  # its rows lie in another order than nodes
    rows = pd.Index(table.obs["barcode"].astype(str)).get_indexer(obs["barcode"].iloc[kept].astype(str))
    pos, radius = obs[["x_um", "y_um"]].to_numpy()[kept], float(obs["size_um"].iloc[0]) / 2
    made = spot_section(name, table.X.toarray()[rows], pos, list(table.var_names), radius)
    index = [f"{name}:p{i}" for i in range(len(kept))]
    number = None if case.number is None else case.number.loc[names].set_axis(index)
    held = {word: each[case.truth.index.get_indexer(names)] for word, each in case.held.items()}
    truth = case.truth.loc[names].set_axis(index)
    return replace(case, sections=[made, cells], truth=truth, number=number, held=held)


def spot_names(case: Case) -> pd.Index:
    """Return ``section:barcode`` of each spot with counts, in the order in which tools are given them."""
    graph = build_graph(case.sections, GraphConfig())
    return node_table(graph, "patch").index[np.asarray(graph["patch"].rna_mask.numpy(), bool)]


def ask(tool: str, given: dict[str, Any], options: Any, facts: dict[str, Any]) -> dict[str, Floats] | None:
    """Return what a tool tells, or none; what it said, or its version and time, in `facts`."""
    tell, package, _ = TOOLS[tool]
    key = hashlib.sha256(inspect.getsource(tell).encode() + b"".join(np.asarray(v).tobytes() for v in given.values()))
    answer = options.envs.absolute() / f"{tool.replace(' ', '_')}-{key.hexdigest()[:16]}.npz"
    if not answer.exists():
        np.savez(options.envs / "given.npz", **given)
        command = [environment(options.envs, package), "-c", ASK, tool, (options.envs / "given.npz").absolute(), answer]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds, cwd=HERE)
        except subprocess.TimeoutExpired:
            facts[tool] = f"not done in {options.seconds} s"
            return None
        if done.returncode:
            facts[tool] = done.stderr.strip().splitlines()[-1]  # what came before names places of one machine
            return None
    with np.load(answer) as told:
        facts[tool] = {"version": str(told["version"]), "seconds": round(float(told["seconds"]))}
        return {one: told[one] for one in ("told", "half", "lower", "upper") if one in told}


def environment(folder: Path, package: str) -> Path:
    """Return the interpreter of an environment that sees this one's packages, and has `package`."""
    python = folder / package / "bin" / "python"
    if not python.exists():
        venv.create(folder / package, with_pip=True)
        (own,) = (folder / package / "lib").glob("python*/site-packages")
        (own / "beneath.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[package]], check=True)
    return python.absolute()


if __name__ == "__main__":
    main()
