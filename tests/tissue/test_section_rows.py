"""Rows of a table that no node is called after are left out aloud; too many of them are refused."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import TissueError
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.section import add_level, add_observation, new_section


@pytest.mark.parametrize(("without", "said"), [(0, ""), (1, "1 of 100 barcodes"), (4, "4 of 100 barcodes"), (6, None)])
def test_rows_without_a_position_are_counted_and_named(without: int, said: str | None) -> None:
    names = [f"c{i}" for i in range(100)]
    section = new_section("s")
    add_level(section, "cell", names[without:], np.random.default_rng(0).random((100 - without, 2)), 5.0, np.eye(3))
    table = ad.AnnData(np.ones((100, 3)), pd.DataFrame(index=names), pd.DataFrame(index=["A", "B", "C"]))
    if said is None:
        with pytest.raises(TissueError, match="6 of 100 barcodes without a position"):
            add_observation(section, "cell", "rna", table)
        return
    with doubts_heard() as doubts:
        add_observation(section, "cell", "rna", table)
    assert section.tables["cell_rna"].n_obs == 100 - without
    assert [said in one and "such as 'c0'" in one for one in doubts] == [True] * bool(without)
