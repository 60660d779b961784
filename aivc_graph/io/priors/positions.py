"""Where genes lie on the genome."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig
from aivc_graph.io.tables import column_names, numbers, read_frame

GENES = ("gene", "gene_name", "symbol", "Gene name", "name")
CHROMOSOMES = ("chromosome", "chrom", "chr", "seqname", "Chromosome/scaffold name")
STARTS, ENDS = ("start", "chromStart", "Gene start (bp)"), ("end", "chromEnd", "Gene end (bp)")
STRANDS = ("strand", "Strand")


@LAYOUTS.register("positions", expects="columns gene, chromosome, start and end, and strand if known")
class PositionsLayout(AbstractLayout):
    """Places of genes, to which peaks are led by distance from where a gene begins."""

    relation: ClassVar[KnownRelation] = names.NEAR

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by its columns."""
        found = set(column_names(path))
        return all(found & set(known) for known in (GENES, CHROMOSOMES, STARTS, ENDS))

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row a gene: ``gene``, ``chromosome`` without ``chr``, and ``begins_bp``."""
        frame, where = read_frame(config.path, text=(*GENES, *CHROMOSOMES, *STRANDS)), str(config.path)
        gene, chromosome, start, end = (
            next(name for name in known if name in frame) for known in (GENES, CHROMOSOMES, STARTS, ENDS)
        )
        strand = next((name for name in STRANDS if name in frame), None)
        first, last = numbers(frame[start], where), numbers(frame[end], where)
        backward = frame[strand].isin(["-", "-1"]).to_numpy() if strand is not None else np.zeros(len(frame), bool)
        bare = frame[chromosome].astype(str).str.replace(r"^chr", "", regex=True)
        return pd.DataFrame(
            {"gene": frame[gene].astype(str), "chromosome": bare, "begins_bp": np.where(backward, last, first)}
        )
