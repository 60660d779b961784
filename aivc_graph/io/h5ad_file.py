"""Write an AnnData as one act of the file system."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


def write_anndata(table: Any, path: Path, *, compression: str | None = None) -> None:
    """Write `table` to the ``.h5ad`` file `path`, composed in memory first.

    HDF5 that meets a full disk half way can neither go on nor close its file; bytes fail once, with a plain `OSError`.
    """
    import h5py
    from anndata.io import write_elem

    composed = io.BytesIO()
    with h5py.File(composed, "w") as file:
        table.strings_to_categoricals()
        write_elem(file, "/", table, dataset_kwargs={"compression": compression})
    path.write_bytes(composed.getbuffer())
