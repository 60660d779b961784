"""A pretrained encoder: what may be loaded, what is refused, and that tiles reach it as it expects them."""

from __future__ import annotations

import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from aivc_graph.errors import ConfigError, ReadError
from aivc_graph.modalities.encoder import IMAGENET_MEAN, IMAGENET_SD, ExportedEncoder
from aivc_graph.modalities.encoder_files import TENSORS_ONLY, encoder_kind
from aivc_graph.modalities.histology import add_histology
from aivc_graph.modalities.stain import fit_stains
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_slide, new_section
from tests.modalities.encoders import WIDTH, embedded, exported, network, script

FRAME = fit_stains(np.zeros((0, 3), np.uint8))
TILES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def extractor_of(path: Path, **options: Any) -> Any:
    encoder = ExportedEncoder(encoder=path, **{"input_px": 32, **options})
    return encoder.extractor(FRAME, encoder.geometry(55.0, 0.5), "S1")


class Evil:
    """What a pickle may do to whoever reads it."""

    def __reduce__(self) -> Any:
        return os.mkdir, (f"{os.environ['TRAP']}/sprung",)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAP", str(tmp_path))
    return tmp_path / "sprung"


@pytest.mark.parametrize("write", [script, exported])
def test_programs_see_normalised_channels_first_and_are_told_by_content(write: Any, tmp_path: Path) -> None:
    disguised = write(tmp_path).rename(tmp_path / "weights.safetensors")
    found = extractor_of(disguised)
    assert found.names == tuple(f"embedding_{i}" for i in range(WIDTH))
    np.testing.assert_allclose(found(TILES), embedded(TILES, IMAGENET_MEAN, IMAGENET_SD), atol=1e-5)
    plain = extractor_of(disguised, mean=(0, 0, 0), sd=(1, 1, 1))
    np.testing.assert_allclose(plain(TILES), embedded(TILES, (0, 0, 0), (1, 1, 1)), atol=1e-5)
    assert plain.key() != found.key()


def test_a_tile_is_the_encoders_own_size_whatever_slide_and_patch() -> None:
    geometry = ExportedEncoder(encoder="x.pt").geometry(diameter_um=55, slide_mpp=0.25)
    assert (geometry.tile_um, geometry.mpp, geometry.pixels) == (112, 0.5, 224)
    wide = ExportedEncoder(encoder="x.pt", tile_um=224).geometry(diameter_um=55, slide_mpp=0.25)
    assert (wide.mpp, wide.pixels) == (1.0, 224)


def test_a_pickle_inside_anything_runs_nothing(trap: Path, tmp_path: Path) -> None:
    torch.save({"w": Evil()}, tmp_path / "state.bin")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("state.bin", "bare.pkl"):
        with pytest.raises(ReadError, match=rf"{name}: expected TorchScript.* a pickle.*safetensors\.torch\.save_file"):
            extractor_of(tmp_path / name, timm_model="resnet10t")
    whole, poisoned = exported(tmp_path), tmp_path / "poisoned.pt2"
    torch.save(((Evil(),), {}), tmp_path / "inputs.pt")
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(poisoned, "w") as new:
        for member in old.namelist():
            held = (tmp_path / "inputs.pt").read_bytes() if "sample_inputs" in member else old.read(member)
            new.writestr(member, held)
    with pytest.raises(ReadError, match=r"poisoned\.pt2: .*a pickle that holds more than tensors; export the encoder"):
        extractor_of(poisoned)
    assert not trap.exists() and TENSORS_ONLY not in os.environ


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge.safetensors"
    huge.write_bytes((2**40).to_bytes(8, "little") + b"{}" + b"\0" * 8)
    with pytest.raises(ReadError, match="header of 1,099,511,627,776 bytes; the file is damaged"):
        encoder_kind(huge)
    (tmp_path / "note.txt").write_text("weights to follow")
    with pytest.raises(ReadError, match="begins with b'weights '"):
        encoder_kind(tmp_path / "note.txt")
    with pytest.raises(ReadError, match="no such file"):
        encoder_kind(tmp_path / "absent.onnx")
    whole = script(tmp_path).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"cut\.pt: .*a damaged archive"):
        encoder_kind(tmp_path / "cut.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a/b", "c")
    with pytest.raises(ReadError, match="a zip archive that torch did not write"):
        encoder_kind(tmp_path / "other.zip")


class Tokens(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, 0].transpose(1, 2)


