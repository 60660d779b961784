"""Hold out times, inside or outside the range that trains."""

from __future__ import annotations

from aivc_graph.names import HOURS
from aivc_graph.splits.design import DESIGNS
from aivc_graph.splits.ranges import AbstractRangeSplit


@DESIGNS.register("by_time", needs="conditions at several times")
class TimeSplit(AbstractRangeSplit):
    """Times [h] are held out, those of controls too: a course in time without any intervention is one of controls."""

    @property
    def column(self) -> str:
        """Column of the conditions."""
        return HOURS
