"""`inspect` says what a slide, section, graph or run is, and what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.io import imsave

pytestmark = pytest.mark.usefixtures("where_data_lies")


@pytest.mark.parametrize("fault", ["run.json", "training.json"])
def test_inspect_names_what_is_damaged_in_a_run(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], fault: str
) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    (run / fault).write_text("{")
    code, _, err = say("inspect", run)
    assert code == 2 and f"{fault}: unreadable" in err


def test_a_truncated_slide_is_said_once(made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    whole = (made / "tissue/D1_untreated/slide.ome.tif").read_bytes()
    (tmp_path / "torn.ome.tif").write_bytes(whole[: len(whole) // 2])
    code, _, err = say("inspect", tmp_path / "torn.ome.tif")
    assert code == 2 and "truncated; copy it again" in err and "TiffTag" not in err and "TiffFile" not in err


def test_a_picture_without_a_pixel_size_is_described(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    imsave(tmp_path / "he.jpg", np.full((60, 80, 3), 200, np.uint8), check_contrast=False)
    code, said, err = say("inspect", tmp_path / "he.jpg")
    assert code == 0 and err == "" and "kind: slide" in said and "y: 60" in said and "x: 80" in said and "c: 3" in said
    assert "found none in the file; look again with --mpp 0.5, and give it as `mpp:` of the source he.jpg in" in said
    code, said, err = say("inspect", tmp_path / "he.jpg", "--mpp", 0.5)
    assert code == 0 and "kind: section" in said and "um_per_pixel: 0.5" in said and "faults: none" in said
    code, _, err = say("inspect", tmp_path, "--mpp", 0.5)
    assert code == 2 and "expected a slide, to go with a pixel size, found no slide; leave out --mpp" in err
    code, _, err = say("inspect", tmp_path / "he.jpg", "--mpp", 500)
    assert code == 2 and "500" in err
    (tmp_path / "he.jpg").write_bytes((tmp_path / "he.jpg").read_bytes()[:10])
    code, _, err = say("inspect", tmp_path / "he.jpg")
    assert code == 2 and "the file is damaged: copy it again" in err


def test_inspect_knows_what_it_looks_at(made: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    n_cells = len(pd.read_parquet(made / "tissue/D1_untreated/xenium/cells.parquet"))
    found = {
        name: json.loads(say("inspect", made / path, "--json")[1])
        for name, path in {
            "slide": "tissue/D1_untreated/slide.ome.tif",
            "cells": "tissue/D1_untreated/xenium",
            "spots": "tissue/D1_untreated/spaceranger",
            "graph": "graph.zarr",
            "run": "run",
        }.items()
    }
    assert (found["graph"]["kind"], found["run"]["kind"]) == ("graph", "run")
    assert found["graph"]["nodes"]["cell"] == n_cells and found["graph"]["anchors"]
    assert found["run"]["task"] == "tiny" and found["run"]["validation_loss"] > 0
    assert found["cells"]["faults"] == [] and found["spots"]["faults"] == []
    assert str(n_cells) in json.dumps(found["cells"])
    code, _, err = say("inspect", made / "tiny.yaml")
    assert code == 2 and "build it: aivc build" in err
