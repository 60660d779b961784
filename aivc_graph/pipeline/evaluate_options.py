"""Which options of ``aivc evaluate`` go with what: a run, a YAML file, or predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aivc_graph.errors import ConfigError

YAML = (".yaml", ".yml")
OF_PREDICTIONS = ("condition", "control", "context", "split", "share_content")
RUN, TABLE, PREDICTIONS = "a run", "a YAML file with `screen:`", "--predictions with --measured"
# What an option is for, and what to do instead.
TAKEN_BY = {
    "truth": (RUN, "only a simulated tissue has one; leave it out"),
    "overrides": (TABLE, "a run's settings are those it was trained with, and predictions have options of their own"),
    **dict.fromkeys(OF_PREDICTIONS, (PREDICTIONS, "leave it out; a YAML file names it in its settings")),
}


def kind_of(given: Mapping[str, Any]) -> str:
    """Return what is scored by options of ``aivc evaluate``.

    Raises
    ------
    ConfigError
        It is not one thing, or an option is given that what is scored would not heed.
    """
    files = [name for name in ("predictions", "measured") if given[name] is not None]
    if (given["run"] is not None) == bool(files) or len(files) == 1:
        mend = "give one of them, as in aivc evaluate runs/demo"
        expected = "RUN, a YAML file, or --predictions with --measured"
        raise ConfigError("aivc evaluate", "both or neither, or half of the latter", expected, mend)
    kind = PREDICTIONS if files else TABLE if given["run"].suffix in YAML else RUN
    for name, (taken_by, mend) in TAKEN_BY.items():
        if given[name] not in (None, []) and kind != taken_by:
            option = "set" if name == "overrides" else name.replace("_", "-")
            raise ConfigError(f"aivc evaluate --{option}", kind, taken_by, mend)
    return kind
