"""Examples of the verbs that take more than one form, as the command line shows them."""

from __future__ import annotations

EVALUATE = """\
aivc evaluate runs/demo
aivc evaluate runs/demo --truth tissue/truth --out scores
aivc evaluate runs/demo --anchors
aivc evaluate runs/norman --weights sets.gmt
aivc evaluate --predictions mine.h5ad --measured cells.h5ad --context cell_type --split split"""

COMPARE = """\
aivc compare runs/a runs/b
aivc compare runs/a runs/b runs/c --out differences.csv
aivc compare runs/mine/evaluation.json runs/theirs/evaluation.json --out differences.json"""
