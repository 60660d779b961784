"""Let the tissue speak: turn and shift one layer until its map agrees best with the other's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy.optimize import minimize

from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.frame import Matrix, apply_affine
from aivc_graph.tissue.registration.agreement import SURE, Samples
from aivc_graph.tissue.registration.certainty import rigid_error, stepped
from aivc_graph.tissue.registration.cut_edges import Edge, straight_edges
from aivc_graph.tissue.registration.layer import Layer, level_layer, shared_genes, slide_layer
from aivc_graph.tissue.registration.method import REGISTRATIONS, AbstractRegistration, Registration, rms_um
from aivc_graph.tissue.registration.orientation import MIRRORED, OrientationFit, nearest_orientation, score_orientations

LEAST_AGREEMENT, OTHER_TURN_DEG, SAME_TURN_DEG = 0.05, 30.0, 10.0
# Edges are taken for cut if what is amiss of full agreement falls at least to this share for each; where no more than
# this is amiss with all of them, none is looked at. Settled on simulated outlines, whole ones and cut ones, and on four
# slides (`benchmarks/registration_planted.py`).
EXPLAINED, AMISS = 1 / 3, 0.01


@dataclass(frozen=True, eq=False)
class _Fit:
    score: float
    affine: Matrix  # moving layer's microns -> fixed microns
    layers: tuple[Layer, Layer]  # without the edges at which this map says that they were cut

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.affine) < 0)

    @property
    def cuts(self) -> int:
        return sum(len(layer.cuts) for layer in self.layers)

    @property
    def amiss(self) -> float:
        """What it lacks of full agreement; each edge that it takes for cut has to be worth its share."""
        return (1 - self.score) / EXPLAINED**self.cuts


@REGISTRATIONS.register("intensity", needs="two layers that show the same tissue")
class IntensityRegistration(AbstractRegistration):
    """Maximise the correlation of two maps of the same tissue.

    All eight orientations are tried at every shift by Fourier transform, with small turns around each; the best is then
    refined from coarse maps to fine ones. The map is rigid: the size comes from the pixel sizes, for a fitted one
    would shrink towards the middle of the tissue, where maps are less noisy. The residual says by how much the map
    would move without one or other of sixteen blocks of the tissue; of an outline that runs along the rows of a spot
    array it says too little, by up to a third of the pitch. A straight edge beyond which the other layer shows more
    tissue is where a piece was cut off, or where the array ended: if the rest agrees much better without it, it is no
    outline, and what lies beyond is unknown; the residual then holds by how much the outline of one side alone may be
    off. A mirrored frame that fits better, by more than the blocks make likely by chance, is refused, unless allowed;
    where they cannot tell, or it asks for more edges to be cut, that is said.

    Parameters
    ----------
    signal
        ``"density"``: where the tissue is (a slide's tissue against spots or cells); ``"stain"``: the same with the
        slide's nuclear stain, for cells; ``"expression"``: the shared genes of two tables.
    pixel_um
        Pixel of the finest map [µm]; the pitch of the coarser layer if not given.
    um_per_unit
        Microns a unit of the moving element, where it has no frame yet.
    max_angle_deg
        Largest turn searched around an orientation [°]; 45 covers every angle. The refinement may turn a bit further.
    n_genes
        Genes used, the best-expressed ones.
    allow_mirror
        Accept a map that flips the tissue.
    """

    signal: Literal["density", "stain", "expression"] = "density"
    pixel_um: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    um_per_unit: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_angle_deg: float = Field(default=45.0, ge=0, le=45)
    n_genes: int = Field(default=60, ge=1)
    allow_mirror: bool = False

    def __call__(self, section: Any, moving: str, fixed: str) -> Registration:
        """Return where `moving` agrees best with `fixed`; see `align`."""
        genes = shared_genes(section, moving, fixed, self.n_genes) if self.signal == "expression" else []
        layers = []
        for element, scale in ((moving, self.um_per_unit), (fixed, None)):
            if element in section.images:
                layers.append(slide_layer(section, element, stain=self.signal == "stain", um_per_unit=scale))
            else:
                layers.append(level_layer(section, element, genes, scale))
        return self.align(*layers)

    def align(self, moving: Layer, fixed: Layer) -> Registration:
        """Return where a placed layer agrees best with another one of the same channels.

        Raises
        ------
        RegistrationError
            The layers have nothing in common, or only a mirrored map brings them together.
        """
        if moving.profile != fixed.profile or moving.values.shape[1] != fixed.values.shape[1]:
            raise RegistrationError("registration", "layers of different channels", "the same genes or densities")
        for name, layer in (("moving", moving), ("fixed", fixed)):
            if len(layer.xy) < 3 or not np.any(layer.values):
                raise RegistrationError(f"registration · {name}", "no tissue", "points with values")
        pitch = max(moving.pitch_um(), fixed.pitch_um())
        pixel = self.pixel_um or pitch
        coarse = max(pixel, max(moving.diagonal_um(), fixed.diagonal_um()) / 64)
        fits = score_orientations(moving, fixed, coarse, self._angles())
        refined = sorted(_refined((moving, fixed), fits, _ladder(coarse, pixel), coarse), key=_amiss)
        turned, flipped = ([fit for fit in refined if fit.mirrored == one] for one in (False, True))
        turned = _nearest_first(turned, pixel)
        best, warnings = self._judge(turned[0], flipped[0], pixel)
        warnings += _other_turn(best, (flipped if best.mirrored else turned)[1:], pixel)
        samples = Samples.of(*best.layers, pixel)
        normals = np.vstack([best.layers[0].moved(best.affine).cuts_um(), best.layers[1].cuts_um()])[:, :2]
        sigma = rigid_error(samples, best.affine, pixel).one_sided(normals, pitch)
        warnings += [
            f"registration: the {name} layer ends straight where the other goes on, at {len(layer.cuts)} of its edges; "
            "they are taken for cut, and not for outline"
            for name, layer in zip(("moving", "fixed"), best.layers, strict=True)
            if len(layer.cuts)
        ]
        orientation = nearest_orientation(best.affine)
        if orientation not in ("identity", *MIRRORED):
            warnings.append(f"registration: the moving frame is turned ({orientation})")
        return Registration(
            affine=best.affine @ moving.to_um,
            residual_um=rms_um(sigma(apply_affine(moving.um(), best.affine))),
            method=f"intensity ({self.signal})",
            orientation=orientation,
            scores={name: round(fit.score, 4) for name, fit in fits.items()},
            n_points=samples.blocks.shape[0],
            warnings=warnings,
            sigma=sigma,
        )

    def _judge(self, proper: _Fit, flipped: _Fit, pixel: float) -> tuple[_Fit, list[str]]:
        gain, sure = _compared(proper, flipped, pixel).gain(flipped.affine, proper.affine)
        found = (
            f"{nearest_orientation(flipped.affine)} (agreement {flipped.score:.2f}, against {proper.score:.2f} for the "
            f"best turn; {gain:+.2f} is {abs(sure):.1f} standard errors)"
        )
        if max(proper.score, flipped.score) < LEAST_AGREEMENT:
            mend = "are they of the same tissue? give landmarks"
            raise RegistrationError(
                "registration", f"an agreement of {proper.score:.2f}", f"at least {LEAST_AGREEMENT}", mend
            )
        if sure > SURE and flipped.amiss < proper.amiss and flipped.cuts <= proper.cuts:
            if not self.allow_mirror:
                mend = "are x and y swapped? set `allow_mirror: true` if the tissue was flipped"
                raise RegistrationError("registration", f"a mirrored frame fits best: {found}", mend=mend)
            return flipped, [f"registration: the map mirrors the tissue, as allowed: {found}"]
        if sure > -SURE:
            return proper, [f"registration: a mirrored frame fits as well: {found}; check it by eye"]
        return proper, []

    def _angles(self) -> list[float]:
        steps = int(np.ceil(self.max_angle_deg / 15))
        return [0.0] if steps == 0 else np.linspace(-self.max_angle_deg, self.max_angle_deg, 2 * steps + 1).tolist()


def _apart(fits: dict[str, OrientationFit], *, mirrored: bool) -> list[OrientationFit]:
    """Return the coarse fits of turns, or of mirrors, best first; of two that found the same turn the better."""
    group = [fit for name, fit in fits.items() if (name in MIRRORED) == mirrored]
    found: list[OrientationFit] = []
    for fit in sorted(group, key=lambda fit: fit.score, reverse=True):
        if all(_turned_deg(fit.affine, other.affine) > SAME_TURN_DEG for other in found):
            found.append(fit)
    return found


def _refined(
    layers: tuple[Layer, Layer], fits: dict[str, OrientationFit], ladder: list[float], coarse: float
) -> list[_Fit]:
    """Refine the leading turns and mirrors; without the edges at which a layer was cut, if the best of them says so."""
    turned, flipped = (_apart(fits, mirrored=one) for one in (False, True))
    starts = [*turned[:2], *flipped[:2]]
    rough = [size for size in ladder if 2 * size > coarse]  # cuts are wider than the pixels of finer maps
    whole = [_climb(layers, one, rough) for one in starts]
    edges = straight_edges(layers, rough[-1]) if min(fit.amiss for fit in whole) > AMISS else []
    if edges:  # a cut may hide which of all turns is right
        starts += [*turned[2:], *flipped[2:]]
        whole += [_climb(layers, one, rough) for one in starts[len(whole) :]]
    cut = [_without_cuts(fit, edges, one, rough) for fit, one in zip(whole, starts, strict=True)]
    told = whole if min(cut, key=_amiss) in whole else cut
    return told if rough == ladder else [_climb(fit.layers, one, ladder) for fit, one in zip(told, starts, strict=True)]


def _without_cuts(whole: _Fit, edges: list[Edge], start: OrientationFit, ladder: list[float]) -> _Fit:
    """Refine again without one edge after the other, while the rest agrees better; return where the least is amiss."""
    path = [whole]
    while True:
        trials = []
        for edge in edges:
            found = _climb(edge.cut(path[-1].layers), start, ladder)
            if found.score > path[-1].score and edge.goes_on(whole.layers, found.affine, ladder[-1]):
                trials.append((found, edge))
        if not trials:
            return min(path, key=_amiss)
        fit, last = max(trials, key=lambda trial: trial[0].score)
        path.append(fit)
        edges = [edge for edge in edges if edge is not last]


def _climb(layers: tuple[Layer, Layer], start: OrientationFit, ladder: list[float]) -> _Fit:
    """Follow the agreement uphill on ever finer maps, from the coarse fit."""
    moving, fixed = layers
    centre = apply_affine(moving.um().mean(axis=0), start.affine)
    parameters, score = np.zeros(3), -1.0
    for size in ladder:
        samples = Samples.of(moving, fixed, size)
        reach = np.array([size, size, 2 * size / moving.diagonal_um()])
        first = parameters / reach

        def loss(steps: Matrix, samples: Samples = samples, reach: Matrix = reach) -> float:
            return -samples.agreement(stepped(steps * reach, centre) @ start.affine)

        options = {"initial_simplex": np.vstack([first, first + np.eye(len(reach))]), "xatol": 0.01, "fatol": 1e-5}
        found = minimize(loss, first, method="Nelder-Mead", options=options)
        parameters, score = found.x * reach, -float(found.fun)
    return _Fit(score, stepped(parameters, centre) @ start.affine, layers)


def _amiss(fit: _Fit) -> float:
    return fit.amiss


def _turned_deg(one: Matrix, other: Matrix) -> float:
    """Return the angle [°] between two maps, both mirrored or neither."""
    apart = one[:2, :2] @ np.linalg.inv(other[:2, :2])
    return float(np.degrees(np.arccos(np.clip(apart[0, 0], -1, 1))))


def _compared(one: _Fit, other: _Fit, pixel: float) -> Samples:
    """Look where neither of two fits says that a layer was cut off."""
    moving, fixed = (a.cut_at(b.cuts_um()) for a, b in zip(one.layers, other.layers, strict=True))
    return Samples.of(moving, fixed, pixel)


def _nearest_first(turned: list[_Fit], pixel: float) -> list[_Fit]:
    """Return fits, best first, behind that of the least turn if the best does not agree better by its standard error.

    Of a square, say, all turns may fit alike: tissue is then taken to lie about as it was delivered.
    """
    least = min(turned, key=lambda fit: _turned_deg(fit.affine, np.eye(3)))
    gain = _compared(turned[0], least, pixel).gain(turned[0].affine, least.affine)[1]
    return [least, *(fit for fit in turned if fit is not least)] if gain < 1 else turned


def _other_turn(best: _Fit, others: list[_Fit], pixel: float) -> list[str]:
    """Say that another turn fits as well, if it is one: for this the stated error does not answer."""
    for other in others:
        if _turned_deg(best.affine, other.affine) < OTHER_TURN_DEG:
            continue
        if _compared(best, other, pixel).gain(best.affine, other.affine)[1] <= SURE:
            found = f"{nearest_orientation(other.affine)} (agreement {other.score:.2f}, against {best.score:.2f})"
            return [f"registration: another turn fits as well: {found}; check it by eye"]
    return []


def _ladder(coarse: float, pixel: float) -> list[float]:
    """Pixel sizes [µm] of the maps from coarse to fine; the coarsest is at least four times the finest."""
    steps = max(2, int(np.floor(np.log2(coarse / pixel))))
    return [pixel * 2.0**k for k in range(steps, -1, -1)]
