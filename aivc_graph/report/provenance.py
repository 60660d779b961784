"""Where the answers come from: inputs, settings, versions, and the command that makes them again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from aivc_graph.graph.store import store_facts
from aivc_graph.training.run_folder import UNFINISHED, run_facts

MODEL = "model.safetensors"


def provenance_of(run: Path) -> dict[str, Any]:
    """Return hashes of inputs and model, library versions, seed, configuration and the command, for the run's page.

    Places inside the run folder are written from it (``./tissue``): a run that moves, or is made again elsewhere, has
    the same page.
    """
    facts = run_facts(run / "run.json", ("graph", "seed", "task"))
    store = store_facts((run / facts["graph"]).resolve())
    built = store.get("provenance", {})
    place = run.resolve()
    home = place.parent if place.name == UNFINISHED else place  # what is written there is about to become the run
    configuration = (run / "config.yaml").read_text().replace(f"{home}/", "./")
    return {
        "command": "aivc train config.yaml --out RUN",
        "seed": facts["seed"],
        "inputs": sorted(built.get("inputs", {}).items()),
        "model": hashlib.sha256((run / MODEL).read_bytes()).hexdigest(),
        "libraries": sorted(store.get("libraries", {}).items()),
        "schema_version": store.get("schema_version"),
        "configuration": configuration,
    }
