"""Intensities of one modality at one level, as parts read them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.cofactors import cofactor_name
from aivc_graph.graph.tissue_graph import TissueGraph


@dataclass(frozen=True)
class IntensityInput:
    r"""Intensities of a window in the terms in which sections compare.

    With y as the file has it, :math:`v = \operatorname{arcsinh}(y / c_g)` and
    :math:`x_v = (v - m_{s(v)}) / \sigma_{s(v)}`, m and σ the mean and spread of the node's section.

    Shapes
    ------
    `observed` (node, marker), x, NaN where it was not measured, and `standard`, zero there; `centre` and `spread`
    (section, marker); `cofactor` (marker,); `nothing` (node, marker), boolean, where the intensity is zero; `section`
    and `mask` (node,).
    """

    observed: Tensor
    standard: Tensor
    centre: Tensor
    spread: Tensor
    cofactor: Tensor
    nothing: Tensor
    section: Tensor
    mask: Tensor

    def terms(self, standard: Tensor) -> Tensor:
        """Return the arcsinh (node, marker) that goes with standardised values."""
        return self.centre[self.section] + self.spread[self.section] * standard


def prepare_intensities(graph: TissueGraph, level: str, modality: str, device: torch.device | str) -> IntensityInput:
    """Return the intensities of a window."""
    store, section = graph[names.SECTION], graph[level].section_index
    centre, spread = (store[f"{level}_{modality}_{what}"] for what in ("mean", "spread"))
    cofactor = graph[level][cofactor_name(modality)]
    observed = (torch.arcsinh(graph[level][modality] / cofactor) - centre[section]) / spread[section]
    return IntensityInput(
        observed=observed.to(device),
        standard=torch.nan_to_num(observed, nan=0.0).to(device),
        centre=centre.to(device),
        spread=spread.to(device),
        cofactor=cofactor.to(device),
        nothing=(graph[level][modality] == 0).to(device),
        section=section.to(device),
        mask=graph[level][names.mask_name(modality)].float().to(device),
    )
