"""Open an image encoder from a local file: what it is by content, and never by unpickling it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from aivc_graph.errors import ConfigError, ReadError

Kind = Literal["onnx", "safetensors", "torchscript", "torch.export"]
Encode = Callable[[NDArray[np.float32]], Any]

MAX_SAFETENSORS_HEADER = 100_000_000
FORMATS = "TorchScript, torch.export, ONNX, or safetensors with `timm_model:`"
EXPORT = "export the encoder anew, as TorchScript or ONNX"
AS_SAFETENSORS = "write its tensors by `safetensors.torch.save_file(model.state_dict(), FILE)`"
TENSORS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def open_encoder(path: Path, timm_model: str | None, timm_options: Mapping[str, Any]) -> Encode:
    """Return what turns images ``(tile, 3, y, x)``, float32, into embeddings, on the CPU and without gradients.

    TorchScript and ``torch.export`` hold a program that runs when tiles are embedded, ONNX a graph of known operators,
    the others numbers alone: take programs from whom you would take code.

    Raises
    ------
    ReadError
        No such file, none of the formats, damaged, or a pickle, also one of weights alone.
    ConfigError
        The library that reads it is not installed, or `timm_model` is missing or does not fit.
    """
    kind = encoder_kind(path)
    if kind == "onnx":
        return _onnx(path)
    if kind == "safetensors":
        return _without_gradients(_timm(path, timm_model, timm_options))
    import torch

    with _damage(path), _tensors_only():
        if kind == "torchscript":
            return _without_gradients(torch.jit.load(path, map_location="cpu").eval())
        return _without_gradients(torch.export.load(path).module())


def encoder_kind(path: Path) -> Kind:
    """Return what a file is by its content, whatever its ending.

    Raises
    ------
    ReadError
        No such file, or none of the formats.
    """
    if not path.is_file():
        raise ReadError(str(path), "no such file", FORMATS)
    with path.open("rb") as file:
        head = file.read(16)
    if head[:2] == b"PK":
        return _kind_of_archive(path)
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":  # what torch wrote before version 1.6
        raise ReadError(str(path), "a pickle", FORMATS, AS_SAFETENSORS)
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


def _kind_of_archive(path: Path) -> Kind:
    """Tell apart the three archives that torch writes, each below one folder, by the members that only they have."""
    try:
        with ZipFile(path) as archive:
            members = {name.partition("/")[2] or name for name in archive.namelist()}
    except (BadZipFile, OSError, NotImplementedError) as error:
        raise ReadError(str(path), f"a damaged archive ({error})", FORMATS, "copy it again from its source") from error
    if "archive_format" in members or "serialized_exported_program.json" in members:
        return "torch.export"
    if "constants.pkl" in members:
        return "torchscript"
    if "data.pkl" in members:
        raise ReadError(str(path), "a pickle, as `torch.save` writes", FORMATS, AS_SAFETENSORS)
    raise ReadError(str(path), "a zip archive that torch did not write", FORMATS, EXPORT)


def _onnx(path: Path) -> Encode:
    try:
        import onnxruntime
    except ImportError as error:
        mend = "pip install 'aivc-graph[onnx]'"
        raise ConfigError(str(path), "ONNX, and onnxruntime is not installed", mend=mend) from error
    with _damage(path):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def _timm(path: Path, model: str | None, options: Mapping[str, Any]) -> Any:
    """Build the architecture without weights of its own, load the file's, and drop the classifier."""
    from safetensors.torch import load_file

    if model is None:
        raise ConfigError(str(path), "weights without an architecture", mend="name it as `timm_model:`")
    try:
        import timm
    except ImportError as error:
        mend = "pip install timm, or export the encoder as TorchScript where it is"
        raise ConfigError(str(path), "weights, and timm is not installed", mend=mend) from error
    with _damage(path):
        weights = load_file(path)
    expected = f"the weights of {model!r}"
    try:
        network = timm.create_model(model, pretrained=False, num_classes=0, **options)
        missing, _ = network.load_state_dict(weights, strict=False)
    except (RuntimeError, TypeError) as error:  # no such model, tensors of other shapes, no such option
        raise ConfigError(str(path), str(error).splitlines()[-1].strip(), expected, "see `timm_options:`") from error
    if missing:
        found = f"no weights for {len(missing)} of its tensors, first {missing[0]!r}"
        raise ConfigError(str(path), found, expected)
    return network.eval()


def _without_gradients(network: Any) -> Encode:
    import torch

    def encode(batch: NDArray[np.float32]) -> Any:
        with torch.inference_mode():
            found = network(torch.from_numpy(batch))
        return found.numpy() if isinstance(found, torch.Tensor) else found

    return encode


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Name the file where a library breaks on what is in it."""
    import pickle

    try:
        yield
    except pickle.UnpicklingError as error:
        raise ReadError(str(path), "a pickle that holds more than tensors", FORMATS, EXPORT) from error
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ReadError(str(path), f"an encoder that cannot be opened ({first:.200})", FORMATS, EXPORT) from error


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Let torch unpickle nothing but tensors, for `torch.export.load` asks for more where it does not get on."""
    before = os.environ.get(TENSORS_ONLY)
    os.environ[TENSORS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[TENSORS_ONLY]
        else:
            os.environ[TENSORS_ONLY] = before
