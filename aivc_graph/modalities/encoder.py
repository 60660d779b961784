"""A pretrained image encoder from a local file, read without pickle and without the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aivc_graph.atomic import file_digest
from aivc_graph.errors import ReadError
from aivc_graph.modalities.encoder_files import Encode, open_encoder
from aivc_graph.modalities.stain import StainFrame
from aivc_graph.modalities.tile_features import AbstractTileExtractor, AbstractTileFeatures, TileGeometry

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Embeddings of the same tile, alone and beside another, differ by rounding.
ALIKE = 1e-3


class ExportedEncoder(AbstractTileFeatures):
    """Embeds tiles by a pretrained encoder from a local file: TorchScript, torch.export, ONNX or weights for timm.

    What is inside decides, not the ending. Nothing is fetched, and weights are read from safetensors alone, never from
    a pickle. TorchScript and torch.export are programs: take them from whom you would take code. A tile is `input_px`
    wide and high at `target_mpp`, or, if `tile_um` is given, resampled to `input_px`.

    Parameters
    ----------
    encoder
        The file.
    input_px
        Edge of the images that the encoder expects [pixel].
    target_mpp
        Pixel size that the encoder was trained at [µm/pixel].
    tile_um
        Edge of the tile [µm]; by default `input_px` × `target_mpp`.
    mean, sd
        Normalisation of red, green and blue, for values 0 to 1; by default those of ImageNet.
    timm_model
        Architecture that weights belong to, such as ``vit_large_patch16_224``.
    timm_options
        What timm must be told to build it, such as ``{init_values: 1.0e-5}``.

    Examples
    --------
    >>> ExportedEncoder(encoder="encoder.pt", target_mpp=0.5).geometry(diameter_um=55, slide_mpp=0.25)
    TileGeometry(tile_um=112.0, mpp=0.5)
    """

    encoder: Path
    input_px: int = Field(224, ge=8)
    target_mpp: float = Field(0.5, gt=0)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    sd: tuple[float, float, float] = IMAGENET_SD
    timm_model: str | None = None
    timm_options: dict[str, Any] = Field(default_factory=dict)

    def geometry(self, diameter_um: float, slide_mpp: float) -> TileGeometry:
        """Return a tile of the encoder's input size, whatever the patch and the slide."""
        tile_um = self.tile_um or self.input_px * self.target_mpp
        return TileGeometry(tile_um, tile_um / self.input_px)

    def extractor(self, frame: StainFrame, geometry: TileGeometry, where: str) -> AbstractTileExtractor:
        """Open the encoder and try it on blank tiles.

        Raises
        ------
        ReadError
            As `open_encoder`; or what comes out is no finite embedding of each tile by itself.
        ConfigError
            As `open_encoder`.
        """
        encode = open_encoder(self.encoder, self.timm_model, self.timm_options)
        identity = repr(
            (file_digest(self.encoder), self.timm_model, sorted(self.timm_options.items()), self.mean, self.sd)
        ).encode()
        return _Embedding(encode, str(self.encoder), self.mean, self.sd, geometry, identity)


@dataclass
class _Embedding(AbstractTileExtractor):
    encode: Encode
    where: str
    mean: tuple[float, float, float]
    sd: tuple[float, float, float]
    geometry: TileGeometry
    identity: bytes
    parallel = False

    def __post_init__(self) -> None:
        edge = self.geometry.pixels
        tiles = np.random.default_rng(0).integers(0, 256, (2, edge, edge, 3), dtype=np.uint8)
        both, alone = self(tiles), self(tiles[:1])
        if np.abs(both[:1] - alone).max() > ALIKE * (1 + np.abs(alone).max()):
            found = "an embedding that depends on the other tiles of the batch"
            raise ReadError(self.where, found, "each tile by itself", "export the encoder in evaluation mode")
        self.names = tuple(f"embedding_{i}" for i in range(both.shape[1]))

    def key(self) -> bytes:
        """Return bytes for weights, normalisation and tile."""
        return self.identity + str(self.geometry).encode()

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return embeddings ``(tile, feature)``."""
        mean, sd = np.asarray(self.mean, np.float32), np.asarray(self.sd, np.float32)
        scaled = (tiles / np.float32(255) - mean) / sd
        batch = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)
        given = f"an error at images {batch.shape}"
        try:
            found = self.encode(batch)
        except Exception as error:  # each library raises kinds of its own
            last = (str(error).strip().splitlines() or [""])[-1]
            mend = "check `input_px:`; the number of images must be free where the encoder is exported"
            raise ReadError(self.where, f"{given} ({last:.200})", "an embedding of each", mend) from error
        return self._checked(found, len(tiles))

    def _checked(self, found: Any, n: int) -> NDArray[np.float32]:
        """Return what came out as ``(tile, feature)``; axes of one, as pooling leaves them, are dropped."""
        expected, mend = "one array (tile, feature)", "export the encoder without its classifier, with its pooling"
        if not isinstance(found, np.ndarray):
            raise ReadError(self.where, f"{type(found).__name__} as output", expected, mend)
        if found.ndim < 2 or found.shape[0] != n or found.size != n * found.shape[1]:
            raise ReadError(self.where, f"an output {found.shape} of {n} tiles", expected, mend)
        values = np.asarray(found, np.float32).reshape(n, -1)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(axis=1).sum())
            mend = "check `mean:`, `sd:` and the file's weights"
            raise ReadError(self.where, f"NaN or infinity in the embeddings of {bad} of {n} tiles", "finite", mend)
        return values
