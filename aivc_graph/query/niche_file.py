"""The niches of a run, as a file beside its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aivc_graph import names
from aivc_graph.errors import StoreError
from aivc_graph.graph.store import GraphStore
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.feature_map import FeatureMap
from aivc_graph.plot.palette import nth_colour
from aivc_graph.query.mixture import StateMixture
from aivc_graph.query.neighbourhoods import NeighbourhoodMixture
from aivc_graph.query.niches import NicheRule, fit_niches
from aivc_graph.query.niches_of_features import fit_niches_of_features, left_open_by_features
from aivc_graph.query.places import on_every_level
from aivc_graph.query.states import node_states, surroundings
from aivc_graph.training.checkpoint import load_tensors, save_tensors

FILE = "niches.safetensors"
MIXTURES = {"neighbourhoods": NeighbourhoodMixture, "states": StateMixture}


def niches_of_training(
    model: TissueModel, graph: TissueGraph | GraphStore, diagnostics: dict[str, float], seed: int
) -> NicheRule:
    """Return the niches of a graph's training nodes, which no other node has a say in.

    What slides leave open of them is told by validation nodes too.
    """
    structure = graph.structure
    found_in = surroundings(model, structure, node_states(model, graph), diagnostics)
    training = structure.in_split(found_in.level, names.TRAIN).numpy()
    rule = fit_niches(found_in.among(training), None, 1.0, seed)
    shares = on_every_level(structure, found_in.level, rule(found_in))
    rule = replace(rule, left_open=left_open_by_features(model, graph, diagnostics, found_in, rule))
    return replace(rule, of_features=fit_niches_of_features(model, graph, found_in.level, shares))


def save_niches(rule: NicheRule, run: Path) -> None:
    """Write the niches into a run folder in one atomic step.

    The file holds the parameters of the mixtures, the spread of states, and in its header what niches are made of and
    the number and colour of each.
    """
    parts = {"mixture": rule.mixture, "kinds": rule.kinds}
    tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in vars(part).items()}
    numbered = [{"niche": str(i + 1), "colour": nth_colour(i)} for i in range(len(rule.mixture.weight))]
    facts: dict[str, Any] = {"level": rule.level, "made_of": rule.made_of, "coupling": rule.coupling}
    facts["evenness"] = rule.evenness
    facts |= {"mixture": next(name for name, kind in MIXTURES.items() if isinstance(rule.mixture, kind))}
    facts |= {"fitted_on": f"{names.TRAIN} nodes", "niches": numbered}
    tensors |= {
        f"features.{level}.{name}": value
        for level, one in rule.of_features.items()
        for name, value in one.named_buffers()
    }
    tensors |= {"spread": rule.spread, "left_open": rule.left_open}
    packed = {name: torch.as_tensor(value) for name, value in tensors.items()}
    save_tensors(packed, facts, run / FILE)


def load_niches(run: Path, model: TissueModel) -> NicheRule | None:
    """Return the niches of a run folder, or None where an older version wrote it.

    Raises
    ------
    StoreError
        If the file is damaged, or made for another model.
    """
    if not (run / FILE).exists():
        return None
    tensors, facts = load_tensors(run / FILE)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}

    def part(name: str) -> dict[str, Any]:
        return {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}

    try:
        rule = NicheRule(
            level=facts["level"],
            made_of=facts["made_of"],
            mixture=MIXTURES[facts["mixture"]](**part("mixture")),
            kinds=StateMixture(**part("kinds")),
            coupling=facts["coupling"],
            spread=arrays["spread"],
            evenness=facts.get("evenness", 0.0),  # as older runs have none
            left_open=arrays["left_open"],
            of_features={
                level: FeatureMap.of(part(f"features.{level}"))
                for level in names.LEVELS
                if f"features.{level}.share" in arrays
            },
        )
    except (KeyError, TypeError) as error:
        raise StoreError(
            str(run / FILE), f"no niches that can be read ({error})", mend="train the run again"
        ) from error
    latent = model.plan.latent
    if rule.spread.shape != (latent,) or rule.kinds.means.shape[1] != latent:
        found = f"niches in {len(rule.spread)} dimensions"
        raise StoreError(str(run / FILE), found, f"the {latent} of the run's model", "train the run again")
    return rule
