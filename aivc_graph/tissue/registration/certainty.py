"""How far off a placed point is likely to be, told by what each part of the tissue alone contributed to the map."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from aivc_graph.tissue.frame import Matrix
from aivc_graph.tissue.registration.agreement import Samples

# The agreement is looked at one step to either side along each of three ways to move: (look, way).
LOOKS = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))
PAIRS = ((0, 1), (0, 2), (1, 2))
# A way to move that the agreement hardly bends along is taken to bend by this share of the steepest.
LEAST_BEND = 0.01


@dataclass(frozen=True)
class RigidError:
    """By how much a rigid map may be off.

    Parameters
    ----------
    covariance
        ``(3, 3)`` of the shift in x and y [µm] and the turn [radians] about `centre_um`.
    centre_um
        ``(2,)``, in the fixed frame.
    """

    covariance: Matrix
    centre_um: Matrix

    def __call__(self, xy_um: Matrix) -> Matrix:
        """Return the standard deviation [µm] along each axis at placed points ``(point, 2)``; it grows outwards."""
        x, y = (xy_um - self.centre_um).T
        shift_x, shift_y, turn = np.diag(self.covariance)
        along = x * self.covariance[1, 2] - y * self.covariance[0, 2]
        return np.sqrt(np.maximum((shift_x + shift_y + 2 * along + (x**2 + y**2) * turn) / 2, 0.0))

    def one_sided(self, normals: Matrix, pitch_um: float) -> RigidError:
        """Return the error where no outline balances that of the other side, along `normals` ``(cut, 2)``.

        Spots at the rim are selected by a rule that nobody tells: from those which touch the tissue to those within it,
        an outline may lie half a pitch to either side. On two sides that cancels; on one it moves the map.
        """
        covariance = self.covariance.copy()
        covariance[:2, :2] += pitch_um**2 / 12 * normals.T @ normals
        return RigidError(covariance, self.centre_um)


def rigid_error(samples: Samples, affine: Matrix, pixel_um: float) -> RigidError:
    """Return the error of the map that agrees best, by refitting it without each block of tissue.

    The agreement around `affine` is a paraboloid fitted to 27 looks within a pixel. Without a block its slope at the
    top is no longer zero; a step of Newton leads to the new top, and the steps of all blocks make the covariance.

    References
    ----------
    Efron 1982, doi:10.1137/1.9781611970319 (delete-one jackknife).
    """
    placed = samples.points_um @ affine[:2, :2].T + affine[:2, 2]
    centre = placed.mean(axis=0)
    arm = np.sqrt(((placed - centre) ** 2).sum(axis=1).mean())
    size = np.array([pixel_um, pixel_um, pixel_um / arm])
    steps = [stepped(step * size, centre) @ affine for step in LOOKS]
    whole = _paraboloid(np.array([[samples.agreement(step)] for step in steps]))
    slope = _paraboloid(np.stack([samples.without_blocks(step) for step in steps]))[1:4]
    bend = np.diag(2 * whole[4:7, 0])
    for (i, j), value in zip(PAIRS, whole[7:, 0], strict=True):
        bend[i, j] = bend[j, i] = value
    value, way = np.linalg.eigh(-bend)
    value = np.maximum(value, LEAST_BEND * max(value.max(), 1e-12))
    moved = (way / value @ way.T @ slope).T * size
    off = moved - moved.mean(axis=0)
    return RigidError((len(off) - 1) / len(off) * off.T @ off, centre)


def stepped(step: Matrix, centre: Matrix) -> Matrix:
    """Return the ``(3, 3)`` map that shifts by `step` (x, y [µm], turn [radians]) and turns about `centre`."""
    c, s = np.cos(step[2]), np.sin(step[2])
    affine = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    affine[:2, 2] = centre - affine[:2, :2] @ centre + step[:2]
    return affine


def _paraboloid(looks: Matrix) -> Matrix:
    """Coefficients ``(10, column)`` of 1, three ways, their squares and their products, by least squares."""
    products = [LOOKS[:, i] * LOOKS[:, j] for i, j in PAIRS]
    basis = np.column_stack([np.ones(len(LOOKS)), LOOKS, LOOKS**2, *products])
    return np.asarray(np.linalg.lstsq(basis, looks, rcond=None)[0])
