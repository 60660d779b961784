"""The presets of `simulate`, a line each; told by `aivc simulate --help` without loading what simulates."""

from __future__ import annotations

from typing import Final

CATALOGUE: Final = {
    "tiny": "four sections of two donors, 400 µm, made in seconds: for a first try and for tests",
    "demo": "seven donors with and without a local knock-out, spots, cells and slide: what `aivc demo` shows",
    "cohort": "eight donors of two sites, two adjacent sections each: batch effects and registration",
    "layered": "four donors, bands along the front of one tumour in place of nests",
    "perturb": "twelve donors, cells alone: knock-outs, drugs by dose and time, ligands, pairs, orders",
    "multiome": "four donors whose cells have protein and open chromatin beside RNA, with and without a ligand",
    "large": "a million cells of four donors, written core by core within half a GiB of memory",
    "null_effect": "the demo with a knock-out that does nothing: no effect is to be found",
    "null_niches": "the demo without niches or signals: no niche is to be found",
}
