"""What a file of rows says of itself: the options under which it is read, and what only the user can tell."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.errors import AivcError, Faults, ReadError
from aivc_graph.io.any_rows import layer_hint
from aivc_graph.io.reading import READERS, reader_for
from aivc_graph.io.rows import AbstractRowsReader, Rows
from aivc_graph.io.tables import PLACE
from aivc_graph.tissue.schema import MOST_LOG, check_counts, spacing_um

LAYERS = ("counts", "raw", "raw_counts")
SPOT_UM, CELL_UM, ARRAY_UM = 55.0, 10.0, 100.0
# How far nearest neighbours are apart [µm], by what they are, and the units [µm] that positions come in.
PLAUSIBLE = {names.CELL: (2.0, 50.0), names.PATCH: (2.0, 200.0)}
UNITS = {1.0: "µm", 1000.0: "mm"}
MOST_SECTIONS, MOST_KINDS, MOST_VALUES = 100, 200, 6
SECTION = re.compile(
    r"(?i)^(library|sample|section|slice|slide|puck|capture_area|orig\.ident|roi|core|image)([_ ]?(id|name|key|no))?$"
)
DONOR = re.compile(r"(?i)^(donor|patient|subject|individual|participant|mouse|animal)([_ ]?(id|name|key|no))?$")
BATCH = re.compile(r"(?i)^(batch|dataset|replicate|rep|run|lane|gemgroup|gem_group|plate)([_ ]?(id|name|key|no))?$")
LABEL = re.compile(
    r"(?i)^(cell_?types?|cell_?class|cell_?label|annotations?|labels?|region|layer_guess|cluster\w*|leiden)$"
)
# One of several, of which the coarsest is taken.
FURTHER_LABEL = re.compile(r"(?i)^cell_?(types?|class|label)[_.](?!.*(ontology|_id$|colou?r|score|prob|conf)).+$")
# What says what was done to a row, the surest first.
DONE = (
    re.compile(r"(?i)^(perturbations?|conditions?|treatments?|compound|drug|gene_target|target(_gene)?)$"),
    re.compile(r"(?i)^(pert_iname|pert(urbation)?_name|product_name|gene)$"),
    re.compile(r"(?i)^(guides?(_identity|_id)?|sgrna(_id)?)$"),
    re.compile("^column$"),  # names above a table of genes by rows
)
DOSE = re.compile(r"(?i)^(dose|dose_val(ue)?|pert_i?dose|concentration|dosage)$")
DOSE_UNIT = re.compile(r"(?i)^(pert_)?(dose|concentration)_?units?$")
HOURS = re.compile(r"(?i)^(hours?|time(_?point)?|pert_i?time|duration)$")
_LOOKED_AT = 100
# Values of a row that differ by less are one; a row may lack a count of one.
SAME, MOSTLY = 1.001, 0.8
SAME_STEP = 0.02
BESIDE = "CHECK: it lies beside, and fits in its names or its length"
TURNED = "else `transpose: true`"
SAID = {
    "layer": "the layer that holds counts",
    "values": "CHECK: no counts found",
    "transpose": "a column is a cell or spot, a row a gene",
}


@dataclass(frozen=True)
class Source:
    """One file or folder with its reader, its options, and by option what is to be said of it."""

    path: Path
    reader: str
    options: dict[str, Any] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """A file of rows with its options, the keys of its section, the donors its rows name, and what was done to them."""

    source: Source
    keys: dict[str, Any] = field(default_factory=dict)
    donors: tuple[str, ...] = ()
    done: dict[str, str] = field(default_factory=dict)


def rows_options(source: Source, unclear: list[str]) -> Told:
    """Return what a file of rows tells of itself; what it does not is added to `unclear`."""
    member = READERS[source.reader]
    assert issubclass(member, AbstractRowsReader)
    given = source.options or member.options_beside(source.path)
    opened = _opened(source, given)
    if isinstance(opened, AivcError):
        unclear.append(str(opened))
        return Told(replace(source, options=given))
    options, rows = opened
    said = {option: text for option, text in (dict.fromkeys(given, BESIDE) | SAID).items() if option in options}
    columns, finite = rows.columns, np.asarray(np.isfinite(rows.xy[:, :2]).all(axis=1))
    keys, donors = _section_keys(columns)
    if not finite.any() and "dissociated" in member.model_fields:
        options["dissociated"], said["dissociated"] = True, "no positions found: cells taken out of their tissue"
        if places := [str(c) for c in columns if PLACE.search(str(c)) and columns[c].dtype.kind in "iuf"]:
            shown = ", ".join(places[:4])
            unclear.append(f"{source.path.name}: whether {shown} are positions: name them as `x:` and `y:`")
    else:
        _sizes(member, rows, _one_section(finite, columns, keys), options, said, unclear, source.path.name)
    label = _first(columns, LABEL, MOST_KINDS) or _coarsest(columns, FURTHER_LABEL) or _only_words(columns, given)
    if "label" in member.model_fields and label:
        options["label"], said["label"] = label, f"{columns[label].nunique()} labels; leave out what is no annotation"
    if rows.symbols:
        options["symbols"], said["symbols"] = rows.symbols[0], "names of genes, which are called by ids"
    if "transpose" in member.model_fields and "dissociated" in options and not given:
        unclear.append(f"{source.path.name}: whether a row is a cell or a condition, and a column a gene; {TURNED}")
    if "sections_by" not in keys and (group := _first(columns, BATCH, MOST_SECTIONS)) is not None:
        apart = f"whether {group!r} tells sections, or donors, apart: `sections_by: {group}`, `donor_by: {group}`"
        unclear.append(f"{source.path.name}: {apart}")
    done = what_was_done(columns, source, unclear) if "dissociated" in options else {}
    return Told(replace(source, options=options, said=said), keys, donors, done)


def _one_section(finite: np.ndarray, columns: pd.DataFrame, keys: dict[str, Any]) -> np.ndarray:
    """Return the rows with positions of the section that has most: several may lie on the same ground."""
    if "sections_by" not in keys or not finite.any():
        return finite
    section = columns[keys["sections_by"]].astype(str).to_numpy()
    most = pd.Series(section[finite]).mode().iloc[0]
    return np.asarray(finite & (section == most))


def what_was_done(columns: pd.DataFrame, source: Source, unclear: list[str]) -> dict[str, str]:
    """Return the columns that may say what was done to each row, and how much for how long; nothing without one."""
    column = next((c for c in (_first(columns, words, 10**6) for words in DONE) if c is not None), None)
    if column is None:
        return {}
    asked = f"whether {column!r} says what was done to the cells, and of which kind it is: `interventions:`"
    unclear.append(f"{source.path.name}: {asked}")
    found = {"column": column, "kind": "KIND"}
    values = set(columns[column].dropna().astype(str))
    pairs = [one for one in values if "_" in one and set(one.split("_")) <= values]
    found |= {"separator": "_"} if pairs else {}
    more = {"dose": _first(columns, DOSE, 10**6), "hours": _first(columns, HOURS, 10**6)}
    units = [set(columns[c].dropna().astype(str)) for c in columns if DOSE_UNIT.match(str(c))]
    found |= {"unit": units[0].pop()} if more["dose"] and len(units) == 1 and len(units[0]) == 1 else {}
    return found | {key: name for key, name in more.items() if name is not None}


def _opened(source: Source, given: dict[str, Any]) -> tuple[dict[str, Any], Rows] | AivcError:
    """Return a file's rows, and the options under which they are positions and counts; else what is wrong first."""
    fields, path = READERS[source.reader].model_fields, source.path
    layers: list[dict[str, Any]] = [{}, *({"layer": name} for name in LAYERS if "layer" in fields)]
    places: list[dict[str, Any]] = [{}, {"dissociated": True}] if "dissociated" in fields else [{}]
    if "values" in fields:
        layers.append({"values": "log"})
    first: AivcError | None = None
    for place in places:
        for layer in layers:
            try:
                member = reader_for(path, source.reader, **given | place | layer)
                assert isinstance(member, AbstractRowsReader)
                rows = member.rows(path)
                if "values" in fields and "values" not in layer:
                    faults = Faults(ReadError)
                    check_counts(rows.counts, str(path), faults, layer_hint(rows.layers))
                    faults.raise_if_any()
                if "values" not in layer:
                    return given | place | layer, rows
                kind = _kind_of(rows.counts, placed=bool(np.isfinite(rows.xy).any()))
                if kind != "counts":
                    return given | place | {"values": kind}, rows
            except AivcError as error:
                first = first or error
    assert first is not None
    return first


