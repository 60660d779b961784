"""Where the niches lie: nests of tumour in stroma, immune aggregates at their edge, vessels between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from aivc_graph.simulate.programmes import NICHES

Field = NDArray[np.float64]

STEP_UM = 4.0
MARGIN_UM = 30.0
NESTS_PER_MM2, AGGREGATES_PER_MM2, VESSELS_PER_MM2 = 7.5, 3.6, 8.0
CORE, MARGIN, STROMA, IMMUNE, VESSEL = range(len(NICHES))
GLASS = -1


@dataclass(frozen=True)
class Layout:
    """Fields on a square lattice of `STEP_UM` µm, index (y, x).

    Parameters
    ----------
    niche
        Position in `NICHES`, -1 on glass.
    depth_um
        Distance to the nearest nest's border, positive inside the nest.
    lumen
        True in the open inside of a vessel.
    """

    niche: NDArray[np.int8]
    depth_um: Field
    lumen: NDArray[np.bool_]

    def at(self, field: NDArray[np.generic], xy_um: Field) -> NDArray[np.generic]:
        """Return `field` at positions ``(point, 2)``, x and y in µm."""
        index = np.clip((xy_um / STEP_UM).astype(np.int64), 0, np.array(field.shape)[::-1] - 1)
        return field[index[:, 1], index[:, 0]]

    def seen_from(self, size_um: float, to_block: Callable[[Field], Field]) -> Layout:
        """Return the fields on the lattice of a section of `size_um` µm whose positions `to_block` maps to this one."""
        n = int(np.ceil(size_um / STEP_UM))
        x, y = np.meshgrid(*[(np.arange(n) + 0.5) * STEP_UM] * 2)
        places = to_block(np.column_stack([x.ravel(), y.ravel()]))
        outside = ((places < 0) | (places >= STEP_UM * len(self.niche))).any(axis=1)
        niche = np.where(outside, GLASS, self.at(self.niche, places)).astype(np.int8)
        depth = self.at(self.depth_um, places).astype(np.float64)
        lumen = self.at(self.lumen, places).astype(np.bool_)
        return Layout(niche.reshape(n, n), depth.reshape(n, n), lumen.reshape(n, n))

    def without_niches(self) -> Layout:
        """Return the same tissue as stroma throughout."""
        niche = np.where(self.niche == GLASS, GLASS, STROMA).astype(np.int8)
        return Layout(niche, np.full_like(self.depth_um, -100.0), np.zeros_like(self.lumen))


def draw_layout(
    size_um: float, rng: np.random.Generator, abundance: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Layout:
    """Draw the niches of a square of `size_um` µm; numbers of nests, aggregates and vessels go with the area.

    Parameters
    ----------
    abundance
        Factors on the numbers of nests, aggregates and vessels.
    """
    many_nests, many_aggregates, many_vessels = abundance
    n = int(np.ceil(size_um / STEP_UM))
    x, y = np.meshgrid(*[(np.arange(n) + 0.5) * STEP_UM] * 2)
    wave = [smooth_noise((n, n), scale / STEP_UM, rng) for scale in (60.0, 25.0)]
    tissue = _tissue(x, y, size_um, wave[0], rng)
    nests = _nests(x, y, size_um, many_nests, wave, rng) & tissue
    depth = STEP_UM * (ndimage.distance_transform_edt(nests) - ndimage.distance_transform_edt(~nests))
    niche = np.where(depth > MARGIN_UM, CORE, np.where(depth > -0.4 * MARGIN_UM, MARGIN, STROMA)).astype(np.int8)
    near = (depth < 0) & (depth > -90) & tissue
    aggregates = _discs(x, y, near, _per_mm2(many_aggregates * AGGREGATES_PER_MM2, size_um), (45, 85), rng, wave[1])
    niche[aggregates & (depth < 10)] = IMMUNE
    quiet = (depth < -25) & tissue & (niche == STROMA)
    centres = _places(quiet, _per_mm2(many_vessels * VESSELS_PER_MM2, size_um), rng)
    reach = _nearest(x, y, centres, rng.uniform(0.8, 1.5, len(centres)))
    niche[(reach < 34) & (depth < -5) & (niche != IMMUNE)] = VESSEL
    niche[~tissue] = GLASS
    return Layout(niche, depth, (reach < 13) & (niche == VESSEL))


def draw_bands(size_um: float, rng: np.random.Generator) -> Layout:
    """Draw the front of one tumour, its niches in bands: core, margin, a seam of immune cells, vessel bed, stroma.

    The depth is the distance to the front, which undulates and runs across the square in any direction.
    """
    n = int(np.ceil(size_um / STEP_UM))
    x, y = np.meshgrid(*[(np.arange(n) + 0.5) * STEP_UM] * 2)
    wave = [smooth_noise((n, n), scale / STEP_UM, rng) for scale in (60.0, 25.0)]
    tissue, turn = _tissue(x, y, size_um, wave[0], rng), rng.uniform(0, 2 * np.pi)
    inside = (x - size_um / 2) * np.cos(turn) + (y - size_um / 2) * np.sin(turn) + 18 * wave[0] + 5 * wave[1] > 0
    depth = STEP_UM * (ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside))
    borders = size_um * np.array([-0.25, -0.12, -0.03, 0.12])
    niche = np.array([STROMA, VESSEL, IMMUNE, MARGIN, CORE], np.int8)[np.digitize(depth, borders)]
    niche[~tissue] = GLASS
    return Layout(niche, depth, np.zeros_like(tissue))


def smooth_noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Field:
    """Return Gaussian noise of unit variance that varies over `sigma` lattice steps."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), sigma, mode="wrap")
    return noise / noise.std()


