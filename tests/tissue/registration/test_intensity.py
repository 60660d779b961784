"""Registration by what the tissue shows: known motions come back, mirrors are refused, and errors are measured."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.frame import apply_affine, positions_um
from aivc_graph.tissue.registration.intensity import IntensityRegistration
from aivc_graph.tissue.registration.landmarks import fit_landmarks
from aivc_graph.tissue.registration.layer import Layer
from aivc_graph.tissue.registration.register import register
from aivc_graph.tissue.section import add_level, add_observation, add_slide, new_section

STEP_UM = 200.0


def motion(angle_deg, x, y, centre=(0.0, 0.0)):
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    turn, centre = np.array([[c, -s], [s, c]]), np.asarray(centre)
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = turn, centre - turn @ centre + [x, y]
    return affine


def rates(xy, n_genes=20, seed=3):
    """Return smooth expression ``(point, gene)`` over space, without any symmetry."""
    rng = np.random.default_rng(seed)
    place, width = rng.uniform(0, 3000, (n_genes, 2)), rng.uniform(400, 900, n_genes)
    return 5 * np.exp(-((xy[:, None] - place) ** 2).sum(-1) / (2 * width**2)) + 0.5


def profile(xy, counts, affine=None):
    """Return a layer whose frame is off by the inverse of `affine`."""
    moved = xy if affine is None else apply_affine(xy, np.linalg.inv(affine))
    return Layer(moved, counts.astype(float), np.eye(3), profile=True, framed=True)


def error_um(found, layer, truth_xy):
    return np.linalg.norm(apply_affine(layer.xy, found.affine) - truth_xy, axis=1).mean()


def two_samples(seed=0, n=3000):
    rng = np.random.default_rng(seed)
    one, two = rng.uniform(0, 3000, (n, 2)), rng.uniform(0, 3000, (n, 2))
    return (one, rng.poisson(rates(one))), (two, rng.poisson(rates(two)))


@pytest.mark.parametrize(("angle", "x", "y"), [(0, 150, -90), (20, 300, 400), (-100, 500, -700), (178, 0, 0)])
def test_expression_of_other_cells_of_the_same_tissue_finds_the_motion(angle, x, y):
    (one, a), (two, b) = two_samples()
    truth = motion(angle, x, y, (1500, 1500))
    moving = profile(one, a, truth)
    found = IntensityRegistration(signal="expression", pixel_um=100).align(moving, profile(two, b))
    baseline = np.linalg.norm(moving.xy - one, axis=1).mean()
    assert error_um(found, moving, one) < min(25.0, 0.2 * baseline)
    assert 0.5 * error_um(found, moving, one) < found.residual_um < 60
    assert np.linalg.det(found.affine) == pytest.approx(1.0)


def test_a_mirrored_frame_is_refused_and_applied_only_if_allowed():
    (one, a), (two, b) = two_samples()
    moving = profile(one, a, np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    with pytest.raises(RegistrationError, match=r"a mirrored frame fits best: swap_xy .*allow_mirror: true"):
        IntensityRegistration(signal="expression", pixel_um=100).align(moving, profile(two, b))
    allowed = IntensityRegistration(signal="expression", pixel_um=100, allow_mirror=True)
    found = allowed.align(moving, profile(two, b))
    assert error_um(found, moving, one) < 25
    assert found.orientation == "swap_xy" and "mirrors the tissue, as allowed" in found.warnings[0]
    assert max(found.scores, key=found.scores.get) == "swap_xy" and len(found.scores) == 8


@pytest.mark.parametrize(("sides", "doubted"), [((2000.0, 2000.0), True), ((2400.0, 900.0), True), (None, False)])
def test_an_outline_that_fits_turned_as_well_is_doubted(sides, doubted):
    grid = np.stack(np.meshgrid(*[np.arange(-4000, 4000, 100.0)] * 2), -1).reshape(-1, 2)
    layers = []
    for angle in (0.2, 0.9):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        at = grid @ turn.T + 1500
        inside = _on(*at.T) if sides is None else (np.abs(at - 1500) < np.array(sides) / 2).all(axis=1)
        layers.append(Layer(at[inside], np.ones((int(inside.sum()), 1)), np.eye(3)))
    found = IntensityRegistration(allow_mirror=True).align(*layers)
    assert any("another turn fits as well" in one for one in found.warnings) == doubted


def test_layers_with_nothing_in_common_are_refused():
    (one, a), (two, b) = two_samples()
    flat = np.random.default_rng(1).poisson(2.0, b.shape)
    flat_too = np.random.default_rng(2).poisson(2.0, a.shape)
    method = IntensityRegistration(signal="expression", pixel_um=300)
    strong = method.align(profile(one, a), profile(two, b))
    assert not strong.warnings
    try:
        weak = method.align(profile(one, flat_too), profile(two, flat))
    except RegistrationError as error:
        assert "agreement" in str(error) or "mirrored" in str(error)
    else:
        assert any("mirrored frame fits as well" in warning for warning in weak.warnings)


def test_empty_and_unequal_layers_are_named():
    (one, a), (two, b) = two_samples(n=50)
    with pytest.raises(RegistrationError, match="registration · moving: expected points with values, found no tissue"):
        IntensityRegistration().align(profile(one, 0 * a), profile(two, b))
    with pytest.raises(RegistrationError, match="layers of different channels"):
        IntensityRegistration().align(profile(one, a[:, :3]), profile(two, b))


def stained_section(spots_to_um):
    """Return a slide of an F and the spots on it, whose own frame is off by `spots_to_um`."""
    section = new_section("s1")
    rows, columns = np.mgrid[:200, :200] * 20.0 + 10
    add_slide(section, da.from_array(_picture(columns, rows)), np.diag([20.0, 20.0, 1.0]))
    grid = np.stack(np.meshgrid(np.arange(50, 4000, 100.0), np.arange(50, 4000, 100.0)), -1).reshape(-1, 2)
    spots = grid[_on(*grid.T)]
    moved = apply_affine(spots, np.linalg.inv(spots_to_um))
    add_level(section, names.PATCH, [f"p{i}" for i in range(len(spots))], moved, 27.5, np.eye(3))
    return section, spots


def _on(x, y):
    stem = (x > 1200) & (x < 1700) & (y > 700) & (y < 3300)
    return stem | ((x >= 1700) & (((y > 700) & (y < 1200) & (x < 3200)) | ((y > 1700) & (y < 2100) & (x < 2500))))


def _picture(x, y):
    return np.where(_on(x, y)[None], np.array([170, 90, 150])[:, None, None], 240).astype(np.uint8)


def test_spots_are_placed_on_the_tissue_of_a_slide():
    section, spots = stained_section(motion(12, 350, -420, (2000, 2000)))
    before = np.linalg.norm(positions_um(section, names.PATCH) - spots, axis=1).mean()
    found = register(section, names.PATCH, names.SLIDE, IntensityRegistration())
    after = np.linalg.norm(positions_um(section, names.PATCH) - spots, axis=1).mean()
    assert after < 40 < 500 < before
    assert found.orientation == "identity"


def test_spots_are_placed_on_cells_by_shared_genes():
    (one, a), (two, b) = two_samples(n=1500)
    section = new_section("s1")
    truth = motion(8, 200, -150, (1500, 1500))
    for level, xy, counts in ((names.PATCH, apply_affine(one, np.linalg.inv(truth)), a), (names.CELL, two, b)):
        codes = [f"{level}{i}" for i in range(len(xy))]
        add_level(section, level, codes, xy, 10.0, np.eye(3))
        table = AnnData(counts.astype(np.float32), obs=pd.DataFrame(index=codes))
        table.var_names = [f"G{i}" for i in range(counts.shape[1])]
        add_observation(section, level, names.RNA, table[::-1].copy())
    method = IntensityRegistration(signal="expression", pixel_um=150)
    register(section, names.PATCH, names.CELL, method)
    assert np.linalg.norm(positions_um(section, names.PATCH) - one, axis=1).mean() < 40
    section.tables["cell_rna"].var_names = [f"H{i}" for i in range(a.shape[1])]
    with pytest.raises(RegistrationError, match="s1 · patch and cell: expected shared genes, found no gene in common"):
        register(section, names.PATCH, names.CELL, method)


def test_an_element_without_scale_is_refused():
    section, _ = stained_section(np.eye(3))
    add_level(section, names.CELL, ["a", "b", "c"], np.eye(3)[:, :2], 1.0, None)
    with pytest.raises(
        RegistrationError, match="s1 · cell: expected microns per unit, found no scale; give `um_per_unit`"
    ):
        register(section, names.CELL, names.SLIDE, IntensityRegistration())


def test_a_real_slice_turned_and_shifted_comes_back(data_dir):
    folder = data_dir / "st-breast-4slices"
    counts = pd.read_csv(folder / "slice1.csv.gz", index_col=0)
    xy = np.loadtxt(folder / "slice1_coor.csv", delimiter=",") * STEP_UM
    top = counts[counts.columns[np.argsort(-(counts > 0).mean().to_numpy())[:60]]].to_numpy()
    truth = motion(137, 1200, -800, xy.mean(0))
    moving = profile(xy, top, truth)
    found = IntensityRegistration(signal="expression").align(moving, profile(xy, top))
    assert error_um(found, moving, xy) < 10 < 1000 < np.linalg.norm(moving.xy - xy, axis=1).mean()


def test_two_xenium_replicates_by_cell_density_agree_with_their_landmarks(data_dir):
    folder = data_dir / "xenium-visium-breast" / "registration"
    layers = []
    for name in ("Rep1", "Rep2"):
        with np.load(folder / f"Xenium_Breast_Cancer_{name}.npz") as held:
            x, y = np.meshgrid(held["x"], held["y"])
            values = held["I"][0].reshape(-1, 1).astype(float)
        layers.append(Layer(np.column_stack([x.ravel(), y.ravel()]), values, np.eye(3), framed=True))
    table = pd.read_csv(folder / "landmarks.csv")
    one, two = (table.loc[table["slice"] == name, ["x", "y"]].to_numpy() for name in ("Rep1", "Rep2"))
    found = IntensityRegistration(pixel_um=60, max_angle_deg=15).align(*layers)
    off = np.linalg.norm(apply_affine(one, found.affine) - two, axis=1)
    before = np.linalg.norm(one - two, axis=1)
    assert before.min() > 1500 and off.max() < 150
    assert off.mean() < 3 * fit_landmarks(one, two).residual_um
    assert max(found.scores, key=found.scores.get) == "identity"


def test_visium_spots_on_xenium_cells_agree_better_where_nothing_was_fitted(data_dir):
    folder, unit_um = data_dir / "xenium-visium-breast", 100 / 16.9
    cells = pd.read_csv(folder / "xenium_pikachu.csv.gz", index_col=0)
    header = pd.read_csv(folder / "visium_eevee.csv.gz", index_col=0, nrows=1).columns
    genes = header.intersection(cells.columns[5:])
    spots = pd.read_csv(folder / "visium_eevee.csv.gz", usecols=["aligned_x", "aligned_y", *genes])
    top = spots[genes].sum().sort_values(ascending=False).index[:60].tolist()
    at, cell_at = (t[["aligned_x", "aligned_y"]].to_numpy() * unit_um for t in (spots, cells))
    fitted = np.floor(at / 590).astype(int).sum(1) % 2 == 0
    moving = profile(at[fitted], spots.loc[fitted, top].to_numpy())
    found = IntensityRegistration(signal="expression", max_angle_deg=15).align(
        moving, profile(cell_at, cells[top].to_numpy())
    )

    def agreement(xy):
        near = cKDTree(cell_at).query_ball_point(xy[~fitted], 15 * unit_um)
        pooled = np.array([cells[top].to_numpy()[rows].sum(0) for rows in near])
        seen = spots.loc[~fitted, top].to_numpy()
        return np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(pooled.T, seen.T, strict=True)])

    assert agreement(apply_affine(at, found.affine)) > agreement(at) + 0.03
    assert max(found.scores, key=found.scores.get) == "identity"
