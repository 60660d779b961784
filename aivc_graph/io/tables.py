"""Delimited text and Parquet as tables, judged by content: compression, layout, header, second header line."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError, unknown_name
from aivc_graph.io.decode_budget import GZIP_MAGIC, check_unpacked, open_text
from aivc_graph.io.text_layout import UTF8, decimal_of, layout_of
from aivc_graph.tissue.doubt import doubt, tell
from aivc_graph.tissue.naming import names_of

HDF5_MAGIC = b"\x89HDF"
PARQUET_MAGIC = b"PAR1"
# Objects saved by R: XDR and ASCII, one (RDS) or several (RData).
_R_MAGIC = (b"X\n\0\0\0", b"A\n2\n", b"A\n3\n", b"RDX", b"RDA")
PACKED_MAGIC = (b"PK\x03\x04", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")
# Broad's Single Cell Portal puts the kind of each column in a second line that starts so.
SECOND_HEADER = "TYPE"
BARCODE_NAMES = ("barcode", "barcodes", "cell_id", "cell_ID", "CellID", "cell", "NAME", "EntityID", "ObjectNumber")
POSITION_NAMES = (
    ("aligned_x", "aligned_y"),
    ("x_centroid", "y_centroid"),
    ("center_x", "center_y"),
    ("CenterX_global_px", "CenterY_global_px"),
    ("x", "y"),
    ("X", "Y"),
    ("x_um", "y_um"),
    ("xcoord", "ycoord"),
    ("x_coord", "y_coord"),
    ("centroid_x", "centroid_y"),
    ("imagecol", "imagerow"),
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
)
# A column that looks as if it said where something lies, whatever its file calls it.
PLACE = re.compile(r"(?i)(^|[_ ])[xy]([_ ]|$)|(center|centre|centroid|coord\w*|pos(ition)?|pixel)[_ ]?[xy]([_ ]|$)")
MOST_COLUMNS = 200_000
_TABLE = "a CSV, TSV or Parquet"
_DAMAGE = (ValueError, OverflowError, OSError, EOFError, zlib.error)
_BLOCK_VALUES = 2**22
_FORMULA = ("=", "+", "-", "@", "\t", "\n")
_THOUSANDS = re.compile(r"\d{1,3}(?:[,. '\u202f\u00a0]\d{3})+")


def first_lines(path: Path, n: int = 2) -> list[list[str]]:
    """Return the fields of the first `n` lines of a delimited text, gzipped or not; empty if it is no text.

    Comments and blank lines before the header are passed over.

    Examples
    --------
    >>> first_lines(Path("no such file"))
    []
    """
    layout = layout_of(path, n)
    return [] if layout is None else layout.lines


def read_frame(path: Path, *, header: bool | None = True, text: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return a CSV, TSV (each also gzipped) or Parquet file as a table whose columns keep their names, twice or not.

    Parameters
    ----------
    header
        Whether the first line names the columns; without it they are called ``0, 1, …``.
    text
        Columns that hold names and are read as text, so that ``007`` stays so; those of `BARCODE_NAMES` always are.

    Raises
    ------
    ReadError
        No such file, not a table, empty, damaged.
    """
    if not path.is_file():
        raise ReadError(str(path), "no such file", mend="check the path")
    if magic_of(path) == PARQUET_MAGIC:
        return _read_parquet(path)
    columns, options = _how_to_read(path, header, text)
    try:
        with open_text(path) as opened:
            frame = pd.read_csv(opened, **options)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return _with_names(frame, columns, path)


