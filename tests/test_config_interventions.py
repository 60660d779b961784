"""What a configuration says was done to a section, and its faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from aivc_graph.config import load_config
from aivc_graph.errors import ConfigError


def test_interventions_are_read_and_their_faults_have_lines(tmp_path: Path) -> None:
    text = """\
task:
  sections:
    - name: A
      sources: [{path: a}]
      interventions:
        - {kind: knockout, name: TGFB1, where: {disc_um: [500, 500, 150]}}
        - {kind: drug, name: X, targets: {JAK1: -1}, dose: 0.3, unit: uM, hours: 6}
"""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    first, second = load_config(path).task.sections[0].interventions
    assert first.targets == {"TGFB1": -1.0} and first.where is not None and first.where.disc_um == (500, 500, 150)
    assert (second.dose, second.unit, second.hours) == (0.3, "uM", 6)
    path.write_text(text.replace("kind: drug", "kind: drugs").replace("dose: 0.3", "dosis: 0.3"))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    said = str(caught.value).splitlines()
    assert len(said) == 2 and all("x.yaml:7: task.sections[0].interventions[1]" in line for line in said)
    assert "did you mean 'drug'?" in said[0] + said[1] and "did you mean 'dose'?" in said[0] + said[1]
