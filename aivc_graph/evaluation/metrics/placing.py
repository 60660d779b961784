"""Registration: how far points land from where they belong."""

from __future__ import annotations

from aivc_graph.evaluation.metrics.metric import METRICS, AbstractRootMean, Array, each


@METRICS.register(
    "registration_um",
    formula="root of the mean over points of |found - true position|², in µm (target registration error)",
    best=0.0,
    higher_is_better=False,
    reference="Fitzpatrick & West 2001, doi:10.1109/42.952729",
    weakness="says nothing of the tissue between the points",
)
class TargetRegistrationError(AbstractRootMean):
    """Root mean square distance [µm] of points (point, 2) from their true places."""

    def rows(self, predicted: Array, measured: Array) -> Array:
        """Return a squared distance a point."""
        return each(((predicted - measured) ** 2).sum(axis=1))
