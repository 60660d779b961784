"""The whole way on a simulated tissue."""

from __future__ import annotations

import shutil
from pathlib import Path

import networkx as nx

from aivc_graph.config import Config, SectionConfig, SourceConfig, TaskConfig
from aivc_graph.modalities.histology_features import HistologyFeatures
from aivc_graph.pipeline.ask import flat, save_answer
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.train import Run, train_config
from aivc_graph.plot.contact_graph import contact_graph
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate
from aivc_graph.training.settings import TrainingConfig


def demo(out: Path, *, device: str = "auto", seed: int = 0, preset: str = "demo") -> Path:
    """Go the whole way on a simulated section: simulate → build → train → ask; return the run folder.

    Beside the run folder's own files there are the tables ``niches.csv``, ``markers.csv``, ``expression.csv`` and
    ``contacts.csv``, and the pictures ``niches.png`` (over the slide), ``contacts.png`` and ``training.png``.

    Parameters
    ----------
    out
        Run folder; the simulated files go into its ``tissue``.
    preset
        Name of the simulated section, as in `aivc_graph.simulate.simulate.simulate`.
    """
    out = Path(out)
    tissue_folder = out / "tissue"
    if (tissue_folder / "truth").is_dir():
        shutil.rmtree(tissue_folder)
    simulate(preset, tissue_folder, seed=seed)
    config = demo_config(tissue_folder, seed)
    build(config, out / "graph.zarr")
    run = train_config(config, None, out, resume=False, device=device)
    tissue = run.tissue
    answers = {
        "niches": flat(tissue.niches()),
        "markers": tissue.markers(),
        "expression": tissue.expression(at="niche"),
        "contacts": tissue.neighbours(),
    }
    for name, table in answers.items():
        save_answer(table, out / f"{name}.csv")
    draw_demo(run, tissue, out)
    return out


def demo_config(tissue: Path, seed: int = 0) -> Config:
    """Return the configuration of the demo on a simulated section; ``configs/demo.yaml`` is the same, commented."""
    home = tissue / "D1_untreated"
    spots = SourceConfig(path=home / "spaceranger", reader="spaceranger", slide=home / "slide.ome.tif")
    cells = SourceConfig(path=home / "xenium", reader="xenium")
    section = SectionConfig(name="D1_untreated", donor="D1", sources=(spots, cells))
    task = TaskConfig(name="demo", sections=(section,), features=HistologyFeatures(), split={"kind": "everything"})
    return Config(task=task, training=TrainingConfig(seed=seed))


def draw_demo(run: Run, tissue: VirtualTissue, out: Path) -> None:
    """Draw the niches over the slide, which of them touch, and the training curve."""
    contacts = nx.to_pandas_adjacency(tissue.contact_graph())
    pictures = {"niches": tissue.plot(), "contacts": contact_graph(contacts), "training": run.plot()}
    for name, axes in pictures.items():
        axes.figure.savefig(out / f"{name}.png", dpi=150, bbox_inches="tight", metadata={"Software": None})
