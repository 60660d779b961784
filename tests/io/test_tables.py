"""Tables judged by content: delimiter, compression, header, names that repeat."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.io.tables import column_names, csv_text, first_lines, labels_of, matrix_of, numbers, read_frame
from aivc_graph.tissue.doubt import doubts_heard


def test_names_repeat_and_barcodes_keep_their_zeros(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("cell,A,A,B\n007,1,2,3\n010,4,5,6\n")
    frame = read_frame(path)
    assert list(frame.columns) == ["cell", "A", "A", "B"] and frame["cell"].tolist() == ["007", "010"]
    assert matrix_of(frame.iloc[:, 1:], "t").toarray().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_row_names_without_a_header_are_seen(tmp_path: Path) -> None:
    (tmp_path / "r.tsv").write_text("A\tB\nrow1\t1\t2\n")
    assert list(read_frame(tmp_path / "r.tsv").columns) == ["", "A", "B"]


def test_a_second_header_line_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "scp.csv").write_text('"NAME","X"\n"TYPE","numeric"\n"c1","2.5"\n')
    assert numbers(read_frame(tmp_path / "scp.csv")["X"], "t").tolist() == [2.5]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfx;y\r\n1;2\r\n")
    assert column_names(tmp_path / "bom.csv") == ["x", "y"]
    assert list(read_frame(tmp_path / "bom.csv").columns) == ["x", "y"]


@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"\x1f\x8bcut", b"\xff\xfe\xfd\n"])
def test_what_is_no_text_has_no_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    assert first_lines(tmp_path / "t") == []
    with pytest.raises(ReadError, match=r"expected a CSV, TSV or Parquet, found no line of text"):
        read_frame(tmp_path / "t")


def test_a_damaged_parquet_is_named(tmp_path: Path) -> None:
    pd.DataFrame({"a": np.arange(1000)}).to_parquet(tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"cut.parquet: a damaged Parquet file"):
        read_frame(tmp_path / "cut.parquet")
    assert column_names(tmp_path / "cut.parquet") == [] and column_names(tmp_path / "t.parquet") == ["a"]


def test_a_cut_gzip_is_named(tmp_path: Path) -> None:
    text = "x,y\n" + "\n".join(f"{i},{i * i}" for i in range(20_000))
    data = gzip.compress(text.encode())
    (tmp_path / "cut.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"cut.csv.gz: a damaged table .*; copy it again"):
        read_frame(tmp_path / "cut.csv.gz")


def test_the_first_entry_that_is_no_number_is_named() -> None:
    assert np.isnan(numbers(pd.Series([1.0, None], name="x"), "t")).tolist() == [False, True]
    with pytest.raises(ReadError, match=r"t · column 'x': expected numbers, found 'b' in row 2"):
        numbers(pd.Series(["1", "b"], name="x"), "t")


def test_no_label_is_none() -> None:
    column = pd.Series(["L1", "NA", None, "", np.nan], dtype="category")
    assert labels_of(column).tolist() == ["L1", None, None, None, None]


def test_no_cell_of_a_csv_is_a_formula() -> None:
    table = pd.DataFrame(
        {"a": ["=HYPERLINK(1)", "-1.5", "plain", None], "=b": [-1.0, 2.0, 3.0, 4.0]}, index=list("@xyz")
    )
    with doubts_heard() as doubts:
        text = csv_text(table)
    assert text.splitlines()[:3] == [",a,'=b", "'@,'=HYPERLINK(1),-1.0", "x,-1.5,2.0"]
    assert len(doubts) == 1 and "3 texts that a spreadsheet would run" in doubts[0]
    assert csv_text(table[["a"]].iloc[2:], index=False) == 'a\nplain\n""\n'


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|'/C calc'!A0", "-2+3", "\t=1", "\r=1", "\n=1", "a\r=1"])
def test_no_name_anywhere_in_a_csv_is_a_formula(text: str) -> None:
    """Whatever holds it: text, a category, the index or one of several, the names of columns and of the index."""
    frame = pd.DataFrame({"a": [text], "b": pd.Categorical([text]), text: [1]}, index=pd.Index([text], name=text))
    frame["c"] = pd.array([text], dtype="string")
    for table, times in ((frame, 6), (frame.drop(columns=text).set_index("a", append=True), 5)):
        fields = [field for row in csv.reader(io.StringIO(csv_text(table), newline="")) for field in row]
        safe = ("" if text[0] == "a" else "'") + text.replace("\r", "\n")
        assert not any(field.startswith(("=", "+", "@", "-", "\t", "\n")) for field in fields)
        assert sum(field == safe for field in fields) == times


@pytest.mark.parametrize("zero", ["0,0", "0"])
def test_a_table_with_decimal_commas_is_read_and_told(tmp_path: Path, zero: str) -> None:
    rows = [f"c{i};{i};{i},5;{zero}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["barcode;G1;area;x", *rows]))
    with doubts_heard() as doubts:
        frame = read_frame(tmp_path / "t.csv")
    assert frame["area"].tolist() == [i + 0.5 for i in range(60)] and frame["G1"].dtype.kind == "i"
    assert any("with a decimal comma" in one for one in doubts)


def test_semicolons_with_points_stay_and_both_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("barcode;area\na;1.5\nb;2.25\n")
    assert read_frame(tmp_path / "t.csv")["area"].tolist() == [1.5, 2.25]
    (tmp_path / "t.csv").write_text("barcode;area\na;1.5\nb;2,25\n")
    with pytest.raises(ReadError, match=r"t\.csv: expected one of them, found numbers with a decimal comma beside"):
        read_frame(tmp_path / "t.csv")
