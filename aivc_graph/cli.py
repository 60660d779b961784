"""The command line: ``aivc VERB``. Exit codes: 0 done, 1 the run failed, 2 the input or the configuration is wrong."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from aivc_graph import verbs
from aivc_graph.errors import AivcError, QueryError, StoreError, unknown_name
from aivc_graph.pipeline.catalogue import COMPARE, EVALUATE
from aivc_graph.simulate.catalogue import CATALOGUE

DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
PATH_FAULTS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
Do = Callable[[argparse.Namespace], None]
FORMATS = ("h5ad", "spatialdata", "geojson", "graphml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        given, unknown = parser(asks="query" in words).parse_known_args(words)
        if unknown:
            given.parser.refuse(unknown[0])
    except AivcError as error:  # a question of a user's package that cannot be imported
        return _report(error)
    level = logging.WARNING if given.quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("aivc_graph").setLevel(level)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what a damaged slide means to us is said by our errors
    try:
        given.do(given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("aivc: stopped\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if given.debug:
            traceback.print_exc()
        return _report(error)
    return 0


def _report(error: Exception) -> int:
    if isinstance(error, AivcError):
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    if isinstance(error, OSError) and error.errno in (*DISK_FAULTS, *PATH_FAULTS):
        where = f"{error.filename}: " if error.filename is not None else ""
        mend = "free space" if error.errno in DISK_FAULTS else "check the path"
        sys.stderr.write(f"StoreError: {where}{error.strerror or error}; {mend}, or choose another place\n")
        return StoreError.exit_code
    first = (str(error).splitlines() or [""])[0]
    sys.stderr.write(f"aivc: unexpected {type(error).__name__}: {first}; run again with --debug for the traceback\n")
    return 1


class Parser(argparse.ArgumentParser):
    """Parses words, and of one that it does not know names the nearest, as the faults of a configuration do."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.option_strings[0] if action.option_strings else str(action.metavar)
            kind = "choice" if action.option_strings else name.lower()
            raise argparse.ArgumentError(None, str(unknown_name(QueryError, name, kind, value, action.choices)))

    def refuse(self, word: str) -> None:
        """Exit with what is wrong with a word that belongs to nothing."""
        if not word.startswith("-"):
            self.error(f"{word}: one word more than it takes")
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        told = unknown_name(QueryError, self.prog, "option", word.partition("=")[0], known)
        self.error(str(told).removeprefix(f"{self.prog}: "))


def parser(*, asks: bool = True) -> Parser:
    """Return the parser of all verbs; the questions of `query`, which take a while to import, only if it `asks`."""
    top = Parser(prog="aivc", description="aivc-graph: a virtual tissue that you can question.")
    top.set_defaults(parser=top)
    top.add_argument("--version", action="version", version=f"aivc {version('aivc-graph')}")
    group = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add in (_add_demo, _add_simulate, _add_init, _add_inspect, _add_build, _add_train, _add_evaluate, _add_compare):
        add(group)
    _add_query(group, asks)
    _add_export(group)
    _add_schema(group)
    return top


def _verb(group: Any, name: str, do: Do, text: str, example: str) -> Parser:
    several = "\n" in example
    shown = "examples:\n  " + example.replace("\n", "\n  ") if several else f"example: {example}"
    verb: Parser = group.add_parser(name, help=text, description=text, epilog=shown)
    verb.formatter_class = argparse.RawDescriptionHelpFormatter if several else argparse.HelpFormatter
    verb.set_defaults(do=do, parser=verb, debug=False, quiet=False, json=False)
    _loudness(verb)
    return verb


def _loudness(verb: argparse.ArgumentParser) -> None:
    # Suppressed defaults: a question's own must not undo what was said before it.
    silent = argparse.SUPPRESS
    verb.add_argument("--debug", action="store_true", default=silent, help="show the traceback of an error")
    verb.add_argument("--quiet", action="store_true", default=silent, help="print warnings and errors only")
    verb.add_argument("--json", action="store_true", default=silent, help="print the result as JSON")


def _add_demo(group: Any) -> None:
    verb = _verb(
        group,
        "demo",
        verbs.demo,
        "run the whole pipeline on simulated tissue and write a report",
        "aivc demo --out runs/demo",
    )
    verb.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="run folder (%(default)s)")
    _device(verb)
    verb.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")


