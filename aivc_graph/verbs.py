"""What each verb does with its arguments, and how its result is printed."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aivc_graph.pipeline.evaluate_options import OF_PREDICTIONS, RUN, kind_of

TERMINAL_ROWS = 60
# Options of a question stand apart from what every question takes.
OPTION = "option "


@contextmanager
def importing() -> Iterator[None]:
    """Import without garbage collection, which finds nothing among modules and takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def demo(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.demo import demo

    # One line a stage; what happens inside each is said by its own verb.
    logging.getLogger("aivc_graph").setLevel(logging.WARNING)
    logging.getLogger("aivc_graph.pipeline.demo").setLevel(logging.WARNING if given.quiet else logging.INFO)
    _say(given, {"run": demo(given.out, device=given.device, seed=given.seed)})


def simulate(given: argparse.Namespace) -> None:
    from aivc_graph.simulate.simulate import simulate

    _say(given, {"folder": simulate(given.preset, given.out, seed=given.seed)})


def inspect(given: argparse.Namespace) -> None:
    from aivc_graph.config import options_of
    from aivc_graph.pipeline.inspect import inspect

    found = inspect(given.path, mpp=given.mpp, **options_of(given.overrides))
    _say(given, found, "\n".join(_lines(found)))


def build(given: argparse.Namespace) -> None:
    from aivc_graph.config import load_config
    from aivc_graph.pipeline.build import build

    _say(given, {"graph": build(load_config(given.config, given.overrides), given.out)})


def train(given: argparse.Namespace) -> None:
    from aivc_graph.config import load_config
    from aivc_graph.pipeline.train import train_config

    config = load_config(given.config, given.overrides)
    told = {"resume": given.resume, "overwrite": given.overwrite, "device": given.device}
    run = train_config(config, given.graph, given.out, **told)
    _say(given, {"run": run.folder})


def evaluate(given: argparse.Namespace) -> None:
    if kind_of(vars(given)) != RUN:
        _evaluate_predictions(given)
        return
    from aivc_graph.pipeline.evaluate import evaluate, score_table
    from aivc_graph.pipeline.scores import text_of
    from aivc_graph.query.virtual_tissue import VirtualTissue
    from aivc_graph.report.write import PAGE, write_report

    tissue = VirtualTissue.load(given.run)
    evaluation = evaluate(given.run, given.truth, given.out, given.weights, anchors=bool(given.anchors), tissue=tissue)
    write_report(given.run, (given.out or given.run) / PAGE, tissue=tissue)
    scores, models = score_table(evaluation), (evaluation.card or {})["not_evaluated"].get("models", {})
    shown = [text_of(scores, ("task", "readout", "split", "over"), "{:.3f}")] if len(scores) else []
    text = "\n".join([*shown, *(f"{task}: {why}" for task, why in models.items())])
    _say(given, {"scores": _records(scores), "no model": models}, text)


def compare(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.compare import compare

    table = compare(given.runs, given.out)
    _say_table(given, table)


def _evaluate_predictions(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.evaluate_predictions import evaluate_predictions
    from aivc_graph.pipeline.scores import board, text_of
    from aivc_graph.report.write import write_scored_table

    columns = {name: one for name in OF_PREDICTIONS if (one := getattr(given, name)) is not None}
    out = given.out or Path("runs") / given.predictions.stem
    evaluation = evaluate_predictions(given.predictions, given.measured, out, pathways=given.weights, **columns)
    write_scored_table(out)
    scores = board(evaluation)
    _say(given, {"scores": _records(scores)}, text_of(scores, ("task",)))


def query(given: argparse.Namespace) -> None:
    with importing():
        from aivc_graph.pipeline.ask import query

    said = {name: value for name, value in vars(given).items() if value is not None}
    options = {name.removeprefix(OPTION): value for name, value in said.items() if name.startswith(OPTION)}
    places = {name: said[name] for name in ("plot", "on") if name in said}
    _say_table(given, query(given.run, given.question, given.out, **places, **options))


def export(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.ask import export

    _say(given, {"out": export(given.run, given.to, given.out)})


def init(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.init import init

    found = init(given.folder, given.out)
    _say(given, found, "\n".join(_lines(found)))


def schema(given: argparse.Namespace) -> None:
    from aivc_graph.pipeline.reference import reference
    from aivc_graph.pipeline.schema import schema

    found = {"reference": reference()} if given.reference else schema()
    _say(given, found, found["reference"].rstrip() if given.reference else json.dumps(found, indent=1))


def _frame(answer: Any) -> Any:
    """Return a table, or an AnnData's annotation and values as one."""
    from aivc_graph.pipeline.ask import flat

    return answer if hasattr(answer, "columns") else flat(answer)


def _records(answer: Any) -> Any:
    frame = _frame(answer)
    if frame.index.name is not None or frame.index.dtype == object:
        frame = frame.reset_index(names=frame.index.name or "node")
    return json.loads(frame.to_json(orient="records", double_precision=15))


def _table(answer: Any) -> str:
    """Return a table, or an AnnData's annotation and first values, as aligned text."""
    frame = answer if hasattr(answer, "columns") else answer.obs.join(answer.to_df().iloc[:, :8])
    text: str = frame.to_string(max_rows=TERMINAL_ROWS)
    hidden = len(frame) - TERMINAL_ROWS
    return text if hidden <= 0 else f"{text}\n{len(frame):,} rows; write all of them with --out FILE.csv"


def _lines(found: Any, indent: str = "") -> list[str]:
    lines = []
    for key, value in found.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and key in ("faults", "doubts", "leaks", "found", "unclear"):
            lines += [f"{indent}{key}:", *(f"{indent}  {item}" for item in value)]
        else:
            shown = ", ".join(map(str, value)) or "none" if isinstance(value, list | dict) else value
            lines.append(f"{indent}{key}: {f'{shown:,}' if isinstance(shown, int) else shown}")
    return lines


def _say_table(given: argparse.Namespace, answer: Any) -> None:
    """Print a table, or where it was written."""
    if given.out is not None:
        _say(given, {"out": given.out})
    else:
        _say(given, {"rows": _records(answer)} if given.json else {}, "" if given.json else _table(answer))


def _say(given: argparse.Namespace, found: dict[str, Any], text: str | None = None) -> None:
    """Print what a verb found: as JSON where that is asked for, else as `text`, or the one value there is."""
    if given.json:
        text = json.dumps(found, indent=1, default=str)
    elif text is None:
        (text,) = map(str, found.values())
    sys.stdout.write(f"{text}\n")
