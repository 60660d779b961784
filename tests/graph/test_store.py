"""The graph store: what is written comes back, and no fault loses what was there."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from aivc_graph.errors import StoreError
from aivc_graph.graph.store import open_store, read_store, read_thumbnails, write_store
from aivc_graph.graph.tissue_graph import to_torch_csr
from aivc_graph.graph.windows import windows
from aivc_graph.tissue.thumbnail import Thumbnail

_HELPER = Path(__file__).with_name("tissues.py")
_spec = importlib.util.spec_from_file_location("tissues", _HELPER)
tissues = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tissues)

STEPS = [(("cell", "near", "cell"), False), (("cell", "within", "patch"), False), (("patch", "near", "patch"), False)]


@pytest.fixture
def graph():
    return tissues.random_tissue(400)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "g.zarr"
    write_store(tissues.random_tissue(400), path, {"configuration": {"k": 6}, "inputs": {"a.h5": "sha256:0"}})
    return path


@pytest.fixture
def path(written, tmp_path):
    return shutil.copytree(written, tmp_path / "g.zarr")


def shard(path: Path, inside: str) -> Path:
    return next(p for p in sorted((path / inside).rglob("c/*")) if p.is_file())


def test_round_trip_to_the_last_bit(graph, path):
    tissues.same_graph(graph, read_store(path))
    assert os.listdir(path.parent) == ["g.zarr"]


def test_each_level_is_an_anndata(graph, path):
    cells = anndata.read_zarr(path / "levels/cell")
    assert cells.obs_names.tolist() == graph.obs("cell").index.tolist()
    assert cells.var_names.tolist() == graph.obs("gene").index.tolist()
    assert cells.X.dtype == np.uint16
    np.testing.assert_array_equal(cells.X.toarray(), graph.counts("cell", "rna").to_dense())
    np.testing.assert_array_equal(
        cells[10:60].X.sum(axis=1), graph.counts("cell", "rna").to_dense()[10:60].sum(1, True)
    )
    np.testing.assert_array_equal(cells.obsm["spatial"], graph["cell"].pos)
    near = graph["cell", "near", "cell"]
    np.testing.assert_array_equal(cells.obsp["near_distances"].data, near.distance_um)
    np.testing.assert_array_equal(cells.obsp["near_distances"].indices, near.adj_t.col_indices())
    patches = anndata.read_zarr(path / "levels/patch")
    np.testing.assert_array_equal(patches.obsm["histology"], graph["patch"].histology)
    assert anndata.read_zarr(path / "levels/region").n_obs == graph["region"].num_nodes


def test_what_is_out_of_the_ordinary_comes_back(graph, tmp_path):
    n = graph["cell"].num_nodes
    near = graph["cell", "near", "cell"]
    near.adj_t.values()[:] = torch.linspace(0, 1, near.adj_t.values().numel())
    near.distance_um[:3] = 0.0
    graph["gene", "observed_in", "cell"].adj_t.values()[0] = 70_000
    graph["gene", "observed_in", "patch"].adj_t = to_torch_csr(np.full((graph["patch"].num_nodes, 20), 0.5))
    graph["patch"].rna_mask = torch.ones(graph["patch"].num_nodes, dtype=torch.bool)
    graph["protein"].obs = pd.DataFrame(index=["CD3", "CD4"])
    graph["protein"].num_nodes = 2
    graph["protein", "observed_in", "cell"].adj_t = to_torch_csr(np.eye(n, 2))
    graph["cell"].protein_mask = torch.zeros(n, dtype=torch.bool)
    graph["cell"].rna_depth = torch.tensor(812.0)
    graph["section"].cell_rna_mean = torch.ones(1, 20)
    graph.obs("cell")["size_um"] = 1.5
    tissues.same_graph(graph, write_and_read(graph, tmp_path / "g.zarr"))
    assert anndata.read_zarr(tmp_path / "g.zarr/levels/cell").X.dtype == np.uint32


def test_text_with_gaps_becomes_categories(graph, tmp_path):
    graph.obs("section")["site"] = pd.Series([None], index=["s1"], dtype=object)
    graph.obs("patch")["label"] = ["a", None] * (graph["patch"].num_nodes // 2) + ["b"] * (graph["patch"].num_nodes % 2)
    back = write_and_read(graph, tmp_path / "g.zarr")
    assert back.obs("section").site.isna().all()
    assert back.obs("patch").label.astype(object).where(back.obs("patch").label.notna(), None).tolist() == (
        graph.obs("patch").label.tolist()
    )


def test_tissue_of_one_cell(tmp_path):
    graph = tissues.random_tissue(1)
    tissues.same_graph(graph, write_and_read(graph, tmp_path / "g.zarr"))


def test_attribute_without_a_place_is_refused(graph, path):
    graph["cell"].thing = object()
    with pytest.raises(StoreError, match="cell: an attribute that is neither tensor nor JSON"):
        write_store(graph, path)
    assert read_store(path)["cell"].num_nodes == 400 and os.listdir(path.parent) == ["g.zarr"]


def test_windows_from_the_store_equal_those_from_memory(graph, path):
    order = [2, 0, 1]
    pairs = zip(
        windows(graph, STEPS, 120, order=order), windows(open_store(path), STEPS, 120, order=order), strict=True
    )
    for memory, stored in pairs:
        tissues.same_graph(memory.graph, stored.graph)
        assert all(torch.equal(memory.rows[level], stored.rows[level]) for level in graph.levels)
        assert all(torch.equal(memory.core[level], stored.core[level]) for level in graph.levels)


def test_cache_smaller_than_a_shard_only_costs_time(graph, path):
    store = open_store(path, cache_mib=0)
    rows = np.array([0, 1, 2, 50, 399])
    counts = store.observe("cell", rows)[1]["gene", "observed_in", "cell"]
    torch.testing.assert_close(counts.to_dense(), graph.counts("cell", "rna").to_dense()[rows])


def test_facts_travel_with_the_store(path):
    facts = open_store(path).facts
    assert facts["schema_version"] == 1 and facts["provenance"]["configuration"] == {"k": 6}
    assert set(facts["libraries"]) >= {"anndata", "zarr", "torch"} and facts["checksums"]


def test_corrupt_shard_is_named(path):
    broken = shard(path, "levels/cell/X/data")
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    store = open_store(path)
    assert store.structure["cell"].num_nodes == 400
    with pytest.raises(StoreError, match=r"levels/cell/X/data/c/0: a shard that does not match its checksum"):
        store.observe("cell", np.arange(3))
    with pytest.raises(StoreError, match="X/data/c/0"):
        read_store(path)


def test_truncated_metadata_is_named(path):
    (path / "levels/cell/obs/zarr.json").write_text('{"zarr_format": 3,')
    with pytest.raises(StoreError, match=r"levels/cell/obs/zarr.json: expected the JSON of a Zarr v3 group or array"):
        open_store(path)


def test_missing_shard_is_never_read_as_zeros(path):
    shard(path, "levels/cell/X/data").unlink()
    with pytest.raises(StoreError, match=r"levels/cell/X/data/c/0: no such shard"):
        open_store(path)


def test_shard_that_vanishes_after_opening(path):
    store = open_store(path)
    shard(path, "levels/cell/X/data").unlink()
    with pytest.raises(StoreError, match=r"no such shard; the store was damaged, or replaced since it was opened"):
        store.observe("cell", np.arange(3))


def test_newer_version_is_refused(path):
    zarr.open_group(path, mode="a").attrs["schema_version"] = 2
    with pytest.raises(StoreError, match="expected a store of version 1 or older, found version 2; update aivc-graph"):
        open_store(path)


def test_no_store_and_foreign_group(tmp_path):
    with pytest.raises(StoreError, match=r"nothing.zarr: no graph store"):
        open_store(tmp_path / "nothing.zarr")
    zarr.open_group(tmp_path / "other.zarr", mode="w", zarr_format=3)
    with pytest.raises(StoreError, match="a Zarr group that is no graph store"):
        open_store(tmp_path / "other.zarr")


@pytest.mark.parametrize("theirs", ["notes.txt", "folder/notes.txt", "table.zarr/zarr.json"])
def test_what_is_no_graph_store_is_never_replaced(graph, tmp_path, theirs):
    (tmp_path / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / theirs).write_text("mine")
    with pytest.raises(StoreError, match=r"expected nothing, or a graph store to replace, found a .*; name another"):
        write_store(graph, tmp_path / Path(theirs).parts[0])
    assert (tmp_path / theirs).read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == [Path(theirs).parts[0]]


def test_link_is_refused(path, tmp_path):
    broken = shard(path, "levels/cell/X/data")
    shutil.move(broken, tmp_path / "elsewhere")
    broken.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"X/data/c/0: expected plain files, found a link"):
        open_store(path)


def test_linked_folder_is_refused(path, tmp_path):
    shutil.move(path / "levels", tmp_path / "levels")
    (path / "levels").symlink_to(tmp_path / "levels", target_is_directory=True)
    with pytest.raises(StoreError, match=r"levels: expected plain files, found a link"):
        open_store(path)


def test_pickled_objects_are_refused_by_content(path):
    place = path / "levels/cell/X/data/zarr.json"
    described = json.loads(place.read_text())
    described["data_type"], described["codecs"] = "object", [{"name": "numcodecs.pickle"}]
    place.write_text(json.dumps(described))
    old = path / "levels/cell/uns/old"
    old.mkdir()
    (old / ".zarray").write_text('{"dtype": "|O", "filters": [{"id": "pickle"}]}')
    with pytest.raises(StoreError) as error:
        open_store(path)
    assert all(part in str(error.value) for part in ("'object'", "'numcodecs.pickle'", ".zarray: expected Zarr v3"))


def test_key_that_climbs_out_is_refused(path):
    root = zarr.open_group(path, mode="a")
    root.attrs["checksums"] = {**root.attrs["checksums"], "../outside": 0}
    with pytest.raises(StoreError, match=r"expected keys inside the store, found the key '\.\./outside'"):
        open_store(path)


def test_relation_that_climbs_out_is_refused(path):
    root = zarr.open_group(path, mode="a")
    root.attrs["relations"] = [["..", "..", "cell"]]
    with pytest.raises(StoreError, match=r"no relation between node types of this store"):
        open_store(path)


def test_part_that_is_not_there_is_named(path):
    root = zarr.open_group(path, mode="a")
    root.attrs["relations"] = [["cell", "beside", "cell"]]
    with pytest.raises(StoreError, match=r"a part that cannot be read: 'relations/cell__beside__cell'"):
        open_store(path)


def test_pictures_of_the_slides_are_part_of_the_store(graph, path):
    assert read_thumbnails(path) == {}
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    slides = {name: Thumbnail(image[:, : 30 * i], 2.5 * i, (10.0, -i)) for i, name in enumerate("zyx", 1)}
    write_store(graph, path, slides=slides)
    found = read_thumbnails(path)
    assert list(found) == list("zyx")
    for name, slide in slides.items():
        np.testing.assert_array_equal(found[name].image, slide.image)
        assert (found[name].um_per_pixel, found[name].origin_um) == (slide.um_per_pixel, slide.origin_um)
    tissues.same_graph(graph, read_store(path))
    chunk = next(p for p in (path / "slides/1/c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"slides/1/c.*a shard that does not match its checksum"):
        read_thumbnails(path)


def test_disk_full_keeps_the_old_and_removes_the_temporary(graph, path):
    bigger = tissues.random_tissue(4000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StoreError, match=r"File too large while writing; what was there before is intact"):
            write_store(bigger, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(path.parent) == ["g.zarr"]
    tissues.same_graph(graph, read_store(path))


HOLDER = """
import sys, time
from pathlib import Path
from aivc_graph.graph.replacing import replacing
with replacing(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("x")
    print("writing", flush=True)
    time.sleep(60)
"""

REPLACER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tissues", sys.argv[2])
tissues = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tissues)
from aivc_graph.graph.store import write_store
graph = tissues.random_tissue(20_000)
print("writing", flush=True)
while True:
    write_store(graph, sys.argv[1])
"""


def start_writer(path: Path, script: str) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", "-c", script, str(path), str(_HELPER)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "writing\n"
    return writer


def end(writer: subprocess.Popen) -> None:
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()


def test_two_writers_and_one_killed(graph, path):
    writer = start_writer(path, HOLDER)
    try:
        with pytest.raises(StoreError, match=rf"being written by process {writer.pid} on .* since 20"):
            write_store(graph, path)
        tissues.same_graph(graph, read_store(path))
    finally:
        end(writer)
    left = set(os.listdir(path.parent))
    assert left == {"g.zarr", ".tmp-g.zarr", ".g.zarr.lock"}
    tissues.same_graph(graph, read_store(path))
    other = tissues.random_tissue(100)
    write_store(other, path)
    assert os.listdir(path.parent) == ["g.zarr"]
    tissues.same_graph(other, read_store(path))


def test_killed_while_it_replaces_again_and_again(graph, path):
    writer = start_writer(path, REPLACER)
    time.sleep(0.7)
    end(writer)
    assert read_store(path)["cell"].num_nodes in (400, 20_000)
    write_store(graph, path)
    assert os.listdir(path.parent) == ["g.zarr"]


def test_killed_between_two_renames(graph, path):
    path.rename(path.with_name(".old-g.zarr"))
    tissues.same_graph(graph, read_store(path))
    assert os.listdir(path.parent) == ["g.zarr"]


def test_lock_of_another_host_is_respected(graph, path):
    lock = path.with_name(".g.zarr.lock")
    lock.write_text(json.dumps({"pid": 7, "host": "elsewhere", "time": "2026-01-01 00:00:00"}))
    with pytest.raises(StoreError, match=r"process 7 on elsewhere since 2026-01-01 00:00:00; wait for it; .*delete"):
        write_store(graph, path)
    lock.write_text("")
    write_store(graph, path)
    assert not lock.exists()


def write_and_read(graph, path):
    write_store(graph, path)
    return read_store(path)
