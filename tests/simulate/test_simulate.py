"""A simulated study as a whole: same seed same bytes, what it writes, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.spatial import cKDTree

from aivc_graph.config import Config, load_config
from aivc_graph.errors import ConfigError
from aivc_graph.io.reading import read
from aivc_graph.modalities.histology import add_histology
from aivc_graph.modalities.histology_features import HistologyFeatures
from aivc_graph.simulate.donors import draw_site
from aivc_graph.simulate.presets import PRESETS, UNTREATED
from aivc_graph.simulate.programmes import GENES
from aivc_graph.simulate.simulate import simulate
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.intervention import Intervention
from aivc_graph.tissue.section import add_level


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("tiny", tmp_path_factory.mktemp("sim") / "tiny", seed=5)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*.*"))
        if p.is_file()
    }


def test_same_seed_same_bytes_other_seed_other_tissue(files: Path, tmp_path: Path) -> None:
    assert digests(simulate("tiny", tmp_path / "again", seed=5)) == digests(files)
    other = digests(simulate("tiny", tmp_path / "other", seed=6))
    slide = "D1_untreated/slide.ome.tif"
    assert set(other) == set(digests(files)) and other[slide] != digests(files)[slide]


def test_truth_of_cells_rates_and_counterfactuals_is_about_the_same_cells(files: Path) -> None:
    for section in ("D1_untreated", "D2_knockout_tgfb1"):
        cells = pd.read_parquet(files / "truth" / section / "cells.parquet")
        delivered = pd.read_parquet(files / section / "xenium/cells.parquet")
        assert list(delivered["cell_id"]) == list(cells["cell_id"])
        for path in (files / "truth" / section).rglob("*rates.parquet"):
            rates = pd.read_parquet(path)
            assert list(rates.index) == list(cells["cell_id"]) and list(rates.columns) == list(GENES)


def test_the_configuration_says_what_was_simulated(files: Path) -> None:
    config = load_config(files / "config.yaml")
    assert isinstance(config, Config) and config.task.split == {"kind": "by_group", "key": "donor", "test": ["D2"]}
    known = json.loads((files / "truth/interventions.json").read_text())
    for section in config.task.sections:
        assert all(source.path.is_dir() for source in section.sources)
        arm = section.name.removeprefix(f"{section.donor}_")
        done = [given.model_dump(exclude={"where"}, exclude_none=True) for given in section.interventions]
        assert done == [{k: v for k, v in given.items() if k != "where"} for given in known.get(arm, [])]
        treated = pd.read_parquet(files / "truth" / section.name / "cells.parquet")
        away = np.hypot(treated["x_um"] - 200, treated["y_um"] - 200)
        assert (treated["treated"] == ((away <= 100) & (arm != UNTREATED))).all()


def test_what_would_have_been_is_what_was_where_nobody_did_anything_else(files: Path, tmp_path: Path) -> None:
    for folder in (files, simulate(replace(PRESETS["tiny"], effect=0.0), tmp_path / "null", seed=5)):
        for section in sorted((folder / "truth").glob("D*")):
            rates = pd.read_parquet(section / "cell_rates.parquet")
            for path in (section / "counterfactual").iterdir():
                same = pd.read_parquet(path).equals(rates)
                assert same == (folder != files or path.stem == section.name.partition("_")[2])


def test_our_readers_read_every_source_back(files: Path) -> None:
    for source in load_config(files / "config.yaml").task.sections[1].sources:
        section = read(source.path, reader=source.reader, section="s", **source.options)
        assert "cell" in section.shapes or ("patch" in section.shapes and "slide" in section.images)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.arms])
def test_what_is_asked_was_done_or_is_kept_for_the_test(name: str) -> None:
    preset = PRESETS[name]
    held_out = {*preset.validation, *preset.test}
    assert held_out < {plan.name for plan in preset.donors}
    done = [arm for plan in preset.donors if plan.name not in held_out for arm in plan.arms]
    unseen = set(preset.arms) - set(done)
    assert unseen == ({"galunisertib_ligand_ifng", "ruxolitinib_then_ligand_ifng"} if name == "perturb" else set())
    assert set(done) - {UNTREATED} <= set(preset.asked) == set(preset.arms)
    assert all(UNTREATED in plan.arms for plan in preset.donors)


def test_interventions_are_those_of_the_library() -> None:
    for preset in PRESETS.values():
        for parts in preset.arms.values():
            for given in parts:
                known = Intervention(**given).model_dump(exclude_none=True)
                assert known.pop("where", {}).get("disc_um") == (given["where"] and tuple(given["where"]["disc_um"]))
                assert known == {field: value for field, value in given.items() if field != "where"}


def test_adjacent_sections_say_how_they_lie(tmp_path: Path) -> None:
    cohort = PRESETS["cohort"]
    one = replace(cohort, size_um=300.0, donors=cohort.donors[:1], validation=(), test=(), mpp=None)
    out = simulate(one, tmp_path / "out")
    first, second = (
        json.loads((out / "truth" / f"D1_untreated{cut}" / "transforms.json").read_text()) for cut in ("", "_adjacent1")
    )
    assert first["block"] == second["block"] and first["cells"] == np.eye(3).tolist() and not first["warp"]["phase"]
    turn = np.array(second["cells"])[:2, :2]
    np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-12)
    assert 4 < np.rad2deg(np.arccos(turn[0, 0])) < 15 and len(second["warp"]["phase"]) == 3


def test_sites_differ_in_depth_genes_and_stain(tmp_path: Path) -> None:
    assert {plan.site for plan in PRESETS["cohort"].donors} == {"A", "B"}
    a, b = (draw_site(name, 0) for name in "AB")
    assert a.depth != b.depth and np.corrcoef(a.gene_shift, b.gene_shift)[0, 1] < 0.3
    assert np.abs(a.stain - b.stain).max() > 0.02


def test_an_array_of_cores_is_one_section_that_is_read_whole(tmp_path: Path) -> None:
    large = PRESETS["large"]
    small = replace(large, size_um=200.0, donors=large.donors[:1], validation=(), test=(), cores=(2, 3))
    out = simulate(small, tmp_path / "out")
    cells = pd.read_parquet(out / "truth/D1_untreated/cells.parquet").set_index("cell_id")
    assert cells.index.is_unique and cells["x_um"].max() > 600 > cells["y_um"].max() > 300
    source = load_config(out / "config.yaml").task.sections[0].sources[0]
    section = read(source.path, reader=source.reader, section="s", **source.options)
    counts = section.tables["cell_rna"]
    assert counts.shape == (len(cells), 500) and set(counts.obs_names) == set(cells.index)


def test_nuclei_on_the_picture_are_the_cells_of_the_truth(files: Path) -> None:
    section = read(files / "D1_untreated/slide.ome.tif", section="sim")
    cells = pd.read_parquet(files / "truth/D1_untreated/cells.parquet")[["x_um", "y_um"]].to_numpy()
    centres = np.stack(np.meshgrid(*[np.arange(60.0, 341.0, 70.0)] * 2), axis=-1).reshape(-1, 2)
    add_level(section, "patch", [f"b{i}" for i in range(len(centres))], centres, 27.5, scale_affine(1.0))
    add_histology(section, features=HistologyFeatures(min_tissue=0.5), progress=False)
    seen = section.tables["patch_histology"].to_df()["nuclei_count"]
    half = section.tables["patch_histology"].uns["histology"]["tile_um"] / 2
    below = cKDTree(cells).query_ball_point(centres, half, p=np.inf, return_length=True)
    true = pd.Series(below, [f"b{i}" for i in range(len(centres))])[seen.index]
    assert len(seen) > 15 and np.corrcoef(seen, true)[0, 1] > 0.85
    assert seen.sum() == pytest.approx(true.sum(), rel=0.25)


def test_slide_is_a_tiled_pyramid_with_its_pixel_size(files: Path) -> None:
    with tifffile.TiffFile(files / "D2_untreated/slide.ome.tif") as tiff:
        levels = tiff.series[0].levels
        assert [level.shape for level in levels] == [(400, 400, 3), (200, 200, 3)]
        assert levels[0].pages[0].is_tiled and 'PhysicalSizeX="1.0"' in tiff.ome_metadata
        assert np.abs(levels[0].asarray()[::2, ::2].astype(int) - levels[1].asarray()).mean() < 12


def test_faults_name_what_to_do_and_nothing_is_lost(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no preset named 'tinny'; did you mean 'tiny'\?"):
        simulate("tinny", tmp_path / "x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ConfigError, match="already holds something; name a new folder"):
        simulate("tiny", tmp_path / "mine")
    with pytest.raises(ConfigError, match="expected a whole number from 0, found -1"):
        simulate("tiny", tmp_path / "y", seed=-1)
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