class Two(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[:, 0, 0], x[:, 0, 0]


class Infinite(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0, 0] / 0.0


class OneForAll(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0, 0].mean(0, keepdim=True)


class Together(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0, 0] - x[:, 0, 0].mean(0, keepdim=True)


class Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, 3 * 64 * 64)


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (
            Tokens(),
            r"expected one array \(tile, feature\), found an output \(2, 32, 3\) of 2 tiles; export",
        ),
        (Two(), r"expected one array \(tile, feature\), found tuple as output"),
        (Infinite(), r"expected finite, found NaN or infinity in the embeddings of 2 of 2 tiles; check `mean:`"),
        (OneForAll(), r"found an output \(1, 32\) of 2 tiles"),
        (Together(), r"expected each tile by itself, found an embedding that depends on the other tiles"),
        (Fixed(), r"found an error at images \(2, 3, 32, 32\) .*check `input_px:`"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_comes_out_must_be_one_finite_embedding_a_tile(one: nn.Module, found: str, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=found):
        extractor_of(script(tmp_path, one))


def section_with_slide() -> Any:
    section = new_section("S1")
    add_level(section, "patch", ["a", "b"], [[100, 100], [300, 300]], 27.5, scale_affine(1.0))
    noise = np.random.default_rng(0).integers(60, 200, (3, 400, 400), dtype=np.uint8)
    add_slide(section, da.from_array(noise), scale_affine(1.0))
    return section


def test_tiles_are_remembered_by_what_the_encoder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = script(tmp_path), tmp_path / "cache"

    def measured() -> np.ndarray:
        section = section_with_slide()
        encoder = ExportedEncoder(encoder=path, input_px=32, target_mpp=1.0)
        add_histology(section, features=encoder, cache=cache, progress=False)
        return np.asarray(section.tables["patch_histology"].X)

    first = measured()
    (held,) = cache.iterdir()
    before = held.stat().st_mtime_ns
    np.testing.assert_array_equal(measured(), first)
    assert held.stat().st_mtime_ns == before
    other = network()
    nn.init.normal_(other[0].weight)
    script(tmp_path, other)
    assert np.abs(measured() - first).max() > 1e-3 and len(list(cache.iterdir())) == 2


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for timm, which knows one architecture."""

    def create_model(name: str, pretrained: bool, num_classes: int, **options: Any) -> nn.Module:
        assert not pretrained and num_classes == 0
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        return network() if not options else nn.Sequential(nn.Conv2d(3, options["width"], 3))

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))


@pytest.mark.usefixtures("timm")
def test_weights_are_put_into_the_architecture_that_is_named(tmp_path: Path) -> None:
    save_file(network().state_dict(), tmp_path / "w")
    found = extractor_of(tmp_path / "w", timm_model="tiny")
    np.testing.assert_allclose(found(TILES), embedded(TILES, IMAGENET_MEAN, IMAGENET_SD), atol=1e-5)
    with pytest.raises(ConfigError, match="name it as `timm_model:`"):
        extractor_of(tmp_path / "w")
    with pytest.raises(ConfigError, match=r"expected the weights of 'huge', found Unknown model \(huge\)"):
        extractor_of(tmp_path / "w", timm_model="huge")
    with pytest.raises(ConfigError, match=r"size mismatch.*see `timm_options:`"):
        extractor_of(tmp_path / "w", timm_model="tiny", timm_options={"width": 9})


@pytest.mark.usefixtures("timm")
def test_weights_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    weights = network().state_dict()
    save_file({"0.weight": weights["0.weight"]}, tmp_path / "w")
    with pytest.raises(ConfigError, match=r"no weights for 1 of its tensors, first '0\.bias'"):
        extractor_of(tmp_path / "w", timm_model="tiny")
    for new in (True, False):
        torch.save(weights, tmp_path / "pickled", _use_new_zipfile_serialization=new)
        with pytest.raises(ReadError, match=r"found a pickle.*safetensors\.torch\.save_file"):
            extractor_of(tmp_path / "pickled", timm_model="tiny")


def test_a_library_that_is_missing_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "timm", None)
    (tmp_path / "x.onnx").write_bytes(b"\x08\x08" + b"\0" * 20)
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed; pip install 'aivc-graph\[onnx\]'"):
        extractor_of(tmp_path / "x.onnx")
    save_file(network().state_dict(), tmp_path / "w")
    with pytest.raises(ConfigError, match="timm is not installed; pip install timm, or export the encoder as Torch"):
        extractor_of(tmp_path / "w", timm_model="resnet10t")


def test_onnx_sees_normalised_channels_first(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is optional")
    pytest.importorskip("onnxruntime", reason="onnxruntime is optional")
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("GlobalAveragePool", ["x"], ["y"])
    shapes = value("x", 1, ["n", 3, 32, 32]), value("y", 1, ["n", 3, 1, 1])
    graph = onnx.helper.make_graph([node], "mean", [shapes[0]], [shapes[1]])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "mean.onnx")
    found = extractor_of(tmp_path / "mean.onnx", mean=(0.0, 0.5, 0.0), sd=(1.0, 1.0, 1.0))
    tile = np.full((1, 32, 32, 3), (255, 255, 0), np.uint8)
    np.testing.assert_allclose(found(tile), [[1.0, 0.5, 0.0]], atol=1e-6)
