"""Registries know what installed packages of users add to them, in every verb; a faulty package is named."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aivc_graph import registry as registries
from aivc_graph.errors import ConfigError
from aivc_graph.registry import Registry, import_members

ROOT = Path(__file__).resolve().parents[1]
RULE = '''
from pydantic import Field
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.graph.edges.rule import EDGES, AbstractEdges


@EDGES.register("nearest_within")
class NearestWithinEdges(AbstractEdges):
    """Each node hears its nearest others, unless they are far."""

    k: int = Field(3, ge=1)
    max_um: float = Field(50.0, gt=0)

    def __call__(self, pos_um):
        apart = cKDTree(pos_um).sparse_distance_matrix(cKDTree(pos_um), self.max_um).tocsr()
        apart.setdiag(0)
        apart.eliminate_zeros()
        rank = sparse.csr_matrix(apart)
        for row in range(len(pos_um)):
            own = slice(*apart.indptr[row : row + 2])
            rank.data[own] = apart.data[own].argsort().argsort() < self.k
        edges = apart.multiply(rank).tocsr().astype("float32")
        edges.eliminate_zeros()
        edges.sort_indices()
        return edges
'''


QUESTION = '''
from pydantic import Field

from aivc_graph.query.questions.question import QUESTIONS, AbstractQuestion


@QUESTIONS.register("crowd", asks="how many nodes each section has", example="--per 100")
class CrowdQuestion(AbstractQuestion):
    """How many nodes each section has."""

    per: float = Field(1.0, gt=0, description="how many make one")

    def answer(self, tissue):
        nodes = tissue.graph.obs(tissue.level()).groupby("section", observed=True).size()
        return (nodes / self.per).rename("nodes").reset_index()
'''


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that installs a distribution of one module with one entry point, and returns its folder."""

    def install(module: str, code: str, group: str) -> Path:
        site = tmp_path / "site"
        facts = site / f"{module}-1.2.dist-info"
        facts.mkdir(parents=True)
        (site / f"{module}.py").write_text(code)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
        (facts / "entry_points.txt").write_text(f"[{group}]\nmine = {module}\n")
        return site

    return install


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let members be looked for anew, before and after."""
    remembered = [one for one in vars(registries).values() if hasattr(one, "cache_clear")]
    assert import_members in remembered
    for one in remembered:
        one.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    for one in remembered:
        one.cache_clear()


def aivc(site: Path, *commands: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run commands in one process of their own."""
    paths = os.pathsep.join(map(str, (site, ROOT)))
    program = "import json, sys; from aivc_graph.cli import main; sys.exit(max(map(main, json.load(sys.stdin))))"
    given = json.dumps([list(map(str, words)) for words in commands])
    env = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "-c", program], input=given, env=env, capture_output=True, text=True, check=False
    )


