"""How much may be decoded in one go: checked on what a header states, before a byte of it is decoded."""

from __future__ import annotations

from pathlib import Path

from aivc_graph.errors import ReadError

DECODE_BUDGET_BYTES = 2**30


def check_budget(where: Path | str, height: int, width: int, channels: int, bytes_per_sample: int = 1) -> None:
    """Refuse a picture, tile or strip that one decoder call would unpack to more than 1 GiB.

    Raises
    ------
    ReadError
        No pixel at all, or pixels × channels above the budget.
    """
    if min(height, width, channels) < 1:
        raise ReadError(str(where), f"{width:,} × {height:,} px × {channels} channels", "at least one pixel")
    size = height * width * channels * bytes_per_sample
    if size > DECODE_BUDGET_BYTES:
        raise ReadError(
            f"{where} · header",
            f"{width:,} × {height:,} px × {channels} channels to decode in one go ({size / 2**30:,.1f} GiB)",
            f"at most {DECODE_BUDGET_BYTES / 2**30:g} GiB",
            "if the size is true, store it as a tiled pyramidal TIFF",
        )