def _kind_of(table: Any, *, placed: bool) -> str:
    """Return which values a table holds that failed as counts; below zero in tissue they are none that is read.

    Damaged counts stay counts. Those of a row that are whole multiples of its least were counts, and were scaled.
    """
    values = table.X.data if sparse.issparse(table.X) else np.asarray(table.X)
    known = values[np.isfinite(values)]
    if len(known) and len(known) < values.size and ((known >= 0) & (known == np.floor(known))).all():
        return "counts"
    if np.isnan(values).any() or (values < 0).any():
        return "log" if placed else "effect"
    return "intensity" if (values > MOST_LOG).any() or _were_counts(table) else "log"


def _were_counts(table: Any) -> bool:
    """Say whether values are whole multiples of the least of their row, in most of the first rows that vary."""
    tells = []
    for row in sparse.csr_matrix(table.X[:_LOOKED_AT]):
        several = row.data[row.data > 0] / row.data[row.data > 0].min(initial=np.inf)
        if len(several) and several.max() > SAME:
            tells.append(np.allclose(several, several.round(), rtol=1e-4))
    return bool(tells) and bool(np.mean(tells) > MOSTLY)


def _sizes(
    member: type[AbstractRowsReader],
    rows: Rows,
    finite: np.ndarray,
    options: dict[str, Any],
    said: dict[str, str],
    unclear: list[str],
    name: str,
) -> None:
    """Choose level, unit and diameter where the reader does not know them by itself."""
    open_ = {key for key in ("level", "um_per_unit", "diameter_um") if member.model_fields[key].default is None}
    array = {"array_row", "array_col"} <= set(rows.columns)
    spots, lattice = array or "in_tissue" in rows.columns, _on_lattice(rows.xy[finite, :2])
    spacing = spacing_um(rows.xy[finite, :2])
    if "level" in open_:
        options["level"] = names.PATCH if spots or lattice else names.CELL
        said["level"] = "by `array_row` or `in_tissue`" if spots else "CHECK: `cell`, or `patch` for capture spots"
        if lattice and not spots:
            said["level"] = "CHECK: rows lie on a lattice, as capture spots and bins do"
        elif not spots:
            unclear.append(f"{name}: whether a row is a cell or a capture spot; taken for a cell")
    if "um_per_unit" in open_ and not (array and _knows_array(member)):
        least, most = PLAUSIBLE[str(options.get("level", names.PATCH))]
        for um, unit in UNITS.items():
            if least <= um * spacing <= most:
                options["um_per_unit"] = um
                apart = f"nearest neighbours are {spacing:.3g} units apart"
                said["um_per_unit"] = f"CHECK: {apart}, so positions may be in {unit}"
                break
        unclear.append(f"{name}: microns per unit of the positions (nearest neighbours are {spacing:.3g} units apart)")
    if "diameter_um" in open_:
        step = spacing * float(options.get("um_per_unit", np.nan))
        bins = lattice and abs(step - ARRAY_UM) > 0.05 * ARRAY_UM
        usual = SPOT_UM if spots or lattice else CELL_UM
        options["diameter_um"] = round(float(step), 3) if bins and np.isfinite(step) else usual
        said["diameter_um"] = "Visium's spots" if array else "CHECK: assumed [µm]; or `area:`, the column that has it"


