"""The measurement of simulated tissue: counts, molecules, proteins, chromatin and the picture."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aivc_graph.errors import ReadError
from aivc_graph.io.readers.h5ad import H5adReader
from aivc_graph.io.readers.xenium import XeniumReader
from aivc_graph.simulate.counts import gene_sizes, overdispersion, poisson_quantile
from aivc_graph.simulate.donors import draw_donor, draw_site
from aivc_graph.simulate.h5ad_file import write_h5ad
from aivc_graph.simulate.imaging import MISASSIGNED, NO_CELL, UNASSIGNED, place_molecules, see_molecules
from aivc_graph.simulate.measure import count_spots
from aivc_graph.simulate.multiome import count_proteins, count_regions
from aivc_graph.simulate.multiome_files import READER_OPTIONS, write_multiome
from aivc_graph.simulate.programmes import TYPE_NAMES
from aivc_graph.simulate.section import SimulatedSection
from aivc_graph.simulate.slide import paint_slide
from aivc_graph.simulate.specimen import cut_specimen
from aivc_graph.simulate.xenium_files import XeniumFolder, write_xenium


@pytest.fixture(scope="module")
def section() -> SimulatedSection:
    return cut_specimen(draw_donor("D", "S", 1.0, 3), draw_site("S", 3), "D_s", "b", 600.0, 3).untreated


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(-6, 6))
def test_quantiles_are_those_of_the_distribution(seed: int, log_scale: float) -> None:
    rng = np.random.default_rng(seed)
    mean, u = rng.gamma(0.5, np.exp(log_scale), 400), rng.random(400)
    np.testing.assert_array_equal(poisson_quantile(u, mean), stats.poisson.ppf(u, mean).clip(0))


def test_more_is_never_fewer_and_the_same_is_the_same() -> None:
    rng = np.random.default_rng(0)
    mean, u = rng.gamma(0.3, 60.0, (300, 40)), rng.random((300, 40))
    raised = np.where(rng.random(mean.shape) < 0.3, mean * rng.uniform(1, 3, mean.shape), mean)
    low, high = poisson_quantile(u, mean), poisson_quantile(u, raised)
    assert (high >= low).all() and (high > low).any()
    np.testing.assert_array_equal(high[raised == mean], low[raised == mean])


def test_counts_have_the_dispersion_of_their_gene_and_are_drawn_fast() -> None:
    rng, size = np.random.default_rng(1), gene_sizes(np.ones(150), 2.5, 0.4, 1)
    mean = np.broadcast_to(rng.uniform(0.5, 8, 150), (6000, 150))
    start = time.process_time()
    counts = poisson_quantile(rng.random(mean.shape), mean * overdispersion(mean.shape, size, rng))
    assert time.process_time() - start < 0.5
    seen = (counts.var(axis=0) - counts.mean(axis=0)) / counts.mean(axis=0) ** 2
    assert np.corrcoef(seen, 1 / size)[0, 1] > 0.9
    assert np.median(seen * size) == pytest.approx(1.0, abs=0.1)


def test_molecules_are_expected_at_the_rate_and_shared_as_stated(section: SimulatedSection) -> None:
    drawn = [see_molecules(replace(section, seed=seed)) for seed in range(8)]
    total, true = sum(d.kept + d.moved for d in drawn) / 8, section.cell_rate
    assert total.sum() == pytest.approx(true.sum(), rel=0.02)
    assert sum(d.moved.sum() for d in drawn) / 8 == pytest.approx(MISASSIGNED * true.sum(), rel=0.03)
    assert sum(d.lost.sum() for d in drawn) / 8 == pytest.approx(UNASSIGNED * true.sum(), rel=0.03)
    for d in drawn:
        assert d.counts.sum() == d.kept.sum() + d.moved.sum()
    apart = np.hypot(*(section.cell_xy - section.cell_xy[drawn[0].neighbour]).T)
    assert (apart > 0).mean() > 0.95 and apart.max() <= 25.0


def test_a_counterfactual_is_measured_with_the_same_noise(section: SimulatedSection) -> None:
    rate = section.cell_rate.copy()
    rate[:40, 5] *= 4
    before, after = see_molecules(section), see_molecules(replace(section, cell_rate=rate))
    changed = after.counts != before.counts
    assert changed.any() and (after.counts >= before.counts).all()
    assert set(np.nonzero(changed)[1]) == {5}
    assert set(np.nonzero(changed)[0]) <= {*range(40), *before.neighbour[:40]}


def test_points_add_up_to_the_matrix_and_lie_in_their_cells(section: SimulatedSection) -> None:
    names = np.array([f"c{i:05d}" for i in range(len(section.cell_xy))])
    molecules = see_molecules(section)
    points = place_molecules(section, molecules, names)
    given = points[points.cell_id != NO_CELL]
    table = pd.crosstab(given.cell_id, given.feature_name).reindex(index=names, columns=list(section.genes))
    np.testing.assert_array_equal(table.fillna(0).to_numpy(), molecules.counts)
    assert (given.qv >= 20).all() and points.qv.min() < 20 and points.transcript_id.is_unique
    cell = pd.Index(names).get_indexer(given.cell_id)
    off = np.hypot(given.x_location - section.cell_xy[cell, 0], given.y_location - section.cell_xy[cell, 1])
    radius = np.sqrt(section.cell_area_um2[cell] / np.pi)
    assert (off <= 1.5 * radius).mean() > 0.9


def test_spots_see_the_cells_beneath_with_the_same_genes_favoured_everywhere(section: SimulatedSection) -> None:
    spots, other = count_spots(section), count_spots(replace(section, seed=section.seed + 1))
    beneath = spots.capture @ section.cell_rate
    often = beneath.sum(axis=0) > np.median(beneath.sum(axis=0))  # what is rarely seen is favoured by chance
    favour = [np.log(s.counts.sum(axis=0) / beneath.sum(axis=0))[often] for s in (spots, other)]
    assert np.corrcoef(*favour)[0, 1] > 0.7 and np.std(favour[0]) > 0.15


def test_proteins_are_bright_where_made_and_never_quite_dark(section: SimulatedSection) -> None:
    protein = count_proteins(section)
    rna = section.cell_rate[:, [section.genes.index(gene) for gene in protein.features.gene]]
    kind = np.array(TYPE_NAMES)[section.cell_type]
    seen = pd.DataFrame(protein.counts, columns=protein.features.index).groupby(kind).mean()
    assert seen["EPCAM"].idxmax() in ("tumour", "cycling tumour")
    assert seen.loc["fibroblast", "EPCAM"] > 1  # background
    assert seen.loc["tumour", "EPCAM"] > 5 * seen.loc["fibroblast", "EPCAM"]
    made = pd.DataFrame(rna / section.cell_rate.sum(axis=1, keepdims=True), columns=seen.columns).groupby(kind).mean()
    assert made.corrwith(seen).median() > 0.9


def test_enhancers_open_where_their_gene_is_made(section: SimulatedSection) -> None:
    chromatin = count_regions(section)
    assert len(chromatin.features) == 3 * len(section.genes) and chromatin.features.index.is_unique
    share = np.log(section.cell_rate / section.cell_rate.sum(axis=1, keepdims=True))
    enhancer = np.flatnonzero(chromatin.features.distance_bp != 0)
    gene = [section.genes.index(chromatin.features.gene.iloc[i]) for i in enhancer]
    open_ = chromatin.counts[:, enhancer] > 0
    own = np.mean([np.corrcoef(open_[:, j], share[:, g])[0, 1] for j, g in enumerate(gene)])
    promoter = np.flatnonzero(chromatin.features.distance_bp == 0)
    assert own > 0.15
    assert (chromatin.counts[:, promoter] > 0).mean() > 2 * open_.mean()


def test_anndata_and_our_reader_read_the_file_and_it_is_the_same_each_time(
    section: SimulatedSection, tmp_path: Path
) -> None:
    protein = count_proteins(section)
    names = [f"c{i}" for i in range(len(section.cell_xy))]
    obs = pd.DataFrame({"area": section.cell_area_um2, "label": ["ä"] * len(names)}, index=names)
    for name in "ab":
        write_h5ad(tmp_path / f"{name}.h5ad", protein.counts, obs, protein.features, section.cell_xy)
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(back.X.toarray(), protein.counts)
    pd.testing.assert_frame_equal(back.obs, obs, check_dtype=False)
    assert list(back.var.gene) == list(protein.features.gene)
    level = H5adReader(level="cell", um_per_unit=1.0, area="area").read(tmp_path / "a.h5ad", "s")
    assert level.tables["cell_rna"].shape == protein.counts.shape


def test_three_modalities_are_read_as_one_source(section: SimulatedSection, tmp_path: Path) -> None:
    write_multiome(section, see_molecules(section), tmp_path / "multiome")
    level = H5adReader(**READER_OPTIONS).read(tmp_path / "multiome" / "rna.h5ad", "s")
    assert {name: table.n_vars for name, table in level.tables.items()} == {
        "cell_rna": len(section.genes),
        "cell_protein": 35,
        "cell_atac": 3 * len(section.genes),
    }
    np.testing.assert_array_equal(level.tables["cell_protein"].X.toarray(), count_proteins(section).counts)
    damaged = ad.read_h5ad(tmp_path / "multiome" / "protein.h5ad")
    damaged.X.data[0] = 0.5
    damaged.write_h5ad(tmp_path / "multiome" / "protein.h5ad")
    with pytest.raises(ReadError, match=r"protein\.h5ad"):
        H5adReader(**READER_OPTIONS).read(tmp_path / "multiome" / "rna.h5ad", "s")


def test_a_folder_grows_by_blocks_and_reads_as_one(section: SimulatedSection, tmp_path: Path) -> None:
    counts = [see_molecules(replace(section, seed=seed)).counts for seed in (1, 2)]
    for name in "ab":
        with XeniumFolder(tmp_path / name, section.genes) as folder:
            for k in (0, 1):
                folder.append(section, counts[k], (600.0 * k, 0.0))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    level = XeniumReader(labels="cell_types.csv").read(tmp_path / "a", "s")
    table = level.tables["cell_rna"]
    np.testing.assert_array_equal(table.X.toarray(), np.vstack(counts))
    assert table.obs_names.is_unique and list(table.var_names) == list(section.genes)
    cells = pd.read_parquet(tmp_path / "a" / "cells.parquet")
    np.testing.assert_allclose(cells.x_centroid[len(counts[0]) :], section.cell_xy[:, 0] + 600, atol=1e-3)


def test_our_reader_finds_the_molecules(section: SimulatedSection, tmp_path: Path) -> None:
    molecules = see_molecules(section)
    write_xenium(section, molecules, None, tmp_path / "x", transcripts=True)
    tissue = XeniumReader(min_qv=20).read(tmp_path / "x", "s")
    points = next(iter(tissue.points.values())).compute()
    given = points[points.cell != ""]
    assert len(given) == molecules.counts.sum() and len(points) > len(given)


def test_a_fold_darkens_and_blur_softens(section: SimulatedSection) -> None:
    plain = paint_slide(section).astype(float)
    folded, soft = paint_slide(section, folds=1).astype(float), paint_slide(section, blur_um=4.0).astype(float)
    darker = (plain - folded).mean(axis=2) > 30
    assert 0.003 < darker.mean() < 0.15
    rough = [(np.abs(np.diff(image, axis=1)) > 20).mean() for image in (plain, soft)]
    assert rough[1] < 0.9 * rough[0] and soft.mean() == pytest.approx(plain.mean(), rel=0.02)


def test_the_slide_is_the_same_at_any_pixel_size(section: SimulatedSection) -> None:
    coarse, fine = paint_slide(section, 1.0), paint_slide(section, 0.5)
    halved = fine.reshape(600, 2, 600, 2, 3).mean(axis=(1, 3))
    blue = [stats.zscore(image[..., 0].astype(float).ravel()) for image in (coarse, halved)]
    assert np.mean(blue[0] * blue[1]) > 0.6
