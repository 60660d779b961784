"""Likelihoods of counts beside those of scvi-tools, on the same values, in an environment of its own.

    python benchmarks/peer_likelihoods.py

Makes a virtual environment in a temporary folder, on top of this one, and installs scvi-tools there by pip. Writes
``benchmarks/results/peer_likelihoods.json``: the largest difference of log-probabilities, law by law.

Gayoso et al. 2022, doi:10.1038/s41587-021-01206-w (scvi-tools).
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
import tempfile
import venv
from pathlib import Path

import numpy as np
import torch
from result_file import write_result

from aivc_graph.operators.measurement.background import BackgroundForeground
from aivc_graph.operators.measurement.distribution import NegativeBinomial
from aivc_graph.operators.measurement.poisson import Poisson
from aivc_graph.operators.measurement.zero_inflated import ZeroInflatedNegativeBinomial

OUT = Path(__file__).parent / "results" / "peer_likelihoods.json"
NODES, MOLECULES, LATENT = 200, 50, 4
PEER = """
import json, sys
import numpy as np, torch
from importlib.metadata import version
from scvi import distributions as peer
v = {k: torch.from_numpy(a) for k, a in np.load(sys.argv[1]).items()}
laws = {
    "negative_binomial": peer.NegativeBinomial(mu=v["mu"], theta=v["theta"]),
    "poisson": peer.Poisson(v["mu"]),
    "zero_inflated": peer.ZeroInflatedNegativeBinomial(mu=v["mu"], theta=v["theta"], zi_logits=v["logit"]),
    "background": peer.NegativeBinomialMixture(
        mu1=v["low"], mu2=v["mu"], theta1=v["theta"], mixture_logits=v["odds"]),
}
told = {name: float((law.log_prob(v["y"]) - v[name]).abs().max()) for name, law in laws.items()}
print(json.dumps({"largest difference of log-probability": told, "scvi-tools": version("scvi-tools")}))
"""


def main() -> None:
    """Compare and write the differences."""
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "values.npz"
        np.savez(values, **{name: one.numpy() for name, one in told().items()})
        python = environment(Path(folder) / "peer")
        done = subprocess.run([python, "-c", PEER, values], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(found))
        write_result(OUT, found)


def environment(folder: Path) -> Path:
    """Return the interpreter of a new environment that sees this one's packages, and has scvi-tools."""
    venv.create(folder, with_pip=True)
    (own,) = (folder / "lib").glob("python*/site-packages")
    (own / "beneath.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "scvi-tools"], check=True)
    return python


def told() -> dict[str, torch.Tensor]:
    """Return rates, parameters, counts and our log-probabilities."""
    torch.manual_seed(0)
    z, weight, bias = torch.randn(NODES, LATENT), 0.3 * torch.randn(MOLECULES, LATENT), torch.randn(1, MOLECULES)
    y, section = torch.poisson(4 * torch.rand(NODES, MOLECULES)), torch.zeros(NODES, dtype=torch.int64)
    common, theta = (z, weight, bias, section, y.sum(dim=1)), torch.randn(MOLECULES)
    logit, slope = torch.randn(MOLECULES), torch.randn(MOLECULES, LATENT)
    mixture = BackgroundForeground(*common, theta, bias - 2, logit, slope)
    laws = {
        "negative_binomial": NegativeBinomial(*common, theta),
        "poisson": Poisson(*common),
        "zero_inflated": ZeroInflatedNegativeBinomial(*common, theta, logit),
        "background": mixture,
    }
    given = {"y": y, "mu": mixture.rate(), "theta": theta.exp(), "logit": logit.expand(NODES, -1).clone()}
    given |= {"low": common[-1][:, None] * (bias - 2).exp(), "odds": mixture.odds()}
    return given | {name: law.log_prob(y) for name, law in laws.items()}


if __name__ == "__main__":
    main()
