"""Genes as they are: the readout that all others are set beside."""

from __future__ import annotations

from aivc_graph.evaluation.readouts.readout import READOUTS, Array, Ground


@READOUTS.register(
    "genes",
    reads=("expression",),
    needs=(),
    metrics=("pearson_by_gene", "rmse_log"),
    formula="f(x) = x",
    reference="He et al. 2020, doi:10.1038/s41551-020-0578-x",
    weakness="every gene counts alike, and most of what is measured of one gene in one node is noise",
)
def genes(values: Array, ground: Ground) -> Array:
    """Return the values themselves (asked, gene)."""
    return values
