"""The configuration of an evaluation without tissue: a screen of interventions, or two modalities of the same cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from aivc_graph.config import data_folder
from aivc_graph.errors import ConfigError
from aivc_graph.setting_faults import SettingFaults
from aivc_graph.settings import Settings
from aivc_graph.yaml_source import read_yaml

KINDS = ("screen", "pairing")


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
    pathways
        Weights of pathways or transcription factors, as `read_footprints` takes them; activities are then scored beside
        genes.
    seed
        Of folds and of conditions left out.
    """

    name: str = Field(min_length=1)
    path: Path
    condition: str
    control: str
    context: str | None = None
    layer: str | None = None
    questions: tuple[QuestionConfig, ...] = Field(min_length=1)
    pathways: Path | None = None
    seed: int = Field(default=0, ge=0)


class PairingConfig(Settings):
    """Two modalities of the same cells, one to be told from the other.

    Parameters
    ----------
    name
        Names the folder the scores go to, ``runs/<name>``, where no other is given.
    given, asked
        ``.h5ad`` files with the same cells: what is known of every cell, and what is asked.
    donor, test
        Column of ``obs`` and the donors that are held out.
    label
        What the two are called in the results, such as ``rna → protein``.
    """

    name: str = Field(min_length=1)
    given: Path
    asked: Path
    donor: str
    test: tuple[str, ...] = Field(min_length=1)
    label: str = "rna → protein"


class TableConfig(Settings):
    """Exactly one of the two."""

    screen: ScreenConfig | None = None
    pairing: PairingConfig | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.screen is None) == (self.pairing is None):
            raise ValueError("expected either `screen:` or `pairing:` with its settings; keep one of the two")
        return self


def is_table_config(path: Path) -> bool:
    """Say whether a YAML file is about a screen or a pairing rather than a tissue."""
    data = read_yaml(path).data
    return isinstance(data, dict) and any(kind in data for kind in KINDS)


def load_table_config(path: Path) -> TableConfig:
    """Read a YAML file with ``screen:`` or ``pairing:`` at its top; relative paths start from ``AIVC_DATA``.

    Raises
    ------
    ConfigError
        All faults at once, each with its line.
    """
    source = read_yaml(path)
    faults = SettingFaults(source)
    if not isinstance(source.data, dict):
        raise ConfigError(source.where(()), f"{source.data!r:.60}", "`screen:` or `pairing:`", "start with one of them")
    if "task" in source.data:
        mend = "that is of a tissue: train it, and evaluate its run folder"
        raise ConfigError(source.where(("task",)), "`task:`", "`screen:` or `pairing:`", mend)
    folder, base = path.absolute().parent, data_folder()
    data = {kind: _beside(part, folder) for kind, part in source.data.items()}
    try:
        config = TableConfig.model_validate(data)
    except ValidationError as error:
        faults.add_validation(error, TableConfig, data)
    faults.raise_if_any()
    parts = {kind: part for kind, part in config if part is not None}
    return config.model_copy(update={kind: _resolved(part, base) for kind, part in parts.items()})


def _beside(part: Any, folder: Path) -> Any:
    """Return settings with every text that begins with ``./`` made a path below `folder`."""
    if not isinstance(part, dict):
        return part
    near = {key for key, value in part.items() if isinstance(value, str) and value.startswith("./")}
    return {key: str(folder / value) if key in near else value for key, value in part.items()}


def _resolved(part: Settings, base: Path) -> Settings:
    """Return settings with every relative path put below `base`."""
    paths = {key: base / value.expanduser() for key, value in part if isinstance(value, Path)}
    return part.model_copy(update=paths)
