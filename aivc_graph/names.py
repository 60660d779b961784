"""Every string key of a tissue and of its graph, once, with shape, dtype and unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Node types: molecules, the levels of tissue from fine to coarse, and interventions.
GENE: Final = "gene"
PROTEIN: Final = "protein"
PEAK: Final = "peak"
CELL: Final = "cell"
PATCH: Final = "patch"
REGION: Final = "region"
SECTION: Final = "section"
INTERVENTION: Final = "intervention"

MOLECULES: Final = (GENE, PROTEIN, PEAK)
LEVELS: Final = (CELL, PATCH, REGION)
NODE_TYPES: Final = (*MOLECULES, *LEVELS, SECTION, INTERVENTION)

# Relation names; a relation is (source node type, name, target node type).
NEAR: Final = "near"
WITHIN: Final = "within"
OBSERVED_IN: Final = "observed_in"
TARGETS: Final = "targets"
APPLIED_TO: Final = "applied_to"
# What is known between molecules before anything was measured: `near` leads a peak to a gene. Columns and sets that
# describe a molecule by itself are no relation; they are its vector.
REGULATES: Final = "regulates"
BINDS: Final = "binds"
INTERACTS: Final = "interacts"
ENCODES: Final = "encodes"
KNOWN_RELATIONS: Final = (REGULATES, BINDS, INTERACTS, ENCODES, NEAR)
DESCRIBES: Final = "describes"

# Modalities: what an observation is.
RNA: Final = "rna"
ADT: Final = "protein"
ATAC: Final = "atac"
HISTOLOGY: Final = "histology"
MORPHOLOGY: Final = "morphology"
# Mean intensity of each marker in a cell, as imaging mass cytometry and cyclic immunofluorescence measure it; no count.
INTENSITY: Final = "intensity"
# The label of a node as an observation: what type of cell it is. Kept in the annotation of nodes, as `LABEL`.
TYPE: Final = "type"
# What stands for a label that is missing, in text that pandas, R or Python wrote.
NO_LABEL: Final = ("", "NA", "<NA>", "NaN", "nan", "None")
# What is no count: log-normalised RNA; and what was measured against an untreated control, such as z-scores, log ratios
# or fitness, one row a condition. Features are molecules or readouts by name; NaN in an effect is not measured.
LOG_EXPRESSION: Final = "log_expression"
EFFECT: Final = "effect"

MODALITIES: Final = (RNA, ADT, ATAC, HISTOLOGY, MORPHOLOGY, INTENSITY, TYPE, LOG_EXPRESSION, EFFECT)

# The molecule behind a count modality; dense feature modalities have none.
MOLECULE_OF: Final = {RNA: GENE, ADT: PROTEIN, ATAC: PEAK}

# What is measured molecule by molecule, or marker by marker, and can be told of a node that was not measured.
PANELS: Final = (*MOLECULE_OF, INTENSITY)

# Attributes of a level that hold the outlines of its nodes, see `aivc_graph.graph.outlines`.
OUTLINE_CORNERS: Final = "outline_corners"
OUTLINE_STARTS: Final = "outline_starts"

# A section in memory is one SpatialData whose elements all reach this coordinate system.
MICRONS: Final = "microns"
SLIDE: Final = "slide"
TRANSCRIPTS: Final = "transcripts"
# Six numbers as JSON in a section's metadata: the rows of the affine from the slide's pixels (x, y, 1) to microns.
SLIDE_AFFINE: Final = "slide_affine"
METADATA: Final = "aivc"
INTERVENTIONS: Final = "interventions"
# Metadata of a section: its cells were taken out of the tissue; kind and unit of what was done to each of them.
DISSOCIATED: Final = "dissociated"
APPLIED: Final = "applied"
# Metadata of a section, followed by an element: how far off [µm] its registration is likely to be, root mean square.
RESIDUAL_UM: Final = "residual_um_"
# Metadata of a section, followed by an element that was registered: the level that moved along, if one did.
ALONG: Final = "along_with_"
# Metadata of a section, and attribute of the section nodes: places known in two frames, by which one was placed on the
# other, and how far each is from where it was put.
PAIRS: Final = "pairs"
BARCODE: Final = "barcode"
LABEL: Final = "label"

# Columns of the cells of a screen: what was done to each, see `aivc_graph.tissue.conditions`; and of a section: where.
CONDITION: Final = "condition"
DOSE: Final = "dose"
HOURS: Final = "hours"
SMILES: Final = "smiles"
KIND: Final = "kind"
CONTEXT: Final = "context"

# Split labels a node may carry.
TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
UNUSED: Final = "unused"
SPLITS: Final = (TRAIN, VALIDATION, TEST, UNUSED)


@dataclass(frozen=True)
class Field:
    """One attribute of a node type or relation in the graph."""

    name: str
    shape: str
    dtype: str
    unit: str
    meaning: str


OBS: Final = Field(
    "obs", "(node, column)", "DataFrame", "", "identifiers and annotation; index is the barcode or symbol"
)
POS: Final = Field("pos", "(node, 2)", "float32", "µm", "x, y in the section's frame; NaN in a dissociated one")
SIZE_UM: Final = Field("size_um", "(node,)", "float32", "µm", "diameter of a cell or patch, edge of a region")
# Column of a section's nodes, and attribute of a level of the graph where any of it was registered.
REGISTRATION_SIGMA_UM: Final = Field(
    "registration_sigma_um", "(node,)", "float32", "µm", "standard error of the place along each axis; 0 where given"
)
SECTION_INDEX: Final = Field("section_index", "(node,)", "int64", "", "row of the section node")
SPLIT: Final = Field("split", "(node,)", "int8", "", "position in SPLITS")
ADJ_T: Final = Field("adj_t", "(target, source)", "sparse CSR float32", "", "weight of each edge, rows are targets")
DISTANCE_UM: Final = Field("distance_um", "(edge,)", "float32", "µm", "length of each edge, in CSR order")

NODE_FIELDS: Final = {f.name: f for f in (OBS, POS, SIZE_UM, REGISTRATION_SIGMA_UM, SECTION_INDEX, SPLIT)}


def table_name(level: str, modality: str) -> str:
    """Name of the table of `modality` at `level` in a section, such as ``patch_rna``."""
    return f"{level}_{modality}"


def outlines_name(level: str) -> str:
    """Name of the outlines of the nodes of `level` in a section, such as ``cell_outlines``."""
    return f"{level}_outlines"


def mask_name(modality: str) -> str:
    """Name of the node attribute that says who was measured, such as ``rna_mask``."""
    return f"{modality}_mask"
