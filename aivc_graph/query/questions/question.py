"""The contract of a question and the registry of questions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from aivc_graph.errors import Faults, QueryError
from aivc_graph.registry import Registry
from aivc_graph.setting_faults import said_of
from aivc_graph.settings import Settings

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

TABLE = (".csv", ".parquet")
NODES = (*TABLE, ".h5ad")


def _symbols(given: Any) -> Any:
    """Return what commas separate, of one text or of several."""
    if given is None:
        return None
    parts = [given] if isinstance(given, str) else given
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"expected symbols, as in ACTA2,CD3E, found {given!r:.60}")
    symbols = tuple(dict.fromkeys(symbol for part in parts for one in part.split(",") if (symbol := one.strip())))
    if not symbols:
        raise ValueError(f"expected symbols, as in ACTA2,CD3E, found {given!r:.60}")
    return symbols


Level = Literal["cell", "patch", "region"]
Symbols = Annotated[tuple[str, ...], BeforeValidator(_symbols)]


class AbstractQuestion(Settings, ABC):
    """A question to a tissue. Its fields are its options, in Python and on the command line; each has a description.

    A member is registered with the facts ``asks``, what it is in a few words, and ``example``, options as they are
    typed after ``aivc query RUN NAME``.
    """

    # What its answer may be written to: a table as TABLE, an AnnData as NODES.
    endings: ClassVar[tuple[str, ...]] = TABLE

    @abstractmethod
    def answer(self, tissue: VirtualTissue) -> Any:
        """Return the answer: a table, or an AnnData with one row a node.

        Raises
        ------
        QueryError
            If the tissue does not hold what the question is about.
        """

    def written_as(self) -> tuple[str, ...]:
        """Return the endings of files that hold the answer to these options."""
        return self.endings

    def as_table(self, answer: Any) -> Any:
        """Return the answer as it is shown and written where that is no ``.h5ad`` file; as it is by default."""
        return answer

    def as_anndata(self, answer: Any) -> Any:
        """Return the answer as it is written to an ``.h5ad`` file; as it is by default."""
        return answer

    def draw(self, tissue: VirtualTissue, answer: Any) -> Any:
        """Return the answer drawn, as matplotlib Axes; of a question that has no picture a `QueryError`."""
        raise QueryError("draw", "a question without a picture", "one that `is_drawn`", "write its answer instead")

    @classmethod
    def is_drawn(cls) -> bool:
        """Say whether the answer can be drawn."""
        return cls.draw is not AbstractQuestion.draw


class AbstractNicheQuestion(AbstractQuestion):
    """A question about niches: those of the run, unless a number or a resolution asks for others."""

    k: int | None = Field(None, description="number of niches; chosen from the data if not given")
    resolution: float | None = Field(None, description="above 1 more niches, below 1 fewer")

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if self.k is not None and self.resolution is not None:
            raise ValueError("both `k` and `resolution`, which say the same in two ways; give one of them")
        return self

    def _check_niches_asked(self, asked: bool, instead: str) -> None:
        """Refuse a number of niches, or a resolution, where the answer has nothing to do with niches."""
        if (self.k is not None or self.resolution is not None) and not asked:
            option = "k" if self.k is not None else "resolution"
            raise ValueError(f"`{option}` says how many niches there are, and the answer is {instead}; leave it out")


QUESTIONS: Registry[type[AbstractQuestion]] = Registry("question", "aivc_graph.query.questions")


def question(name: str, options: Mapping[str, Any]) -> AbstractQuestion:
    """Return the question called `name`; options that are None are as if they were not given.

    Raises
    ------
    QueryError
        If there is no such question, or the options do not fit: all their faults, each with the nearest match.
    """
    member = QUESTIONS.get(name, "query", QueryError)
    given = {key: value for key, value in options.items() if value is not None}
    try:
        return member(**given)
    except ValidationError as error:
        faults = Faults(QueryError)
        for key, *said in said_of(error, member, given, "this question takes: "):
            faults.add(" · ".join((f"query {name}", *map(str, key))), *said)
        faults.raise_if_any()
        raise