def _add_simulate(group: Any) -> None:
    text = "simulate tissue with known ground truth, written in vendor formats"
    verb = _verb(group, "simulate", verbs.simulate, text, "aivc simulate tiny --out tissue")
    width = max(map(len, CATALOGUE))
    listed = "\n".join(f"  {name:{width}}  {what}" for name, what in CATALOGUE.items())
    verb.formatter_class, verb.epilog = argparse.RawDescriptionHelpFormatter, f"presets:\n{listed}\n\n{verb.epilog}"
    verb.add_argument("preset", metavar="PRESET", help="one of the presets below")
    verb.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder; must be new or empty")
    verb.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")


def _add_init(group: Any) -> None:
    text = "look at the data in a folder and write a commented YAML file for `aivc build`"
    verb = _verb(group, "init", verbs.init, text, "aivc init my_study --out my_study/aivc.yaml")
    verb.add_argument("folder", type=Path, metavar="FOLDER")
    verb.add_argument("--out", type=_ends_in(".yaml", ".yml"), metavar="FILE", help="YAML file (FOLDER/aivc.yaml)")


def _add_inspect(group: Any) -> None:
    text = "describe a slide, section, graph or run, and report problems"
    verb = _verb(group, "inspect", verbs.inspect, text, "aivc inspect runs/demo")
    verb.add_argument("path", type=Path, metavar="PATH")
    verb.add_argument("--mpp", type=float, metavar="UM", help="pixel size [µm] of a slide whose file does not state it")
    _overrides(verb, "set a reader option, such as --set level=cell; may be repeated")


def _add_build(group: Any) -> None:
    text = "read and co-register all sections and build the tissue graph"
    verb = _verb(group, "build", verbs.build, text, "aivc build configs/visium.yaml --out graphs/visium.zarr")
    _config(verb)
    verb.add_argument("--out", type=Path, metavar="GRAPH", help="graph store (runs/<task name>/graph.zarr)")


def _add_train(group: Any) -> None:
    text = "train a model; an interrupted run can be resumed"
    example = "aivc train configs/visium.yaml --out runs/visium --set training.epochs=20"
    verb = _verb(group, "train", verbs.train, text, example)
    _config(verb)
    verb.add_argument(
        "--graph", type=Path, metavar="GRAPH", help="graph store to train on; built from CONFIG by default"
    )
    verb.add_argument("--out", type=Path, metavar="RUN", help="run folder (runs/<task name>)")
    verb.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    verb.add_argument("--overwrite", action="store_true", help="replace a finished run that has other settings")
    _device(verb)


def _add_evaluate(group: Any) -> None:
    text = "score a run, or predictions from any method, against baselines; writes evaluation.json and report.html"
    verb = _verb(group, "evaluate", verbs.evaluate, text, EVALUATE)
    verb.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        nargs="?",
        help="run folder",
    )
    verb.add_argument(
        "--truth",
        type=Path,
        metavar="DIR",
        help="ground truth of simulated tissue; by default looked for next to its sections",
    )
    verb.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="pathway weights or gene sets (GMT); also score at the pathway level",
    )
    verb.add_argument("--out", type=Path, metavar="DIR", help="output folder (RUN, or runs/<name of the predictions>)")
    verb.add_argument(
        "--anchors",
        action="store_true",
        default=None,
        help="of cells beneath spots: also draw scores against the share and the shift of anchors (takes ten fits)",
    )
    given = verb.add_argument_group("predictions from any method", "two .h5ad files instead of a run")
    given.add_argument(
        "--predictions",
        type=Path,
        metavar="H5AD",
        help="predicted: one row per condition, or several cells per condition",
    )
    given.add_argument("--measured", type=Path, metavar="H5AD", help="measured: one row per cell, controls included")
    given.add_argument("--condition", metavar="COLUMN", help="obs column of both files with the condition (condition)")
    given.add_argument("--control", metavar="NAME", help="name of the control condition (control)")
    given.add_argument(
        "--context",
        metavar="COLUMN",
        help="obs column of both files with the context, such as the cell line; by default one context",
    )
    text = "obs column of the measured file with train or test (split; without one, predicted conditions are test)"
    given.add_argument("--split", metavar="COLUMN", help=text)
    text = "allow test data that also occur in training under another name; the report says so"
    given.add_argument("--share-content", action="store_true", default=None, help=text)


