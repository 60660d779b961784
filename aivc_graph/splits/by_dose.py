"""Hold out doses, inside or outside the range that trains."""

from __future__ import annotations

from aivc_graph.names import DOSE
from aivc_graph.splits.design import DESIGNS
from aivc_graph.splits.ranges import AbstractRangeSplit


@DESIGNS.register("by_dose", needs="doses of one unit")
class DoseSplit(AbstractRangeSplit):
    """Doses are held out for all interventions alike, such as ``test: [1.11]``; what was done to nothing trains."""

    @property
    def column(self) -> str:
        """Column of the conditions."""
        return DOSE