def frame_blocks(path: Path, *, text: tuple[str, ...] = ()) -> Iterator[pd.DataFrame]:
    """Yield the table that `read_frame` returns block by block, so that a wide one never lies in memory whole."""
    if not path.is_file() or magic_of(path) == PARQUET_MAGIC:
        yield read_frame(path, text=text)
        return
    columns, options = _how_to_read(path, True, text)
    rows = max(1, _BLOCK_VALUES // len(columns))
    try:
        with open_text(path) as opened:
            for frame in pd.read_csv(opened, chunksize=rows, **options):
                yield _with_names(frame, columns, path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ReadError:
    if isinstance(error, UnicodeDecodeError):
        return ReadError(str(path), f"letters that are not UTF-8 ({error})", "UTF-8", "write it anew as UTF-8")
    return ReadError(str(path), f"a damaged table ({error})", mend="copy it again from its source")


def _how_to_read(path: Path, header: bool | None, text: tuple[str, ...]) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the columns of a delimited text, and what pandas must be told to read it."""
    if magic_of(path).startswith(PACKED_MAGIC):
        raise ReadError(str(path), "a packed file (zip, bzip2, xz or zstd)", "text, gzipped or not", "unpack it first")
    layout = layout_of(path)
    if layout is None or len(layout.lines) < 1 + bool(header):
        raise ReadError(str(path), "no line of text" if layout is None else "a header without rows", _TABLE)
    first = layout.lines
    columns = [name.strip() for name in first[0]] if header else [str(i) for i in range(len(first[0]))]
    if len(first) > 1 and len(first[1]) == len(columns) + 1:
        # R writes no name above its row names; others end each row with a delimiter.
        columns = [*columns, ""] if not first[1][-1] else ["", *columns]
    names = {*text, *BARCODE_NAMES, ""}
    if len(columns) > MOST_COLUMNS:
        raise ReadError(str(path), f"{len(columns):,} columns", f"at most {MOST_COLUMNS:,}", "is it a table?")
    if layout.encoding != UTF8:
        tell(f"{path}: its letters are read as {layout.encoding}")
    return columns, {
        "sep": layout.delimiter,
        "decimal": decimal_of(path, layout),
        "encoding": layout.encoding,
        "skipinitialspace": True,
        "header": None,
        "skiprows": layout.before + (1 if header else 0) + (len(first) > 1 and first[1][:1] == [SECOND_HEADER]),
        "low_memory": False,
        "dtype": {i: str for i, name in enumerate(columns) if name in names},
    }


def _with_names(frame: pd.DataFrame, columns: list[str], path: Path) -> pd.DataFrame:
    """Return a table under its names, without the empty column and the empty rows that some programs end it with."""
    if frame.shape[1] != len(columns):
        raise ReadError(str(path), f"rows of {frame.shape[1]} fields", f"{len(columns)}, as the first line has")
    frame = frame.set_axis(pd.Index(columns, dtype=object), axis=1)
    if len(columns) > 1 and not columns[-1] and frame.iloc[:, -1].isna().all():
        frame = frame.iloc[:, :-1]
    if len(frame) and frame.iloc[-1].isna().all():
        frame = frame[~frame.isna().all(axis=1)]
    return frame


def magic_of(path: Path) -> bytes:
    """Return the first four bytes of a file, which tell its kind whatever its name."""
    with path.open("rb") as file:
        return file.read(4)


def foreign_kind(path: Path) -> tuple[str, str] | None:
    """Return what a file is that no reader reads as it lies there, and what can be done with it; `None` if unknown."""
    with path.open("rb") as file:
        head = file.read(300)
    name = path.name
    if not head:
        return "an empty file", "copy it again from its source"
    packed = head.startswith(GZIP_MAGIC)
    if packed:
        try:
            with gzip.open(path) as unpacked:
                head = unpacked.read(300)
        except (OSError, EOFError, zlib.error):
            return "a damaged gzip, packed", f"copy {name} again from its source"
    if head.startswith(_R_MAGIC):
        return "an object of R", "write it in R as .h5ad (zellkonverter) or as 10x matrix and table of positions"
    if head.startswith(PACKED_MAGIC[0]) and b"[Content_Types].xml" in head:
        return "a workbook", "save its sheet as CSV"
    archive = head.startswith(PACKED_MAGIC) or head[257:262] == b"ustar"
    if archive or (packed and head.startswith(HDF5_MAGIC)):
        kind = "an archive" if archive else "an HDF5 file"
        return f"{kind}, packed", f"unpack {name}, and name what comes out"
    return None


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a table; empty if the file is none. Reads no more than its head."""
    from pyarrow import ArrowException, parquet

    if magic_of(path) != PARQUET_MAGIC:
        return [name.strip() for name in (first_lines(path, 1) or [[]])[0]]
    try:
        return list(parquet.read_schema(path).names)
    except (ArrowException, OSError):
        return []


def need_columns(frame: pd.DataFrame, wanted: tuple[str, ...], where: str) -> None:
    """Raise a `ReadError` that tells of all of `wanted` that `frame` has twice or not at all, naming the nearest."""
    faults = Faults(ReadError)
    for name in dict.fromkeys(wanted):
        if (frame.columns == name).sum() > 1:
            faults.add(where, f"two columns named {name!r}", "one", "rename one of them in the file")
        elif name not in frame.columns:
            faults.messages.append(str(unknown_name(ReadError, where, "column", name, frame.columns)))
    faults.raise_if_any()


def position_columns(frame: pd.DataFrame, where: str, mend: str = "rename them so") -> tuple[str, str]:
    """Return the columns of x and y by their usual names; raise `ReadError` if there is no such pair."""
    pairs = [(x, y) for x, y in POSITION_NAMES if x in frame.columns and y in frame.columns]
    if pairs:
        need_columns(frame, pairs[0], where)
        if len(pairs) > 1:
            others = "; ".join(", ".join(pair) for pair in pairs[1:])
            doubt(where, f"positions from {', '.join(pairs[0])}, and {others} there as well", "one pair of x and y")
        return pairs[0]
    shown = ", ".join(map(str, frame.columns[:8]))
    raise ReadError(where, f"columns {shown}", "x and y", mend)


def numbers(column: pd.Series, where: str) -> np.ndarray:
    """Return a column as float64; raise `ReadError` naming the first entry that is no number (an empty one is NaN)."""
    found = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = np.isnan(found) & column.notna().to_numpy()
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        value = column.iloc[first]
        again = "the header again: two tables one below the other? delete that line" if value == column.name else ""
        raise ReadError(f"{where} · column {column.name!r}", f"{value!r} in row {first + 1}", "numbers", again)
    return found


def labels_of(column: pd.Series) -> np.ndarray:
    """Return a column of labels as text without blanks around, `None` where there is none: `names.NO_LABEL`."""
    text = pd.Series(names_of(column), dtype=object).str.strip()
    return text.where(~text.isin(names.NO_LABEL), None).to_numpy()


def matrix_of(frame: pd.DataFrame, where: str) -> sparse.csr_matrix:
    """Return a table of counts ``(row, column)`` as CSR float32.

    Raises
    ------
    ReadError
        Columns that are not numeric; names the first ones and tells to list them under ``columns:``.
    """
    numeric = np.array([kind.kind in "biuf" for kind in frame.dtypes])
    if not numeric.all():
        bad = [str(name) for name in frame.columns[~numeric]]
        first = frame.iloc[:, int(np.flatnonzero(~numeric)[0])]
        value = first[pd.to_numeric(first, errors="coerce").isna() & first.notna()]
        if len(value) and value.iloc[0] == first.name:
            numbers(first, where)  # tells of a header in the midst of the rows
        mend = "list annotation under `columns:`, or drop it from the file"
        if len(value) and _THOUSANDS.fullmatch(str(value.iloc[0])):
            mend = f"write numbers without a mark for thousands, as {value.iloc[0]!r} has"
        found = f"{len(bad):,} columns that are not numbers: {', '.join(map(repr, bad[:5]))}"
        raise ReadError(where, found, "counts", mend)
    return sparse.csr_matrix(frame.to_numpy(dtype=np.float32))


def csv_text(table: pd.DataFrame, *, index: bool = True) -> str:
    """Return a table as CSV whose cells no spreadsheet runs: text that begins like a formula gets a quote before it.

    What was changed is told, for a name so written is no longer that of its node.
    """
    changed: list[str] = []

    def harmless(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        # A carriage return is not quoted, so that what follows it would begin a row.
        text = value.replace("\r\n", "\n").replace("\r", "\n")
        safe = f"'{text}" if text.startswith(_FORMULA) and not is_number(text) else text
        if safe != value:
            changed.append(value)
        return safe

    several = index and table.index.nlevels > 1
    safe, index = (table.reset_index(), False) if several else (table.copy(), index)
    for i, kind in enumerate(safe.dtypes):
        if kind.kind == "O" or isinstance(kind, pd.CategoricalDtype):
            safe.isetitem(i, safe.iloc[:, i].astype(object).map(harmless, na_action="ignore").to_numpy())
    safe.columns = safe.columns.map(harmless)
    safe.index = safe.index.map(harmless).rename(harmless(safe.index.name))
    if changed:
        found = f"{len(changed):,} texts that a spreadsheet would run, first {changed[0]!r}"
        mend = "a quote was put before each in the CSV, and line feeds for carriage returns"
        tell(f"{found}: {mend}; Parquet holds them as they are")
    return str(safe.to_csv(index=index))


def is_number(text: str) -> bool:
    """Say whether a text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> pd.DataFrame:
    from pyarrow import ArrowException, parquet

    try:
        facts = parquet.read_metadata(path)
        stated = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
        check_unpacked(path, max(stated, 8 * facts.num_rows * facts.num_columns), path.stat().st_size)
        return parquet.read_table(path).to_pandas(ignore_metadata=True)
    except (ArrowException, OSError) as error:
        raise ReadError(str(path), f"a damaged Parquet file ({error})", mend="copy it again from its source") from error
