"""The likelihood of sparse counts around a log-linear profile, with its gradients written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

CHUNK_ELEMENTS = 4_000_000
TABLE_COUNTS = 32


@dataclass(frozen=True)
class Rows:
    """Some nodes, what is expected of them, and their counts.

    `mu` (row, molecule), the expected counts; `row`, `molecule` and `y` (entry,), the counts that are not zero, and
    `flat`, their place in `mu`; `z` (row, latent), `depth` and `section` (row,); what their likelihood weighs,
    `node_weight` (row,) and `molecule_weight` (molecule,); and `z_grad` (row, latent), to which a law adds that holds
    on to the state itself, None if nobody asks.
    """

    mu: Tensor
    row: Tensor
    molecule: Tensor
    flat: Tensor
    y: Tensor
    z: Tensor
    depth: Tensor
    section: Tensor
    node_weight: Tensor
    molecule_weight: Tensor
    z_grad: Tensor | None

    @property
    def entry_weight(self) -> Tensor:
        """What the likelihood of each count weighs (entry,)."""
        return at(self.node_weight, self.row) * at(self.molecule_weight, self.molecule)

    def minus_counts(self, expected: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """Take counts, times `scale` (entry,), off what is expected, in place."""
        expected.view(-1).index_add_(0, self.flat, scale * self.y, alpha=-1.0)
        return expected

    def dense_counts(self) -> Tensor:
        """Return the counts with their zeros (row, molecule)."""
        return torch.zeros_like(self.mu).view(-1).index_put_((self.flat,), self.y).view_as(self.mu)


def at(values: Tensor, place: Tensor) -> Tensor:
    """Return the entries of `values` at a `place` each (entry,), counted through; faster than indexing."""
    return values.view(-1).index_select(0, place)


# Sums of slopes, None where nobody asks for one.
Slopes = list[Tensor | None]
# A law returns the weighted loss of some nodes and its unweighted slope by log mu (row, molecule), and adds the slopes
# by its own parameters to the last argument.
Law = Callable[[Rows, tuple[Tensor, ...], Slopes], tuple[Tensor, Tensor]]


def counts_nll(
    law: Law,
    z: Tensor,
    weight: Tensor,
    bias: Tensor,
    parameters: tuple[Tensor, ...],
    counts: Tensor,
    depth: Tensor,
    section: Tensor,
    node_weight: Tensor,
    molecule_weight: Tensor,
) -> Tensor:
    r"""Return the weighted sum over nodes of the negative log-likelihood of their counts.

    .. math:: \mu_{vg} = \ell_v \rho_{vg},\quad \rho_v = \mathrm{softmax}(W z_v + b_{s(v)})

    Only entries that are not zero need a gamma function, so the dense part costs an exponential or two an entry. Loss
    and those gradients that are asked for are computed together, some rows at a time, so memory does not grow with
    nodes × molecules.

    Shapes
    ------
    z
        (node, latent)
    weight
        (molecule, latent)
    bias
        (section, molecule)
    parameters
        Those of the law, such as (molecule,)
    counts
        sparse CSR (node, molecule)
    depth
        (node,) :math:`\ell`
    section
        (node,) row of `bias` of each node
    node_weight
        (node,); nodes of weight zero count for nothing
    molecule_weight
        (molecule,); 1 where a molecule's likelihood counts, 0 where it does not
    """
    # Sums over many molecules want full precision, whatever the layers around them use.
    with torch.autocast(z.device.type, enabled=False):
        learnt = z.float(), weight, bias, *parameters
        if not torch.is_grad_enabled():
            learnt = tuple(one.detach() for one in learnt)
        return _Counts.apply(law, counts, depth, section, node_weight, molecule_weight, *learnt)


class _Counts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        law: Law,
        counts: Tensor,
        depth: Tensor,
        section: Tensor,
        node_weight: Tensor,
        molecule_weight: Tensor,
        *learnt: Tensor,
    ) -> Tensor:
        z, weight, bias, *parameters = learnt
        asked = ctx.needs_input_grad[-len(learnt) :]
        grads = [torch.zeros_like(t) if one else None for t, one in zip(learnt, asked, strict=True)]
        total = z.new_zeros((), dtype=torch.float64)
        step = max(1, CHUNK_ELEMENTS // weight.shape[0])
        crow, column, value = counts.crow_indices(), counts.col_indices(), counts.values()
        for start in range(0, z.shape[0], step):
            stop = min(start + step, z.shape[0])
            if not node_weight[start:stop].any():
                continue
            own, low, high = slice(start, stop), int(crow[start]), int(crow[stop])
            row = torch.repeat_interleave(torch.arange(stop - start, device=z.device), crow[start : stop + 1].diff())
            molecule = column[low:high].long()
            own_bias = bias[0] if bias.shape[0] == 1 else bias[section[own]]
            rho = torch.softmax(torch.addmm(own_bias, z[own], weight.t()), dim=1)
            rows = Rows(
                (rho * depth[own, None]).clamp_min_(1e-10), row, molecule, row * rho.shape[1] + molecule,
                value[low:high], z[own], depth[own], section[own], node_weight[own], molecule_weight,
                None if grads[0] is None else grads[0][own],
            )  # fmt: skip
            loss, slope = law(rows, tuple(parameters), grads[3:])
            total += loss
            if any(asked[:3]):
                _through_softmax(rows, slope, rho, weight, grads, None if bias.shape[0] == 1 else section[own])
        ctx.save_for_backward(*grads)
        return total.to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None,) * 6, *(None if g is None else g * outputs[0] for g in ctx.saved_tensors))


def _through_softmax(
    rows: Rows, slope: Tensor, rho: Tensor, weight: Tensor, grads: Slopes, section: Tensor | None
) -> None:
    """Add what a slope by log mu (row, molecule) comes to for states, weights and bias; `slope` is used up."""
    slope.mul_(rows.molecule_weight)
    g_logits = slope.sub_(rho * slope.sum(dim=1, keepdim=True)).mul_(rows.node_weight[:, None])
    if rows.z_grad is not None:
        rows.z_grad.add_(g_logits @ weight)
    if grads[1] is not None:
        grads[1].addmm_(g_logits.t(), rows.z)
    if grads[2] is not None:
        if section is None:
            grads[2] += g_logits.sum(dim=0)
        else:
            grads[2].index_add_(0, section, g_logits)


def negative_binomial(rows: Rows, parameters: tuple[Tensor, ...], grads: Slopes) -> tuple[Tensor, Tensor]:
    r""":math:`\mathrm{NB}(\mu, \theta)`; parameters: log θ (molecule,)."""
    theta, y, entry_weight = parameters[0].exp(), rows.y, rows.entry_weight
    share = theta / (rows.mu + theta)
    log_share = torch.log(share)
    mu_y, share_y, theta_y = at(rows.mu, rows.flat), at(share, rows.flat), at(theta, rows.molecule)
    rise, slope = gamma_rise(y, rows.molecule, theta)
    entry_loss = y * torch.log((theta_y + mu_y) / mu_y) - rise + log_factorial(y)
    loss = -(rows.node_weight @ (log_share @ (theta * rows.molecule_weight))).double()
    loss = loss + (entry_weight * entry_loss).double().sum()
    if grads[0] is not None:
        g_theta = (rows.node_weight @ (share - 1 - log_share)) * rows.molecule_weight
        g_theta.index_add_(0, rows.molecule, entry_weight * (share_y / theta_y * y - slope))
        grads[0] += g_theta * theta
    return loss, rows.minus_counts(share.mul_(rows.mu), share_y)


def poisson(rows: Rows, parameters: tuple[Tensor, ...], grads: Slopes) -> tuple[Tensor, Tensor]:
    r""":math:`\mathrm{Poisson}(\mu)`; no parameters."""
    entry_loss = log_factorial(rows.y) - rows.y * torch.log(at(rows.mu, rows.flat))
    loss = (rows.node_weight @ (rows.mu @ rows.molecule_weight)).double()
    return loss + (rows.entry_weight * entry_loss).double().sum(), rows.minus_counts(rows.mu.clone())


def bernoulli(rows: Rows, parameters: tuple[Tensor, ...], grads: Slopes) -> tuple[Tensor, Tensor]:
    r"""Whether anything was counted, :math:`P(y > 0) = 1 - e^{-\mu}`; no parameters."""
    mu_y = at(rows.mu, rows.flat)
    entry_loss = -torch.log(-torch.expm1(-mu_y)) - mu_y
    loss = (rows.node_weight @ (rows.mu @ rows.molecule_weight)).double()
    slope = rows.mu.clone()
    slope.view(-1)[rows.flat] = -mu_y / torch.expm1(mu_y)
    return loss + (rows.entry_weight * entry_loss).double().sum(), slope


def zero_inflated(rows: Rows, parameters: tuple[Tensor, ...], grads: Slopes) -> tuple[Tensor, Tensor]:
    r""":math:`\pi\,[y = 0] + (1 - \pi)\,\mathrm{NB}(\mu, \theta)`; parameters: log θ, logit π (molecule,).

    A molecule whose logit is minus infinity is the negative binomial, at no further cost.
    """
    log_theta, logit = parameters
    loss, slope = negative_binomial(rows, (log_theta,), grads[:1])
    some = torch.nonzero(torch.isfinite(logit)).ravel()
    if not len(some):
        return loss, slope
    place = torch.full_like(logit, -1, dtype=torch.int64).index_put_(
        (some,), torch.arange(len(some), device=some.device)
    )
    theta, own, mu = log_theta[some].exp(), logit[some], rows.mu[:, some]
    share = theta / (mu + theta)
    log_share = torch.log(share)
    zero = torch.ones_like(mu)
    held = place[rows.molecule] >= 0
    zero[rows.row[held], place[rows.molecule[held]]] = 0.0
    odds = own - theta * log_share
    r = torch.sigmoid(odds).mul_(zero)
    weight = rows.molecule_weight[some]
    more = rows.node_weight.sum() * softplus(own) - rows.node_weight @ (softplus(odds) * zero)
    if grads[0] is not None:
        grads[0][some] += theta * weight * (rows.node_weight @ (r * (log_share + 1 - share)))
    if grads[1] is not None:
        grads[1][some] += weight * (rows.node_weight.sum() * torch.sigmoid(own) - rows.node_weight @ r)
    slope[:, some] -= r * share * mu
    return loss + (more @ weight).double(), slope


def background_foreground(rows: Rows, parameters: tuple[Tensor, ...], grads: Slopes) -> tuple[Tensor, Tensor]:
    r""":math:`\pi\,\mathrm{NB}(\ell\beta_s, \theta) + (1 - \pi)\,\mathrm{NB}(\mu, \theta)`, π by node and molecule.

    Parameters: log θ (molecule,), log β (section, molecule), intercept c (molecule,) and slope u (molecule, latent) of
    :math:`\mathrm{logit}\,\pi = c + z \cdot u`. A molecule whose intercept is minus infinity is the negative binomial.
    """
    log_theta, log_background, intercept, u = parameters
    theta, y = log_theta.exp(), rows.dense_counts()
    low = (rows.depth[:, None] * log_background.exp()[rows.section]).clamp_min_(1e-10)
    share, share_low = theta / (rows.mu + theta), theta / (low + theta)
    log_share, log_share_low = torch.log(share), torch.log(share_low)
    logit = torch.addmm(intercept, rows.z, u.t())
    apart = log_share_low - log_share
    odds = logit + theta * apart + y * (torch.log(low / rows.mu) + apart)
    r, pi = torch.sigmoid(odds), torch.sigmoid(logit)
    rise, slope = gamma_rise(rows.y, rows.molecule, theta)
    loss = theta * log_share + y * (log_share + torch.log(rows.mu) - log_theta)
    loss = softplus(logit) - softplus(odds) - loss
    total = (rows.node_weight @ (loss @ rows.molecule_weight)).double()
    total = total + (rows.entry_weight * (log_factorial(rows.y) - rise)).double().sum()

    if grads[0] is not None:
        by_theta = (1 - r) * (share - 1 - log_share + share / theta * y)
        by_theta += r * (share_low - 1 - log_share_low + share_low / theta * y)
        g_theta = (rows.node_weight @ by_theta) * rows.molecule_weight
        grads[0] += theta * g_theta.index_add_(0, rows.molecule, -rows.entry_weight * slope)
    if grads[1] is not None:
        g_low = (r * share_low * (low - y)).mul_(rows.molecule_weight).mul_(rows.node_weight[:, None])
        grads[1].index_add_(0, rows.section, g_low)
    g_logit = (pi - r).mul_(rows.molecule_weight).mul_(rows.node_weight[:, None])
    if grads[2] is not None:
        grads[2] += g_logit.sum(dim=0)
    if grads[3] is not None:
        grads[3].addmm_(g_logit.t(), rows.z)
    if rows.z_grad is not None:
        rows.z_grad.add_(g_logit @ u)
    return total, (1 - r) * share * (rows.mu - y)


def gamma_rise(y: Tensor, molecule: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return log Γ(y + θ) − log Γ(θ) and its derivative by θ, for whole counts y ≥ 0.

    For small whole y both are sums of y terms, log(θ + k) and 1 / (θ + k), read from a table a molecule: several times
    faster than the gamma functions, and exact.
    """
    steps = theta[None, :] + torch.arange(TABLE_COUNTS, device=theta.device)[:, None]
    nothing = torch.zeros_like(theta)[None, :]
    logs = torch.cat([nothing, torch.log(steps).cumsum(0)])
    inverses = torch.cat([nothing, steps.reciprocal().cumsum(0)])
    place = y.clamp_max(TABLE_COUNTS).long() * len(theta) + molecule
    rise, slope = at(logs, place), at(inverses, place)
    large = torch.nonzero(y > TABLE_COUNTS).ravel()
    if len(large):
        own = theta[molecule[large]]
        rise[large] = torch.lgamma(y[large] + own) - torch.lgamma(own)
        slope[large] = torch.digamma(y[large] + own) - torch.digamma(own)
    return rise, slope


def log_factorial(y: Tensor) -> Tensor:
    """Return log y! of whole counts, small ones read from a table."""
    found = at(torch.lgamma(torch.arange(1.0, TABLE_COUNTS + 2, device=y.device)), y.clamp_max(TABLE_COUNTS).long())
    large = torch.nonzero(y > TABLE_COUNTS).ravel()
    found[large] = torch.lgamma(y[large] + 1)
    return found