def _tissue(x: Field, y: Field, size_um: float, wave: Field, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A rounded square with a ragged border and one flank cut away, so that no turn of it looks like another."""
    half = size_um / 2
    radius = (np.abs((x - half) / half) ** 5 + np.abs((y - half) / half) ** 5) ** 0.2
    flank = np.maximum(np.cos(np.arctan2(y - half, x - half) - rng.uniform(0, 2 * np.pi)), 0.0) ** 6
    return radius * (1 + 0.45 * flank) + 0.012 * wave * min(1.0, 800 / size_um) < 0.95


def _nests(
    x: Field, y: Field, size_um: float, many: float, wave: list[Field], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Lobed islands of 115–230 µm radius, kept apart."""
    nests = np.zeros(x.shape, bool)
    wanted, centres = _per_mm2(many * NESTS_PER_MM2, size_um), np.zeros((0, 3))
    for _ in range(60 * wanted):
        radius = rng.uniform(0.5, 1.0) * min(230.0, 0.45 * size_um)
        cx, cy = rng.uniform(0.05, 0.95, 2) * size_um
        if (np.hypot(centres[:, 0] - cx, centres[:, 1] - cy) < 0.84 * (centres[:, 2] + radius) + 15).any():
            continue
        centres = np.vstack([centres, (cx, cy, radius)])
        turn, squash = rng.uniform(0, np.pi), rng.uniform(0.7, 1.0)
        along = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        across = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        nests |= np.hypot(along, across / squash) / radius + 0.15 * wave[0] + 0.07 * wave[1] < 0.95
        if len(centres) == wanted:
            break
    return nests


def _discs(
    x: Field,
    y: Field,
    where: NDArray[np.bool_],
    number: int,
    radii_um: tuple[float, float],
    rng: np.random.Generator,
    wave: Field,
) -> NDArray[np.bool_]:
    mask = np.zeros(x.shape, bool)
    for cx, cy in _places(where, number, rng):
        mask |= np.hypot(x - cx, y - cy) * (1 + 0.15 * wave) < rng.uniform(*radii_um)
    return mask


def _places(where: NDArray[np.bool_], number: int, rng: np.random.Generator) -> Field:
    """Return `number` positions (x, y) [µm] drawn from `where`, as far apart as twenty tries each allow."""
    pool = np.argwhere(where)[:, ::-1] * STEP_UM + STEP_UM / 2
    chosen = np.zeros((0, 2))
    for _ in range(number if len(pool) else 0):
        tries = pool[rng.integers(0, len(pool), 20)]
        apart = np.array([np.hypot(*(chosen - point).T).min(initial=np.inf) for point in tries])
        chosen = np.vstack([chosen, tries[np.argmax(apart)]])
    return chosen


def _nearest(x: Field, y: Field, centres: Field, stretch: Field) -> Field:
    """Distance to the nearest centre, ellipses of aspect `stretch`; infinite without any."""
    reach = np.full(x.shape, np.inf)
    for (cx, cy), s in zip(centres, stretch, strict=True):
        reach = np.minimum(reach, np.hypot((x - cx) * s, (y - cy) / s))
    return reach


def _per_mm2(density: float, size_um: float) -> int:
    return max(1, round(density * size_um**2 / 1e6))
