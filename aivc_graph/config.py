"""The whole configuration of a run, read from YAML with every fault at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from aivc_graph import names
from aivc_graph.errors import ConfigError, ReadError
from aivc_graph.evaluation.settings import EvaluationConfig
from aivc_graph.graph.build import GraphConfig
from aivc_graph.graph.edges.rule import EDGES
from aivc_graph.io.embeddings import EmbeddingTable
from aivc_graph.io.priors.layout import PriorConfig
from aivc_graph.io.reading import READERS, recognise
from aivc_graph.modalities.encoder import ExportedEncoder
from aivc_graph.modalities.histology_features import HistologyFeatures
from aivc_graph.modalities.morphology import MorphologyFeatures
from aivc_graph.model.settings import BY_NAME, ONE_MEMBER, ModelConfig
from aivc_graph.operators.part import KINDS
from aivc_graph.setting_faults import SettingFaults, check_serial, put_over, refuse_pairing, refuse_screen
from aivc_graph.settings import Settings
from aivc_graph.splits.design import DESIGNS
from aivc_graph.splits.drawn import AbstractDrawnSplit
from aivc_graph.tissue.applied import InterventionColumns
from aivc_graph.tissue.intervention import Intervention
from aivc_graph.tissue.registration.method import REGISTRATIONS
from aivc_graph.tissue.registration.serial import SerialConfig
from aivc_graph.training.settings import TrainingConfig
from aivc_graph.yaml_source import ANY, YamlSource, dump_yaml, places, read_yaml


class ChoiceConfig(Settings):
    """Settings that choose a member by name and carry that member's options as further keys."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """The chosen member's options as given."""
        return dict(self.model_extra or {})


class SourceConfig(ChoiceConfig):
    """One file or folder of a section; every further key is an option of its reader, such as ``mpp: 0.5``.

    Parameters
    ----------
    path
        Relative to ``AIVC_DATA``, relative to the YAML file where it begins with ``./``, or absolute.
    reader
        Name of a reader; by default chosen by content.
    """

    path: Path
    reader: str | None = None


class RegistrationConfig(ChoiceConfig):
    """Place one element in the frame of another; every further key is an option of the method, such as ``path``.

    Parameters
    ----------
    kind
        Name of a registration method.
    moving
        Element that is placed, such as ``slide``.
    fixed
        Element whose frame it is placed in, such as ``patch``.
    also
        Elements that move with `moving`.
    """

    kind: str
    moving: str = names.SLIDE
    fixed: str = names.PATCH
    also: tuple[str, ...] = ()


def _form_of(value: Any) -> str:
    return "columns" if isinstance(value, dict | InterventionColumns) else "list"


# How patches are described, by the key that tells one from another; without it by the built-in features.
FEATURES: dict[str, type[Settings]] = {"encoder": ExportedEncoder, "table": EmbeddingTable}
BUILT_IN = "built-in"


def _described_by(value: Any) -> str:
    if isinstance(value, dict):
        return next((key for key in FEATURES if key in value), BUILT_IN)
    return next((key for key, settings in FEATURES.items() if isinstance(value, settings)), BUILT_IN)


Features = Annotated[
    Annotated[HistologyFeatures, Tag(BUILT_IN)]
    | Annotated[ExportedEncoder, Tag("encoder")]
    | Annotated[EmbeddingTable, Tag("table")],
    Discriminator(_described_by),
]
Interventions = Annotated[
    Annotated[tuple[Intervention, ...], Tag("list")] | Annotated[InterventionColumns, Tag("columns")],
    Discriminator(_form_of),
]


class SectionConfig(Settings):
    """One section of tissue: what it is, and the sources that hold it.

    Parameters
    ----------
    name
        Unique name of the section.
    donor
        Patient, animal or culture that the section is from. Splits hold donors out, and intervals are over donors.
    site
        Hospital or laboratory it came from; a split can hold it out.
    platform
        Technology it was measured with, such as Visium; a split can hold it out.
    batch
        Batch it was processed in; a split can hold it out.
    context
        What kind of cells a screen was done in, such as a cell line; by default the name of the section.
    sections_by
        Column, or list of columns, whose values tell apart several sections in one file; a section is named by its
        value.
    donor_by
        Column that holds the donor, one value a section.
    context_by
        Column that holds the context, one value a section.
    sources
        Files and folders that hold the section: counts, cells, slide. They are merged into one tissue.
    registration
        How elements that come without a position in the section's frame are placed, in this order.
    serial
        The section listed before that this one was cut next to: all it holds is then placed in that one's frame.
    interventions
        What was done to the tissue: genes knocked out or activated, drugs, ligands, everywhere or in one place. For a
        screen, the columns that say it of each cell.
    traits
        What else is known of the donor or the section, such as ``{stage: onset}``. No model sees it; `abundance` and an
        evaluation's `endpoint` ask for it.
    traits_by
        Columns that hold traits, one value a section.
    """

    name: str = Field(min_length=1)
    donor: str | None = None
    site: str | None = None
    platform: str | None = None
    batch: str | None = None
    context: str | None = None
    sections_by: tuple[str, ...] = ()
    donor_by: str | None = None
    context_by: str | None = None
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    registration: tuple[RegistrationConfig, ...] = ()
    serial: SerialConfig | None = None
    interventions: Interventions = ()
    traits: dict[str, str] = Field(default_factory=dict)
    traits_by: tuple[str, ...] = ()

    @field_validator("sections_by", "traits_by", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_column_is_a_list_of_one(cls, value: Any) -> Any:
        if isinstance(value, dict):
            shown = ", ".join(str(one) for one in value.values() if isinstance(one, str)) or "COLUMN"
            raise ValueError(f"expected a column or a list of columns, such as [{shown}], found {value!r:.60}")
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        for key in ("donor", "context"):
            if getattr(self, key) is not None and getattr(self, f"{key}_by") is not None:
                raise ValueError(f"give either `{key}:` or `{key}_by:`")
        if twice := sorted(set(self.traits) & set(self.traits_by)):
            raise ValueError(f"give {twice[0]!r} either under `traits:` or under `traits_by:`")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the annotation that are read to tell what the section is and what was done to its cells."""
        screened = self.interventions.columns if isinstance(self.interventions, InterventionColumns) else ()
        named = (*self.sections_by, self.donor_by, self.context_by, *self.traits_by, *screened)
        return tuple(dict.fromkeys(name for name in named if name is not None))


