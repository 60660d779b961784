"""The training loop: windows of tissue, hidden nodes and molecules, early stopping, resuming."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.atomic import write_whole
from aivc_graph.errors import TrainingError
from aivc_graph.graph.store import GraphStore
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import QUESTIONS
from aivc_graph.operators.hiding import draw_hidden
from aivc_graph.operators.part import AFTER_TRAINING, BEFORE_TRAINING, Fitting
from aivc_graph.operators.state import Inputs
from aivc_graph.training.checkpoint import (
    CLOSED_FORM,
    below,
    load_tensors,
    optimiser_tensors,
    restore_optimiser,
    save_model,
    save_tensors,
)
from aivc_graph.training.device import device_of, out_of_memory
from aivc_graph.training.draws import Draws
from aivc_graph.training.gates import JUDGED, choose_gates, gates_of, open_terms
from aivc_graph.training.objective import Objective
from aivc_graph.training.places import CHOOSING, LEARNING, STOPPING, Places, new_donors
from aivc_graph.training.run_folder import METRICS
from aivc_graph.training.settings import LIKELIHOOD, TrainingConfig
from aivc_graph.training.terms.likelihood import likelihood
from aivc_graph.training.terms.term import Loss, Pass
from aivc_graph.training.visits import Visits

log = logging.getLogger(__name__)
BETAS = (0.9, 0.99)
SMALL_NODES = 50_000
WINDOW_NODES = (500, 40_000)
# A loss is better by so much a value at least [nats].
LEAST_GAIN = 5e-4
HIDDEN = "hidden"
Report = Callable[[dict[str, Any]], None]


def fit(
    graph: TissueGraph | GraphStore,
    model_config: ModelConfig,
    config: TrainingConfig,
    run: Path,
    *,
    resume: bool = False,
    report: Report | None = None,
) -> TissueModel:
    """Fit the baseline in closed form, then the corrections by gradient; write the run folder as it goes.

    Parameters
    ----------
    graph
        A tissue graph, or an opened graph store, with split labels.
    run
        Folder for ``model.safetensors``, ``model.json``, ``metrics.jsonl`` and ``checkpoints/``.
    resume
        Go on from the last checkpoint; the result is the same as if training had never stopped.
    report
        Called with the metrics of each epoch.

    Raises
    ------
    TrainingError
        If no node is for training, or the loss is not finite.
    """
    training = _Fit(graph, model_config, config, run, report)
    threads = torch.get_num_threads()
    try:
        # Starting threads costs more than they save on small tissue.
        torch.set_num_threads(1 if training.n_nodes < SMALL_NODES else threads)
        return training.run(resume=resume)
    finally:
        torch.set_num_threads(threads)


class _Fit:
    def __init__(
        self,
        graph: TissueGraph | GraphStore,
        model_config: ModelConfig,
        config: TrainingConfig,
        folder: Path,
        report: Report | None,
    ) -> None:
        self.source, self.config, self.folder, self.report = graph, config, folder, report
        self.graph = graph.structure
        self.device = device_of(config)
        self.plan = ModelPlan.of(self.graph, model_config)
        torch.manual_seed(config.seed)
        self.model = TissueModel(self.plan).to(self.device)
        self.objective = Objective(self.graph, config).to(self.device)
        self.learning = [*self.model.parameters(), *self.objective.parameters()]
        self.n_nodes = sum(int(self.graph[v].num_nodes) for v in self.graph.levels if v != names.REGION)
        size = config.window_nodes or int(np.clip(self._n_learning() // 8, *WINDOW_NODES))
        self.visits = Visits(graph, self.model, self.device, self.n_nodes, size)
        self.places = Places.of(self.graph, self.plan.panels)
        self.epoch, self.best, self.best_epoch, self.halvings = 0, float("inf"), 0, 0
        self.best_state: dict[str, Tensor] = {}
        self.diagnostics: dict[str, float] = {}
        # Negative log-likelihood of held-out places, stage by stage.
        self.likelihoods: dict[str, float] = {}
        self.terms_opening = 1.0

    def _n_learning(self) -> int:
        """Return the number of nodes that train or validate: what is held out moves no window."""
        splits = (names.TRAIN, names.VALIDATION)
        levels = [v for v in self.graph.levels if v != names.REGION]
        return sum(int(self.graph.in_split(v, split).sum()) for v in levels for split in splits)

    def run(self, *, resume: bool) -> TissueModel:
        """Train to the end and return the model with its gates chosen."""
        self._learn(resume=resume)
        self._gate_terms(resume=resume)
        openings = choose_gates(self.model, lambda question: self.held_out_loss(question, CHOOSING))
        for question in JUDGED:
            with self.model.asked(question):
                self.likelihoods[f"trained, {question}"] = self.held_out_loss(group=CHOOSING)
        self._fit(AFTER_TRAINING)
        for question in QUESTIONS:
            opened = [name for name, by in openings.items() if by[question]]
            log.info("corrections let through for %s: %s", question, ", ".join(opened) or "none")
        self._write_facts(openings)
        save_model(self.model, self.folder)
        self._save_closed_form()
        return self.model.eval()

    def _learn(self, *, resume: bool) -> None:
        """Train until nothing is gained any more, every gate open."""
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        last = self.folder / "checkpoints" / "last.safetensors"
        if resume and last.exists():
            optimiser = self._restore(last)
        else:
            self._start()
            optimiser = self._optimiser()
            self._checkpoint(optimiser, last)
        while self.epoch < self.config.epochs and self.epoch - self.best_epoch < self.config.patience:
            optimiser = self._epoch_in_memory(optimiser, last)
            self._checkpoint(optimiser, last)
        self.model.load_state_dict(self.best_state, strict=False)

    def _gate_terms(self, *, resume: bool) -> None:
        """Let what terms beside the likelihood have taught through as far as held-out places gain by it."""
        further = [name for name in self.objective.weights if name != LIKELIHOOD]
        if not further or LIKELIHOOD not in self.objective.weights:
            return
        alone = self.config.model_copy(update={"objective": {LIKELIHOOD: self.objective.weights[LIKELIHOOD]}})
        plain = _Fit(self.source, self.plan.config, alone, self.folder / "checkpoints" / LIKELIHOOD, None)
        plain._learn(resume=resume)
        loss = partial(self.held_out_loss, group=CHOOSING)
        self.terms_opening = open_terms(self.model, plain.best_state, loss)
        log.info("%s let through: %g", ", ".join(further), self.terms_opening)

    def _save_closed_form(self) -> None:
        """Write the model as it would be without anything learnt by gradient, beside the model, for comparison."""
        kept = {name: t.clone() for name, t in self.model.state_dict().items()}
        gates = gates_of(self.model).values()
        opened = any(bool(gate.opening.any()) for gate in gates)
        for gate in gates:
            gate.opening.zero_()
        # Nothing learnt is let through for responses, so their fit stays as it is.
        self._fit(AFTER_TRAINING, JUDGED if opened else ())
        save_tensors(dict(self.model.state_dict()), {}, self.folder / CLOSED_FORM)
        self.model.load_state_dict(kept)

    def _start(self) -> None:
        write_whole(self.folder / METRICS, "")
        with torch.no_grad():
            for part in self.model.parts_of("measurement"):
                part.begin(self.graph)
        if not any(bool(rows.any()) for fold in self.visits.folds(names.TRAIN) for rows in fold.rows.values()):
            raise TrainingError("split", "no node is for training", "at least one", "check task.split")
        self.diagnostics = self._fit(BEFORE_TRAINING[:-1])
        # Decoders still say nothing here, so that what is expected is the mean profile of the section.
        self.likelihoods = {"mean profile": self.held_out_loss(group=CHOOSING)}
        self.diagnostics |= self._fit(BEFORE_TRAINING[-1:])
        self.likelihoods["closed form"] = self.held_out_loss(group=CHOOSING)
        log.info("closed form: %s", ", ".join(f"{k} {v:.3f}" for k, v in self.diagnostics.items()) or "done")
        self._validate()
        self._write_metrics({"epoch": 0, "train_loss": None, "validation_loss": self.best, "held_out": self.held_out})

    def _fit(self, stages: tuple[str, ...], questions: Sequence[str] = QUESTIONS) -> dict[str, float]:
        """Run stages of the closed form, each part of `questions` by its own fit; return their diagnostics."""
        self.model.eval()
        training = self.visits.folds(names.TRAIN)
        found: dict[str, float] = {}
        fitting = Fitting(
            model=self.model,
            training=training,
            held_out=self.visits.folds(names.VALIDATION) if self.places.validated else training,
            generator=np.random.default_rng(self.config.seed),
            seed=self.config.seed,
            source=self.source,
            window_nodes=self.visits.size,
            new_donor=new_donors(self.graph, self.plan.panels),
        )
        for stage in stages:
            for part in self.model.parts():
                if part.question in questions and (one := part.fits(stage)) is not None:
                    with torch.no_grad(), self.model.asked(part.question):
                        found |= one(fitting) or {}
        return found

    @property
    def _rate(self) -> float:
        return float(self.config.learning_rate / 2**self.halvings)

    def _optimiser(self) -> torch.optim.Optimizer:
        """Only corrections learn; what was fitted in closed form stays as it was fitted."""
        decay = self.config.weight_decay
        return torch.optim.AdamW(self.learning, self._rate, BETAS, weight_decay=decay, foreach=True)

    def _precision(self) -> torch.autocast:
        half = {"auto": self.device.type == "cuda", "bfloat16": True}.get(self.config.precision, False)
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)

    def _epoch_in_memory(self, optimiser: torch.optim.Optimizer, last: Path) -> torch.optim.Optimizer:
        """Run one epoch; where memory runs out, go back to its start, the `last` checkpoint, and halve the window."""
        try:
            self._epoch(optimiser)
            return optimiser
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or self.visits.size < 2:
                raise
        size = self.visits.size // 2
        optimiser = self._restore(last)
        self.visits.size = size
        log.warning("out of memory: going on with windows of %d nodes (training.window_nodes)", size)
        return self._epoch_in_memory(optimiser, last)

    def _epoch(self, optimiser: torch.optim.Optimizer) -> None:
        self.epoch += 1
        started, seen = time.perf_counter(), 0
        total, shares = defaultdict[str, Loss](Loss), dict[str, float]()
        draws = Draws.of(self.config.seed, self.epoch)
        self.model.train()
        for number, (inputs, core) in enumerate(self.visits.all()):
            counted = self.places.counted(inputs, core, LEARNING)
            if not any(bool(weight.any()) for weight in counted.values()):
                continue
            optimiser.zero_grad(set_to_none=True)
            with self._precision():
                losses = self.objective(self._pass(inputs, counted, draws, drawn=self.objective.draws))
            if not any(loss.measured for loss in losses.values()):
                continue  # nothing of this window was measured
            value = self.objective.value(losses)
            if not torch.isfinite(value):
                raise TrainingError(
                    f"epoch {self.epoch} · window {number}",
                    f"a loss of {value.item()}",
                    "a finite loss",
                    f"lower training.learning_rate (now {self.config.learning_rate}); the last good state is "
                    "checkpoints/last.safetensors",
                )
            shares = shares or self.objective.shares(losses, self.learning)
            value.backward()
            torch.nn.utils.clip_grad_norm_(self.learning, 1.0, foreach=True)
            optimiser.step()
            _add(total, losses)
            seen += sum(int(mask.sum()) for mask in core.values())
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the last steps may still be under way
        seconds = time.perf_counter() - started
        self._validate()
        for group in optimiser.param_groups:
            group["lr"] = self._rate
        self._write_metrics(
            {
                "epoch": self.epoch,
                "train_loss": float(self.objective.value(total)),
                "validation_loss": self.last,
                "held_out": self.held_out,
                "terms": {name: float(loss.mean()) for name, loss in total.items()},
                "gradient": {name: round(share, 4) for name, share in shares.items()},
                "seconds": round(seconds, 3),
                "nodes_per_second": round(seen / seconds),
            }
        )

    def _validate(self) -> None:
        self.last = float(self.objective.value(self._held_out(STOPPING, self.objective)))
        if self.last < self.best - LEAST_GAIN or not self.best_state:
            self.best, self.best_epoch = self.last, self.epoch
            self.best_state = {name: t.detach().clone() for name, t in self.model.named_parameters()}
        elif (self.epoch - self.best_epoch) % -(-self.config.patience // 3) == 0:
            self.halvings += 1
            if self.best_epoch == 0:  # steps that led nowhere but away from the start were too long
                self.model.load_state_dict(self.best_state, strict=False)

    def held_out_loss(self, question: str | None = None, group: str = STOPPING) -> float:
        """Return the negative log-likelihood of a group of held-out places, whatever else the objective is of."""
        weights = self.config.feature_weight, self.config.modality_weight

        def told(one: Pass) -> dict[str, Loss]:
            return {"": likelihood(one.model, one.inputs, one.state, one.hidden, one.counted, *weights, question)}

        return float(self._held_out(group, told)[""].mean())

    @torch.no_grad()
    def _held_out(self, group: str, told: Callable[[Pass], dict[str, Loss]]) -> defaultdict[str, Loss]:
        """Return what is `told` of a group of held-out places; hides and draws the same each time."""
        self.model.eval()
        draws, total = Draws.of(self.config.seed), defaultdict[str, Loss](Loss)
        for inputs, core in self.visits.for_held_out():
            counted = self.places.counted(inputs, core, group)
            if any(bool(weight.any()) for weight in counted.values()):
                with self._precision():
                    _add(total, told(self._pass(inputs, counted, draws)))
        return total

    def _pass(self, inputs: Inputs, counted: dict[str, Tensor], draws: Draws, *, drawn: bool = False) -> Pass:
        shares = self.config.hidden_nodes, self.config.hidden_molecules
        hidden = draw_hidden(self.model.parts_of("measurement"), inputs, draws.hidden, *shares)
        state = self.model(inputs, hidden, draws.states if drawn else None)
        return Pass(self.model, inputs, state, hidden, counted, draws.states)

    @property
    def held_out(self) -> str:
        """What the held-out loss is of: ``validation`` nodes, or what is ``hidden`` on training nodes."""
        return names.VALIDATION if self.places.validated else HIDDEN

    def _checkpoint(self, optimiser: torch.optim.Optimizer, path: Path) -> None:
        kept = {"model": self.model.state_dict(), "objective": self.objective.state_dict(), "best": self.best_state}
        tensors = {f"{of}.{k}": v for of, held in kept.items() for k, v in held.items()}
        facts = {
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "halvings": self.halvings,
            "diagnostics": self.diagnostics,
            "likelihoods": self.likelihoods,
            "window_nodes": self.visits.size,
        }
        save_tensors(tensors | optimiser_tensors(optimiser), facts, path)

    def _restore(self, path: Path) -> torch.optim.Optimizer:
        tensors, facts = load_tensors(path)
        for of, module in (("model", self.model), ("objective", self.objective)):
            module.load_state_dict(below(tensors, f"{of}."))
        self.best_state = {k: v.to(self.device) for k, v in below(tensors, "best.").items()}
        self.epoch, self.best, self.best_epoch = facts["epoch"], facts["best"], facts["best_epoch"]
        self.diagnostics, self.likelihoods = facts["diagnostics"], facts["likelihoods"]
        self.visits.size, self.halvings = facts["window_nodes"], facts["halvings"]
        optimiser = self._optimiser()
        restore_optimiser(optimiser, tensors)
        kept = (self.folder / METRICS).read_text().splitlines()[: self.epoch + 1]
        write_whole(self.folder / METRICS, "".join(f"{line}\n" for line in kept))
        log.info("resumed after epoch %d", self.epoch)
        return optimiser

    def _write_metrics(self, record: dict[str, Any]) -> None:
        with (self.folder / METRICS).open("ab", buffering=0) as lines:
            lines.write(json.dumps(record).encode() + b"\n")
            os.fsync(lines.fileno())  # a checkpoint never outlives the lines of its epochs
        if self.report is not None:
            self.report(record)

    def _write_facts(self, openings: dict[str, dict[str, float]]) -> None:
        facts = {
            "diagnostics": self.diagnostics,
            "likelihoods": self.likelihoods,
            "gates": openings,
            "terms_opening": self.terms_opening,
            "best_epoch": self.best_epoch,
            "converged": self.epoch - self.best_epoch >= self.config.patience,
            "validation_loss": self.held_out_loss(),
            "held_out": self.held_out,
        }
        write_whole(self.folder / "training.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")


def _add(total: defaultdict[str, Loss], losses: dict[str, Loss]) -> None:
    for name, loss in losses.items():
        total[name].add(loss)
