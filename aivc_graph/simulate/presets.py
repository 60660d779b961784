"""What each preset contains: donors, sites, sections, what is done to them and what is asked about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from aivc_graph.simulate.intervention import Part, part
from aivc_graph.simulate.programmes import GENES

Arm = tuple[Part, ...]
UNTREATED: Final = "untreated"


@dataclass(frozen=True)
class DonorPlan:
    """One donor of a preset.

    Parameters
    ----------
    name, site
        Who, and where the tissue was processed.
    arms
        Names of what is done, one section each; ``"untreated"`` is a section to which nothing is done.
    responder_share
        Share of cells that interventions can act on.
    adjacent
        How many sections of one block are cut for each arm; all but the first are turned, shifted and warped.
    """

    name: str
    site: str
    arms: tuple[str, ...]
    responder_share: float = 0.9
    adjacent: int = 1


@dataclass(frozen=True)
class Preset:
    """A whole simulated study.

    Parameters
    ----------
    size_um
        Edge of every section [µm].
    donors
        Who there is, and which sections of each.
    arms
        Interventions by name.
    asked
        Names of the interventions whose counterfactuals are kept for untreated sections of `asked_of`.
    asked_of
        Donors whose untreated sections are asked; all if empty.
    validation, test
        Donors held out.
    mpp
        Pixel size of the slide [µm]; no slide and no spots without it.
    effect
        Factor on what interventions do; 0 for a study in which nothing works.
    niche_structure
        Whether there are niches; without them one mixture everywhere and no signals.
    layered
        Whether niches are the bands of a tumour's front, in place of nests in stroma.
    transcripts
        Whether the molecules are written as points.
    multiome
        Whether protein and open chromatin of the cells are written.
    cores
        Rows and columns of independent cores of `size_um` on one section, as on a tissue microarray; such a section is
        written core by core, cells only.
    background_genes
        How many genes that no signal moves are added to the panel.
    """

    size_um: float
    donors: tuple[DonorPlan, ...]
    arms: Mapping[str, Arm] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    asked_of: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    mpp: float | None = 1.0
    effect: float = 1.0
    niche_structure: bool = True
    layered: bool = False
    transcripts: bool = False
    multiome: bool = False
    cores: tuple[int, int] = (1, 1)
    background_genes: int = 0


def _disc(size_um: float, radius_um: float) -> dict[str, list[float]]:
    return {"disc_um": [size_um / 2, size_um / 2, radius_um]}


def _tiny() -> Preset:
    donors = tuple(DonorPlan(name, "A", (UNTREATED, "knockout_tgfb1")) for name in ("D1", "D2"))
    arms = {"knockout_tgfb1": (part("knockout", "TGFB1", where=_disc(400.0, 100.0), hours=48.0),)}
    return Preset(400.0, donors, arms, asked=tuple(arms), test=("D2",))


def _demo() -> Preset:
    """Seven small donors rather than fewer large ones: five train, as few as an interval over donors needs."""
    donors = tuple(DonorPlan(f"D{i}", "A", (UNTREATED, "knockout_tgfb1")) for i in range(1, 8))
    arms = {"knockout_tgfb1": (part("knockout", "TGFB1", where=_disc(600.0, 150.0), hours=48.0),)}
    return Preset(600.0, donors, arms, asked=tuple(arms), validation=("D6",), test=("D7",))


def _perturb() -> Preset:
    drug = {
        f"ruxolitinib_{dose:g}uM_{hours}h": (part("drug", "ruxolitinib", dose=dose, hours=float(hours)),)
        for dose in (0.1, 0.5, 2.5)
        for hours in (6, 24)
    }
    rux = part("drug", "ruxolitinib", hours=24.0)
    tgfb1, tnf, ifng = part("knockout", "TGFB1"), part("knockout", "TNF"), part("ligand", "IFNG")
    erlotinib, galunisertib = part("drug", "erlotinib"), part("drug", "galunisertib")
    arms: dict[str, Arm] = {
        "knockout_tgfb1": (tgfb1,),
        "knockout_tnf": (tnf,),
        "knockout_ifng": (part("knockout", "IFNG"),),
        "knockout_stat1": (part("knockout", "STAT1"),),
        "knockout_egfr": (part("knockout", "EGFR"),),
        "activation_stat1": (part("activation", "STAT1"),),
        "ligand_ifng": (ifng,),
        "ligand_tgfb1": (part("ligand", "TGFB1"),),
        "erlotinib": (erlotinib,),
        "galunisertib": (galunisertib,),
        **drug,
        "knockout_tgfb1_ruxolitinib": (tgfb1, rux),
        "knockout_tnf_erlotinib": (tnf, erlotinib),
        "galunisertib_ligand_ifng": (galunisertib, ifng),
        "ligand_ifng_then_ruxolitinib": (ifng, part("drug", "ruxolitinib", onset_hours=24.0)),
        "ruxolitinib_then_ligand_ifng": (rux, part("ligand", "IFNG", onset_hours=24.0)),
        "local_knockout_tgfb1": (part("knockout", "TGFB1", where=_disc(500.0, 120.0)),),
        "local_ligand_ifng": (part("ligand", "IFNG", where=_disc(500.0, 120.0)),),
    }
    unseen = ("galunisertib_ligand_ifng", "ruxolitinib_then_ligand_ifng")  # only ever asked, never done
    done = [name for name in arms if name not in unseen]
    trained = [f"D{i:02d}" for i in range(1, 8)]
    donors = []
    for i, name in enumerate(trained):  # by turns, so that every arm is done in three donors and no donor has all doses
        turns = {(i + 2 * step) % len(trained) for step in range(3)}
        given = [arm for j, arm in enumerate(done) if j % len(trained) in turns]
        donors.append(DonorPlan(name, "A", (UNTREATED, *given)))
    donors[5] = replace(donors[5], responder_share=0.4)
    test = [f"D{i:02d}" for i in range(8, 13)]
    donors += [DonorPlan(name, "A", (UNTREATED,)) for name in test]
    return Preset(
        500.0,
        tuple(donors),
        arms,
        asked=tuple(arms),
        asked_of=tuple(test),
        validation=("D07",),
        test=tuple(test),
        mpp=None,
    )


def _cohort() -> Preset:
    """Eight donors of two sites, two adjacent sections of each; sites alternate, so that both are on every side."""
    donors = tuple(DonorPlan(f"D{i}", "AB"[i % 2], (UNTREATED,), adjacent=2) for i in range(1, 9))
    return Preset(600.0, donors, validation=("D5", "D6"), test=("D7", "D8"))


def _layered() -> Preset:
    donors = tuple(DonorPlan(f"D{i}", "A", (UNTREATED,)) for i in range(1, 5))
    return Preset(800.0, donors, validation=("D3",), test=("D4",), layered=True)


def _multiome() -> Preset:
    donors = tuple(DonorPlan(f"D{i}", "A", (UNTREATED, "ligand_ifng")) for i in range(1, 5))
    arms = {"ligand_ifng": (part("ligand", "IFNG"),)}
    return Preset(500.0, donors, arms, asked=tuple(arms), validation=("D3",), test=("D4",), mpp=None, multiome=True)


def _large() -> Preset:
    """One million cells: four donors, each an array of 117 cores of 1 mm."""
    donors = tuple(DonorPlan(f"D{i}", "A", (UNTREATED,)) for i in range(1, 5))
    cores, more = (9, 13), 500 - len(GENES)
    return Preset(1000.0, donors, validation=("D3",), test=("D4",), mpp=None, cores=cores, background_genes=more)


PRESETS: Final[dict[str, Preset]] = {
    "tiny": _tiny(),
    "demo": _demo(),
    "cohort": _cohort(),
    "layered": _layered(),
    "perturb": _perturb(),
    "multiome": _multiome(),
    "large": _large(),
    "null_effect": replace(_demo(), effect=0.0),
    "null_niches": replace(_demo(), niche_structure=False),
}
