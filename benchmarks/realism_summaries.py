"""The summaries by which simulated and real tissue are compared; all take plain arrays of one section or block.

Counts are first brought to the same number of genes and, by binomial thinning, to the same median depth.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]

NEIGHBOURS = 6
CLUSTERS, COMPONENTS, KINDS = 6, 10, 8
QUANTILES = np.linspace(0.05, 0.95, 10)
MEAN_BINS = np.logspace(-2, 1, 10)
SPECTRUM = 15
TILE_UM = 100
TISSUE_DENSITY = 0.06


@dataclass(frozen=True)
class Block:
    """Counts ``(row, gene)``, positions ``(row, 2)`` [µm], and labels ``(row,)`` where somebody gave some."""

    counts: NDArray[np.int64]
    xy: Array
    labels: NDArray[np.str_] | None = None


def comparable(block: Block, genes: int, depth: float, seed: int = 0) -> Block:
    """Return the block with at most `genes` genes, drawn at random, and a median of `depth` counts or fewer a row."""
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(block.counts.shape[1])[:genes])
    counts = block.counts[:, kept]
    share = min(1.0, depth / np.median(counts.sum(axis=1)))
    thinned = rng.binomial(counts, share)
    thinned = thinned[:, thinned.sum(axis=0) > 0]
    measured = thinned.sum(axis=1) > 0
    return Block(thinned[measured], block.xy[measured], None if block.labels is None else block.labels[measured])


def in_blocks(block: Block, number: int, rows: int) -> list[Block]:
    """Halve a section along its longer side until there are `number` parts; keep the `rows` about each one's middle."""
    parts = [np.arange(len(block.xy))]
    while len(parts) < number:
        axes = [int(np.argmax(np.ptp(block.xy[part], axis=0))) for part in parts]
        sorted_parts = [part[np.argsort(block.xy[part, axis])] for part, axis in zip(parts, axes, strict=True)]
        parts = [half for part in sorted_parts for half in np.array_split(part, 2)]
    found = []
    for part in parts:
        off = np.hypot(*(block.xy[part] - np.median(block.xy[part], axis=0)).T)
        near = part[np.argsort(off)[:rows]]
        labels = None if block.labels is None else block.labels[near]
        found.append(Block(block.counts[near], block.xy[near], labels))
    return found


def summarise(block: Block) -> dict[str, Any]:
    """Return every summary of counts of one comparable block: numbers, and lists that are curves."""
    total = block.counts.sum(axis=1)
    x = np.log1p(block.counts / total[:, None] * np.median(total))
    data = _neighbours(AnnData(x, obsm={"spatial": block.xy}))
    return {
        **_depth(total),
        **_mean_variance(block.counts),
        **_correlation(x),
        **_autocorrelation(data),
        **_neighbourhood(data, block.labels),
    }


def _depth(total: Array) -> dict[str, Any]:
    log = np.log10(total / np.median(total))
    return {"depth_spread": float(np.ptp(np.quantile(log, [0.1, 0.9]))), "depth_curve": np.quantile(log, QUANTILES)}


