"""A pretrained image encoder from a local file, read without pickle and without the network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aivc_graph.errors import ConfigError, ReadError
from aivc_graph.modalities.stain import StainFrame
from aivc_graph.modalities.tile_features import AbstractTileExtractor, AbstractTileFeatures, TileGeometry

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_SAFETENSORS_HEADER = 100_000_000
FORMATS = "an ONNX graph, or safetensors with `timm_model:` naming its architecture"


class ExportedEncoder(AbstractTileFeatures):
    """Embeds tiles by an encoder exported to ONNX, or by a timm architecture with its weights as safetensors.

    What is inside decides, not the ending: a file that would have to be unpickled to be read (TorchScript,
    ``torch.save``, ``torch.export``) is refused. Nothing is fetched.

    Parameters
    ----------
    path
        The file.
    timm_model
        Architecture the safetensors belong to, such as ``vit_small_patch16_224``.
    input_px
        Edge the encoder expects [pixel]; tiles are resampled to it.
    mean, sd
        Normalisation of the channels, for values 0–1.

    Examples
    --------
    >>> ExportedEncoder(path="encoder.onnx", tile_um=112, target_mpp=0.5).input_px
    224
    """

    path: Path
    timm_model: str | None = None
    input_px: int = Field(224, ge=8)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    sd: tuple[float, float, float] = IMAGENET_SD

    def geometry(self, diameter_um: float, slide_mpp: float) -> TileGeometry:
        """Return a tile of the encoder's input size."""
        tile_um = super().geometry(diameter_um, slide_mpp).tile_um
        return TileGeometry(tile_um, tile_um / self.input_px)

    def extractor(self, frame: StainFrame, geometry: TileGeometry, where: str) -> AbstractTileExtractor:
        """Open the encoder and try it on a blank tile.

        Raises
        ------
        ReadError
            No such file, a pickle, or neither ONNX nor safetensors.
        ConfigError
            The library that reads it is not installed, or `timm_model` is missing or does not fit.
        """
        kind = encoder_kind(self.path)
        session = _onnx(self.path) if kind == "onnx" else _timm(self.path, self.timm_model)
        digest = hashlib.blake2b(self.path.read_bytes(), digest_size=16).hexdigest()
        identity = repr((digest, self.timm_model, self.mean, self.sd)).encode()
        return _Embedding(session, self.mean, self.sd, geometry, identity)


def encoder_kind(path: Path) -> str:
    """Return ``"onnx"`` or ``"safetensors"`` by content.

    Raises
    ------
    ReadError
        No such file; a pickle or an archive that holds one; anything else.
    """
    if not path.is_file():
        raise ReadError(str(path), "no such file", FORMATS)
    with path.open("rb") as file:
        head = file.read(16)
    if head[:2] == b"PK":
        raise ReadError(str(path), "a zip archive of torch, which holds pickles", FORMATS, "export the encoder anew")
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        raise ReadError(str(path), "a pickle", FORMATS, "export the encoder anew")
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{":
        limit = min(MAX_SAFETENSORS_HEADER, path.stat().st_size - 8)
        if header > limit:
            found = f"a safetensors header of {header:,} bytes"
            raise ReadError(str(path), found, f"at most {limit:,}", "the file is damaged")
        return "safetensors"
    if head[:1] == b"\x08":  # field 1 of an ONNX ModelProto: ir_version, a varint
        return "onnx"
    raise ReadError(str(path), f"a file that begins with {head[:8]!r}", FORMATS)


@dataclass
class _Embedding(AbstractTileExtractor):
    model: Any
    mean: tuple[float, float, float]
    sd: tuple[float, float, float]
    geometry: TileGeometry
    identity: bytes
    parallel = False

    def __post_init__(self) -> None:
        width = self(np.zeros((1, self.geometry.pixels, self.geometry.pixels, 3), np.uint8)).shape[1]
        self.names = tuple(f"embedding_{i}" for i in range(width))

    def key(self) -> bytes:
        """Return bytes for weights, normalisation and tile."""
        return self.identity + str(self.geometry).encode()

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return embeddings ``(tile, feature)``."""
        mean, sd = np.asarray(self.mean, np.float32), np.asarray(self.sd, np.float32)
        scaled = (tiles / np.float32(255) - mean) / sd
        embedded = self.model(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
        return np.asarray(embedded, np.float32).reshape(len(tiles), -1)


def _onnx(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(str(path), "onnxruntime is not installed", mend="pip install onnxruntime") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def _timm(path: Path, model: str | None) -> Any:
    """Build the architecture without weights of its own, load the file's, and drop the classifier."""
    if model is None:
        raise ConfigError(str(path), "safetensors without an architecture", mend="name it as `timm_model:`")
    try:
        import timm
    except ImportError as error:
        raise ConfigError(str(path), "timm is not installed", mend="pip install timm") from error
    import torch
    from safetensors.torch import load_file

    weights = load_file(path)
    network = timm.create_model(model, pretrained=False, num_classes=0)
    try:
        missing, _ = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # tensors of other shapes
        raise ConfigError(str(path), str(error).splitlines()[-1].strip(), f"the weights of {model!r}") from error
    if missing:
        found = f"no weights for {len(missing)} of its tensors, first {missing[0]!r}"
        raise ConfigError(str(path), found, f"the weights of {model!r}")
    network.eval()

    def embed(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()

    return embed
