"""Small deliveries in the layouts of vendors: the same cells, written as each of them writes them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

GENES = tuple(f"G{i:02d}" for i in range(12))
UM_PER_PX = 0.12028


@dataclass(frozen=True)
class Cells:
    """Cells on two fields of view side by side.

    Parameters
    ----------
    xy_um, area_um2, field_number
        Centre ``(cell, 2)``, area and field of each cell.
    counts
        ``(cell, gene)``.
    """

    xy_um: NDArray[np.float64]
    area_um2: NDArray[np.float64]
    field_number: NDArray[np.int64]
    counts: NDArray[np.int64]
    genes: tuple[str, ...] = field(default=GENES)

    def __len__(self) -> int:
        return len(self.xy_um)


def some_cells(n: int = 80, seed: int = 0) -> Cells:
    """Return cells 12 µm apart on a jittered lattice: left half in field 1, right half, of other genes, in 2."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    lattice = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)[:n]
    xy = 1000 + 12.0 * lattice + rng.uniform(-2, 2, (n, 2))
    left = lattice[:, 0] < side / 2
    rate = np.where((np.arange(len(GENES)) < 6)[None] == left[:, None], 6.0, 1.5)
    return Cells(xy, rng.uniform(40, 90, n), np.where(left, 1, 2), rng.poisson(rate * rng.gamma(4, 0.25, (n, 1))))


def numbers_in_fields(cells: Cells) -> NDArray[np.int64]:
    """Return the number of each cell in its field, from 1."""
    return pd.Series(cells.field_number).groupby(cells.field_number).cumcount().to_numpy() + 1


def octagons(cells: Cells) -> NDArray[np.float64]:
    """Return the corners ``(cell, 8, 2)`` of the regular octagon of each cell's area [µm]."""
    turn = np.arange(8) * np.pi / 4
    reach = np.sqrt(cells.area_um2 / (2 * np.sqrt(2)))
    return cells.xy_um[:, None] + reach[:, None, None] * np.stack([np.cos(turn), np.sin(turn)], -1)


def write_cosmx(cells: Cells, folder: Path, slide: str = "S1", *, packed: bool = False, mm: bool = True) -> Path:
    """Write CosMx flat files; counts hold controls, and what lies in no cell.

    Parameters
    ----------
    packed
        Whether to gzip them.
    mm
        Whether the list of fields gives places in millimetres as well.
    """
    folder.mkdir(exist_ok=True)
    fov, number = cells.field_number, numbers_in_fields(cells)
    px = cells.xy_um / UM_PER_PX
    origin = np.stack([px[fov == k].min(axis=0) - 50 for k in (1, 2)])
    counts = pd.DataFrame(cells.counts, columns=cells.genes)
    counts[["NegPrb1", "SystemControl3"]] = 1
    counts.insert(0, "fov", fov)
    counts.insert(1, "cell_ID", number)
    outside = pd.DataFrame([dict.fromkeys(counts, 5), dict.fromkeys(counts, 7)])
    outside["fov"], outside["cell_ID"] = (1, 2), 0
    metadata = pd.DataFrame({"fov": fov, "cell_ID": number, "Area": cells.area_um2 / UM_PER_PX**2})
    metadata[["CenterX_local_px", "CenterY_local_px"]] = px - origin[fov - 1]
    metadata[["CenterX_global_px", "CenterY_global_px"]] = px
    metadata["nCount_RNA"], metadata["slide_ID"] = cells.counts.sum(axis=1), slide
    metadata["niche"] = np.where(fov == 1, "left", "right")
    fields = pd.DataFrame({"fov": (1, 2), "x_global_px": origin[:, 0], "y_global_px": origin[:, 1]})
    if mm:
        fields[["x_global_mm", "y_global_mm"]] = origin * UM_PER_PX / 1000
    corners = octagons(cells).reshape(-1, 2) / UM_PER_PX
    outlines = pd.DataFrame({"fov": np.repeat(fov, 8), "cellID": np.repeat(number, 8)})
    outlines[["x_local_px", "y_local_px"]] = corners - origin[np.repeat(fov, 8) - 1]
    outlines[["x_global_px", "y_global_px"]] = corners
    molecules = pd.DataFrame({"fov": fov, "cell_ID": number, "target": cells.genes[0], "z": 0, "CellComp": "Nuclear"})
    molecules[["x_global_px", "y_global_px"]] = px
    molecules.loc[[0, 1], ["cell_ID", "CellComp"]] = [0, "None"]
    molecules.loc[2, "target"] = "NegPrb1"
    tables = {
        "exprMat_file": pd.concat([outside, counts]),
        "metadata_file": metadata,
        "fov_positions_file": fields,
        "polygons": outlines,
        "tx_file": molecules,
    }
    for name, table in tables.items():
        text = table.to_csv(index=False)
        path = folder / f"{slide}{'-' if name == 'polygons' else '_'}{name}.csv{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return folder