def _mean_variance(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Squared coefficient of variation beyond Poisson, and zeros beyond Poisson, by bins of the mean."""
    mean, variance, zero = counts.mean(axis=0), counts.var(axis=0), (counts == 0).mean(axis=0)
    beyond = (variance - mean) / mean**2
    enough = mean > 0.05
    bins = np.digitize(mean, MEAN_BINS)
    curves = [[float(np.median(v[bins == b])) if (bins == b).sum() > 1 else None for b in range(1, len(MEAN_BINS))]
              for v in (beyond, zero)]  # fmt: skip
    return {
        "dispersion": float(np.median(beyond[enough])),
        "dispersion_slope": float(np.polyfit(np.log(mean[enough]), np.log(np.maximum(beyond[enough], 0.05)), 1)[0]),
        "zeros_beyond_poisson": float(np.mean((zero - np.exp(-mean))[enough])),
        "dispersion_curve": curves[0],
        "zeros_curve": curves[1],
    }


def _correlation(x: Array) -> dict[str, Any]:
    """Eigenvalues of the genes' correlation matrix, as shares; genes of less than 0.05 counts a row are left out."""
    varying = x[:, x.std(axis=0) > 0]
    r = np.corrcoef(varying.T)
    share = np.sort(np.linalg.eigvalsh(r))[::-1] / len(r)
    off = np.abs(r[np.triu_indices(len(r), 1)])
    return {
        "correlation_first_share": float(share[0]),
        "correlation_ten_share": float(share[:10].sum()),
        "correlation_strong": float(np.quantile(off, 0.95)),
        "spectrum_curve": share[:SPECTRUM],
    }


def _neighbours(data: AnnData) -> AnnData:
    import squidpy as sq

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sq.gr.spatial_neighbors(data, n_neighs=NEIGHBOURS, coord_type="generic")
    return data


def _autocorrelation(data: AnnData) -> dict[str, Any]:
    import squidpy as sq

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        moran = sq.gr.spatial_autocorr(data, mode="moran", n_perms=None, copy=True, show_progress_bar=False)
    values = moran["I"].dropna().to_numpy()
    return {
        "moran_median": float(np.median(values)),
        "moran_high": float(np.quantile(values, 0.9)),
        "moran_curve": np.quantile(values, QUANTILES),
    }


def _neighbourhood(data: AnnData, labels: NDArray[np.str_] | None) -> dict[str, Any]:
    """Enrichment of neighbours of one's own kind and of others: z / √rows, with kinds by k-means and the eight
    most frequent ones as labelled.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    pcs = PCA(COMPONENTS, random_state=0).fit_transform(np.asarray(data.X))
    kinds = KMeans(CLUSTERS, n_init=3, random_state=0).fit_predict(pcs).astype(str)
    found = {f"enrichment_{k}": v for k, v in _enrichment(data, kinds).items()}
    if labels is not None:
        found |= {f"label_enrichment_{k}": v for k, v in _enrichment(data, labels).items()}
    return found


def _enrichment(data: AnnData, kinds: NDArray[np.str_]) -> dict[str, float]:
    import pandas as pd
    import squidpy as sq

    names, counts = np.unique(kinds, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:KINDS]
    common = np.isin(kinds, names[frequent][counts[frequent] >= 10])
    part = data[common].copy()
    part.obs["kind"] = pd.Categorical(kinds[common])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        z = sq.gr.nhood_enrichment(part, "kind", n_perms=100, seed=0, n_jobs=1, copy=True, show_progress_bar=False)[0]
    z = z / np.sqrt(len(part))
    return {"own": float(np.nanmean(np.diag(z))), "others": float(np.nanstd(z[~np.eye(len(z), dtype=bool)]))}


def summarise_slide(image: NDArray[np.uint8], mpp: float, tiles: int = 250, seed: int = 0) -> dict[str, Any]:
    """Return colour statistics of tissue tiles of 100 µm at 1 µm a pixel, as optical density against the glass.

    Mean density, its spread within and between tiles, how much redder than blue the light that comes through is, and
    the share of dark, nuclear pixels.
    """
    glass = np.quantile(image[::8, ::8].reshape(-1, 3), 0.98, axis=0)
    side = round(TILE_UM / mpp)
    height, width = image.shape[:2]
    corners = [(y, x) for y in range(0, height - side, side) for x in range(0, width - side, side)]
    found: list[Array] = []
    for y, x in np.random.default_rng(seed).permutation(corners):
        tile = image[y : y + side, x : x + side].astype(np.float32)
        smooth = ndimage.gaussian_filter(tile, (0.35 / mpp, 0.35 / mpp, 0))
        tile = ndimage.zoom(smooth, (TILE_UM / side, TILE_UM / side, 1), order=1)
        density = (-np.log10(np.clip(tile, 2, None) / glass)).clip(-0.1)
        if (density.mean(axis=2) > TISSUE_DENSITY).mean() > 0.6:
            found.append(density)
        if len(found) == tiles:
            break
    stack = np.stack(found)
    grey = stack.mean(axis=3)
    per_tile = stack.mean(axis=(1, 2))
    return {
        "density": float(grey.mean()),
        "density_within_tiles": float(grey.std(axis=(1, 2)).mean()),
        "density_between_tiles": float(per_tile.mean(axis=1).std()),
        "red_to_green": float(per_tile[:, 0].mean() / per_tile[:, 1].mean()),
        "blue_to_green": float(per_tile[:, 2].mean() / per_tile[:, 1].mean()),
        "hue_between_tiles": float((per_tile[:, 0] / per_tile[:, 1]).std()),
        "dark_share": float((stack[..., 0] > 2 * np.median(stack[..., 0])).mean()),
        "density_curve": np.quantile(grey, QUANTILES),
        "red_curve": np.quantile(per_tile[:, 0], QUANTILES),
    }
