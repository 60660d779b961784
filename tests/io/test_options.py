"""Options that readers share, and advice that names no option a reader lacks."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.config import RegistrationConfig, SectionConfig, SourceConfig, TaskConfig, load_config
from aivc_graph.errors import AivcError, ConfigError, ReadError
from aivc_graph.io.options import CountOptions, LayerOptions, NodeOptions, PositionOptions, SymbolOptions
from aivc_graph.io.reading import READERS, read, reader_for

N = 40
KINDS = (NodeOptions, CountOptions, LayerOptions, PositionOptions, SymbolOptions)
SHARED = {name for kind in KINDS for name in kind.model_fields}
LENGTHS = [
    (reader, option)
    for reader in sorted(READERS)
    for option in READERS[reader].model_fields
    if option in ("um_per_unit", "diameter_um", "mpp", "pitch_um", "thickness_um", "slide_scale")
]
# What a configuration takes beside the options of a reader.
AROUND = {
    "reader",
    *(name for kind in (SectionConfig, SourceConfig, TaskConfig, RegistrationConfig) for name in kind.model_fields),
}
# Shared names that mean something of their own: columns of a list of spots; statistics of each marker; own defaults.
OWN = {"loom": {"x", "y"}, "spaceranger": {"keep"}, "legacy_st": {"keep"}, "intensity_table": {"layer"}}
_OPTION = re.compile(r"`([a-z_]+):")


@pytest.mark.parametrize("name", sorted(READERS))
def test_shared_options_are_inherited_not_repeated(name: str) -> None:
    assert set(READERS[name].__annotations__) & SHARED <= OWN.get(name, set())


@pytest.mark.parametrize("name", sorted(READERS))
def test_advice_in_a_reader_names_options_it_has(name: str) -> None:
    tree = ast.parse(Path(inspect.getfile(READERS[name])).read_text())
    text = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    named = {option for one in text for option in _OPTION.findall(one)}
    assert named <= set(READERS[name].model_fields) | AROUND, named


@pytest.mark.parametrize(("reader", "option"), LENGTHS)
@pytest.mark.parametrize("value", ["-1", "0", ".inf", ".nan"])
def test_a_length_that_is_none_is_told_with_the_configuration(
    reader: str, option: str, value: str, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    source = f"{{path: not_there, reader: {reader},\n {option}: {value}}}"
    config.write_text(f"task:\n sections:\n  - {{name: A, sources: [{source}]}}\n")
    with pytest.raises(ConfigError, match=rf"c\.yaml:4: task\.sections\[0\]\.sources\[0\]\.{option}: expected "):
        load_config(config)


def test_one_axis_without_the_other_is_told_with_the_configuration() -> None:
    for reader in ("plain_table", "intensity_table"):
        with pytest.raises(ConfigError, match="`x:` alone; name both columns, x and y, or neither"):
            reader_for(Path(__file__), reader, x="east")


def test_all_columns_that_are_not_there_are_told_at_once(tmp_path: Path) -> None:
    path, place = _h5ad(_table(), tmp_path), {"level": "cell", "um_per_unit": 1.0}
    with pytest.raises(ReadError) as caught:
        read(path, **place, area="size", label="lines", keep={"wel": 1.0}, columns=["line", "batch"])
    said = str(caught.value).splitlines()
    assert [line.split("named ")[1].split()[0].strip("';") for line in said] == ["wel", "batch", "lines", "size"]
    assert "did you mean 'well'?" in said[0] and "did you mean 'line'?" in said[2]
    frame = pd.DataFrame(_table().to_df()).assign(east=_table().obsm["spatial"][:, 0], north=1.0).rename_axis("cell")
    frame.to_csv(tmp_path / "t.csv")
    with pytest.raises(ReadError) as caught:
        read(tmp_path / "t.csv", reader="plain_table", **place, x="eats", y="north", label="kind", diameter_um=8)
    assert [line.split("named ")[1].split("'")[1] for line in str(caught.value).splitlines()] == ["eats", "kind"]
    with pytest.raises(ReadError, match=r"(?s)no column named 'lien'.*no column named 'tissue'"):
        reader_for(path, **place, label="tissue", diameter_um=8).read_by(path, ("lien",))


def _table() -> Any:
    counts = np.random.default_rng(0).poisson(3.0, (N, 6)).astype(np.float32)
    obs = pd.DataFrame({"line": np.array(["A", "B"])[np.arange(N) % 2], "well": np.arange(N) % 3 + 0.0})
    obs.index = [f"c{i}x" for i in range(N)]
    table = anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(6)]))
    table.obsm["spatial"] = np.column_stack([10.0 * (np.arange(N) % 8), 10.0 * (np.arange(N) // 8)])
    return table


def _h5ad(table: Any, folder: Path) -> Path:
    table.write_h5ad(folder / "t.h5ad")
    return folder / "t.h5ad"


def _csv(table: Any, folder: Path) -> Path:
    whole = pd.concat([table.to_df(), table.obs], axis=1)
    whole[["x", "y"]] = table.obsm["spatial"]
    whole.to_csv(folder / "t.csv", index_label="barcode")
    return folder / "t.csv"


def _loom(table: Any, folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "t.loom", "w") as file:
        file["matrix"] = table.to_df().to_numpy().T
        file["row_attrs/Gene"] = table.var_names.to_numpy().astype("S")
        columns = {"CellID": table.obs_names, "X": table.obsm["spatial"][:, 0], "Y": table.obsm["spatial"][:, 1]}
        for name, values in {**columns, **table.obs}.items():
            found = np.asarray(values)
            file[f"col_attrs/{name}"] = found if found.dtype.kind == "f" else found.astype(str).astype("S")
    return folder / "t.loom"


WRITERS = pytest.mark.parametrize("write", [_h5ad, _csv, _loom])


def _options(path: Path, **options: Any) -> dict[str, Any]:
    named = {"reader": "plain_table", "columns": ["line", "well"]} if path.suffix == ".csv" else {}
    return {**named, **options}


@WRITERS
def test_any_file_of_rows_is_a_dissociated_sample_if_told(write: Any, tmp_path: Path) -> None:
    table = _table()
    path = write(table, tmp_path)
    section = read(path, **_options(path, dissociated=True, label="line", keep={"well": [0, 1]}))
    kept = table[table.obs["well"] < 2]
    assert (
        section.attrs["aivc"]["dissociated"] and section.shapes["cell"]["label"].tolist() == kept.obs["line"].tolist()
    )
    np.testing.assert_array_equal(section.tables["cell_rna"].X.toarray(), kept.X.toarray())
    with pytest.raises(ConfigError, match=r"a dissociated sample has no `diameter_um:`; leave it out"):
        read(path, **_options(path, dissociated=True, diameter_um=8))


@WRITERS
def test_any_file_of_rows_holds_logarithms_and_effects_if_told(write: Any, tmp_path: Path) -> None:
    table = _table()
    for values, change in (("log", np.log1p), ("effect", lambda x: x - 3.5)):
        other = table.copy()
        other.X = change(table.X.toarray())
        path = write(other, tmp_path)
        found = read(path, **_options(path, dissociated=True, values=values))
        np.testing.assert_allclose(next(iter(found.tables.values())).X, other.X, rtol=1e-5)
        with pytest.raises(AivcError, match=r"values that are not whole"):
            read(path, **_options(path, dissociated=True))
        with pytest.raises(ConfigError, match=rf"`values: {values}` have no `organism:`; leave it out"):
            read(path, **_options(path, dissociated=True, values=values, organism="human"))


@WRITERS
def test_any_file_of_rows_is_parted_into_sections(write: Any, tmp_path: Path) -> None:
    table = _table()
    path = write(table, tmp_path)
    given = _options(path, dissociated=True, keep={"well": [0, 1]})
    reader = reader_for(path, given.pop("reader", None), **given)
    found = reader.read_by(path, ("line", "well"))
    assert sorted(found) == ["A-0", "A-1", "B-0", "B-1"]
    own = table[(table.obs["line"] == "B") & (table.obs["well"] == 1)]
    np.testing.assert_array_equal(found["B-1"].tables["cell_rna"].X.toarray(), own.X.toarray())


def test_names_that_two_sections_share_are_told_apart_by_section(tmp_path: Path) -> None:
    table = _table()
    table.obs_names = [f"c{i // 2}" for i in range(N)]
    path = _h5ad(table, tmp_path)
    found = reader_for(path, dissociated=True).read_by(path, ("line",))
    np.testing.assert_array_equal(found["B"].tables["cell_rna"].X.toarray(), table[1::2].X.toarray())
    kept = read(path, dissociated=True, keep={"line": "A"})
    np.testing.assert_array_equal(kept.tables["cell_rna"].X.toarray(), table[::2].X.toarray())


def test_other_modalities_are_parted_with_their_rows(tmp_path: Path) -> None:
    table = _table()
    proteins = anndata.AnnData(table.X[:, :2].copy(), obs=pd.DataFrame(index=table.obs_names))
    proteins.var_names = ["CD3", "CD4"]
    proteins.write_h5ad(tmp_path / "p.h5ad")
    path = _h5ad(table, tmp_path)
    found = reader_for(path, dissociated=True, beside={"protein": "p.h5ad"}).read_by(path, ("line",))
    np.testing.assert_array_equal(found["A"].tables["cell_protein"].X.toarray(), table[::2, :2].X.toarray())


@WRITERS
def test_advice_of_the_shared_intake_names_options_the_reader_has(write: Any, tmp_path: Path) -> None:
    """Every fault that these files can have in common: what is said can be followed."""
    placed = {"level": "cell", "um_per_unit": 1.0, "diameter_um": 8.0}
    logs, nan, doubled = _table(), _table(), _table()
    logs.X = logs.X.log1p()
    nan.obsm["spatial"][3] = np.nan
    doubled.obs_names = ["c0x", "c0x", *doubled.obs_names[2:]]
    mixed = _table()
    mixed.var_names = [f"{'GRCh38' if i % 2 else 'mm10'}_G{i}" for i in range(6)]
    nowhere = _table()
    nowhere.obsm["spatial"][:] = np.nan
    for table, options in (
        (logs, placed),
        (nan, placed),
        (mixed, placed),
        (nowhere, placed),
        (_table(), {}),
        (_table(), {**placed, "keep": {"line": "C"}}),
        (_table(), {**placed, "label": "lines"}),
    ):
        path = write(table, tmp_path)
        with pytest.raises(AivcError) as error:
            read(path, **_options(path, **options))
        named = set(_OPTION.findall(str(error.value)))
        assert named <= set(type(reader_for(path, _options(path).get("reader"))).model_fields) | AROUND, error.value
