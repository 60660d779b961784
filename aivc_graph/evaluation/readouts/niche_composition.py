"""What places are made of: the share of each niche in every region."""

from __future__ import annotations

from aivc_graph.evaluation.metrics.metric import means_by
from aivc_graph.evaluation.readouts.readout import READOUTS, Array, Ground


@READOUTS.register(
    "niche_composition",
    reads=("expression",),
    needs=("known", "asked", "near", "niches", "section", "group"),
    metrics=("jsd", "rmse_shares"),
    formula="mean over the asked nodes of a region of p(niche | mean log expression around the node less that of its "
    "section), a linear discriminant fitted on measured training nodes",
    reference="Li & Zhou 2022, doi:10.1186/s13059-022-02734-7; Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x",
    weakness="niches are those the run found, right or wrong; how well expression tells them bounds what can be seen; "
    "a section that is one niche throughout is not told from any other",
)
def niche_composition(values: Array, ground: Ground) -> Array:
    """Return the share of each niche among the asked nodes of each group (group, niche).

    Invariant to the order of nodes and to moving and rotating the section.
    """
    assert ground.niches is not None and ground.group is not None
    around = ground.mean_around(values) - ground.mean_of_section(values)
    return means_by(ground.niches.shares(around), ground.group, int(ground.group.max()) + 1)