def write_10x_matrix(
    path: Path, names: list[str], genes: list[str], counts: NDArray[np.int64], kinds: list[str]
) -> None:
    """Write counts ``(cell, gene)`` as a 10x feature matrix."""
    from scipy import sparse

    table = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(table, name)
        group["shape"] = np.array(counts.shape[::-1])
        group["barcodes"] = np.array(names, dtype="S")
        features = group.create_group("features")
        for name, values in (
            ("id", genes),
            ("name", genes),
            ("feature_type", kinds),
            ("genome", ["GRCh38"] * len(genes)),
        ):
            features[name] = np.array(values, dtype="S")


def geojson(corners: NDArray[np.float64], numbers: NDArray[np.int64]) -> str:
    """Return polygons ``(cell, corner, 2)`` as Space Ranger writes segmented cells."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]},
            "properties": {"cell_id": int(number)},
        }
        for ring, number in zip(corners, numbers, strict=True)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def merscope_ids(cells: Cells) -> list[str]:
    """Return names of 19 digits that a float cannot tell apart."""
    return [str(2_667_026_000_043_404_800 + i) for i in range(len(cells))]


def write_merscope(cells: Cells, folder: Path, *, outlines: str = "parquet", planes: int = 7) -> Path:
    """Write a region of a MERSCOPE run: counts with blanks, cells, transcripts, a mosaic and its transform.

    Parameters
    ----------
    outlines
        ``parquet``, ``hdf5`` or ``none``.
    planes
        Planes of focus; an outline shrinks from the middle one to others; every ninth cell is in the first alone.
    """
    import shapely
    import tifffile

    (folder / "images").mkdir(parents=True)
    ids = merscope_ids(cells)
    counts = pd.DataFrame(cells.counts, columns=cells.genes, index=pd.Index(ids, name="cell"))
    counts[["Blank-1", "Blank-42"]] = 1
    counts.to_csv(folder / "cell_by_gene.csv")
    metadata = pd.DataFrame({"fov": np.nan, "volume": cells.area_um2 * 8.0}, index=pd.Index(ids, name="EntityID"))
    metadata[["center_x", "center_y"]] = cells.xy_um
    metadata["transcript_count"] = cells.counts.sum(axis=1)
    metadata["region"] = np.where(cells.field_number == 1, "left", "right")
    metadata.iloc[::-1].to_csv(folder / "cell_metadata.csv")
    molecules = pd.DataFrame({"cell_id": ids, "gene": cells.genes[0], "fov": 0, "global_z": 3.0})
    molecules[["global_x", "global_y"]] = cells.xy_um
    molecules.loc[0, "cell_id"] = "-1"
    molecules.loc[1, "gene"] = "Blank-1"
    molecules.to_csv(folder / "detected_transcripts.csv")
    np.savetxt(
        folder / "images" / "micron_to_mosaic_pixel_transform.csv", [[9.25, 0, -4000], [0, 9.25, -3000], [0, 0, 1]]
    )
    tifffile.imwrite(folder / "images" / "mosaic_DAPI_z3.tif", np.zeros((64, 64), np.uint16))
    rings = [
        (ids[i], z, cells.xy_um[i] + (corners - cells.xy_um[i]) * (1 - 0.1 * abs(z - planes // 2)))
        for i, corners in enumerate(octagons(cells))
        for z in range(planes)
        if i % 9 or z == 0
    ]
    if outlines == "parquet":
        table = pd.DataFrame({"EntityID": [int(i) for i, _, _ in rings], "ZIndex": [z for _, z, _ in rings]})
        table["Geometry"] = shapely.to_wkb([shapely.MultiPolygon([shapely.Polygon(ring)]) for _, _, ring in rings])
        table.to_parquet(folder / "cell_boundaries.parquet")
    elif outlines == "hdf5":
        (folder / "cell_boundaries").mkdir()
        with h5py.File(folder / "cell_boundaries" / "feature_data_0.hdf5", "w") as file:
            for name, z, ring in rings:
                file[f"featuredata/{name}/zIndex_{z}/p_0/coordinates"] = ring[None]
    return folder


def write_segmented(cells: Cells, folder: Path, um_per_pixel: float = 0.25) -> Path:
    """Write segmented cells of Visium HD; three more outlines than cells with counts, lying apart."""
    from imagecodecs import png_encode

    (folder / "spatial").mkdir(parents=True)
    corners = octagons(cells) / um_per_pixel
    numbers = np.arange(len(cells)) + 1
    away = corners[:3] + 8000
    text = geojson(np.concatenate([corners, away]), np.concatenate([numbers, 900 + numbers[:3]]))
    (folder / "cell_segmentations.geojson").write_text(text)
    names = [f"cellid_{number:09d}-1" for number in numbers]
    kinds = ["Gene Expression"] * len(cells.genes)
    write_10x_matrix(folder / "filtered_feature_cell_matrix.h5", names, list(cells.genes), cells.counts, kinds)
    factors = {"microns_per_pixel": um_per_pixel, "tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.03}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    side = int(corners.max() * 0.1) + 10
    (folder / "spatial" / "tissue_hires_image.png").write_bytes(png_encode(np.full((side, side, 3), 200, np.uint8)))
    groups = pd.DataFrame({"Barcode": names, "Cluster": np.where(cells.field_number == 1, "left", "right")})
    groups.to_csv(folder / "clusters.csv", index=False)
    return folder


MARKERS = ("DNA1", "CD3", "CD8", "PanCK", "Ki67", "SMA")


def intensities(cells: Cells) -> pd.DataFrame:
    """Return mean intensities of `MARKERS`, which are no whole numbers."""
    return pd.DataFrame(cells.counts[:, : len(MARKERS)] * 3.25 + 0.5, columns=MARKERS)


def quantification(cells: Cells, um_per_px: float = 0.65) -> pd.DataFrame:
    """Return a table of cells as MCMICRO quantifies them, places and areas in pixels, with a blank channel."""
    table = intensities(cells).assign(Blank1=0.25)
    table.insert(0, "CellID", np.arange(len(cells)) + 1)
    table[["X_centroid", "Y_centroid"]] = cells.xy_um / um_per_px
    table["Area"] = cells.area_um2 / um_per_px**2
    for name in ("MajorAxisLength", "MinorAxisLength", "Eccentricity", "Solidity", "Extent", "Orientation"):
        table[name] = 0.5
    return table


def write_mcmicro(cells: Cells, folder: Path, samples: tuple[str, ...] = ("exemplar-001",), mpp: float = 0.65) -> Path:
    """Write an MCMICRO folder: quantification, list of markers, and the registered picture with its pixel size."""
    import tifffile

    for name in ("quantification", "registration"):
        (folder / name).mkdir(parents=True)
    for sample in samples:
        quantification(cells, mpp).to_csv(folder / "quantification" / f"{sample}--unmicst_cell.csv", index=False)
    pd.DataFrame({"cycle": 1, "marker_name": [*MARKERS, "Blank1"]}).to_csv(folder / "markers.csv", index=False)
    size = {"axes": "YX", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
    path = folder / "registration" / f"{samples[0]}.ome.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16), metadata=size, ome=True)
    return folder


def write_steinbock(cells: Cells, folder: Path, images: tuple[str, ...] = ("A_001", "A_002")) -> Path:
    """Write a steinbock folder: intensities and shapes of the objects of each image, all in the same frame."""
    for name in ("intensities", "regionprops"):
        (folder / name).mkdir(parents=True)
    objects = np.arange(len(cells)) + 1
    for image in images:
        table = intensities(cells)
        table.insert(0, "Object", objects)
        table.to_csv(folder / "intensities" / f"{image}.csv", index=False)
        shapes = pd.DataFrame({"Object": objects, "area": cells.area_um2, "eccentricity": 0.1})
        shapes[["centroid-0", "centroid-1"]] = cells.xy_um[:, ::-1]
        shapes.iloc[::-1].to_csv(folder / "regionprops" / f"{image}.csv", index=False)
    return folder
