"""Weights and optimiser state as safetensors beside JSON; replaced in one step, so a kill leaves the last good one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from aivc_graph.atomic import write_whole
from aivc_graph.errors import ModelError, StoreError
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.tissue_model import TissueModel

FORMAT = 1
WEIGHTS, CLOSED_FORM = "model.safetensors", "closed_form.safetensors"
MEND = "restore it, or train again"


def save_tensors(tensors: dict[str, Tensor], facts: dict[str, Any], path: Path) -> None:
    """Write `tensors` to ``path.safetensors`` and `facts` into its header, in one atomic step."""
    packed = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_whole(path, save(packed, metadata={"facts": json.dumps({"format": FORMAT, **facts}, sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts of a file written by `save_tensors`.

    Raises
    ------
    StoreError
        If the file is missing, truncated, not safetensors (a pickle, say), or of a newer format.
    """
    from safetensors import safe_open

    if not path.exists():
        raise StoreError(str(path), "no such file", "a safetensors file", "train first, or check the path")
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as opened:
            facts = json.loads((opened.metadata() or {}).get("facts", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise StoreError(
            str(path), f"not a readable safetensors file ({error})", mend="restore it from a copy, or train again"
        ) from error
    if facts.get("format") != FORMAT:
        raise StoreError(
            str(path),
            f"format {facts.get('format')}",
            f"format {FORMAT}",
            "use the version of aivc-graph that wrote it",
        )
    return tensors, facts


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name begins with `prefix`, by the rest of it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def save_model(model: TissueModel, run: Path) -> None:
    """Write ``model.safetensors`` and ``model.json`` (the plan) into the run folder."""
    save_tensors(dict(model.state_dict()), {}, run / WEIGHTS)
    write_whole(run / "model.json", model.plan.model_dump_json(indent=1) + "\n")


def load_model(run: Path, weights: str = WEIGHTS) -> TissueModel:
    """Return the trained model of a run folder, or what it was before anything was learnt by gradient.

    Raises
    ------
    StoreError, ModelError
        If a file is missing or damaged, or the weights do not fit the plan.
    """
    tensors, _ = load_tensors(run / weights)
    try:
        plan = ModelPlan.model_validate_json((run / "model.json").read_text())
    except OSError as error:
        raise StoreError(str(run / "model.json"), error.strerror or str(error), "the model's plan", MEND) from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = " · ".join([str(run / "model.json"), *map(str, fault["loc"])])
        found = f"{fault['msg']} ({error.error_count()} faults in all)" if error.error_count() > 1 else fault["msg"]
        mend = f"written by another version, or damaged: {MEND}"
        raise StoreError(where, f"no readable model plan: {found}", mend=mend) from error
    model = TissueModel(plan)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        unlike = _unlike(model.state_dict(), tensors)
        found = f"weights that do not fit model.json: {len(unlike)} of them, first {unlike[0]}"
        mend = "if another version wrote it, train again"
        raise ModelError(str(run / weights), found, "those of the parts it names", mend) from error
    return model.eval()


def _unlike(own: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """Return in words which of the `given` weights are not those that a model has as its `own`."""
    found = [f"{name} is missing" for name in own if name not in given]
    found += [f"{name} is not known" for name in given if name not in own]
    shapes = {name: (tuple(own[name].shape), tuple(given[name].shape)) for name in own if name in given}
    return found + [f"{name} is {is_} and not {should}" for name, (should, is_) in shapes.items() if should != is_]


def check_model(model: TissueModel, run: Path) -> None:
    """Raise a `StoreError` if the weights in `run` are no longer those of `model`: it was trained anew since."""
    tensors, _ = load_tensors(run / WEIGHTS)
    own = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    same = own.keys() == tensors.keys()
    if not same or any(own[name].numpy().tobytes() != tensors[name].numpy().tobytes() for name in own):
        raise StoreError(str(run), "trained anew meanwhile", "the model that was asked", "ask the run again")


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's tensors under flat names ``optimiser.<parameter>.<key>``."""
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{i}.{key}": torch.as_tensor(value) for i, entry in state.items() for key, value in entry.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put tensors from `optimiser_tensors` back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
