"""Ask every verb to write where it cannot, through a link, or beside another, and see that nothing is lost.

Where it is to write lies a file for a folder or a folder for a file, or a link that leads elsewhere or in circles; the
place is not writable; what is read is not, nor is the cache; the verb is put twice at once; scores are written beside a
training that replaces their run. It must do its work or refuse: then what was there is there still, byte for byte,
nothing lies beside it, and the error names the place.

    python benchmarks/places.py [--only WORD …] [--times 20] [--out benchmarks/results/places.json]

Exits with 1 if anything was lost, mixed or said otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kill_verbs import model_of, say, verbs
from kills import REFUSED, Content, Ended, Trial, begun, content, ended, run
from own_disk import OwnDisk

SHOWN = 300
HELD = ("being written by", "already", "No such file", "replaced while")  # by the other one, or it was quicker


def links(folder: Path) -> dict[str, str]:
    """Return where every link below a folder leads."""
    return {str(path.relative_to(folder)): os.readlink(path) for path in folder.rglob("*") if path.is_symlink()}


def refused(done: Ended, place: Path, before: Content) -> str | None:
    """Say what is wrong with a refusal: something was lost or left, it is no fault of the input, it names no place."""
    if content(place, left=True) != before:
        return f"something was lost or left: {sorted(set(content(place, left=True)) ^ set(before))[:5]}"
    if done.code != REFUSED or str(place) not in done.said:
        return f"exit code {done.code}: {done.said[-SHOWN:]}"
    return None


def not_writable(trial: Trial) -> str | None:
    """Let nothing be written where the verb works."""
    place, before = trial.fresh(), content(trial.fresh())
    trial.disk.close()
    done = run(trial.verb.act, place)
    trial.disk.widen()
    return refused(done, place, before)


def of_another_kind(trial: Trial) -> str | None:
    """Put a folder where a file is to be written, or a file where a folder is."""
    place = trial.fresh()
    out = place / trial.verb.out
    shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    if trial.folder:
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "own.txt").write_text("mine")
    before = content(place)
    return refused(run(trial.verb.act, place), place, before)


def through_a_link(trial: Trial) -> str | None:
    """Let the output be a link, perhaps to nothing: it stays one, and what is written lies where it leads."""
    place = trial.fresh()
    out, other = place / trial.verb.out, place / f"other_{trial.verb.out}"
    if out.exists():
        out.rename(other)
    out.symlink_to(other)
    done = run(trial.verb.act, place)
    if done.code != 0 or not out.is_symlink():
        return f"exit code {done.code}, {'a link still' if out.is_symlink() else 'no link now'}: {done.said[-SHOWN:]}"
    moved = {name.replace(trial.verb.out, other.name, 1): digest for name, digest in trial.new.items()}
    found = {name: digest for name, digest in content(place, left=True).items() if not (place / name).is_symlink()}
    wrong = sorted(name for name in {*moved, *found} if moved.get(name) != found.get(name))
    return f"another result or leftovers: {wrong[:5]}" if wrong else None


def in_circles(trial: Trial) -> str | None:
    """Let the output be a link to itself."""
    place = trial.fresh()
    out = place / trial.verb.out
    shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    out.symlink_to(out)
    before, led = content(place), links(place)
    done = run(trial.verb.act, place)
    return refused(done, place, before) or (None if links(place) == led else "the link is gone")


def twice(trial: Trial, chance: random.Random) -> str | None:
    """Put the verb twice, the second a random time after the first: both do their work, or one says who is at it."""
    place = trial.fresh()
    first = begun(trial.verb.act, place)
    time.sleep(chance.uniform(0, trial.once.seconds))
    second = begun(trial.verb.act, place)
    codes, said = zip(ended(first), ended(second), strict=True)
    if 0 not in codes or not set(codes) <= {0, REFUSED}:
        return f"exit codes {codes}: {said}"
    if untold := [one for code, one in zip(codes, said, strict=True) if code and not any(word in one for word in HELD)]:
        return f"refused without saying who is at it: {untold}"
    found = content(place, left=True)
    wrong = sorted(name for name in {*trial.new, *found} if trial.new.get(name) != found.get(name))
    return f"another result or leftovers: {wrong[:5]}, exit codes {codes}" if wrong else None


def only_read(trial: Trial, inputs: OwnDisk) -> str | None:
    """Let what is read not be writable, nor the cache."""
    place = trial.fresh()
    inputs.close()
    done = run(trial.verb.act, place)
    inputs.widen()
    if done.code != 0 or content(place, left=True) != trial.new:
        return f"exit code {done.code}, or another result: {done.said[-SHOWN:]}"
    return None


def beside_training(trial: Trial, inputs: Path, chance: random.Random) -> str | None:
    """Score a run while a training replaces it: what lies there then, scores and page, is of one model."""
    from aivc_graph.query.virtual_tissue import VirtualTissue

    place = trial.fresh()
    train = say("train", f"{inputs}/cells.yaml", "--out", "{}/run", "--overwrite", "--set", "training.seed=1")
    training = begun(train, place)
    time.sleep(chance.uniform(0, 2 * trial.once.seconds))
    scoring = begun(trial.verb.act, place)
    (code, said), (trained, told) = ended(scoring), ended(training)
    if trained != 0 or code not in (0, REFUSED):
        return f"exit codes {trained}, {code}: {told[-SHOWN:]} {said[-SHOWN:]}"
    model = model_of(VirtualTissue.load(place / "run"))
    for name in ("evaluation.json", "report.html"):
        file = place / "run" / name
        if file.exists() and str(model) not in file.read_text():
            return f"{name} of another model; exit code {code}"
    leftovers = sorted(set(content(place, left=True)) - set(content(place)))
    return f"leftovers {leftovers[:5]}" if leftovers else None


def tried(trial: Trial, inputs: OwnDisk, times: int) -> dict[str, Any]:
    """Try one verb at every kind of place; return how often, and what was wrong."""
    chance, name = random.Random(0), trial.verb.name
    found = {
        "of another kind": [of_another_kind(trial)],
        "through a link": [through_a_link(trial)],
        "in circles": [in_circles(trial)],
        "twice": [twice(trial, chance) for _ in range(times)],
    }
    if inputs.mounted:
        found |= {"not writable": [not_writable(trial)], "only read": [only_read(trial, inputs)]}
    if name == "evaluate":
        found["beside training"] = [beside_training(trial, inputs.place, chance) for _ in range(10 * times)]
    faults = [f"{kind}: {fault}" for kind, said in found.items() for fault in said if fault is not None]
    return {"verb": name, **{kind: len(said) for kind, said in found.items()}, "faults": faults}


def main() -> int:
    """Try every verb and write the counts."""
    from result_file import write_result

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "places.json")
    parser.add_argument("--times", type=int, default=10, help="each verb is put twice at once (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[""], help="verbs whose name begins with one of these words")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(os.path.realpath(folder))
        disk, inputs = OwnDisk(place / "trial"), OwnDisk(place / "inputs")
        os.environ["XDG_CACHE_HOME"] = str(inputs.place / "cache")
        for verb in verbs(inputs.place):
            if verb.name.startswith(tuple(options.only)):
                rows.append(tried(Trial.of(verb, disk, place / "work"), inputs, options.times))
                print(json.dumps(rows[-1]), flush=True)
        disk.unmount()
        inputs.unmount()
    faults = sum(len(row["faults"]) for row in rows)
    if options.only == [""]:
        write_result(options.out, {"verbs": rows, "faults": faults})
    print(f"{len(rows)} verbs, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
