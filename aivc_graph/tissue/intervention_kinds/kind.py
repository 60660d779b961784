"""What a kind of intervention says of itself, and the registry of kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from aivc_graph.errors import TissueError, unknown_name
from aivc_graph.registry import Registry


@dataclass(frozen=True)
class InterventionKind:
    """How an intervention of one kind acts, whatever its target.

    Parameters
    ----------
    sign
        With which it acts on the gene of its own name, −1 to lower and 1 to raise it; None where its name is no gene,
        so that its targets have to be said.
    unit
        Of its doses, unless another is said.
    inside
        Whether what it does to the molecules it targets stays inside the treated cells, so that only what follows from
        it may reach others.
    saturates
        Whether a little of it near by may already be enough. Of what is taken away it is not: what is left makes up.
    has_structure
        Whether it is a molecule with a structure (SMILES), by which a split can hold out its scaffold.
    """

    sign: float | None
    unit: str = "relative"
    inside: bool = False
    saturates: bool = True
    has_structure: bool = False


INTERVENTION_KINDS: Registry[InterventionKind] = Registry(
    "kind of intervention", "aivc_graph.tissue.intervention_kinds"
)


def _known(kind: str) -> str:
    if kind not in INTERVENTION_KINDS:
        fault = unknown_name(TissueError, "kind", INTERVENTION_KINDS.kind, kind, INTERVENTION_KINDS)
        raise ValueError(str(fault).removeprefix("kind: "))
    return kind


Kind = Annotated[str, AfterValidator(_known)]