def _add_compare(group: Any) -> None:
    text = "compare evaluated runs on the same units: paired differences with adjusted p-values"
    verb = _verb(group, "compare", verbs.compare, text, COMPARE)
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder or evaluation.json file")
    verb.add_argument("--out", type=_ends_in(".csv", ".json"), metavar="FILE", help="write to a .csv or .json file")


def _add_query(group: Any, asks: bool) -> None:
    text = "ask a trained run a question; prints a table, or writes a file with --out"
    verb = _verb(group, "query", verbs.query, text, "aivc query runs/demo niches --out niches.csv")
    verb.add_argument("run", type=Path, metavar="RUN")
    if not asks:
        return
    with verbs.importing():
        from aivc_graph.query.questions.question import NODES, QUESTIONS

        facts_of = sorted(QUESTIONS.facts.items())
    asked = verb.add_subparsers(title="questions", metavar="QUESTION", required=True, dest="question")
    for name, facts in facts_of:
        member, text = QUESTIONS[name], str(facts.get("asks", name))
        example = f"example: aivc query runs/demo {name} {facts.get('example', '')}"
        question = asked.add_parser(name, help=text, description=text, epilog=example)
        question.set_defaults(parser=question)
        question.add_argument("--out", type=_ends_in(*NODES), metavar="FILE", help=_listed(member.endings))
        question.add_argument("--on", metavar="GRAPH|CONFIG", type=Path, help=ON)
        if member.is_drawn():
            question.add_argument("--plot", type=Path, metavar="PNG", help="draw the answer and save the picture")
        _loudness(question)
        for option, field in member.model_fields.items():
            # One word for levels in every question; the older `--at` is still taken.
            flags = ("--level", "--at") if option == "at" else (f"--{option.replace('_', '-')}",)
            question.add_argument(*flags, dest=verbs.OPTION + option, **_as_argument(option, field))


def _as_argument(option: str, field: Any) -> dict[str, Any]:
    """Return how the command line takes a field of a question; what it is given is checked by the question."""
    union = (field.annotation, *get_args(field.annotation))
    kinds = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in union]
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    usual = field.default if isinstance(field.default, str | int | float) else None
    text = f"{field.description or ''}{'' if usual is None else f' ({usual})'}".strip()
    told: dict[str, Any] = {"help": text.replace("%", "%%"), "required": field.is_required()}
    if bool in kinds:
        return told | {"action": "store_true", "default": None}
    if choices:
        return told | {"choices": choices}
    metavar = (field.json_schema_extra or {}).get("metavar", option.upper())
    return told | {
        "metavar": metavar,
        "action": "append" if any(get_origin(k) in (list, tuple) for k in kinds) else "store",
    }


def _add_export(group: Any) -> None:
    text = "export the graph and its niches for squidpy, SpatialData, QuPath or networkx"
    verb = _verb(group, "export", verbs.export, text, "aivc export runs/demo --to geojson --out demo_geojson")
    verb.add_argument("run", type=Path, metavar="RUN")
    verb.add_argument("--to", required=True, choices=FORMATS)
    verb.add_argument("--out", required=True, type=Path, metavar="PATH")


def _add_schema(group: Any) -> None:
    text = "print the JSON Schema of the YAML file, for editors, or the reference of all its keys and reader options"
    verb = _verb(group, "schema", verbs.schema, text, "aivc schema > aivc.schema.json\naivc schema --reference")
    verb.add_argument("--reference", action="store_true", help="print Markdown: every key with unit and default")


def _config(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("config", type=Path, metavar="CONFIG", help="YAML file")
    _overrides(verb, "override a setting of the file; may be repeated")


def _overrides(verb: argparse.ArgumentParser, text: str) -> None:
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=text)


def _device(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="device to run on (%(default)s)"
    )


def _listed(endings: Sequence[str]) -> str:
    return f"{', '.join(endings[:-1])} or {endings[-1]} file"


def _ends_in(*endings: str) -> Callable[[str], Path]:
    def path(text: str) -> Path:
        if Path(text).suffix not in endings:
            raise argparse.ArgumentTypeError(f"{text}: expected a file that ends in {', '.join(endings)}")
        return Path(text)

    return path


ON = "ask about other tissue: a graph store, or a YAML file to build one from with the run's graph settings"

if __name__ == "__main__":
    sys.exit(main())
