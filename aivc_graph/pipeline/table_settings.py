"""The configuration of an evaluation without tissue: a screen of interventions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from aivc_graph.config import beside, data_folder, put_over
from aivc_graph.errors import ConfigError
from aivc_graph.evaluation.settings import ScoringConfig
from aivc_graph.setting_faults import SettingFaults, refuse_pairing
from aivc_graph.settings import Settings
from aivc_graph.yaml_source import read_yaml


class QuestionConfig(Settings):
    """One question to a screen.

    Parameters
    ----------
    ask
        ``unseen_gene``, ``unseen_pair`` (by how many of its parts were seen) or ``unseen_context``.
    within
        Contexts it is asked in, by name; all if not given.
    """

    ask: Literal["unseen_gene", "unseen_pair", "unseen_context"]
    within: tuple[str, ...] = ()


class ScreenConfig(Settings):
    """A screen: cells by what was done to them.

    Parameters
    ----------
    name
        Names the folder the scores go to, ``runs/<name>``, where no other is given.
    path
        An ``.h5ad`` file, one row a cell, of counts or log-normalised values.
    condition, control, context
        Columns of ``obs`` and the condition to which nothing was done; pairs are written ``A+B``.
    layer
        Layer in place of ``X``.
    questions
        What is asked.
    seed
        Of folds and of conditions left out.
    share_content
        Accept that cells of an asked condition train under another name; the page then says so.
    """

    name: str = Field(min_length=1)
    path: Path
    condition: str
    control: str
    context: str | None = None
    layer: str | None = None
    questions: tuple[QuestionConfig, ...] = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    share_content: bool = False

    @field_validator("questions")
    @classmethod
    def _asked_once(cls, questions: tuple[QuestionConfig, ...]) -> tuple[QuestionConfig, ...]:
        names = [one.ask for one in questions]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is asked twice; ask it once, `within` all contexts it is meant for")
        return questions


class TableConfig(Settings):
    """A screen, and how its scores are put together."""

    screen: ScreenConfig
    evaluation: ScoringConfig = ScoringConfig()


def is_table_config(path: Path) -> bool:
    """Say whether a YAML file is about a screen rather than a tissue."""
    data = read_yaml(path).data
    return isinstance(data, dict) and "screen" in data


def load_table_config(path: Path, overrides: Sequence[str] = ()) -> TableConfig:
    """Read a YAML file with ``screen:`` at its top, and put `overrides` (``"screen.seed=1"``) over it.

    Relative paths start from ``AIVC_DATA``, those that begin with ``./`` from the folder of the file.

    Raises
    ------
    ConfigError
        All faults at once, each with its line.
    """
    source = read_yaml(path)
    faults = SettingFaults(source)
    if not isinstance(source.data, dict):
        raise ConfigError(source.where(()), f"{source.data!r:.60}", "`screen:`", "start with it")
    refuse_pairing(source)
    if "task" in source.data:
        mend = "that is of a tissue: train it, and evaluate its run folder"
        raise ConfigError(source.where(("task",)), "`task:`", "`screen:`", mend)
    for override in overrides:
        put_over(source.data, override, faults)
    data, base = beside(source.data, path.absolute().parent), data_folder()
    try:
        config = TableConfig.model_validate(data)
    except ValidationError as error:
        faults.add_validation(error, TableConfig, data)
    faults.raise_if_any()
    return config.model_copy(update={kind: _resolved(part, base) for kind, part in config})


def _resolved(part: Settings, base: Path) -> Settings:
    """Return settings with every relative path put below `base`."""
    paths = {key: base / value.expanduser() for key, value in part if isinstance(value, Path)}
    return part.model_copy(update=paths)
