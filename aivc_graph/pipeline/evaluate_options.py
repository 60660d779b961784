"""Which options of ``aivc evaluate`` go with what: a run, or predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aivc_graph.errors import ConfigError

YAML = (".yaml", ".yml")
OF_PREDICTIONS = ("condition", "control", "context", "split", "share_content")
RUN, PREDICTIONS = "a run", "--predictions with --measured"
# What an option is for, and what to do instead.
TAKEN_BY = {
    "truth": (RUN, "only a simulated tissue has one; leave it out"),
    "anchors": (RUN, "predictions have no anchors; leave it out"),
    **dict.fromkeys(OF_PREDICTIONS, (PREDICTIONS, "leave it out; a run's settings are those it was trained with")),
}


def kind_of(given: Mapping[str, Any]) -> str:
    """Return what is scored by options of ``aivc evaluate``.

    Raises
    ------
    ConfigError
        It is not one thing, or a configuration that is not trained yet; an option is given that what is scored would
        not heed.
    """
    files = [name for name in ("predictions", "measured") if given[name] is not None]
    if (given["run"] is not None) == bool(files) or len(files) == 1:
        mend = "give one of them, as in aivc evaluate runs/demo"
        expected = "RUN, or --predictions with --measured"
        raise ConfigError("aivc evaluate", "both or neither, or half of the latter", expected, mend)
    if not files and given["run"].suffix in YAML:
        from aivc_graph.config import load_config

        load_config(given["run"])
        mend = f"train it first: aivc train {given['run']}, then evaluate its run folder"
        raise ConfigError(f"aivc evaluate {given['run']}", "a YAML file", "the folder of a trained run", mend)
    kind = PREDICTIONS if files else RUN
    for name, (taken_by, mend) in TAKEN_BY.items():
        if given[name] is not None and kind != taken_by:
            raise ConfigError(f"aivc evaluate --{name.replace('_', '-')}", kind, taken_by, mend)
    return kind
