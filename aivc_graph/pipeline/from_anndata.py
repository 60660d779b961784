"""An AnnData in memory → sections, as its file would be read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd

from aivc_graph.config import SectionConfig
from aivc_graph.errors import AivcError
from aivc_graph.io.h5ad_file import write_anndata
from aivc_graph.pipeline.build import read_sections

READER = "h5ad"


def from_anndata(
    adata: ad.AnnData,
    *,
    section_key: str | None = None,
    spatial_key: str | None = "spatial",
    label_key: str | None = None,
    donor_key: str | None = None,
    trait_keys: Sequence[str] = (),
    level: str = "cell",
    name: str = "section",
    **options: Any,
) -> list[Any]:
    """Return the sections of an AnnData in memory, for `build_graph`; every check that a file meets is made.

    Parameters
    ----------
    section_key
        Column of ``obs`` that tells sections apart, each named by its value (squidpy's ``library_key``); one section,
        called `name`, if not given.
    spatial_key
        Positions in ``obsm``; None for cells without positions.
    label_key
        Column of ``obs`` with cell types or regions.
    donor_key, trait_keys
        Columns of ``obs`` with the donor, and with further traits, one value a section.
    level
        What a row is: ``cell``, or ``patch`` for capture spots.
    options
        Further options of the reader `h5ad`, such as ``um_per_unit=0.5``, ``diameter_um=10`` or ``layer="counts"``.

    Raises
    ------
    ReadError, TissueError
        What is wrong with the table, and what to do about it.

    Examples
    --------
    >>> sections = ag.from_anndata(adata, section_key="library", um_per_unit=1, diameter_um=10)
    >>> graph = ag.build_graph(sections)
    """
    placed = {"dissociated": True} if spatial_key is None else {"spatial_key": spatial_key, "level": level}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "AnnData.h5ad"
        source = {"path": path, "reader": READER, **placed, "label": label_key, **options}
        config = SectionConfig(
            name=name,
            sections_by=() if section_key is None else (section_key,),
            donor_by=donor_key,
            traits_by=tuple(trait_keys),
            sources=({key: value for key, value in source.items() if value is not None},),
        )
        kept = {"layers": adata.layers, "obsm": adata.obsm, "raw": adata.raw}
        write_anndata(ad.AnnData(adata.X, _writable(adata.obs), adata.var, **kept), path)
        try:
            return [section for section, _ in read_sections(config)]
        except AivcError as error:
            raise type(error)("from_anndata", str(error).replace(str(path), "AnnData")) from error


def _writable(obs: pd.DataFrame) -> pd.DataFrame:
    """Return annotation whose mixed columns are text, as a file has them; what is missing stays missing."""
    mixed = [column for column in obs if obs[column].dtype == object]
    return obs.assign(**{str(c): obs[c].astype(str).where(obs[c].notna(), None) for c in mixed})
