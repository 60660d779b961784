"""What was found beside what is true, where the tissue was simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.plot.niche_map import niche_map
from aivc_graph.plot.palette import nth_colour
from aivc_graph.query.places import NICHE
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.colour import ink_on
from aivc_graph.report.niches import niche_picture
from aivc_graph.report.picture import Picture, tissue_drawing

TRUTH = Path("tissue") / "truth"


def recovery_of(tissue: VirtualTissue, run: Path, section: str, inches: tuple[float, float]) -> dict[str, Any] | None:
    """Return how found niches lie to true ones: adjusted Rand index, a table of shares, a map of the truth.

    None where the run folder holds no truth, niches were not found among cells, or one niche is both true and found:
    that they are the same is then said by their number.

    Parameters
    ----------
    section
        The section drawn.
    inches
        Width and height of the map.

    References
    ----------
    Hubert & Arabie 1985, doi:10.1007/BF01908075 (adjusted Rand index).
    """
    from sklearn.metrics import adjusted_rand_score

    obs = tissue.niches().obs
    truth = _truth(run / TRUTH, obs["section"].cat.categories) if tissue.base_level == names.CELL else None
    if truth is None:
        return None
    both = obs.merge(truth, on=["section", "barcode"]).dropna(subset=[NICHE])
    if both.empty or max(both["true"].nunique(), both[NICHE].nunique()) < 2:
        return None
    table = pd.crosstab(both["true"], both[NICHE].astype(str), normalize="index")
    table = table[sorted(map(str, table.columns), key=lambda name: int(str(name)))]
    by_section = {
        str(name): float(adjusted_rand_score(rows["true"], rows[NICHE]))
        for name, rows in both.groupby("section", observed=True)
    }
    order = list(table.index)
    return {
        "agreement": float(adjusted_rand_score(both["true"], both[NICHE])),
        "by_section": by_section,
        "table": table,
        "legend": [(name, nth_colour(i), ink_on(nth_colour(i))) for i, name in enumerate(order)],
        "found": niche_picture(tissue, section, inches),
        "picture": _map(tissue, both, section, order, inches),
    }


def _truth(folder: Path, sections: Any) -> pd.DataFrame | None:
    """Return section, barcode and true niche of every simulated cell."""
    files = {str(name): folder / str(name) / "cells.parquet" for name in sections}
    tables = [
        pd.read_parquet(file, columns=["cell_id", "niche"]).assign(section=name)
        for name, file in files.items()
        if file.exists()
    ]
    if not tables:
        return None
    renamed = {"cell_id": "barcode", "niche": "true"}
    return pd.concat(tables, ignore_index=True).astype(str).rename(columns=renamed)


def _map(
    tissue: VirtualTissue, both: pd.DataFrame, section: str, order: list[str], inches: tuple[float, float]
) -> Picture | None:
    here = both[both["section"].astype(str) == section]
    if here.empty:
        return None
    slide = tissue.slides.get(section)
    origin = slide.origin_um if slide is not None else (0.0, 0.0)
    axes = niche_map(
        here[["x_um", "y_um"]].to_numpy() - origin,
        here["true"],
        slide=slide.image if slide is not None else None,
        mpp=slide.um_per_pixel if slide is not None else None,
        size_um=here["size_um"].to_numpy(),
        order=order,
    )
    axes.get_legend().remove()
    axes.figure.set_size_inches(*inches)
    return tissue_drawing(axes.figure, f"Map of section {section}: every cell in the colour of its true niche")
