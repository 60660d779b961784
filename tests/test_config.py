"""Every row of the configuration faults, planted; paths, overrides and the round trip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aivc_graph.config import Config, SectionConfig, SourceConfig, TaskConfig, data_folder, dump_config, load_config
from aivc_graph.errors import ConfigError
from aivc_graph.io.reading import READERS, AbstractReader

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
GOOD = """\
task:
  name: two sections
  split: {kind: by_group, key: donor, test: [d2]}
  sections:
    - name: A
      donor: d1
      sources:
        - {path: a/counts, reader: planted, offset_um: 3, mask: a/mask.npy}
    - name: B
      donor: d2
      sources: [{path: b}]
graph:
  edges:
    cell: {kind: knn, k: 6}
training:
  learning_rate: 1e-3
"""


@pytest.fixture(autouse=True)
def planted_reader() -> Iterator[None]:
    class PlantedReader(AbstractReader):
        offset_um: float = 0.0
        flip: bool = False
        mask: Path | None = None

        @classmethod
        def recognises(cls, path: Path) -> bool:
            return path.suffix == ".planted"

        def read(self, path: Path, section: str) -> Any:
            return path, section

    READERS.register("planted")(PlantedReader)
    yield
    del READERS._members["planted"]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIVC_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()

    def write(text: str) -> Path:
        path = tmp_path / "x.yaml"
        path.write_text(text)
        return path

    return write


def faults(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def test_paths_resolve_against_the_data_folder(write: Any, tmp_path: Path) -> None:
    source = load_config(write(GOOD)).task.sections[0].sources[0]
    assert source.path == tmp_path / "data/a/counts"
    assert source.options == {"offset_um": 3, "mask": tmp_path / "data/a/mask.npy"}


def test_absolute_paths_stay(write: Any) -> None:
    config = load_config(write("task: {sections: [{name: A, sources: [{path: /elsewhere/a}]}]}"))
    assert config.task.sections[0].sources[0].path == Path("/elsewhere/a")


def test_paths_with_a_dot_start_from_the_file(write: Any, tmp_path: Path) -> None:
    path = write("task: {sections: [{name: A, sources: [{path: ./a, reader: planted, mask: ./b/c.npy}]}]}")
    source = load_config(path).task.sections[0].sources[0]
    assert source.path == tmp_path / "a" and source.options["mask"] == tmp_path / "b/c.npy"


def test_weights_of_pathways_are_found_as_data_is(write: Any, tmp_path: Path) -> None:
    assert load_config(write("evaluation: {pathways: ./a.gmt}")).evaluation.pathways == write("").parent / "a.gmt"
    assert load_config(write("evaluation: {pathways: b.gmt}")).evaluation.pathways == data_folder() / "b.gmt"


def test_without_data_folder_paths_start_here(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("task: {sections: [{name: A, sources: [{path: a}]}]}")
    monkeypatch.delenv("AIVC_DATA")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert load_config(path).task.sections[0].sources[0].path == tmp_path / "here/a"
    (tmp_path / "shared/data").mkdir(parents=True)
    assert load_config(path).task.sections[0].sources[0].path == tmp_path / "shared/data/a"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configuration_loads(path: Path) -> None:
    config = load_config(path)
    assert config.task.sections and config.task.name != TaskConfig().name


def test_a_screen_of_former_versions_is_told_how_it_is_written(write: Any) -> None:
    text = "screen: {name: s, path: s.h5ad, condition: perturbation, control: NT, context: line, questions: []}\n"
    with pytest.raises(ConfigError) as raised:
        load_config(write(text))
    said = str(raised.value)
    assert "screen: expected `task:`, found `screen:`" in said and "sections_by: line" in said
    task = said[said.index("`task: ") + 1 : said.index("` (of log")]
    found = load_config(write(task)).task
    assert found.sections[0].interventions.column == "perturbation" and found.split["kind"] == "by_intervention"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("{kind: by_contxt}", "did you mean 'by_context'"),
        ("{kind: by_dose, n_tests: 1}", "did you mean 'n_test'"),
        ("{kind: by_cell}", "expected a design that draws groups"),
        ("{within: [a]}", "expected a mapping with `kind:`"),
    ],
)
def test_questions_are_designs_that_draw_groups(write: Any, question: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(f"evaluation: {{questions: [{question}]}}"))
    assert said in str(raised.value)


def test_empty_file_is_all_defaults(write: Any) -> None:
    assert load_config(write("")) == Config()


def test_dump_reads_back_equal(write: Any) -> None:
    config = load_config(write(GOOD))
    assert load_config(write(dump_config(config))) == config


def test_words_that_look_like_values_survive_a_round_trip(write: Any) -> None:
    sections = [
        SectionConfig(name=name, donor="no", sources=(SourceConfig(path=Path("/a")),))
        for name in ("true", "1e-3", "null", "012", "12:30:00", "2020-01-01", "~", "on", "a: b", "é")
    ]
    config = Config(task=TaskConfig(sections=tuple(sections)))
    assert load_config(write(dump_config(config))) == config


def test_unquoted_words_stay_words(write: Any) -> None:
    config = load_config(write("task: {sections: [{name: on, donor: no, site: 012, sources: [{path: /a}]}]}"))
    section = config.task.sections[0]
    assert (section.name, section.donor, section.site) == ("on", "no", "012")


def test_scientific_notation_is_a_number(write: Any) -> None:
    assert load_config(write(GOOD)).training.learning_rate == 1e-3


def test_unknown_key_names_line_nearest_and_known(write: Any) -> None:
    (message,) = faults(write("training:\n  epochs: 2\n  patiance: 3\n"))
    assert message.startswith("x.yaml:3: training.patiance: unknown key; did you mean 'patience'? (known: ")
    assert "learning_rate" in message


def test_unknown_part(write: Any) -> None:
    (message,) = faults(write("modle: {depth: 2}\n"))
    assert (
        message
        == "x.yaml:1: modle: unknown key; did you mean 'model'? (known: evaluation, graph, model, task, training)"
    )


def test_all_faults_at_once_in_order_of_the_file(write: Any) -> None:
    text = GOOD.replace("name: A", "nam: A").replace("k: 6", "k: six").replace("1e-3", "-1")
    found = faults(write(text + "  epochs: 2\n  epochs: 3\n  seed: !!python/name:os.system ''\n"))
    assert [message.split(": ")[0] for message in found] == [f"x.yaml:{line}" for line in (5, 5, 14, 16, 18, 19)]


def test_unknown_edge_rule(write: Any) -> None:
    (message,) = faults(write("graph:\n  edges:\n    cell:\n      kind: radus\n"))
    assert message.startswith(
        "x.yaml:4: graph.edges.cell.kind: no edge rule named 'radus'; did you mean 'radius'? (known: "
    )


def test_unknown_key_of_an_edge_rule(write: Any) -> None:
    (message,) = faults(write("graph:\n  edges:\n    cell:\n      kind: knn\n      max_neighbors: 3\n"))
    assert message.startswith("x.yaml:5: graph.edges.cell.max_neighbors: unknown key; this rule takes: k")


def test_edge_rule_without_kind(write: Any) -> None:
    (message,) = faults(write("graph: {edges: {cell: {k: 3}}}"))
    assert "expected a mapping with `kind:`" in message and "knn" in message


def test_unknown_split_design_lists_those_there_are(write: Any) -> None:
    (message,) = faults(write(GOOD.replace("by_group", "by_grup")))
    assert message.startswith(
        "x.yaml:3: task.split.kind: no split design named 'by_grup'; did you mean 'by_group'? (known: "
    )


def test_unknown_reader(write: Any) -> None:
    (message,) = faults(write(GOOD.replace("reader: planted", "reader: plantd")))
    assert message.startswith(
        "x.yaml:8: task.sections[0].sources[0].reader: no reader named 'plantd'; did you mean 'planted'?"
    )


def test_unknown_option_of_a_named_reader(write: Any) -> None:
    (message,) = faults(write(GOOD.replace("offset_um", "ofset_um")))
    assert message == (
        "x.yaml:8: task.sections[0].sources[0].ofset_um: unknown key; did you mean 'offset_um'? "
        "this reader takes: flip, mask, offset_um"
    )


def test_option_of_a_reader_chosen_by_content(write: Any, tmp_path: Path) -> None:
    (tmp_path / "data/c.planted").touch()
    (message,) = faults(write("task: {sections: [{name: A, sources: [{path: c.planted, mpp: 2}]}]}"))
    assert "sources[0].mpp: unknown key; this reader takes: flip, mask, offset_um" in message


def test_unknown_registration_method_and_option(write: Any) -> None:
    section = "task:\n  sections:\n    - name: A\n      sources: [{path: a}]\n      registration:\n"
    (message,) = faults(write(section + "        - {kind: scal}\n"))
    assert message.startswith(
        "x.yaml:6: task.sections[0].registration[0].kind: no registration method named 'scal'; did you mean"
    )
    (message,) = faults(write(section + "        - {kind: scale, moving: slide, um_per_unit: 1, um: 2}\n"))
    assert "registration[0].um: unknown key;" in message and "this method takes: " in message


@pytest.mark.parametrize("word", ["no", "yes", "on", "'false'", "1"])
def test_a_switch_takes_true_or_false_only(write: Any, word: str) -> None:
    (message,) = faults(write(GOOD.replace("offset_um: 3", f"flip: {word}")))
    assert message.startswith("x.yaml:8: task.sections[0].sources[0].flip: expected true or false, found ")
    assert message.endswith("write true or false")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("epochs: twenty", "expected a valid integer, found 'twenty'"),
        ("epochs: 2.5", "expected a valid integer, found 2.5"),
        ("epochs: true", "expected a number, found true"),
        ("epochs: [1]", "expected a valid integer, found [1]"),
        ("epochs:", "expected a valid integer, found nothing"),
        ("epochs: -1", "expected greater than or equal to 0, found -1"),
        ("device: gpu", "expected 'auto', 'cpu' or 'cuda', found 'gpu'"),
        ("device: cudaa", "did you mean 'cuda'?"),
    ],
)
def test_wrong_type_or_value(write: Any, setting: str, said: str) -> None:
    (message,) = faults(write(f"training:\n  seed: 1\n  {setting}\n"))
    assert message.startswith(f"x.yaml:3: training.{setting.split(':')[0]}: ") and said in message


@pytest.mark.parametrize("patch_um", ["1.0e-9", "1.0e+9", ".nan"])
def test_patches_have_the_size_of_tissue(write: Any, patch_um: str) -> None:
    with pytest.raises(ConfigError, match=r"graph\.patch_um: expected "):
        load_config(write(f"graph: {{patch_um: {patch_um}}}"))


def test_a_number_where_a_name_is_due(write: Any) -> None:
    (message,) = faults(write(GOOD.replace("donor: d1", "donor: 151510")))
    assert message == "x.yaml:6: task.sections[0].donor: expected text, found 151510; put it in quotes"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("traits_by: {stage: stage}", "such as [stage], found {'stage': 'stage'}"),
        ("traits_by: {stage: s, age: a}", "such as [s, a], found"),
        ("sections_by: {library: 1}", "such as [COLUMN], found"),
    ],
)
def test_a_mapping_where_columns_are_due_is_answered_with_an_example(write: Any, given: str, said: str) -> None:
    (message,) = faults(write(GOOD.replace("donor: d1", given)))
    assert message.startswith(f"x.yaml:6: task.sections[0].{given.partition(':')[0]}: expected a column or a list of")
    assert said in message


def test_missing_key(write: Any) -> None:
    (message,) = faults(write("task:\n  sections:\n    - name: A\n"))
    assert message == "x.yaml:3: task.sections[0].sources: expected a value, found nothing; add `sources:`"


def test_contradiction_two_sections_of_one_name(write: Any) -> None:
    (message,) = faults(write(GOOD.replace("name: B", "name: A")))
    assert message == "x.yaml:4: task.sections: two sections called 'A'; give each its own name"


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "..", "a\\b"])
def test_a_task_is_named_like_one_folder(write: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=r"task\.name: expected the name of a folder, found "):
        load_config(write(f"task: {{name: '{name}'}}"))


def test_tags_are_refused_and_never_run(write: Any, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = f"task:\n  name: !!python/object/apply:os.system ['touch {marker}']\n  split: !custom {{kind: by_group}}\n"
    first, second = faults(write(text))
    assert first.startswith(
        "x.yaml:2: task.name: expected plain values, found the YAML tag '!!python/object/apply:os.system'"
    )
    assert second.startswith("x.yaml:3: task.split: expected plain values, found the YAML tag '!custom'")
    assert not marker.exists()


def test_tag_cannot_turn_no_into_false(write: Any) -> None:
    (message,) = faults(write(GOOD.replace("offset_um: 3", "flip: !!bool no")))
    assert "flip: expected plain values, found the YAML tag '!!bool'" in message


def test_duplicate_key_names_both_lines(write: Any) -> None:
    (message,) = faults(write("training:\n  epochs: 2\n  seed: 1\n  epochs: 3\n"))
    assert message == "x.yaml:4: training.epochs: given twice, first on line 2; keep one of the two"


def test_key_that_is_no_word(write: Any) -> None:
    (message,) = faults(write("training:\n  1: 2\n"))
    assert message == "x.yaml:2: training: expected a word as key, found the key '1'; put it in quotes"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task:\n  name: [a\n", "x.yaml:3: "),
        ("task:\n\tname: a\n", "x.yaml:2: "),
        ("a: &x 1\nb: *x\n", "x.yaml:1: anchors and aliases are not read"),
        ("[1, 2]\n", "x.yaml:1: expected the keys task, graph, model, training, evaluation, found [1, 2]"),
        ("[" * 5000, "x.yaml:1: not YAML"),
    ],
)
def test_broken_yaml_names_the_line(write: Any, text: str, said: str) -> None:
    (message,) = faults(write(text))
    assert message.startswith(said)


def test_no_file_folder_and_bytes(tmp_path: Path) -> None:
    assert "No such file" in faults(tmp_path / "absent.yaml")[0]
    assert "directory" in faults(tmp_path)[0]
    (tmp_path / "b.yaml").write_bytes(b"name: \xff\xfe")
    assert "not UTF-8" in faults(tmp_path / "b.yaml")[0]


def test_overrides_win_and_reach_into_lists(write: Any) -> None:
    overrides = [
        "training.epochs=3",
        "task.sections[1].donor=d9",
        "graph.edges.patch={kind: grid}",
        "graph.keep_genes=[A, B]",
    ]
    config = load_config(write(GOOD), overrides)
    assert config.training.epochs == 3 and config.task.sections[1].donor == "d9"
    assert config.graph.edges["patch"] == {"kind": "grid"} and config.graph.keep_genes == ("A", "B")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs=many", "--set training.epochs: expected a valid integer, found 'many'"),
        ("model.latnt=3", "--set model.latnt: unknown key; did you mean 'latent'? (known: depth, latent, "),
        ("graph.edges.cell.kind=kn", "--set graph.edges.cell.kind: no edge rule named 'kn'; did you mean 'knn'?"),
        ("training.epochs", "--set training.epochs: expected KEY=VALUE, found no value"),
        ("task.sections[9].name=x", "--set task.sections[9].name: expected a key or an index that is there"),
        ("training.seed.x=1", "--set training.seed.x: "),
        ("foo.bar=1", "--set foo.bar: unknown key"),
        ("training.foo.bar=1", "--set training.foo.bar: unknown key"),
        ("training.epochs=[1", "--set training.epochs: expected a plain YAML value, found '[1'"),
        ("training.epochs=!!python/name:os.system", "--set training.epochs: expected a plain YAML value"),
    ],
)
def test_faulty_overrides_are_named(write: Any, override: str, message: str) -> None:
    (found,) = faults(write(GOOD + "  seed: 1\n"), override)
    assert found.startswith(message)


def test_faults_of_file_and_override_come_together(write: Any) -> None:
    found = faults(write("training: {patience: 0}"), "training.epochs=x")
    assert [message.split(":")[0] for message in found] == ["x.yaml", "--set training.epochs"]