class TaskConfig(Settings):
    """The data, the split and what is measured on the slide: the half of a run that is not the model.

    Parameters
    ----------
    name
        Names the run's folder, ``runs/<name>``, where no other is given.
    sections
        Sections of tissue.
    split
        What is held out: ``kind`` and the options of that design; all nodes train if not given.
    features
        How the tiles under the patches are described: ``{}`` by built-in features, ``{encoder: FILE}`` by a pretrained
        encoder, ``{table: FILE}`` by embeddings computed elsewhere; no tile is read if not given.
    priors
        Files of what is known about molecules: relations between genes, and vectors of them.
    morphology
        Which shapes of cells are measured; none if not given.
    """

    name: str = "task"
    sections: tuple[SectionConfig, ...] = ()
    split: dict[str, Any] | None = None
    features: Features | None = None
    priors: tuple[PriorConfig, ...] = ()
    morphology: MorphologyFeatures | None = None

    @field_validator("name")
    @classmethod
    def _name_is_one_folder(cls, name: str) -> str:
        if name != name.strip(" .") or not name or any(c in "/\\" or not c.isprintable() for c in name):
            raise ValueError(f"expected the name of a folder, found {name!r}; leave out '/', '\\' and dots around it")
        return name

    @field_validator("sections")
    @classmethod
    def _names_differ(cls, sections: tuple[SectionConfig, ...]) -> tuple[SectionConfig, ...]:
        found = [section.name for section in sections]
        twice = sorted({name for name in found if found.count(name) > 1})
        if twice:
            raise ValueError(f"two sections called {twice[0]!r}; give each its own name")
        return sections


class Config(Settings):
    """All settings of a run. Each part has defaults, so ``Config()`` is complete for a graph that is built already.

    Parameters
    ----------
    task
        The data, what is held out, how slides are described, and what is known beforehand.
    graph
        How sections become a graph: genes, patches, neighbours.
    model
        Sizes and parts of the model.
    training
        How the model is trained.
    evaluation
        What answers are scored against, and how scores are weighed.
    """

    task: TaskConfig = TaskConfig()
    graph: GraphConfig = GraphConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, put `overrides` (``"training.epochs=20"``) over it, and check everything.

    Paths that begin with ``./`` start from the folder of the file. All others resolve against
    ``AIVC_DATA``; without it ``../shared/data``, or else the current folder.

    Raises
    ------
    ConfigError
        All faults at once, each ``file.yaml:LINE: dotted.key: …`` with the nearest match and the known keys.

    Examples
    --------
    >>> load_config("configs/demo.yaml", ["training.epochs=2"]).training.epochs
    2
    """
    source, base = read_yaml(Path(path)), data_folder()
    faults = SettingFaults(source)
    data = {} if source.data is None else source.data
    if not isinstance(data, dict):
        keys = ", ".join(Config.model_fields)
        raise ConfigError(source.where(()), f"{data!r:.60}", f"the keys {keys}", "start with `task:`")
    refuse_screen(source)
    refuse_pairing(source)
    for override in overrides:
        put_over(data, override, faults)
    for part in {"task", "graph", "evaluation"} & set(data):
        data[part] = beside(data[part], Path(path).absolute().parent)
    _check_members(data, base, faults)
    try:
        config = Config.model_validate(faults.without_faulty(data))
    except ValidationError as error:
        faults.add_validation(error, Config, data)
    faults.raise_if_any()
    parts = ("task", "graph", "evaluation")
    return config.model_copy(update={part: _resolved(getattr(config, part), base) for part in parts})


def dump_config(config: Config) -> str:
    """Return the configuration as YAML that `load_config` reads back as an equal `Config`."""
    return dump_yaml(config.model_dump(mode="json"))


def data_folder() -> Path:
    """Return the folder that relative paths of a task start from."""
    if given := os.environ.get("AIVC_DATA"):
        return Path(given).expanduser().absolute()
    shared = (Path.cwd() / "../shared/data").resolve()
    return shared if shared.is_dir() else Path.cwd()


def beside(value: Any, folder: Path) -> Any:
    """Return plain data with every text that begins with ``./`` made a path below `folder`."""
    if isinstance(value, dict):
        return {key: beside(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [beside(item, folder) for item in value]
    return str(folder / value) if isinstance(value, str) and value.startswith("./") else value


def options_of(overrides: Sequence[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` texts, each value read as YAML, as one mapping."""
    faults, options = SettingFaults(YamlSource("{}", "--set")), dict[str, Any]()
    for override in overrides:
        put_over(options, override, faults)
    faults.raise_if_any()
    return options


