"""What spots are made of, beside published tools on the same counts, cells and genes, in environments of their own.

    python benchmarks/deconvolution_peers.py [--sets hippocampus …] [--tools tangram …] [--steps 2000] [--envs DIR]

Makes a virtual environment for each tool's package in ``--envs``, on top of this one, and installs it there by pip, or
takes the one that is there. Each takes so many steps of its optimiser and at most ``--seconds``; how is
`deconvolution_peer`. A tool that fails, or takes longer, is written with what it said. Sets and truth are those of
`deconvolution`; truth is looked at for scores alone. Writes ``benchmarks/results/deconvolution_peers.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sysconfig
import time
import venv
from pathlib import Path
from typing import Any

import numpy as np
from deconvolution import CASES, Floats, baselines, judge
from deconvolution_peer import TOOLS
from result_file import write_result

HERE = Path(__file__).parent
OUT = HERE / "results" / "deconvolution_peers.json"
# cell2location 0.1.5 asks for what later releases of Pyro no longer have.
PACKAGES = {
    "scvi-tools": ["scvi-tools"],
    "cell2location": ["cell2location", "pyro-ppl<1.9"],
    "tangram-sc": ["tangram-sc"],
}
ASK = "import sys, deconvolution_peer; deconvolution_peer.main(*sys.argv[1:])"


def main() -> None:
    """Install the tools, judge all on each set, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--envs", type=Path, default=Path("peers"))
    options = parser.parse_args()
    for name in options.sets:
        facts: dict[str, Any] = {}

        def peers(counts: Floats, cells: Floats, kind: Floats, n: int, facts: Any = facts) -> dict[str, Floats]:
            given = options.envs / "given.npz"
            options.envs.mkdir(parents=True, exist_ok=True)
            np.savez(given, counts=counts.astype(np.float32), cells=cells.astype(np.float32), kind=kind)
            told = {tool: ask(tool, given, options, facts) for tool in options.tools}
            return baselines(counts, cells, kind, n) | {tool: each for tool, each in told.items() if each is not None}

        found = judge(CASES[name](), peers) | {"steps": options.steps, "tools": facts}
        write_result(OUT, found, part=name)
        print(name, json.dumps(found, indent=1), flush=True)


def ask(tool: str, given: Path, options: Any, facts: dict[str, Any]) -> Floats | None:
    """Return the shares that a tool tells (spot, type), or none; what it said, or its version and time, in `facts`."""
    answer, started = given.with_name(f"{tool}.npz"), time.perf_counter()
    answer.unlink(missing_ok=True)
    python = environment(options.envs, TOOLS[tool][1])
    given, answer = given.absolute(), answer.absolute()
    command = [python, "-c", ASK, tool, given, answer, str(options.steps)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds, cwd=HERE)
    except subprocess.TimeoutExpired:
        facts[tool] = f"not done in {options.seconds} s"
        return None
    if done.returncode:
        facts[tool] = done.stderr.strip().splitlines()[-1]  # what came before names places of one machine
        return None
    told = np.load(answer)
    facts[tool] = {"version": str(told["version"]), "seconds": round(time.perf_counter() - started)}
    return np.asarray(told["told"])


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