def test_an_edge_rule_and_a_question_of_a_users_package_work_in_every_verb(
    tiny_demo: Path, install: Callable[..., Path], tmp_path: Path
) -> None:
    site = install("their_rules", RULE, "aivc_graph.edges")
    install("their_questions", QUESTION, "aivc_graph.questions")
    options = ["--set", "graph.edges.cell.kind=nearest_within", "--set", "graph.edges.cell.k=4"]
    config, graph, run = tiny_demo / "tissue" / "config.yaml", tmp_path / "graph.zarr", tmp_path / "run"
    made = aivc(
        site,
        ["build", config, "--out", graph, *options],
        ["train", config, "--graph", graph, "--out", run, *options, "--set", "training.epochs=1"],
    )
    assert made.returncode == 0, made.stderr
    asked = aivc(
        site,
        ["evaluate", run],
        ["query", run, "niches", "--out", tmp_path / "niches.csv"],
        ["query", run, "crowd", "--per", "2", "--out", tmp_path / "own.csv"],
        ["query", run, "crowd", "--per", "2", "--on", graph, "--out", tmp_path / "on.csv"],
        ["query", run, "--help"],
    )
    assert asked.returncode == 0, asked.stderr
    assert json.loads((run / "evaluation.json").read_text())["results"]
    assert len((tmp_path / "niches.csv").read_text().splitlines()) > 100
    assert (tmp_path / "own.csv").read_text() == (tmp_path / "on.csv").read_text() != ""
    assert "how many nodes each section has" in asked.stdout
    without = aivc(tmp_path, ["evaluate", run])
    assert without.returncode == 2 and "no edge rule named 'nearest_within'" in without.stderr


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError"),
        ("from aivc_graph.graph.edges.rule import EDGES\nEDGES.register('knn')(object)", "'knn' is registered twice"),
    ],
)
def test_a_faulty_package_is_named(code: str, said: str, install: Callable[..., Path], forget: Any) -> None:
    forget.syspath_prepend(install("faulty_rules", code, "aivc_graph.edges"))
    forget.delitem(sys.modules, "faulty_rules", raising=False)
    from aivc_graph.graph.edges.rule import edge_rule

    with pytest.raises(ConfigError) as caught:
        edge_rule("knn", k=3)
    told = str(caught.value)
    assert told.startswith("entry point mine = faulty_rules of faulty_rules 1.2 (aivc_graph.edges)")
    assert said in told and "uninstall" in told


def test_every_kind_of_operator_takes_parts_from_one_group(install: Callable[..., Path], forget: Any) -> None:
    forget.syspath_prepend(install("their_parts", "loaded = True", "aivc_graph.parts"))
    for kind in ("lift", "lateral"):
        forget.delitem(sys.modules, "their_parts", raising=False)
        import_members(f"aivc_graph.operators.{kind}")
        assert "their_parts" in sys.modules


def test_a_faulty_package_of_questions_is_named_by_the_command_line(
    install: Callable[..., Path], tmp_path: Path
) -> None:
    site = install("their_questions", "import no_such_module", "aivc_graph.questions")
    done = aivc(site, ["query", tmp_path, "niches"])
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "ConfigError: entry point mine = their_questions of their_questions 1.2" in done.stderr
    assert aivc(site, ["--help"]).returncode == 0


def test_kinds_of_intervention_come_from_packages_too(install: Callable[..., Path], forget: Any) -> None:
    from aivc_graph.tissue.intervention import Intervention
    from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS

    assert "heat" not in INTERVENTION_KINDS  # and its own members are there
    for held in ("_members", "_facts"):
        forget.setattr(INTERVENTION_KINDS, held, dict(getattr(INTERVENTION_KINDS, held)))
    code = (
        "from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS, InterventionKind\n"
        'INTERVENTION_KINDS.register("heat")(InterventionKind(sign=None, unit="degrees"))\n'
    )
    forget.syspath_prepend(install("their_kinds", code, "aivc_graph.intervention_kinds"))
    for cached in (one for one in vars(registries).values() if hasattr(one, "cache_clear")):
        cached.cache_clear()
    assert Intervention(kind="heat", name="bath").unit == "degrees"


def test_members_are_imported_when_they_are_asked_for(forget: Any, tmp_path: Path) -> None:
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("from aivc_graph.registry import Registry\nR = Registry('thing', __name__)\n")
    (package / "one.py").write_text("from their_package import R\nR.register('one', size=1)(1)\n")
    forget.syspath_prepend(tmp_path)
    registry: Registry[int] = importlib.import_module("their_package").R
    (package / "two.py").write_text("from their_package import R\nR.register('second', size=2)(2)\n")
    assert "their_package.one" not in sys.modules
    assert registry.get("one") == 1 and "their_package.two" not in sys.modules
    assert registry.get("second") == 2 and list(registry) == ["one", "second"]
    assert registry.facts["one"] == {"size": 1}


def test_an_unknown_name_lists_the_nearest() -> None:
    registry: Registry[int] = Registry("thing")
    registry.register("spoon")(1)
    with pytest.raises(ConfigError, match=r"no thing named 'spon'; did you mean 'spoon'\? \(known: spoon\)"):
        registry.get("spon")
