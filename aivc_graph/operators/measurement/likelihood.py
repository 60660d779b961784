"""The negative binomial of sparse counts, with its gradients written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 4_000_000
TABLE_COUNTS = 32


def negative_binomial_nll(
    z: Tensor,
    weight: Tensor,
    bias: Tensor,
    log_dispersion: Tensor,
    counts: Tensor,
    section: Tensor,
    node_weight: Tensor,
    gene_weight: Tensor,
) -> Tensor:
    r"""Return the weighted sum over nodes of the negative log-likelihood of their counts.

    .. math:: y_{vg} \sim \mathrm{NB}(\ell_v \rho_{vg}, \theta_g),\quad
              \rho_v = \mathrm{softmax}(W z_v + b_{s(v)}),\quad \ell_v = \sum_g y_{vg}

    Only entries that are not zero need a gamma function, so the dense part costs one exponential and one logarithm an
    entry. Loss and gradients are computed together, some rows at a time, so memory does not grow with nodes × genes.

    Shapes
    ------
    z
        (node, latent)
    weight, log_dispersion
        (gene, latent), (gene,)
    bias
        (section, gene)
    counts
        sparse CSR (node, gene)
    section
        (node,) row of `bias` of each node
    node_weight
        (node,); nodes of weight zero count for nothing
    gene_weight
        (gene,); 1 where a gene's likelihood counts, 0 where it does not
    """
    # Sums over many genes want full precision, whatever the layers around them use.
    with torch.autocast(z.device.type, enabled=False):
        return _NegativeBinomial.apply(
            z.float(), weight, bias, log_dispersion, counts, section, node_weight, gene_weight
        )


class _NegativeBinomial(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        weight: Tensor,
        bias: Tensor,
        log_dispersion: Tensor,
        counts: Tensor,
        section: Tensor,
        node_weight: Tensor,
        gene_weight: Tensor,
    ) -> Tensor:
        grads = [torch.zeros_like(t) for t in (z, weight, bias, log_dispersion)]
        total = z.new_zeros((), dtype=torch.float64)
        rows = max(1, CHUNK_ELEMENTS // weight.shape[0])
        crow, column, value = counts.crow_indices(), counts.col_indices(), counts.values()
        for start in range(0, z.shape[0], rows):
            stop = min(start + rows, z.shape[0])
            if not node_weight[start:stop].any():
                continue
            low, high = int(crow[start]), int(crow[stop])
            row = torch.repeat_interleave(torch.arange(stop - start, device=z.device), crow[start : stop + 1].diff())
            entries = (row, column[low:high].long(), value[low:high])
            total += _chunk(
                z, weight, bias, log_dispersion, section, node_weight, gene_weight, entries, slice(start, stop), grads
            )
        ctx.save_for_backward(*grads)
        return total.to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return (*(g * outputs[0] for g in ctx.saved_tensors), None, None, None, None)


def _chunk(
    z: Tensor,
    weight: Tensor,
    bias: Tensor,
    log_dispersion: Tensor,
    section: Tensor,
    node_weight: Tensor,
    gene_weight: Tensor,
    entries: tuple[Tensor, Tensor, Tensor],
    rows: slice,
    grads: list[Tensor],
) -> Tensor:
    """Add the gradients of the nodes in `rows` to `grads` and return their loss."""
    row, gene, y = entries
    own_bias = bias[0] if bias.shape[0] == 1 else bias[section[rows]]
    rho = torch.softmax(torch.addmm(own_bias, z[rows], weight.t()), dim=1)
    depth = torch.zeros(rho.shape[0], device=z.device).index_add_(0, row, y)
    mu = (rho * depth[:, None]).clamp_min_(1e-10)
    theta = log_dispersion.exp()
    share = theta / (mu + theta)
    log_share = torch.log(share)
    flat = row * rho.shape[1] + gene
    mu_y, share_y, theta_y = mu.view(-1)[flat], share.view(-1)[flat], theta[gene]
    weights = node_weight[rows]
    weight_y = weights[row] * gene_weight[gene]

    rise, slope = _gamma_rise(y, gene, theta)
    entry_loss = y * torch.log((theta_y + mu_y) / mu_y) - rise + torch.lgamma(y + 1)
    loss = -(weights @ (log_share @ (theta * gene_weight))).double() + (weight_y * entry_loss).double().sum()

    g_theta = (weights @ (share - 1 - log_share)) * gene_weight
    g_theta.index_add_(0, gene, weight_y * (share_y / theta_y * y - slope))
    grads[3] += g_theta * theta

    residual = share.mul_(mu)
    residual.view(-1)[flat] -= share_y * y
    residual.mul_(gene_weight)
    g_logits = residual.sub_(rho * residual.sum(dim=1, keepdim=True)).mul_(weights[:, None])
    grads[0][rows] = g_logits @ weight
    grads[1].addmm_(g_logits.t(), z[rows])
    if bias.shape[0] == 1:
        grads[2] += g_logits.sum(dim=0)
    else:
        grads[2].index_add_(0, section[rows], g_logits)
    return loss


def _gamma_rise(y: Tensor, gene: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return log Γ(y + θ) − log Γ(θ) and its derivative by θ, for whole counts y ≥ 0.

    For small whole y both are sums of y terms, log(θ + k) and 1 / (θ + k), read from a table a gene: several times
    faster than the gamma functions, and exact.
    """
    steps = theta[None, :] + torch.arange(TABLE_COUNTS, device=theta.device)[:, None]
    nothing = torch.zeros_like(theta)[None, :]
    logs = torch.cat([nothing, torch.log(steps).cumsum(0)])
    inverses = torch.cat([nothing, steps.reciprocal().cumsum(0)])
    place = y.clamp_max(TABLE_COUNTS).long() * len(theta) + gene
    rise, slope = logs.view(-1)[place], inverses.view(-1)[place]
    large = torch.nonzero(y > TABLE_COUNTS).ravel()
    if len(large):
        own = theta[gene[large]]
        rise[large] = torch.lgamma(y[large] + own) - torch.lgamma(own)
        slope[large] = torch.digamma(y[large] + own) - torch.digamma(own)
    return rise, slope
