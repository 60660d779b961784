"""Sound examples of every kind of file that is read, small, for `hostile.py` to damage."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Kind:
    """One kind of file: where its sound example lies, which of its files are changed, and how it is read."""

    name: str
    place: Path
    read: Callable[[Path], Any]
    share: float = 1.0


def kinds(work: Path) -> list[Kind]:
    """Write a sound example of every kind that is read; return them."""
    import anndata as ad
    import dask
    import h5py
    import numpy as np
    import pandas as pd
    from scipy import io, sparse

    from aivc_graph.config import load_config
    from aivc_graph.io.footprints import read_footprints
    from aivc_graph.io.h5ad_file import read_anndata
    from aivc_graph.io.reading import read
    from aivc_graph.simulate.presets import UNTREATED, DonorPlan, Preset
    from aivc_graph.simulate.simulate import simulate
    from aivc_graph.tissue.registration.affine_file import AffineFileRegistration
    from aivc_graph.tissue.thumbnail import thumbnail

    dask.config.set(scheduler="synchronous")  # threads of a parent do not live on in its children
    study = simulate(Preset(220.0, (DonorPlan("D1", "site", (UNTREATED,)),), mpp=4.0), work / "study")
    home = next(study.glob("D1*"))
    rng = np.random.default_rng(0)
    n, genes = 48, [f"G{i}" for i in range(40)]
    counts = rng.poisson(2.0, (n, len(genes)))
    xy = np.column_stack([np.arange(n) % 8, np.arange(n) // 8]) * 20.0
    cells = [f"cell{i}" for i in range(n)]
    frame = pd.DataFrame(counts, columns=genes).assign(barcode=cells, x=xy[:, 0], y=xy[:, 1], area=80.0)
    rows = {"level": "cell", "um_per_unit": 1.0, "diameter_um": 10.0}
    made: list[Kind] = []

    def add(name: str, path: Path, share: float = 1.0, slide: bool = False, **options: Any) -> None:
        def asked(place: Path) -> Any:
            section = read(place, **options)
            return thumbnail(section) if slide else section

        made.append(Kind(name, path, asked, share))

    frame.to_csv(work / "cells.csv", index=False)
    frame.to_csv(work / "cells.csv.gz", index=False)
    frame.to_parquet(work / "cells.parquet")
    for ending in ("csv", "csv.gz", "parquet"):
        add(ending, work / f"cells.{ending}", reader="plain_table", **rows)
    table = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs=pd.DataFrame(index=cells),
                       var=pd.DataFrame(index=genes), obsm={"spatial": xy})  # fmt: skip
    table.write_h5ad(work / "sparse.h5ad")
    ad.AnnData(table.X.toarray(), obs=table.obs, var=table.var, obsm={"spatial": xy}).write_h5ad(
        work / "dense.h5ad", compression="gzip"
    )
    for name in ("sparse", "dense"):
        add(f"h5ad {name}", work / f"{name}.h5ad", reader="h5ad", **rows)
    with h5py.File(work / "cells.loom", "w") as loom:
        loom.create_dataset("matrix", data=counts.T, chunks=(8, 8), compression="gzip")
        loom["row_attrs/Gene"] = np.array(genes, dtype=object)
        for key, value in {"CellID": np.array(cells, dtype=object), "X": xy[:, 0], "Y": xy[:, 1]}.items():
            loom[f"col_attrs/{key}"] = value
        for group in ("layers", "row_graphs", "col_graphs"):
            loom.create_group(group)
    add("loom", work / "cells.loom", reader="loom", um_per_unit=1.0, diameter_um=10.0)
    named = pd.DataFrame(counts, columns=genes, index=[f"{x:.0f}x{y:.0f}" for x, y in xy / 20 + 1])
    named.to_csv(work / "array.tsv", sep="\t")
    add("legacy ST", work / "array.tsv", reader="legacy_st")
    add("spaceranger", home / "spaceranger", reader="spaceranger", share=0.8)
    add("xenium", home / "xenium", reader="xenium", share=0.8)
    mtx = work / "mtx"
    shutil.copytree(home / "xenium", mtx)
    (mtx / "cell_feature_matrix.h5").unlink()
    folder = mtx / "cell_feature_matrix"
    folder.mkdir()
    ids = pd.read_parquet(mtx / "cells.parquet")["cell_id"].astype(str)
    some = sparse.random(len(genes), len(ids), 0.2, random_state=0, data_rvs=lambda k: np.ones(k)).astype(int)
    io.mmwrite(folder / "matrix.mtx", some)
    pd.DataFrame({"id": genes, "name": genes, "kind": "Gene Expression"}).to_csv(
        folder / "features.tsv", sep="\t", header=False, index=False
    )
    ids.to_csv(folder / "barcodes.tsv", header=False, index=False)
    made.append(Kind("MTX", mtx, lambda place: read(place, reader="xenium", transcripts=False)))
    store = work / "own.zarr"
    read(work / "sparse.h5ad", reader="h5ad", **rows).write(store)
    add("Zarr", store, reader="spatialdata", share=0.5)
    add("TIFF", home / "slide.ome.tif", reader="slide", slide=True, share=0.8)
    picture = next((home / "spaceranger").rglob("*.png"))
    add("PNG", picture, reader="slide", mpp=4.0, slide=True, share=0.5)
    np.savetxt(work / "affine.csv", np.diag([2.0, 2.0, 1.0]), delimiter=",")
    (work / "affine.json").write_text(json.dumps([[2.0, 0, 5], [0, 2.0, 5], [0, 0, 1.0]]))
    for ending in ("csv", "json"):
        ask = lambda place: AffineFileRegistration(path=place)(None, "a", "b")  # noqa: E731
        made.append(Kind(f"affine {ending}", work / f"affine.{ending}", ask, 0.3))
    made.append(Kind("AnnData of scores", work / "sparse.h5ad", read_anndata, 0.5))
    weights = pd.DataFrame({"source": "P", "target": genes[:9], "weight": 1.0})
    weights.to_csv(work / "weights.csv", index=False)
    made.append(Kind("weights", work / "weights.csv", read_footprints, 0.3))
    (work / "config.yaml").write_text((study / "config.yaml").read_text())
    made.append(Kind("YAML", work / "config.yaml", load_config, 0.3))
    return [*made, *deliveries(work)]


def deliveries(work: Path) -> list[Kind]:
    """Write what vendors of whole sections deliver, and tables of other fields; return the kinds."""
    sys.path.append(str(ROOT))
    import numpy as np

    from aivc_graph.io.reading import read
    from aivc_graph.tissue.registration.method import registration_method
    from tests import vendor_folders as vendor

    cells = vendor.some_cells()
    made = {
        "GeoJSON": (vendor.write_segmented(cells, work / "segmented_outputs"), "spaceranger_cells"),
        "CosMx": (vendor.write_cosmx(cells, work / "cosmx", packed=True), "cosmx"),
        "MERSCOPE": (vendor.write_merscope(cells, work / "merscope"), "merscope"),
        "MERSCOPE in HDF5": (vendor.write_merscope(cells, work / "merscope5", outlines="hdf5"), "merscope"),
        "MCMICRO": (vendor.write_mcmicro(cells, work / "mcmicro"), "intensity_table"),
        **_stereo_seq(work),
        **_profiles(work),
    }
    found = [
        Kind(name, path, lambda place, reader=reader: read(place, reader=reader), 0.25)
        for name, (path, reader) in made.items()
    ]
    multi, matrix = _dissociated(work)
    found.append(Kind("h5mu", multi, lambda place: read(place, reader="h5mu", dissociated=True), 0.25))
    found.append(Kind("Cell Ranger", matrix, lambda place: read(place, reader="cellranger"), 0.25))
    np.savetxt(work / "points.csv", np.random.default_rng(0).uniform(0, 900, (6, 4)), delimiter=",", comments="",
               header="moving_x,moving_y,fixed_x,fixed_y")  # fmt: skip
    place = lambda path: registration_method("landmarks", path=path, allow_mirror=True)(None, "a", "b")  # noqa: E731
    return [*found, Kind("landmarks", work / "points.csv", place, 0.3)]


def _stereo_seq(work: Path) -> dict[str, tuple[Path, str]]:
    import h5py
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"geneID": rng.choice(["A", "B", "C"], 900), "x": rng.integers(0, 200, 900)})
    table["y"], table["MIDCount"] = rng.integers(0, 150, 900), rng.integers(1, 4, 900)
    table = table.sort_values(["geneID", "x", "y"], ignore_index=True)
    (work / "a.gem").write_text("#FileFormat=GEMv0.1\n#BinSize=1\n" + table.to_csv(sep="\t", index=False))
    with h5py.File(work / "a.gef", "w") as file:
        entries = np.zeros(len(table), [("x", "u4"), ("y", "u4"), ("count", "u2")])
        entries["x"], entries["y"], entries["count"] = table["x"], table["y"], table["MIDCount"]
        length = table.groupby("geneID").size()
        genes = np.zeros(len(length), [("gene", "S64"), ("offset", "u4"), ("count", "u4")])
        genes["gene"], genes["count"] = length.index.to_numpy().astype("S"), length.to_numpy()
        genes["offset"] = np.cumsum(length) - length
        file["geneExp/bin1/expression"], file["geneExp/bin1/gene"] = entries, genes
        file["geneExp/bin1/expression"].attrs["resolution"] = np.uint32(500)
    return {"GEM": (work / "a.gem", "stereo_seq"), "GEF": (work / "a.gef", "stereo_seq")}


def _profiles(work: Path) -> dict[str, tuple[Path, str]]:
    import h5py
    import numpy as np

    values = np.random.default_rng(0).normal(size=(12, 9))
    head = ["#1.2", "12\t9", "\t".join(["NAME", "Description", *(f"p{i}" for i in range(9))])]
    rows = ["\t".join([f"{i}_at", f"G{i}", *(f"{v:.4f}" for v in row)]) for i, row in enumerate(values)]
    (work / "a.gct").write_text("\n".join([*head, *rows]))
    with h5py.File(work / "a.gctx", "w") as file:
        file["0/DATA/0/matrix"] = values.T.astype(np.float32)
        file["0/META/ROW/id"], file["0/META/COL/id"] = (
            np.array([f"{kind}{i}" for i in range(n)], "S") for kind, n in (("g", 12), ("p", 9))
        )
    return {"GCT": (work / "a.gct", "gct"), "GCTX": (work / "a.gctx", "gct")}


def _dissociated(work: Path) -> tuple[Path, Path]:
    import anndata as ad
    import h5py
    import numpy as np
    import pandas as pd
    from anndata.io import write_elem

    from tests.vendor_folders import write_10x_matrix

    rng, cells, genes = np.random.default_rng(0), [f"c{i}" for i in range(40)], [f"G{i}" for i in range(12)]
    counts = rng.poisson(2.0, (40, 12))
    with h5py.File(work / "a.h5mu", "w") as file:
        file.attrs["encoding-type"] = "MuData"
        write_elem(file, "obs", pd.DataFrame({"donor": "d1"}, index=cells))
        write_elem(file, "obsm", {})
        for name, columns in {"rna": slice(0, 8), "prot": slice(8, 12)}.items():
            var, obs = pd.DataFrame(index=genes[columns]), pd.DataFrame(index=cells)
            write_elem(file, f"mod/{name}", ad.AnnData(counts[:, columns].astype(np.float32), obs=obs, var=var))
    write_10x_matrix(work / "matrix.h5", cells, genes, counts, ["Gene Expression"] * len(genes))
    return work / "a.h5mu", work / "matrix.h5"