def _on_lattice(xy: np.ndarray) -> bool:
    """Say whether all but a few rows ``(row, 2)`` are as far from the nearest other, as no cells are."""
    if len(xy) < _LOOKED_AT:
        return False
    apart = cKDTree(xy).query(xy, k=2)[0][:, 1]
    low, middle, high = np.quantile(apart, [0.05, 0.5, 0.95])
    return bool(high - low < SAME_STEP * middle)


def _knows_array(member: type[AbstractRowsReader]) -> bool:
    """Say whether a reader takes its unit from the array its spots were printed on."""
    return member.scale is not AbstractRowsReader.scale


def _section_keys(columns: pd.DataFrame) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the keys of a section that the annotation of its rows tells: sections, donor and traits."""
    keys: dict[str, Any] = {}
    donor = next((str(c) for c in columns if DONOR.match(str(c)) and columns[c].notna().all()), None)
    by = _first(columns, SECTION, MOST_SECTIONS)
    if by is None and donor is not None and columns[donor].nunique() > 1:
        by = donor
    if by is not None:
        keys["sections_by"] = by
    section = columns[by].astype(str) if by is not None else pd.Series("", columns.index)

    def constant(column: str) -> bool:
        return bool((columns[column].astype(str).groupby(section.to_numpy()).nunique() == 1).all())

    if donor is not None and constant(donor):
        keys["donor_by"] = donor
    else:
        donor = None
    if by is not None:
        words = columns.select_dtypes(include=["object", "string", "category", "bool"])
        few = [str(c) for c in words if 1 < words[c].nunique() <= MOST_VALUES and c not in (by, donor)]
        traits = [c for c in few if words[c].notna().all() and constant(c)]
        keys |= {"traits_by": traits} if traits else {}
    return keys, tuple(sorted(set(columns[donor].astype(str)))) if donor is not None else ()


def _only_words(columns: pd.DataFrame, given: dict[str, Any]) -> str | None:
    """Return the one column of words of an annotation that lies beside its counts, if it has few enough kinds."""
    if "positions" not in given:
        return None
    words = columns.select_dtypes(include=["object", "string", "category"])
    kinds = [str(c) for c in words if 1 < columns[c].nunique() <= min(MOST_KINDS, len(columns) / 2)]
    return kinds[0] if len(kinds) == 1 else None


def _coarsest(columns: pd.DataFrame, pattern: re.Pattern[str]) -> str | None:
    """Return the column of that name with the fewest values, of those with two or more."""
    number = {str(c): columns[c].nunique() for c in columns if pattern.match(str(c))}
    few = {name: n for name, n in number.items() if 1 < n <= MOST_KINDS}
    return min(few, key=lambda name: few[name]) if few else None


def _first(columns: pd.DataFrame, pattern: re.Pattern[str], most: int) -> str | None:
    """Return the first column of that name which holds several values, no more than `most`, in every row.

    A label, or what was done, may be missing of some.
    """
    may_miss = (LABEL, *DONE)
    found = [c for c in columns if pattern.match(str(c)) and (pattern in may_miss or columns[c].notna().all())]
    return next((str(c) for c in found if 1 < columns[c].nunique() <= most), None)
