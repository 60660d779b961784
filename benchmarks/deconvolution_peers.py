"""What spots are made of, beside Stereoscope on the same counts, cells and genes, in an environment of its own.

    python benchmarks/deconvolution_peers.py [--sets hippocampus] [--steps 6000]

Makes a virtual environment in a temporary folder, on top of this one, and installs scvi-tools there by pip; its
Stereoscope takes ``--steps`` steps of its optimiser on cells, and as many on spots, else as it comes. Sets and truth
are those of `deconvolution`; truth is looked at for scores alone. Writes
``benchmarks/results/deconvolution_peers.json``.

Andersson et al. 2020, doi:10.1038/s42003-020-01247-y (Stereoscope); Gayoso et al. 2022,
doi:10.1038/s41587-021-01206-w (scvi-tools).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from deconvolution import CASES, Floats, baselines, judge
from peer_likelihoods import environment
from result_file import write_result

OUT = Path(__file__).parent / "results" / "deconvolution_peers.json"
PEER = """
import logging, sys, warnings
import anndata as ad, numpy as np, pandas as pd, torch
warnings.filterwarnings("ignore")
import scvi
from scvi.external import RNAStereoscope, SpatialStereoscope
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
scvi.settings.seed = 0
torch.set_num_threads(1)
v = np.load(sys.argv[1])
def epochs(data):  # by minibatches of 128
    return -(-int(sys.argv[3]) // -(-data.n_obs // 128))


quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}
both = (v["cells"].sum(axis=0) > 0) & (v["counts"].sum(axis=0) > 0)
cells = ad.AnnData(v["cells"][:, both], obs=pd.DataFrame({"type": v["kind"].astype(str)}))
cells = cells[cells.X.sum(axis=1) > 0].copy()
spots = ad.AnnData(v["counts"][:, both])
RNAStereoscope.setup_anndata(cells, labels_key="type")
of_cells = RNAStereoscope(cells)
of_cells.train(max_epochs=epochs(cells), **quiet)
SpatialStereoscope.setup_anndata(spots)
of_spots = SpatialStereoscope.from_rna_model(spots, of_cells)
of_spots.train(max_epochs=epochs(spots), **quiet)
told = of_spots.get_proportions()
np.savez(sys.argv[2], told=told[[str(k) for k in sorted(set(v["kind"]))]].to_numpy(), scvi=scvi.__version__)
"""


def main() -> None:
    """Install the peer, judge both on each set, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["hippocampus"], choices=list(CASES))
    parser.add_argument("--steps", type=int, default=6000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = environment(Path(folder) / "peer")

        def peers(counts: Floats, cells: Floats, kind: Floats, n: int) -> dict[str, Floats]:
            given, answer = Path(folder) / "given.npz", Path(folder) / "told.npz"
            np.savez(given, counts=counts.astype(np.float32), cells=cells.astype(np.float32), kind=kind)
            subprocess.run([python, "-c", PEER, given, answer, str(options.steps)], check=True)
            return {**baselines(counts, cells, kind, n), "stereoscope": np.load(answer)["told"]}

        for name in options.sets:
            found = judge(CASES[name](), peers) | {"steps": options.steps}
            write_result(OUT, found, part=name)
            print(name, json.dumps(found, indent=1), flush=True)


if __name__ == "__main__":
    main()
