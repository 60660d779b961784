"""How a delimited text is laid out, told by its content: encoding, lines before the header, delimiter, decimal sign."""

from __future__ import annotations

import codecs
import csv
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import MOST_LINE_BYTES, open_text
from aivc_graph.tissue.doubt import tell

UTF8, UTF16, WINDOWS = "utf-8-sig", "utf-16", "cp1252"
_HEAD_BYTES = 2**20
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
# Lines that stand before a table: comments, and Excel's word for its delimiter.
_COMMENT, _EXCEL = re.compile(r"\s*$|#"), re.compile(r'"?sep=(.)"?$', re.IGNORECASE)
_MOST_BEFORE, _LOOKED_AT = 50, 100
_POINT, _COMMA = re.compile(r"-?\d+\.\d+(?:[eE][-+]?\d+)?"), re.compile(r"-?\d+,\d+(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class TextLayout:
    """How a delimited text is laid out.

    Parameters
    ----------
    encoding, delimiter
        As Python names them.
    before
        Lines before the header.
    lines
        The fields of the header and of the lines behind it, as many as were asked for.
    commented
        Whether the header is the last of the comments before it.
    """

    encoding: str
    delimiter: str
    before: int
    lines: list[list[str]]
    commented: bool = False


def layout_of(path: Path, n: int = 2) -> TextLayout | None:
    """Return how a delimited text, gzipped or not, is laid out, with the fields of its first `n` lines.

    `None` if it is no text, or an empty one. A header may stand in the last comment before the table, as in
    ``#barcode,x,y``.
    """
    encoding, lines = text_lines(path, n, before=True)
    before = next((i for i, line in enumerate(lines) if not _stands_before(line)), None)
    if before is None:
        return None
    told = next((found[1] for line in lines[:before] if (found := _EXCEL.match(line))), None)
    delimiter = told or delimiter_of(lines[before])
    last = lines[before - 1].lstrip("# ") if before and lines[before - 1].startswith("#") else ""
    commented = last.count(delimiter) == lines[before].count(delimiter) > 0
    whole = [last, *lines[before:]] if commented else lines[before:]
    try:
        fields = list(csv.reader(whole[:n], delimiter=delimiter, skipinitialspace=True))
    except csv.Error:
        return None
    return TextLayout(encoding, delimiter, before - commented, fields, commented)


def text_lines(path: Path, n: int, *, before: bool = False) -> tuple[str, list[str]]:
    """Return the encoding of a text, gzipped or not, and up to `n` of its first lines; none if it is no text.

    Parameters
    ----------
    before
        Count no lines that may stand before a header, up to 50 of them.
    """
    lines: list[bytes] = []
    wide = False
    try:
        with open_text(path) as opened:
            wide = opened.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            lines = [opened.read(_HEAD_BYTES)] if wide else lines
            wanted = 0 if wide else n
            while len(lines) < wanted and (line := opened.readline(MOST_LINE_BYTES)):
                lines.append(line)
                wanted += before and len(lines) == wanted - n + 1 and wanted < n + _MOST_BEFORE and _stands_before(line)
    except (OSError, EOFError, zlib.error):
        pass  # what stands before the damage of a file that was cut off tells its kind
    if any(len(line) == MOST_LINE_BYTES for line in lines):
        return UTF8, []
    encoding, text = _decoded(b"".join(lines), wide)
    found = text.split("\n")[: n + _MOST_BEFORE * before]
    if found and not found[-1]:
        found.pop()
    return (UTF8, []) if _CONTROL.search(text) else (encoding, [line.rstrip("\r") for line in found])


def _stands_before(line: bytes | str) -> bool:
    text = (line.decode("ascii", "replace") if isinstance(line, bytes) else line).strip().removeprefix("\ufeff")
    return bool(_COMMENT.match(text) or _EXCEL.match(text))


def delimiter_of(line: str) -> str:
    """Return what parts the fields of a line: a comma, tab, semicolon or bar, or where there is none of them a space.

    Examples
    --------
    >>> delimiter_of("a;b"), delimiter_of("a b")
    (';', ' ')
    """
    found = max(",\t;|", key=line.count)
    return found if found in line or " " not in line.strip() else " "


def decimal_of(path: Path, layout: TextLayout) -> str:
    """Return the sign before the decimals of a table parted by semicolons, as most of Europe's are; it is told.

    Raises
    ------
    ReadError
        Both signs.
    """
    if layout.delimiter != ";":
        return "."
    looked = layout_of(path, _LOOKED_AT) or layout
    fields = [field for line in looked.lines[1:] for field in line]
    points, commas = (sum(bool(kind.fullmatch(one)) for one in fields) for kind in (_POINT, _COMMA))
    first = next((one for one in fields if _COMMA.fullmatch(one)), "")
    if commas and points:
        found = f"numbers with a decimal comma beside others with a point (first {first!r})"
        raise ReadError(str(path), found, "one of them", "write the table anew")
    if commas:
        tell(f"{path}: {first!r} and others are read as numbers with a decimal comma")
    return "." if points else ","


def _decoded(data: bytes, wide: bool) -> tuple[str, str]:
    """Return the encoding of a text and the text; nothing of what is none."""
    if wide:
        return (UTF16, data.decode(UTF16, "ignore")) if 3 * data.count(b"\0") > len(data) else (UTF16, "")
    try:
        return UTF8, data.decode(UTF8)
    except UnicodeDecodeError:
        text = data.decode(WINDOWS, "replace")
        return WINDOWS, "" if "\ufffd" in text or (not text.isprintable() and _CONTROL.search(text)) else text
