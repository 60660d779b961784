"""Serial sections: the second lands on the first by whatever is surest, with all that it holds."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from aivc_graph import names
from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.frame import affine_of, apply_affine, positions_um
from aivc_graph.tissue.registration.pairs import PLACES
from aivc_graph.tissue.registration.serial import register_serial
from aivc_graph.tissue.section import add_level, add_observation, add_slide, metadata_of, new_section

C, S = np.cos(0.3), np.sin(0.3)
TURN = np.array([[C, -S, 300.0], [S, C, -150.0], [0.0, 0.0, 1.0]])
MIRROR = np.diag([-1.0, 1.0, 1.0])
PIXEL_UM = 25.0


def on_tissue(x, y):
    """Say where tissue is: an L."""
    return ((x > 400) & (x < 1000) & (y > 300) & (y < 2700)) | ((x >= 1000) & (x < 2400) & (y > 2000) & (y < 2700))


def section_of(name, seed, frame=None, genes=True, slide=False):
    """Return spots of an L of tissue, each section with cells of its own, in a frame that is off by `frame`."""
    frame = np.eye(3) if frame is None else frame
    rng = np.random.default_rng(seed)
    array, angle = np.stack(np.meshgrid(*[np.arange(-4000, 4000, 100.0)] * 2), -1).reshape(-1, 2), rng.uniform(0, 1.5)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    true = array @ turn.T + 1500  # the array lies on the tissue at any angle
    true = true[on_tissue(*true.T)]
    section = new_section(name)
    codes = [f"p{i}" for i in range(len(true))]
    add_level(section, names.PATCH, codes, apply_affine(true, np.linalg.inv(frame)), 27.5, np.eye(3))
    if genes:
        way = np.random.default_rng(0).normal(size=(12, 2)) / 300
        rates = 20 * np.exp(np.sin(true @ way.T + np.arange(12)))
        table = AnnData(rng.poisson(rates).astype(np.float32), obs=pd.DataFrame(index=codes))
        table.var_names = [f"G{i}" for i in range(12)]
        add_observation(section, names.PATCH, names.RNA, table)
    if slide:
        y, x = np.mgrid[:120, :120] * PIXEL_UM + PIXEL_UM / 2
        picture = np.where(on_tissue(x, y)[None], np.array([170, 90, 150])[:, None, None], 240).astype(np.uint8)
        add_slide(section, da.from_array(picture), np.linalg.inv(frame) @ np.diag([PIXEL_UM, PIXEL_UM, 1.0]))
    return section, true


@pytest.mark.parametrize(("genes", "slide"), [(True, False), (False, False), (False, True)])
def test_the_second_section_lands_on_the_first_with_all_it_holds(genes, slide):
    first, _ = section_of("one", 1, genes=genes, slide=slide)
    second, true = section_of("two", 2, TURN, genes=genes, slide=slide)
    own = dict(zip(PLACES, [*positions_um(second, names.PATCH)[0]] * 2, strict=True))
    metadata_of(second)[names.PAIRS] = [{"name": "a", **own}]
    found = register_serial(second, first)
    placed = [metadata_of(second)[names.PAIRS][0][key] for key in PLACES]
    np.testing.assert_allclose(placed, [*positions_um(second, names.PATCH)[0]] * 2)
    off = np.linalg.norm(positions_um(second, names.PATCH) - true, axis=1)
    assert off.mean() < 45 and found.residual_um > 0.3 * np.sqrt((off**2).mean())
    assert metadata_of(second)["residual_um_section"] == pytest.approx(found.residual_um, abs=0.01)
    assert second.shapes[names.PATCH]["registration_sigma_um"].between(0, 100).all()
    if slide:
        corner = apply_affine([[0.0, 0.0]], affine_of(second, names.SLIDE))
        assert np.linalg.norm(corner) < 100


def test_the_surest_is_taken():
    first, _ = section_of("one", 1)
    second, _ = section_of("two", 2, TURN)
    noise = np.random.default_rng(0)
    plain = register_serial(second, first)
    for section in (first, second):
        table = section.tables["patch_rna"]
        table.X = noise.poisson(2.0, table.shape).astype(np.float32)
    assert plain.method in ("serial (outline of patch)", "serial (expression of patch)")
    again, _ = section_of("two", 2, TURN)
    again.tables["patch_rna"].X = noise.poisson(2.0, again.tables["patch_rna"].shape).astype(np.float32)
    assert register_serial(again, first).method == "serial (outline of patch)"


def test_a_section_mounted_upside_down_is_refused_unless_allowed():
    first, _ = section_of("one", 1)
    second, true = section_of("two", 2, MIRROR)
    with pytest.raises(RegistrationError, match=r"(?s)two on one · outline of patch: .*mirror.*expression of patch"):
        register_serial(second, first)
    register_serial(second, first, allow_mirror=True)
    assert np.linalg.norm(positions_um(second, names.PATCH) - true, axis=1).mean() < 45


def test_sections_that_share_nothing_are_named():
    first, _ = section_of("one", 1)
    with pytest.raises(RegistrationError, match="two on one: expected levels or slides that are placed, found nothing"):
        register_serial(new_section("two"), first)
