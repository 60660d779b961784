"""Options that several readers share, each defined once: a reader inherits those that it can honour."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from aivc_graph.io.genes import Duplicates
from aivc_graph.io.intake import Keep
from aivc_graph.settings import Settings

# A length or a scale; another is told with the configuration, before any file is read.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NodeOptions(Settings):
    """Which nodes are kept, and what labels them.

    Parameters
    ----------
    keep
        Columns and the value, or one of the values, they must have, such as ``{Valid: 1}``; other nodes are left out.
    label
        Column that becomes the label.
    """

    keep: Keep = Field(default_factory=dict)
    label: str | None = None


class PositionOptions(Settings):
    """Where a table says that its rows lie.

    Parameters
    ----------
    x, y
        Columns of the position; by default a pair that vendors name so.
    """

    x: str | None = None
    y: str | None = None

    @model_validator(mode="after")
    def _a_pair(self) -> Self:
        if (self.x is None) != (self.y is None):
            raise ValueError(f"`{'y' if self.x is None else 'x'}:` alone; name both columns, x and y, or neither")
        return self


class GeneOptions(Settings):
    """How genes are named.

    Parameters
    ----------
    duplicates, organism
        See `aivc_graph.io.genes.name_genes`.
    """

    duplicates: Duplicates = "sum"
    organism: str | None = None

    @property
    def count_options(self) -> dict[str, Any]:
        """What `aivc_graph.io.intake.add_counts` is told."""
        return {"duplicates": self.duplicates, "organism": self.organism}


class CountOptions(GeneOptions):
    """How counts are named, and joined to nodes whose names stand in another file.

    Parameters
    ----------
    strip_suffix
        Join counts and positions without their ``-1``.
    """

    strip_suffix: bool = False

    @property
    def count_options(self) -> dict[str, Any]:
        return {**super().count_options, "strip_suffix": self.strip_suffix}


class LayerOptions(Settings):
    """Which of several matrices is read.

    Parameters
    ----------
    layer
        Layer to read, by default the main matrix; of an AnnData ``raw`` is its ``.raw`` where no layer is called so.
    """

    layer: str | None = None


class SymbolOptions(Settings):
    """What names genes that are called by ids.

    Parameters
    ----------
    symbols
        Column of the annotation of genes that holds their symbols.
    """

    symbols: str | None = None
