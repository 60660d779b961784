"""The command line: ``aivc VERB``. Exit codes: 0 done, 1 the run failed, 2 the input or the configuration is wrong."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from aivc_graph.errors import AivcError, StoreError
from aivc_graph.pipeline.catalogue import COMPARE, EVALUATE
from aivc_graph.pipeline.evaluate_options import OF_PREDICTIONS, RUN, kind_of
from aivc_graph.simulate.catalogue import CATALOGUE

DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
PATH_FAULTS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
Do = Callable[[argparse.Namespace], None]
TERMINAL_ROWS = 60
FORMATS = ("h5ad", "spatialdata", "geojson", "graphml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        given = parser(asks="query" in words).parse_args(words)
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


def parser(*, asks: bool = True) -> argparse.ArgumentParser:
    """Return the parser of all verbs; the questions of `query`, which take a while to import, only if it `asks`."""
    top = argparse.ArgumentParser(prog="aivc", description="A virtual tissue that you can question.")
    top.add_argument("--version", action="version", version=f"aivc {version('aivc-graph')}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add in (_add_demo, _add_simulate, _add_inspect, _add_build, _add_train, _add_evaluate, _add_compare):
        add(verbs)
    _add_query(verbs, asks)
    _add_export(verbs)
    return top


def _verb(verbs: Any, name: str, do: Do, text: str, example: str) -> argparse.ArgumentParser:
    several = "\n" in example
    shown = "examples:\n  " + example.replace("\n", "\n  ") if several else f"example: {example}"
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, epilog=shown)
    verb.formatter_class = argparse.RawDescriptionHelpFormatter if several else argparse.HelpFormatter
    verb.set_defaults(do=do, debug=False, quiet=False)
    _loudness(verb)
    return verb


def _loudness(verb: argparse.ArgumentParser) -> None:
    # Suppressed defaults: a question's own must not undo what was said before it.
    silent = argparse.SUPPRESS
    verb.add_argument("--debug", action="store_true", default=silent, help="show the traceback of an error")
    verb.add_argument("--quiet", action="store_true", default=silent, help="say only what is wrong")


def _add_demo(verbs: Any) -> None:
    verb = _verb(verbs, "demo", _demo, "the whole way on a simulated tissue", "aivc demo --out runs/demo")
    verb.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="run folder (%(default)s)")
    _device(verb)
    verb.add_argument("--seed", type=int, default=0, help="of all random choices (%(default)s)")


def _add_simulate(verbs: Any) -> None:
    text = "write a tissue with known ground truth as a vendor would deliver it"
    verb = _verb(verbs, "simulate", _simulate, text, "aivc simulate tiny --out tissue")
    width = max(map(len, CATALOGUE))
    listed = "\n".join(f"  {name:{width}}  {what}" for name, what in CATALOGUE.items())
    verb.formatter_class, verb.epilog = argparse.RawDescriptionHelpFormatter, f"presets:\n{listed}\n\n{verb.epilog}"
    verb.add_argument("preset", metavar="PRESET", help="one of those below")
    verb.add_argument("--out", required=True, type=Path, metavar="DIR", help="a folder that is absent or empty")
    verb.add_argument("--seed", type=int, default=0, help="of all random choices (%(default)s)")


def _add_inspect(verbs: Any) -> None:
    text = "say what a slide, section, graph or run is, and what is wrong with it"
    verb = _verb(verbs, "inspect", _inspect, text, "aivc inspect runs/demo")
    verb.add_argument("path", type=Path, metavar="PATH")
    verb.add_argument("--mpp", type=float, metavar="UM", help="pixel size [µm] of a slide that does not state its own")
    _overrides(verb, "an option of the reader, as in --set level=cell; may be repeated")
    verb.add_argument("--json", action="store_true", help="as JSON")


def _add_build(verbs: Any) -> None:
    text = "sections → co-registered tissue → graph store"
    verb = _verb(verbs, "build", _build, text, "aivc build configs/visium.yaml --out graphs/visium.zarr")
    _config(verb)
    verb.add_argument("--out", type=Path, metavar="GRAPH", help="graph store (runs/<task name>/graph.zarr)")


def _add_train(verbs: Any) -> None:
    text = "train a model; survives being killed"
    example = "aivc train configs/visium.yaml --out runs/visium --set training.epochs=20"
    verb = _verb(verbs, "train", _train, text, example)
    _config(verb)
    verb.add_argument("--graph", type=Path, metavar="GRAPH", help="graph store; built first if not given")
    verb.add_argument("--out", type=Path, metavar="RUN", help="run folder (runs/<task name>)")
    verb.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    _device(verb)


def _add_evaluate(verbs: Any) -> None:
    text = "score a run or anybody's predictions beside all baselines: evaluation.json, report.html"
    verb = _verb(verbs, "evaluate", _evaluate, text, EVALUATE)
    verb.add_argument("run", type=Path, metavar="RUN", nargs="?", help="a trained run")
    verb.add_argument("--truth", type=Path, metavar="DIR", help="of a simulated tissue; found beside its sections")
    verb.add_argument("--weights", type=Path, metavar="FILE", help="of pathways, which are then scored too")
    verb.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write them (RUN, or runs/<name of the predictions>)"
    )
    given = verb.add_argument_group("predictions of responses", "in place of a run: two .h5ad files")
    given.add_argument("--predictions", type=Path, metavar="H5AD", help="one row a condition, or several cells of each")
    given.add_argument("--measured", type=Path, metavar="H5AD", help="one row a cell, controls among them")
    given.add_argument("--condition", metavar="COLUMN", help="of obs in both (condition)")
    given.add_argument("--control", metavar="NAME", help="the condition without any (control)")
    given.add_argument("--context", metavar="COLUMN", help="such as cell line, of obs in both; one if not given")
    text = "of measured obs, says train or test (split, else what is predicted is tested and all else trains)"
    given.add_argument("--split", metavar="COLUMN", help=text)
    text = "accept that what is tested trains under another name; the page says so"
    given.add_argument("--share-content", action="store_true", default=None, help=text)


def _add_compare(verbs: Any) -> None:
    text = "paired differences between evaluated runs on the same units, with p-values adjusted for their number"
    verb = _verb(verbs, "compare", _compare, text, COMPARE)
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder, or an evaluation.json file")
    verb.add_argument("--out", type=_ends_in(".csv", ".json"), metavar="FILE", help="a .csv or .json file")


def _add_query(verbs: Any, asks: bool) -> None:
    text = "put a question to a run; a table on the terminal, or a file by --out"
    verb = _verb(verbs, "query", _query, text, "aivc query runs/demo niches --out niches.csv")
    verb.add_argument("run", type=Path, metavar="RUN")
    if not asks:
        return
    from aivc_graph.query.questions.question import NODES, QUESTIONS

    asked = verb.add_subparsers(title="questions", metavar="QUESTION", required=True, dest="question")
    for name, facts in sorted(QUESTIONS.facts.items()):
        member, text = QUESTIONS[name], str(facts.get("asks", name))
        example = f"example: aivc query runs/demo {name} {facts.get('example', '')}"
        question = asked.add_parser(name, help=text, description=text, epilog=example)
        question.add_argument("--out", type=_ends_in(*NODES), metavar="FILE", help=" or ".join(member.endings))
        question.add_argument("--on", metavar="GRAPH|CONFIG", type=Path, help=ON)
        if member.is_drawn():
            question.add_argument("--plot", type=Path, metavar="PNG", help="draw the answer")
        _loudness(question)
        for option, field in member.model_fields.items():
            question.add_argument(f"--{option.replace('_', '-')}", dest=OPTION + option, **_as_argument(option, field))


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


def _add_export(verbs: Any) -> None:
    text = "write the graph and its niches for squidpy, SpatialData, QuPath or networkx"
    verb = _verb(verbs, "export", _export, text, "aivc export runs/demo --to geojson --out demo.geojson")
    verb.add_argument("run", type=Path, metavar="RUN")
    verb.add_argument("--to", required=True, choices=FORMATS)
    verb.add_argument("--out", required=True, type=Path, metavar="PATH")


def _config(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("config", type=Path, metavar="CONFIG", help="YAML file")
    _overrides(verb, "put one setting over the file's; may be repeated")


def _overrides(verb: argparse.ArgumentParser, text: str) -> None:
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=text)


def _device(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(%(default)s)")


def _ends_in(*endings: str) -> Callable[[str], Path]:
    def path(text: str) -> Path:
        if Path(text).suffix not in endings:
            raise argparse.ArgumentTypeError(f"{text}: expected a file that ends in {', '.join(endings)}")
        return Path(text)

    return path


ON = "of other tissue: its graph store, or its YAML file, from which a graph is built as the run's was"
# Options of a question stand apart from what every question takes.
OPTION = "option "


def _demo(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.demo import demo

    # One line a stage; what happens inside each is said by its own verb.
    logging.getLogger("aivc_graph").setLevel(logging.WARNING)
    logging.getLogger("aivc_graph.pipeline.demo").setLevel(logging.WARNING if given.quiet else logging.INFO)
    _say(demo(given.out, device=given.device, seed=given.seed))


def _simulate(given: argparse.Namespace) -> None:
    from aivc_graph.simulate.simulate import simulate

    _say(simulate(given.preset, given.out, seed=given.seed))


def _inspect(given: argparse.Namespace) -> None:
    from aivc_graph.config import options_of
    from aivc_graph.pipeline.inspect import inspect

    found = inspect(given.path, mpp=given.mpp, **options_of(given.overrides))
    _say(json.dumps(found, indent=1, default=str) if given.json else "\n".join(_lines(found)))


def _build(given: argparse.Namespace) -> None:
    from aivc_graph.config import load_config
    from aivc_graph.pipeline.build import build

    _say(build(load_config(given.config, given.overrides), given.out))


def _train(given: argparse.Namespace) -> None:
    from aivc_graph.config import load_config
    from aivc_graph.pipeline.train import train_config

    config = load_config(given.config, given.overrides)
    run = train_config(config, given.graph, given.out, resume=given.resume, device=given.device)
    _say(run.folder)


def _evaluate(given: argparse.Namespace) -> None:
    if kind_of(vars(given)) != RUN:
        _evaluate_predictions(given)
        return
    from aivc_graph.pipeline.evaluate import evaluate, score_table
    from aivc_graph.pipeline.scores import text_of
    from aivc_graph.query.virtual_tissue import VirtualTissue
    from aivc_graph.report.write import PAGE, write_report

    tissue = VirtualTissue.load(given.run)
    evaluation = evaluate(given.run, given.truth, given.out, given.weights, tissue=tissue)
    write_report(given.run, (given.out or given.run) / PAGE, tissue=tissue)
    table, models = score_table(evaluation), (evaluation.card or {})["not_evaluated"].get("models", {})
    shown = [text_of(table, ("task", "readout", "split", "over"), "{:.3f}")] if len(table) else []
    _say("\n".join([*shown, *(f"{task}: {why}" for task, why in models.items())]))


def _compare(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.compare import compare

    table = compare(given.runs, given.out)
    _say(given.out if given.out is not None else _table(table))


def _evaluate_predictions(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.evaluate_predictions import evaluate_predictions
    from aivc_graph.pipeline.scores import board, text_of
    from aivc_graph.report.write import write_scored_table

    columns = {name: one for name in OF_PREDICTIONS if (one := getattr(given, name)) is not None}
    out = given.out or Path("runs") / given.predictions.stem
    evaluation = evaluate_predictions(given.predictions, given.measured, out, pathways=given.weights, **columns)
    write_scored_table(out)
    _say(text_of(board(evaluation), ("task",)))


def _query(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.ask import query

    said = {name: value for name, value in vars(given).items() if value is not None}
    options = {name.removeprefix(OPTION): value for name, value in said.items() if name.startswith(OPTION)}
    places = {name: said[name] for name in ("plot", "on") if name in said}
    answer = query(given.run, given.question, given.out, **places, **options)
    _say(given.out if given.out is not None else _table(answer))


def _export(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.ask import export

    _say(export(given.run, given.to, given.out))


def _table(answer: Any) -> str:
    """Return a table, or an AnnData's annotation and first values, as aligned text."""
    frame = answer if hasattr(answer, "columns") else answer.obs.join(answer.to_df().iloc[:, :8])
    text: str = frame.to_string(max_rows=TERMINAL_ROWS)
    hidden = len(frame) - TERMINAL_ROWS
    return text if hidden <= 0 else f"{text}\n{len(frame):,} rows; write them all by --out FILE.csv"


def _lines(found: Any, indent: str = "") -> list[str]:
    lines = []
    for key, value in found.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and key in ("faults", "doubts", "leaks"):
            lines += [f"{indent}{key}:", *(f"{indent}  {item}" for item in value)]
        else:
            shown = ", ".join(map(str, value)) or "none" if isinstance(value, list | dict) else value
            lines.append(f"{indent}{key}: {f'{shown:,}' if isinstance(shown, int) else shown}")
    return lines


def _say(text: object) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
