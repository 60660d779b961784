"""Where in a section dissociated cells lie."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import anndata as ad
import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.operators.placing import Places
from aivc_graph.operators.placing_fit import KEPT, Placed, Placing, fit_placing
from aivc_graph.operators.placing_support import ALIKE, KINDS, LEAST_FIT, fit_support
from aivc_graph.query.answers import node_table
from aivc_graph.query.placing import EXPRESSION, WHERE, Sides, compared, missing_from, sides
from aivc_graph.query.questions.question import NODES, QUESTIONS, AbstractQuestion
from aivc_graph.tissue.doubt import doubt

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

CELLS = "cells"


@QUESTIONS.register(
    WHERE, asks="where in a section dissociated cells lie, and which cells a spot holds", example="--section S --top 3"
)
class PlaceQuestion(AbstractQuestion):
    """Where in a section cells without positions lie: a distribution over its places, and which cells a place holds.

    Cells and nodes are compared by the genes that all of them measured, or by their states; see
    `aivc_graph.operators.placing.Ground`. How, and how surely, is chosen on nodes of the section whose place is hidden.
    Places are square tiles of 50 µm, or wider in large sections, or spots themselves.

    The answer is an AnnData: X = probability of each place (cell, place), of the hundred likeliest; ``obs``: ``x_um``,
    ``y_um``, chosen to lie near the true place of hidden nodes by their median, ``spread_um``, the mean distance from
    there, ``likely_x_um``, ``likely_y_um``, where most probability lies within 100 µm, ``within_100_um``, how much of
    it, ``region_um2``, the area of the region that holds the cell with probability 0.9, ``fit``, how many of the
    section's own nodes fit the rest of it as badly, and ``supported``, whether that is at least one in fifty;
    ``var``: the places, with ``cells``, how many of the supported cells are expected there; ``uns["place"]``: the rule,
    what each of its steps gained, and the measured coverage of the region: ``among_nodes``, of cells from where the
    section has nodes, and ``in_gaps``, of cells from gaps of it, if a tenth or more are expected there; the region is
    wide enough for either. As a table: a row a cell and rank, with ``place_x_um``, ``place_y_um`` and ``probability``,
    or by place, with the cells of each label expected there.

    What hidden nodes say holds for cells of the section: that a region covers nine of ten of the cells of another donor
    cannot be measured without their positions. ``supported`` finds types that the section lacks by what they count and
    the nodes like them do not; kin of a type that is there may be missed (`benchmarks/placing.py`). What spots are made
    of is told better by `composition`, for which a reference need not have types in the numbers of the tissue.

    Of other tissue that is asked (`--on`), what it lacks is taken from the run: dissociated cells are placed in the
    run's own tissue, and a section with positions is one in which the run's own cells are placed.
    """

    endings: ClassVar[tuple[str, ...]] = NODES
    section: str | None = Field(None, description="section with positions; the first if not given")
    of: str | None = Field(None, description="section of the cells that are placed; all without positions if not given")
    level: Literal["cell", "patch"] | None = Field(None, description="whose places; the finest counted if not given")
    gaps: bool | None = Field(
        None,
        description="cells may come from gaps of the section, as of pieces cut out; by default those of its donor may",
    )
    mass: str | None = Field(None, description="column that says how many cells a node holds; one each if not given")
    by: Literal["cell", "place"] = Field("cell", description="one row per cell and rank, or per place")
    top: int = Field(1, ge=1, le=KEPT, description="places of each cell in a table")
    label: str | None = Field(None, description="label whose cells are drawn; all if not given")

    def answer(self, tissue: VirtualTissue) -> ad.AnnData:
        """Return the probability of each place for every cell.

        Raises
        ------
        QueryError
            Without cells to place, a section to place them in, or genes that both measured.
        """
        who = sides(tissue, self.section, self.of, self.level)
        _doubt_uncounted(who)
        told = compared(who, self.mass)
        places = Places.of_nodes(told.nodes.pos_um, each=who.level == names.PATCH)
        gaps = None if missing_from(who, self.gaps) else 1.0
        fitted = fit_placing(told.nodes, places, tissue.seed, gaps)
        support = fit_support(told.nodes.views[EXPRESSION], told.node_counts, tissue.seed)
        ends = np.cumsum([0, *(len(rows) for rows in who.asked.values())])
        each = [slice(*one) for one in pairwise(ends)]
        placed = [fitted.place(told.asked[fitted.rule.view][one], tissue.seed) for one in each]
        fit = [support.fit(told.asked[EXPRESSION][one], told.asked_counts[one], tissue.seed) for one in each]
        counted = np.asarray(told.asked_counts.sum(axis=1)).ravel() > 0
        for name, rows, one in zip(who.asked, each, fit, strict=True):
            _doubt_support(name, who.section, one * counted[rows] >= LEAST_FIT)
        return self._table(who, np.concatenate(fit) * counted, fitted, placed)

    def _table(self, who: Sides, fit: Any, fitted: Placing, placed: list[Placed]) -> ad.AnnData:
        point, likely, near, spread, region = (np.concatenate([one[i] for one in placed]) for i in range(5))
        asked = np.concatenate(list(who.asked.values()))
        obs = node_table(who.here.graph, names.CELL).iloc[asked].drop(columns="size_um")
        obs = obs.assign(placed_in=who.section, x_um=point[:, 0], y_um=point[:, 1])
        obs = obs.assign(likely_x_um=likely[:, 0], likely_y_um=likely[:, 1], within_100_um=near)
        obs = obs.assign(spread_um=spread, region_um2=region, fit=fit, supported=fit >= LEAST_FIT)
        answer = ad.AnnData(
            sparse.vstack([one.best for one in placed], format="csr").astype(np.float32),
            obs=obs,
            var=_places(who, fitted.ground.places),
        )
        answer.var[CELLS] = _expected(answer, np.ones(answer.n_obs, bool))
        steps = {"rule": asdict(fitted.rule), "nats_over_knowing_nothing": fitted.gains, "opening": fitted.opening}
        answer.uns[WHERE] = steps | {"coverage_of_hidden_nodes": fitted.coverage, "region_holds": fitted.level}
        return answer

    def as_table(self, answer: ad.AnnData) -> pd.DataFrame:
        """Return a row a cell and rank, or a row a place."""
        if self.by == "place":
            table = answer.var.copy()
            if names.LABEL in answer.obs:
                for label in sorted(answer.obs[names.LABEL].dropna().astype(str).unique()):
                    table[f"{CELLS}_{label}"] = _expected(answer, answer.obs[names.LABEL].astype(str) == label)
            return table
        order = [row.indices[np.argsort(-row.data, kind="stable")[: self.top]] for row in answer.X]
        rows = np.repeat(np.arange(answer.n_obs), [len(one) for one in order])
        columns = np.concatenate(order)
        table = answer.obs.iloc[rows].copy()
        table["rank"] = np.concatenate([np.arange(1, len(one) + 1) for one in order])
        for name in ("x_um", "y_um"):
            table[f"place_{name}"] = answer.var[name].to_numpy()[columns]
        return table.assign(probability=np.asarray(answer.X[rows, columns]).ravel())

    def draw(self, tissue: VirtualTissue, answer: Any) -> Any:
        """Draw how many of the cells, or of those of a label, are expected at each place."""
        from aivc_graph.plot.expression_map import expression_map

        told = answer if isinstance(answer, ad.AnnData) else self.answer(tissue)
        kind = told.obs[names.LABEL].astype(str).to_numpy() if names.LABEL in told.obs else np.zeros(0, str)
        if self.label is not None and self.label not in kind:
            raise unknown_name(QueryError, WHERE, "label", self.label, sorted(set(kind)))
        asked = np.ones(told.n_obs, bool) if self.label is None else kind == self.label
        section, fits = str(told.obs["placed_in"].iloc[0]), told.obs["supported"].to_numpy()
        return expression_map(
            told.var[["x_um", "y_um"]].to_numpy(),
            _expected(told, asked),
            unit="cells expected at a place",
            size_um=np.sqrt(told.var["area_um2"].to_numpy()),
            title=f"{section}: {self.label or 'cells'} placed ({int((asked & fits).sum()):,} of {int(asked.sum()):,})",
        )


def _doubt_support(name: str, section: str, supported: np.ndarray) -> None:
    """Doubt cells of which most fit nowhere, so that they are not among those expected at a place."""
    if supported.mean() < 0.5:
        found = f"{int((~supported).sum()):,} of {len(supported):,} cells of {name} that fit nowhere in {section}"
        mend = "they count as none at any place: is it their tissue, measured alike, one cell a row?"
        if len(supported) < KINDS * ALIKE:
            mend += f" of fewer than {KINDS * ALIKE} it cannot be told what their platform does: give more"
        doubt(f"{WHERE} · {name}", found, "most of them supported", mend)


def _doubt_uncounted(who: Sides) -> None:
    """Doubt cells without a single count: nothing says where they lie, and the answer has no row of them."""
    graph = who.here.graph
    known, of = graph.obs(names.SECTION).index.astype(str), graph[names.CELL].section_index.numpy()
    for name, rows in who.asked.items():
        left = int((known[of] == name).sum()) - len(rows)
        if left:
            doubt(f"{WHERE} · {name}", f"{left:,} cells without a count, which are not placed", "counts of every cell")


def _places(who: Sides, places: Places) -> pd.DataFrame:
    """Return a row a place: centre, area and number of nodes; of spots their barcode."""
    number = np.bincount(places.of, minlength=len(places.centre))
    found = pd.DataFrame(
        {"x_um": places.centre[:, 0], "y_um": places.centre[:, 1], "area_um2": places.area, "n_nodes": number}
    )
    if (number == 1).all():
        found.insert(0, names.BARCODE, who.there.graph.obs(who.level)[names.BARCODE].astype(str).to_numpy()[who.nodes])
    return found.set_index(pd.Index([str(i) for i in range(len(found))], name=WHERE))


def _expected(answer: ad.AnnData, asked: Any) -> np.ndarray:
    """Return how many of some cells are expected at each place (place,); each supported cell counts one."""
    chosen = answer.X[np.asarray(asked) & answer.obs["supported"].to_numpy()]
    total = np.maximum(np.asarray(chosen.sum(axis=1)).ravel(), 1e-12)
    return np.asarray((1 / total) @ chosen).ravel()
