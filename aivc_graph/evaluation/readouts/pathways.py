"""Activity of pathways and transcription factors, by weights given as a file."""

from __future__ import annotations

from aivc_graph.evaluation.readouts.readout import READOUTS, Array, Ground


@READOUTS.register(
    "pathways",
    reads=("expression", "change"),
    needs=("footprints",),
    metrics=("pearson_by_pathway", "rmse"),
    formula="a_s = Σ_g (w_sg - mean w_s) y_g / Σ_g (w_sg - mean w_s)², y log expression or its change",
    reference="Badia-i-Mompel et al. 2022, doi:10.1093/bioadv/vbac016 (ulm)",
    weakness="linear: what the weights do not span is not seen; pathways of few measured genes are noisy",
)
def pathways(values: Array, ground: Ground) -> Array:
    """Return the activity of each source (asked, source), as the footprints of the ground tell it."""
    assert ground.footprints is not None
    return ground.footprints.of_log(values)
