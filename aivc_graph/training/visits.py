"""The windows of a tissue made ready for the model, visited again and again."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from aivc_graph.graph.store import GraphStore
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.graph.windows import window_cores, windows
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.part import Device
from aivc_graph.operators.state import Fold, Inputs
from aivc_graph.training.places import in_split

CACHED_NODES = 400_000
CLOSED_FORM_WINDOWS = 4
HELD_OUT_WINDOWS = 4


class Visits:
    """Windows with who is of their core (node,) by level; those of small tissue are kept, of large tissue read anew.

    Parameters
    ----------
    source
        A tissue graph, or an opened graph store.
    model
        Whose inputs are made.
    n_nodes
        How many nodes can be measured.
    size
        Nodes of a window.
    """

    def __init__(
        self, source: TissueGraph | GraphStore, model: TissueModel, device: Device, n_nodes: int, size: int
    ) -> None:
        self.source, self.model, self.device, self.n_nodes, self._size = source, model, device, n_nodes, size
        self._kept: list[tuple[Inputs, dict[str, Tensor]]] = []

    @property
    def size(self) -> int:
        """Nodes of a window; what was kept of another size is let go."""
        return self._size

    @size.setter
    def size(self, size: int) -> None:
        if size != self._size:
            self._size, self._kept = size, []

    def all(self) -> Iterator[tuple[Inputs, dict[str, Tensor]]]:
        """Yield every window."""
        return self._visited(1)

    def for_held_out(self) -> Iterator[tuple[Inputs, dict[str, Tensor]]]:
        """Yield the windows that a held-out loss is of, evenly spaced over large tissue."""
        return self._visited(self._every(HELD_OUT_WINDOWS))

    def folds(self, split: str) -> list[Fold]:
        """Return windows a closed form is fitted on, evenly spaced over large tissue, and who of them is in `split`."""
        visited = self._visited(self._every(CLOSED_FORM_WINDOWS))
        return [Fold(inputs, in_split(inputs, core, split)) for inputs, core in visited]

    def _visited(self, every: int) -> Iterator[tuple[Inputs, dict[str, Tensor]]]:
        if self._kept:
            yield from self._kept
            return
        made: list[tuple[Inputs, dict[str, Tensor]]] = []
        order = range(0, len(window_cores(self.source.structure, self.size)), every)
        for window in windows(self.source, self.model.steps, self.size, order=order):
            core = {v: m.float().to(self.device) for v, m in window.core.items()}
            ready = (self.model.prepare(window.graph, self.device), core)
            if self.n_nodes <= CACHED_NODES:
                made.append(ready)
            yield ready
        self._kept = made

    def _every(self, most: int) -> int:
        """Return the step at which about `most` windows are visited, evenly spaced; 1 where all are kept ready."""
        total = -(-self.n_nodes // self.size)
        return 1 if self.n_nodes <= CACHED_NODES else max(1, total // most)
