"""Parts of small sizes, apart from any graph."""

from __future__ import annotations

from aivc_graph.operators.composition.composition import CompositionPlan, CompositionProject
from aivc_graph.operators.intervention.component_shift import ComponentShift
from aivc_graph.operators.intervention_plan import InterventionPlan
from aivc_graph.operators.lateral.lateral import LateralPlan
from aivc_graph.operators.lateral.ring_mean import RingMeanLateral
from aivc_graph.operators.messages import PairPlan
from aivc_graph.operators.prediction.kernel_mean import NeighbourPlan
from aivc_graph.operators.prediction.neighbours import NeighbourPrediction
from aivc_graph.operators.propagator.hill_relaxation import HillRelaxation
from aivc_graph.operators.propagator.propagator import PropagatorPlan

NEAR = ("cell", "near", "cell")
ANYTHING = (0.0, 1.0)


def pair(latent: int) -> PairPlan:
    """Return the plan of messages between cells and patches."""
    return PairPlan(child="cell", parent="patch", latent=latent)


def lateral(latent: int, n_rings: int) -> RingMeanLateral:
    """Return a lateral operator of cells."""
    return RingMeanLateral(LateralPlan(relation=NEAR, latent=latent, n_rings=n_rings))


def neighbours(n_molecules: int, n_rings: int, depth: float = 1.0) -> NeighbourPrediction:
    """Return a prediction from neighbours."""
    sizes = {"n_molecules": n_molecules, "n_rings": n_rings, "depth": depth}
    return NeighbourPrediction(NeighbourPlan(level="cell", modality="rna", **sizes))


def composition(n_types: int, n_genes: int) -> CompositionProject:
    """Return a projection to types."""
    genes, types = tuple(range(n_genes)), tuple(f"type {i}" for i in range(n_types))
    plan = CompositionPlan(child="cell", parent="patch", types=types, of_child=genes, of_parent=genes, rings=(3,))
    return CompositionProject(plan)


def propagator(n_keys: int) -> HillRelaxation:
    """Return a propagator of interventions at the level of cells."""
    return HillRelaxation(PropagatorPlan(level="cell", keys=tuple(f"drug:{i}" for i in range(n_keys))))


def shift(n_keys: int, components: int, latent: int, n_molecules: int) -> ComponentShift:
    """Return an intervention operator without pairs or donors."""
    keys = tuple(f"drug:{i}" for i in range(n_keys))
    given = {"keys": keys, "kinds": ("drug",) * n_keys, "targets": ({},) * n_keys, "pairs": ()}
    known = {"doses": (ANYTHING,) * n_keys, "hours": (ANYTHING,) * n_keys, "donors": (), "seen_in": ((),) * n_keys}
    sizes = {"components": components, "latent": latent, "n_molecules": n_molecules}
    return ComponentShift(InterventionPlan(level="cell", modality="rna", **given, **known, **sizes))
