"""`TissueGraph`: a PyG `HeteroData` whose node tables, relations and observations follow one schema."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor
from torch_geometric.data import HeteroData

from aivc_graph import names
from aivc_graph.errors import GraphError

Relation = tuple[str, str, str]

# torch says once a process that CSR tensors are beta; it is said here, unheard, and not in the middle of a user's work.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    torch.eye(1).to_sparse_csr()


class TissueGraph(HeteroData):
    """Molecules, cells, patches, regions and sections as nodes of one heterogeneous graph.

    Node stores hold ``obs`` (DataFrame, index barcode or symbol), ``pos`` (node, 2) [µm], ``size_um`` (node,),
    ``section_index`` (node,), ``split`` (node,), and dense observations such as ``histology`` (node, feature), each
    with ``<modality>_mask`` (node,). Relations hold ``adj_t``, a sparse CSR tensor (target, source), PyG's transposed
    adjacency; a count observation is the relation (molecule, observed_in, level), so it exists once.

    Examples
    --------
    >>> graph = TissueGraph()
    >>> graph["gene"].obs = pd.DataFrame(index=["ESR1"])
    >>> graph.levels
    []
    """

    def __repr__(self) -> str:
        nodes = ", ".join(f"{t}={self[t].num_nodes:,}" for t in self.node_types)
        edges = "\n".join(f"  {r}: {self[r].adj_t.values().numel():,}" for r in self.edge_types)
        return f"TissueGraph({nodes}\n{edges})"

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
        return self[level].split == names.SPLITS.index(split)


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
