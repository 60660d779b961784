"""The nodes of one level gathered over sections, as arrays in one order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import GraphError
from aivc_graph.graph.ordering import hilbert_order_within
from aivc_graph.tissue.frame import diameters_um, positions_um, scale_affine
from aivc_graph.tissue.section import add_level

WINDOW = "window"
HIDDEN_COLUMNS = ("geometry", "radius", WINDOW)


@dataclass(frozen=True)
class Nodes:
    """Nodes of one level: arrays ``(node, …)``; `region` is the row of the region that holds a node's centre."""

    barcode: NDArray[Any]
    section: NDArray[np.int64]
    split: NDArray[np.int64]
    pos_um: NDArray[np.float64]
    size_um: NDArray[np.float64]
    is_window: NDArray[np.bool_]
    columns: pd.DataFrame
    region: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.barcode)

    @property
    def group(self) -> NDArray[np.int64]:
        """Section and split in one number; relations stay inside a group."""
        return self.section * len(names.SPLITS) + self.split

    def take(self, rows: NDArray[np.int64]) -> Nodes:
        """Return the nodes at `rows`, in that order."""
        return Nodes(
            self.barcode[rows],
            self.section[rows],
            self.split[rows],
            self.pos_um[rows],
            self.size_um[rows],
            self.is_window[rows],
            self.columns.iloc[rows].reset_index(drop=True),
            None if self.region is None else self.region[rows],
        )

    def concat(self, other: Nodes) -> Nodes:
        """Return these nodes followed by `other`."""
        frames = [f for f in (self.columns, other.columns) if len(f)]
        return Nodes(
            np.concatenate([self.barcode, other.barcode]),
            np.concatenate([self.section, other.section]),
            np.concatenate([self.split, other.split]),
            np.concatenate([self.pos_um, other.pos_um]),
            np.concatenate([self.size_um, other.size_um]),
            np.concatenate([self.is_window, other.is_window]),
            pd.concat(frames, ignore_index=True) if frames else self.columns,
        )

    def in_region(self, region: NDArray[np.int64]) -> Nodes:
        """Return the nodes with their region rows set."""
        return replace(self, region=region)

    def sorted_by_region(self) -> Nodes:
        """Return the nodes sorted by region, and inside each along a Hilbert curve through the section."""
        if len(self) == 0 or self.region is None:
            return self
        along = np.empty(len(self), np.int64)
        along[hilbert_order_within(self.pos_um, self.section)] = np.arange(len(self))
        return self.take(np.lexsort((along, self.region)))

    @classmethod
    def of_windows(
        cls,
        section: NDArray[np.int64],
        split: NDArray[np.int64],
        centre_um: NDArray[np.float64],
        edge_um: float,
        prefix: str,
    ) -> Nodes:
        """Return square windows as nodes, named by their place on the grid."""
        step = np.floor(centre_um / edge_um).astype(int)
        labels = [names.SPLITS[s] if s else "" for s in split]
        barcode = np.array(
            [f"{prefix}_{x}_{y}{'_' + t if t else ''}" for (x, y), t in zip(step, labels, strict=True)], dtype=object
        )
        size = np.full(len(section), edge_um)
        empty = pd.DataFrame(index=range(len(section)))
        return cls(barcode, section, split, centre_um, size, np.ones(len(section), bool), empty)


def gather_nodes(sections: list[Any], level: str) -> Nodes:
    """Return the nodes of `level` over all sections that have it."""
    parts = [_nodes_of(section, i, level) for i, section in enumerate(sections) if level in section.shapes]
    nodes = _none()
    for part in parts:
        nodes = nodes.concat(part) if len(nodes) else part
    return nodes


def grid_patches(cells: Nodes, edge_um: float) -> Nodes:
    """Return the occupied grid windows over `cells` as patches, one set a section and split."""
    step = np.floor(cells.pos_um / edge_um).astype(np.int64)
    windows = np.unique(np.column_stack([cells.group, step]), axis=0)
    section, split = windows[:, 0] // len(names.SPLITS), windows[:, 0] % len(names.SPLITS)
    return Nodes.of_windows(section, split, (windows[:, 1:] + 0.5) * edge_um, edge_um, "window")


def lay_windows(section: Any, edge_um: float) -> None:
    """Lay the grid windows over the cells onto the section itself, as its patches, so that they can be observed.

    The graph has the same windows as patches without this; with it they carry what was measured in them before it was
    built, such as the histology under each. The section's split must be known: a window has one side of it.
    """
    windows = grid_patches(gather_nodes([section], names.CELL), edge_um)
    split = np.array(names.SPLITS)[windows.split]
    columns = pd.DataFrame({names.SPLIT.name: split, WINDOW: True})
    add_level(section, names.PATCH, list(windows.barcode), windows.pos_um, edge_um / 2, scale_affine(1.0), columns)


def _nodes_of(section: Any, index: int, level: str) -> Nodes:
    shapes = section.shapes[level]
    n = len(shapes)
    columns = pd.DataFrame(shapes.drop(columns=[c for c in HIDDEN_COLUMNS if c in shapes])).reset_index(drop=True)
    label = columns[names.SPLIT.name].astype(str) if names.SPLIT.name in columns else pd.Series([names.TRAIN] * n)
    codes = pd.Categorical(label, categories=list(names.SPLITS)).codes.astype(np.int64)
    if (codes < 0).any():
        raise GraphError(
            f"{level} · split", f"a label {label[codes < 0].iloc[0]!r}", f"one of {', '.join(names.SPLITS)}"
        )
    where = np.full(n, index, np.int64)
    barcode = np.asarray(shapes.index, dtype=object)
    is_window = np.full(n, WINDOW in shapes)
    return Nodes(barcode, where, codes, positions_um(section, level), diameters_um(section, level), is_window, columns)


def _none() -> Nodes:
    zero = np.zeros(0, np.int64)
    return Nodes(zero.astype(object), zero, zero, np.zeros((0, 2)), np.zeros(0), np.zeros(0, bool), pd.DataFrame())
