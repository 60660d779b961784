"""`TissueGraph`: node tables, relations and observations under one schema, and the same as a PyG `HeteroData`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from aivc_graph import names
from aivc_graph.errors import GraphError
from aivc_graph.graph.fields import edge_fields, row_fields

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Relation = tuple[str, str, str]

# torch says once a process that CSR tensors are beta; it is said here, unheard, and not in the middle of a user's work.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    torch.eye(1).to_sparse_csr()


class Fields(dict[str, Any]):
    """The fields of one node type or relation; ``fields.pos`` is ``fields["pos"]``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no field {name!r}; there are {', '.join(self) or 'none'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]


class TissueGraph:
    """Molecules, cells, patches, regions and sections as nodes of one heterogeneous graph.

    Node stores hold ``obs`` (DataFrame, index barcode or symbol), ``pos`` (node, 2) [µm], ``size_um`` (node,),
    ``section_index`` (node,), ``split`` (node,), and dense observations such as ``histology`` (node, feature), each
    with ``<modality>_mask`` (node,). Relations hold ``adj_t``, a sparse CSR tensor (target, source), PyG's transposed
    adjacency; a count observation is the relation (molecule, observed_in, level), so it exists once. Node types and
    relations are made by asking for them. `to_pyg` gives PyG's own container, for PyG's transforms and layers.

    Examples
    --------
    >>> graph = TissueGraph()
    >>> graph["gene"].obs = pd.DataFrame(index=["ESR1"])
    >>> graph.levels
    []
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Fields] = {}
        self._relations: dict[Relation, Fields] = {}

    def __getitem__(self, key: str | Relation) -> Fields:
        if isinstance(key, str):
            return self._nodes.setdefault(key, Fields())
        return self._relations.setdefault(key, Fields())

    def __delitem__(self, key: str | Relation) -> None:
        if isinstance(key, str):
            del self._nodes[key]
        else:
            del self._relations[key]

    def __copy__(self) -> TissueGraph:
        """Return a graph with the same contents, of which each can be put in place of another."""
        copy = TissueGraph()
        copy._nodes = {key: Fields(fields) for key, fields in self._nodes.items()}
        copy._relations = {key: Fields(fields) for key, fields in self._relations.items()}
        return copy

    def __repr__(self) -> str:
        nodes = ", ".join(f"{t}={self[t].num_nodes:,}" for t in self.node_types)
        edges = "\n".join(f"  {r}: {self[r].adj_t.values().numel():,}" for r in self.edge_types)
        return f"TissueGraph({nodes}\n{edges})"

    @property
    def structure(self) -> TissueGraph:
        """The graph itself, as an opened store has its own: all of it but observations."""
        return self

    @property
    def node_types(self) -> list[str]:
        """Node types present."""
        return list(self._nodes)

    @property
    def edge_types(self) -> list[Relation]:
        """Relations present."""
        return list(self._relations)

    @property
    def levels(self) -> list[str]:
        """Levels present, fine to coarse."""
        return [level for level in names.LEVELS if level in self.node_types]

    def modalities(self, level: str) -> list[str]:
        """Modalities observed at `level`, in alphabetical order."""
        return sorted(key.removesuffix("_mask") for key in self[level] if key.endswith("_mask"))

    def counts(self, level: str, modality: str) -> Tensor:
        """Return the counts (node, molecule) of `level` as a sparse CSR tensor."""
        relation = (names.MOLECULE_OF[modality], names.OBSERVED_IN, level)
        if relation not in self.edge_types:
            raise GraphError(
                f"level {level!r}", f"no {modality} counts", mend=f"observed here: {self.modalities(level)}"
            )
        return self[relation].adj_t

    def adjacency(self, source: str, name: str, target: str) -> Tensor:
        """Return a relation's CSR tensor (target, source)."""
        if (source, name, target) not in self.edge_types:
            raise GraphError("graph", f"no relation {(source, name, target)}", mend=f"there are {self.edge_types}")
        return self[source, name, target].adj_t

    def obs(self, node_type: str) -> pd.DataFrame:
        """Return the table of identifiers and annotation of `node_type`."""
        return self[node_type].obs

    def in_split(self, level: str, split: str) -> Tensor:
        """Return who of `level` is in `split`, a boolean tensor (node,)."""
        in_split: Tensor = self[level].split == names.SPLITS.index(split)
        return in_split

    def to_pyg(self) -> HeteroData:
        """Return the graph as PyG has it: what PyG's documentation says of transforms, layers and loaders holds.

        Shapes
        ------
        nodes
            ``n_id`` (node,), the row in `obs`; of levels ``x`` (node, feature) float32, the counts per molecule where
            there are any (`MOLECULE_OF`, the first), or else the first dense modality; ``pos`` (node, 2) [µm] and all
            further fields a node; ``train_mask``, ``val_mask``, ``test_mask`` (node,) in place of ``split``.
        relations
            ``edge_index`` (2, edge), source above target; ``edge_weight`` (edge,); all further fields an edge.

        Examples
        --------
        >>> data = graph.to_pyg()
        >>> data["cell"].x.shape[0] == data["cell"].num_nodes == graph["cell"].num_nodes
        True
        """
        from torch_geometric.data import HeteroData

        data = HeteroData()
        for node_type, fields in self._nodes.items():
            n = int(fields.num_nodes)
            data[node_type].num_nodes, data[node_type].n_id = n, torch.arange(n)
            given = row_fields(self, node_type) | (self._pyg_x(node_type) if node_type in self.levels else {})
            for key, value in given.items():
                if key != names.SPLIT.name:
                    data[node_type][key] = value
            if names.SPLIT.name in fields:
                for mask, split in (("train", names.TRAIN), ("val", names.VALIDATION), ("test", names.TEST)):
                    data[node_type][f"{mask}_mask"] = self.in_split(node_type, split)
        for (source, name, target), fields in self._relations.items():
            adj_t, edges = fields.adj_t, data[source, name, target]
            rows = adj_t.crow_indices().long().diff()
            to = torch.repeat_interleave(torch.arange(len(rows)), rows)
            edges.edge_index, edges.edge_weight = torch.stack([adj_t.col_indices().long(), to]), adj_t.values()
            for key, value in edge_fields(self, (source, name, target)).items():
                edges[key] = value
        return data

    def _pyg_x(self, level: str) -> dict[str, Tensor]:
        """Return what was measured at a level as the one dense ``x`` that PyG's layers take."""
        found = self.modalities(level)
        counted = next((modality for modality in names.MOLECULE_OF if modality in found), None)
        if counted is not None:
            return {"x": self.counts(level, counted).to_dense()}
        return {"x": self[level][found[0]].to(torch.float32)} if found else {}


def to_torch_csr(matrix: Any) -> Tensor:
    """Return a SciPy sparse matrix as a float32 CSR tensor with the index type MKL reads fastest."""
    csr = sparse.csr_matrix(matrix)
    csr.sort_indices()
    index = np.int32 if max(csr.nnz, *csr.shape) < 2**31 else np.int64
    return torch.sparse_csr_tensor(
        torch.from_numpy(csr.indptr.astype(index)),
        torch.from_numpy(csr.indices.astype(index)),
        torch.from_numpy(csr.data.astype(np.float32)),
        size=csr.shape,
        check_invariants=False,
    )


def to_scipy_csr(tensor: Tensor) -> sparse.csr_matrix:
    """Return a CSR tensor as a SciPy matrix that shares its memory."""
    parts = (tensor.values().numpy(), tensor.col_indices().numpy(), tensor.crow_indices().numpy())
    return sparse.csr_matrix(parts, shape=tuple(tensor.shape))
