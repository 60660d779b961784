"""A pretrained encoder: what may be loaded, what is refused, and that tiles reach it."""

from __future__ import annotations

import pickle
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aivc_graph.errors import ConfigError, ReadError
from aivc_graph.modalities.encoder import ExportedEncoder, encoder_kind
from aivc_graph.modalities.histology import add_histology
from aivc_graph.modalities.stain import fit_stains
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_slide, new_section

FRAME = fit_stains(np.zeros((0, 3), np.uint8))


def extractor_of(encoder: ExportedEncoder) -> object:
    return encoder.extractor(FRAME, encoder.geometry(55.0, 0.5), "S1")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({"w": torch.ones(2)}, path),
        lambda path: torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), path),
        lambda path: path.write_bytes(pickle.dumps({"w": 1})),
    ],
    ids=["torch.save", "torch.export", "pickle"],
)
@pytest.mark.filterwarnings("ignore")
def test_pickle_is_refused_by_content_whatever_the_ending(write: object, tmp_path: Path) -> None:
    path = tmp_path / "encoder.pt2"
    write(path)  # type: ignore[operator]
    disguised = path.rename(tmp_path / "encoder.safetensors")
    with pytest.raises(ReadError, match=r"encoder\.safetensors: expected an ONNX graph, or safetensors .*pickle"):
        extractor_of(ExportedEncoder(path=disguised, timm_model="resnet10t"))


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


def test_safetensors_need_an_architecture(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors")
    assert encoder_kind(tmp_path / "w.safetensors") == "safetensors"
    with pytest.raises(ConfigError, match="name it as `timm_model:`"):
        extractor_of(ExportedEncoder(path=tmp_path / "w.safetensors"))


def test_timm_weights_embed_tiles_of_a_section(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is optional")
    network = timm.create_model("resnet10t", pretrained=False)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    section = new_section("S1")
    add_level(section, "patch", ["a", "b"], [[100, 100], [300, 300]], 27.5, scale_affine(1.0))
    noise = np.random.default_rng(0).integers(60, 200, (3, 400, 400), dtype=np.uint8)
    add_slide(section, da.from_array(noise), scale_affine(1.0))
    encoder = ExportedEncoder(path=tmp_path / "w.safetensors", timm_model="resnet10t", input_px=64)
    add_histology(section, features=encoder, progress=False)
    table = section.tables["patch_histology"]
    assert table.shape == (2, network.num_features) and np.ptp(table.X, axis=0).max() > 0
    with pytest.raises(ConfigError, match="expected the weights of 'resnet18', found"):
        extractor_of(ExportedEncoder(path=tmp_path / "w.safetensors", timm_model="resnet18"))


def test_onnx_sees_normalised_channels_first(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is optional")
    pytest.importorskip("onnxruntime", reason="onnxruntime is optional")
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("GlobalAveragePool", ["x"], ["y"])
    shapes = value("x", 1, ["n", 3, 32, 32]), value("y", 1, ["n", 3, 1, 1])
    graph = onnx.helper.make_graph([node], "mean", [shapes[0]], [shapes[1]])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "mean.onnx")
    encoder = ExportedEncoder(path=tmp_path / "mean.onnx", input_px=32, mean=(0.0, 0.5, 0.0), sd=(1.0, 1.0, 1.0))
    tile = np.full((1, 32, 32, 3), (255, 255, 0), np.uint8)
    np.testing.assert_allclose(extractor_of(encoder)(tile), [[1.0, 0.5, 0.0]], atol=1e-6)  # type: ignore[operator]
