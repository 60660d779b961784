"""Tables as programs write them: however they are laid out, they are read as their plain twin."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.io.tables import column_names, first_lines, matrix_of, read_frame
from aivc_graph.io.text_layout import layout_of
from aivc_graph.tissue.doubt import doubts_heard

PLAIN = "barcode,GENE0,GENE1,x\nc0,1,2,0.5\nc1,3,4,1.5\nc2,5,6,2.5\n"
_TABLE = pd.DataFrame({"barcode": ["c0", "c1", "c2"], "GENE0": [1, 3, 5], "GENE1": [2, 4, 6], "x": [0.5, 1.5, 2.5]})


def _lines(change: Callable[[int, str], str]) -> bytes:
    return "\n".join(change(i, line) for i, line in enumerate(PLAIN.splitlines())).encode()


LAYOUTS = {
    "CRLF": PLAIN.replace("\n", "\r\n").encode(),
    "quoted": _TABLE.to_csv(index=False, quoting=csv.QUOTE_ALL).encode(),
    "comments": b"# exported 2024-01-01\n# by a program\n" + PLAIN.encode(),
    "header in a comment": b"#" + PLAIN.encode(),
    "blank line first": b"\n" + PLAIN.encode(),
    "empty rows last": PLAIN.encode() + b"\n,,,\n,,,\n",
    "Excel's word for its sign": b"sep=;\n" + PLAIN.replace(",", ";").encode(),
    "delimiter at the end of rows": _lines(lambda i, line: line + "," * (i > 0)),
    "delimiter at the end of lines": _lines(lambda _, line: line + ","),
    "blank after the sign": PLAIN.replace(",", ", ").encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "blanks": PLAIN.replace(",", " ").encode(),
    "unicode of Excel": PLAIN.replace(",", "\t").encode("utf-16"),
    "decimal comma": PLAIN.replace(",", ";").replace("0.5", "0,5").replace("1.5", "1,5").replace("2.5", "2,5").encode(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_however_it_is_laid_out_it_is_read_as_its_plain_twin(layout: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(LAYOUTS[layout])
    pd.testing.assert_frame_equal(read_frame(tmp_path / "t.csv"), _TABLE, check_column_type=False, check_dtype=False)
    assert [name for name in column_names(tmp_path / "t.csv") if name] == list(_TABLE)


def test_row_names_of_r_are_no_trailing_delimiter(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text('"GENE0" "GENE1"\n"c0" 1 2\n"c1" 3 4\n')
    assert read_frame(tmp_path / "r.txt").to_numpy().tolist() == [["c0", 1, 2], ["c1", 3, 4]]


def test_letters_of_windows_are_read_and_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("barcode,Größe µm²\nc0,3.5\n".encode("cp1252"))
    with doubts_heard() as doubts:
        frame = read_frame(tmp_path / "t.csv")
    assert list(frame.columns) == ["barcode", "Größe µm²"] and "read as cp1252" in doubts[0]


def test_letters_that_change_behind_the_head_are_named(tmp_path: Path) -> None:
    text = "barcode,a\n" + "c0,1\n" * 100
    (tmp_path / "t.csv").write_bytes(text.encode() + "ü,1\n".encode("cp1252"))
    with pytest.raises(ReadError, match=r"expected UTF-8, found letters that are not .*write it anew as UTF-8"):
        read_frame(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (
            ("c1,3,4,1.5", "barcode,GENE0,GENE1,x"),
            r"'GENE0' in row 2; the header again: two tables one below the other",
        ),
        (("c1,3,4,1.5", 'c1,"3,004",4,1.5'), r"write numbers without a mark for thousands, as '3,004' has"),
        (("c1,3,4,1.5", "c1,low,4,1.5"), r"'GENE0'; list annotation under `columns:`"),
    ],
)
def test_what_is_no_number_is_named_with_what_helps(bad: tuple[str, str], told: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(PLAIN.replace(*bad))
    with pytest.raises(ReadError, match=told):
        matrix_of(read_frame(tmp_path / "t.csv").iloc[:, 1:3], "t.csv")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# only\n# comments\n", b"\x00\x01", b"\x89PNG\r\n\x1a\n\0\0"])
def test_what_is_no_table_has_no_layout(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(content)
    assert layout_of(tmp_path / "t") is None and first_lines(tmp_path / "t") == []


def test_a_long_table_is_laid_out_as_its_head(tmp_path: Path) -> None:
    counts = np.arange(6000).reshape(2000, 3)
    text = "\n".join(" ; ".join(map(str, row)) for row in counts)
    (tmp_path / "t.csv").write_text(f"a ; b ; c\n{text}\n")
    assert (read_frame(tmp_path / "t.csv")[["a", "b", "c"]].to_numpy() == counts).all()
