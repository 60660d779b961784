"""How many niches tissue supports: as many as tell what kind a node left out is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from aivc_graph.query.mixture import Floats, plogp

MAX_NICHES = 20
# A further niche must tell so large a share of what is unknown about the kind of a node.
LEAST_SHARE = 0.01
PRIOR_NODES = 3.0


def number_of_niches(
    numbers: Iterable[int], given_context: Callable[[int], Floats], kinds: Floats, n_nodes: int, resolution: float
) -> int:
    r"""Return the number of niches that best tells the kind of each node from its neighbours alone.

    With :math:`g_k` what k niches tell of a node's kind [nats], H what there is to be told, T the number of kinds and N
    that of nodes, the number maximises

    .. math:: g_k - (k - 1)\,\max\Big(0.01\,H,\ \frac{(T - 1)\ln N}{2 N}\Big) \Big/ \text{resolution}

    A niche a node is in by its neighbours' word tells nothing of the node itself unless tissue has structure: without
    any the answer is one. The second term is what chance alone would seem to tell in few nodes.

    Parameters
    ----------
    numbers
        Numbers of niches there are mixtures of.
    given_context
        From the number of niches to each node's share of every niche (node, niche), found without looking at the node.
    kinds
        Share of each kind in every node (node, kind).
    n_nodes
        Of how many nodes those of `kinds` are a sample.
    resolution
        More niches above 1, fewer below; a larger one never gives fewer.
    """
    known = kinds.sum(axis=0) / max(kinds.sum(), 1e-12)
    noise = 0.5 * (kinds.shape[1] - 1) * np.log(max(n_nodes, 2)) / n_nodes
    price = max(LEAST_SHARE * float(-plogp(known).sum()), noise) / resolution
    told = {n: information(given_context(n), kinds) - (n - 1) * price for n in sorted(numbers) if n <= MAX_NICHES}
    return max(told, key=told.__getitem__)


def information(niches: Floats, kinds: Floats, learnt_on: tuple[Floats, Floats] | None = None) -> float:
    """Return what the share of each niche (node, niche) tells of the kind of a node (node, kind) [nats a node].

    What kinds live in a niche is learnt on the same nodes, or on the niches and kinds of others: then what does not
    recur tells less than nothing.
    """
    measured = kinds.any(axis=1)
    if not measured.any():
        return 0.0
    niches, kinds = niches[measured], kinds[measured]
    known_niches, known_kinds = learnt_on or (niches, kinds)
    overall = known_kinds.sum(axis=0) / max(known_kinds.sum(), 1e-12)
    there = overall > 0
    chances = (known_niches.T @ known_kinds + PRIOR_NODES * overall)[:, there]
    chances /= chances.sum(axis=1, keepdims=True)
    likelihood = (niches @ chances * (kinds[:, there] / overall[there])).sum(axis=1)
    return float(np.log(np.maximum(likelihood, 1e-300)).mean())