def _check_members(data: dict[str, Any], base: Path, faults: SettingFaults) -> None:
    """Check the settings whose keys depend on a name: edge rules, the split's design, readers, registration methods."""
    for kind in ONE_MEMBER:
        for key, chosen in places(data, ("model", kind)):
            faults.check_member(key, chosen, KINDS[kind], "part")
    for kind in BY_NAME:
        for key, chosen in places(data, ("model", kind, ANY)):
            faults.check_member(key, chosen, KINDS[kind], "part")
    for key, edges in places(data, ("graph", "edges", ANY)):
        faults.check_member(key, edges, EDGES, "rule")
    for key, split in places(data, ("task", "split")):
        if split is not None:
            faults.check_member(key, split, DESIGNS, "design")
    for key, features in places(data, ("task", "features")):
        if isinstance(features, dict):
            chosen = FEATURES.get(_described_by(features), HistologyFeatures)
            faults.check_settings(key, features, chosen, "description of tiles")
    for key, question in places(data, ("evaluation", "questions", ANY)):
        faults.check_member(key, question, DESIGNS, "design", also=("within",))
        named = str(question.get("kind")) if isinstance(question, dict) else ""
        if named in DESIGNS and not issubclass(DESIGNS[named], AbstractDrawnSplit):
            drawn = [name for name in DESIGNS if issubclass(DESIGNS[name], AbstractDrawnSplit)]
            faults.add((*key, "kind"), repr(named), f"a design that draws groups ({', '.join(drawn)})", "name one")
    for key, method in places(data, ("task", "sections", ANY, "registration", ANY)):
        faults.check_member(key, method, REGISTRATIONS, "method", also=("moving", "fixed", "also"))
    check_serial(data, faults)
    for key, source in places(data, ("task", "sections", ANY, "sources", ANY)):
        if isinstance(source, dict) and (reader := _reader_name(source, base)) is not None:
            faults.check_member(key, {**source, "reader": reader}, READERS, "reader", "reader", ("path",))


def _reader_name(source: dict[str, Any], base: Path) -> Any:
    """Return the reader a source names, or else the one its file is recognised by where there are options to check."""
    if source.get("reader") is not None or not set(source) - {"path", "reader"}:
        return source.get("reader")
    path = base / Path(str(source.get("path", ""))).expanduser()
    try:
        return recognise(path)
    except ReadError:
        return None


def _resolved(value: Any, base: Path) -> Any:
    """Return settings with every relative path in them put below `base`."""
    if isinstance(value, Path):
        return base / value.expanduser()
    if isinstance(value, tuple):
        return tuple(_resolved(item, base) for item in value)
    if not isinstance(value, Settings):
        return value
    update = {name: _resolved(getattr(value, name), base) for name in type(value).model_fields}
    if isinstance(value, ChoiceConfig) and (member := _member(value, base)) is not None:
        chosen = member(**value.options)
        paths = {option: getattr(chosen, option) for option in value.options}
        update |= {option: _resolved(path, base) for option, path in paths.items() if isinstance(path, Path | tuple)}
    return value.model_copy(update=update)


def _member(choice: ChoiceConfig, base: Path) -> type[Settings] | None:
    """Return the reader or registration method a choice stands for, if it can be told."""
    if isinstance(choice, RegistrationConfig):
        return REGISTRATIONS[choice.kind]
    given = {**choice.options, **{name: getattr(choice, name) for name in type(choice).model_fields}}
    name = _reader_name(given, base)
    return None if name is None else READERS[name]
