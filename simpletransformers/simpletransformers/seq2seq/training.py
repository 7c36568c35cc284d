"""The training loop: everything lives on the device, and the host waits for it only to report."""

from __future__ import annotations

import gc
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from simpletransformers.errors import InputError
from simpletransformers.seq2seq import graphs, optimisation, own_model
from simpletransformers.seq2seq.architecture import architecture_of, looks
from simpletransformers.seq2seq.args import Seq2SeqArgs
from simpletransformers.seq2seq.distributed import Ranks, gather_random_states, set_random_state
from simpletransformers.seq2seq.encoding import NO_LOSS, EncodedPairs
from simpletransformers.seq2seq.evaluation import GroupedItems, evaluate
from simpletransformers.seq2seq.order import DataOrder
from simpletransformers.seq2seq.run_folder import RunFolder
from simpletransformers.seq2seq.signals import StopSignals
from simpletransformers.seq2seq.stopping import SaveSteps, StopRules
from simpletransformers.words import counted

logger = logging.getLogger(__name__)

_PATIENCE = "patience_epochs_after_fit"


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended: the steps done, why it stopped, and the last evaluation's groups.

    ``reason`` is ``finished``, the stop rule that was met, or the name of a signal, such as
    ``SIGTERM``; only in the last case is the run incomplete, to be gone on with.
    """

    step: int
    reason: str
    complete: bool
    eval: dict[str, dict[str, float]] | None


class Objective(torch.nn.Module):
    """Sum of the cross entropy over loss tokens, as one module for DDP and torch.compile."""

    def __init__(self, model: PreTrainedModel, columns: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.architecture = architecture_of(model)
        self.columns = tuple(columns)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = self.architecture.logits_at(inputs, self.columns)
        return functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=NO_LOSS, reduction="sum"
        )


class Trainer:
    """One training run of ``model`` on ``data``; ``save`` writes a checkpoint into a folder.

    ``watched`` is what the stop rules look at, where that is not ``evaluated``; both are on the
    ranks' device.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        data: EncodedPairs,
        args: Seq2SeqArgs,
        ranks: Ranks,
        run: RunFolder,
        save: Callable[[Path], None],
        evaluated: GroupedItems | None = None,
        watched: GroupedItems | None = None,
        report: Callable[[dict], None] = lambda _: None,
    ) -> None:
        self.model, self.args, self.ranks, self.run_folder = model, args, ranks, run
        self._save, self._report = save, report
        self._digest = data.digest()
        self.data = data.to(ranks.device)
        self._evaluated, self._watched = evaluated, watched
        self._rules = StopRules.parse(args.stop_when, args.patience_epochs_after_fit)
        self._fit_epoch: float | None = None
        batch = args.train_batch_size * args.gradient_accumulation_steps
        self.order = DataOrder(len(data), batch, args.manual_seed, ranks.device)
        epochs = args.num_train_epochs
        self.total = args.max_steps or math.ceil(epochs * len(data) / self.order.batch)
        self._saves = SaveSteps(args, self.total)
        self._loss_tokens = self.data.loss_tokens
        self._objective = self._wrap(Objective(model, data.columns))
        self._parameters = list(model.parameters())
        self._optimizer = optimisation.build_optimizer(model, args)
        self._scheduler = optimisation.build_scheduler(self._optimizer, args, self.total)
        self._precision = optimisation.precision_of(args, ranks.device)
        self._scaler = torch.amp.GradScaler(ranks.device.type, enabled=self._precision == "fp16")
        self._compute = self._compute_step
        if args.cuda_graphs:
            self._compute = graphs.GraphedStep(self._compute_step, self.order.batch, ranks.device)
            optimisation.rates_on_device(self._optimizer)
        #: What has a state to keep, by its name in the file.
        self._kept = {
            "model": model,
            "optimizer": self._optimizer,
            "scheduler": self._scheduler,
            "scaler": self._scaler,
        }
        self._signals = StopSignals(alone=ranks.world == 1)
        self._started = self._last_state = time.monotonic()
        self._window = torch.zeros(2, dtype=torch.float64, device=ranks.device)  # loss sum, tokens
        self._broken = torch.zeros((), dtype=torch.bool, device=ranks.device)
        self._last_loss: float | None = None
        if ranks.world > self.order.batch:
            raise InputError(
                f"there are {counted(ranks.world, 'process', 'processes')}, but only "
                f"{counted(self.order.batch, 'item')} in a step; start at most {self.order.batch}"
            )

    def _wrap(self, objective: torch.nn.Module) -> torch.nn.Module:
        if self.ranks.world > 1:
            devices = [self.ranks.device] if self.ranks.device.type == "cuda" else None
            objective = DistributedDataParallel(objective, device_ids=devices)
        return torch.compile(objective) if self.args.compile else objective

    def run(self, state: Mapping | None = None) -> TrainingResult:
        """Train to the end, or to the first signal; see ``TrainingResult``.

        ``state`` is what the run left (``continuation``); without, it begins.
        """
        args = self.args
        torch.manual_seed(args.manual_seed + self.ranks.rank)
        step = self._restore(state) if state else 0
        self._began = time.monotonic(), step
        evaluation = rule = None
        if state and (ended := self.has_ended(state)):
            if not self.run_folder.done:  # killed in between
                self._checkpoint(None)
            return TrainingResult(step, ended, True, None)
        self.model.train()
        with self._signals.listening():
            while step < self.total:
                self._step(step)
                step += 1
                at_end = step == self.total
                if step % args.logging_steps == 0 or at_end:
                    self._log(step)
                every = args.evaluate_during_training and args.evaluate_during_training_steps
                if self._evaluated and (at_end or (every and step % every == 0)):
                    evaluation, rule = self._evaluate(step)
                if self._saves.at(step):
                    self._checkpoint(step)
                    if self.ranks.is_main and (old := self._saves.outdated(step)) is not None:
                        self.run_folder.remove_checkpoint(old)
                if rule is not None:
                    logger.info("stopping at step %d: %s", step, rule)
                    break
                if self._keeps_state_at(step):
                    self._keep_state(step)
                if reason := self._stop_asked(step):
                    self._keep_state(step)
                    return TrainingResult(step, reason, False, evaluation)
        self._keep_state(step, rule or "finished")
        self._checkpoint(None)
        return TrainingResult(step, rule or "finished", True, evaluation)

    def release(self) -> None:
        """Let go of what holds on to the process group; the trainer cannot run after that.

        DDP's reducer must not outlive ``destroy_process_group``: as the last owner of a gloo group
        it would wait for gloo's threads while it holds Python's global lock, and one of these may
        need that lock to free the tensors of the last barrier.
        """
        del self._objective
        gc.collect()

    def _step(self, step: int) -> None:
        """One optimiser step; the host asks for it and does not wait until it is done."""
        self._compute(self.order.indices(step))
        self._scheduler.step()

    def _compute_step(self, everything: torch.Tensor) -> None:
        """What the device does in a step of these items, of which this rank takes its share."""
        tokens = self._loss_tokens[everything].sum()
        mine = everything.tensor_split(self.ranks.world)[self.ranks.rank]
        parts = mine.tensor_split(math.ceil(len(mine) / self._micro_batch())) if len(mine) else []
        loss = torch.zeros((), device=self.ranks.device)
        for number, rows in enumerate(parts, start=1):
            inputs, labels = self.data.split(self.data.table[rows])
            waiting = self.ranks.world > 1 and number < len(parts)
            with self._objective.no_sync() if waiting else nullcontext():
                with optimisation.autocast(self.args, self.ranks.device):
                    part = self._objective(inputs, labels)
                # DDP averages gradients over ranks; the sum over all items is wanted.
                self._scaler.scale(part * (self.ranks.world / tokens)).backward()
            loss = loss + part.detach()
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.args.max_grad_norm)
        # In 16-bit floats the scaler expects infinite gradients now and then, and leaves them out.
        sound = loss.isfinite() if self._scaler.is_enabled() else (loss + norm).isfinite()
        self._broken.logical_or_(~sound)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._window[0] += loss
        self._window[1] += self._loss_tokens[mine].sum()

    def _micro_batch(self) -> int:
        """Items of one forward pass on this rank."""
        share = math.ceil(min(self.args.train_batch_size, self.order.items) / self.ranks.world)
        if not (limit := self.args.micro_batch_size):
            config, length = self.model.config, self.data.length
            limit = optimisation.rows_that_fit(config, length, self.ranks.device)
        return min(share, limit)

    def _log(self, step: int) -> None:
        loss, tokens = self.ranks.sum(self._window).tolist()
        self._window.zero_()
        self._last_loss = loss / tokens
        self._refuse_broken(step, weights=False)
        self._tell(self._event(step))

    def _refuse_broken(self, step: int, *, weights: bool = True) -> None:
        """``InputError`` rather than writing down what a broken run has come to."""
        if weights:
            sound = [p.detach().isfinite().all() for p in self._parameters]
            self._broken.logical_or_(~torch.stack(sound).all())
        if self.ranks.any(bool(self._broken)):
            raise InputError(
                f"loss, gradients or weights are not finite any more at step {step}. Checkpoints "
                "and state of earlier steps are kept; begin anew with a `learning_rate` below "
                f"{self.args.learning_rate:g}, or with `precision` fp32 if it is another, in "
                "another `output_dir` or with `overwrite_output_dir`"
            )

    def _tell(self, event: dict) -> None:
        def tell() -> None:
            self.run_folder.add(event)
            self._report({**event, "total_steps": self.total})

        self.ranks.first(tell)

    def _event(self, step: int) -> dict:
        # Evaluations and checkpoints since this process began are part of its time.
        seconds, steps = time.monotonic() - self._began[0], step - self._began[1]
        speed = round(steps * self.order.batch / max(seconds, 1e-9), 1)
        event = {
            "step": step,
            "epoch": round(self.order.epoch(step), 4),
            "train_loss": self._last_loss,
            "lr": float(self._scheduler.get_last_lr()[0]),
            "elapsed_s": round(time.monotonic() - self._started, 3),
            "items_per_s": speed,
        }
        return event | ({"mfu": round(speed * self._peak_share, 4)} if self._peak_share else {})

    @cached_property
    def _peak_share(self) -> float | None:
        """The share of the devices' peak that an item a second takes; None if not known."""
        peak = optimisation.peak_of(self.ranks.device, self._precision)
        flops = architecture_of(self.model).flops(self.data.columns)
        return None if peak is None or flops is None else flops / (peak * self.ranks.world)

    def _evaluate(self, step: int) -> tuple[dict[str, dict[str, float]], str | None]:
        """Scores by group, and the stop rule that is met, if one is."""
        self._refuse_broken(step)
        scores = watched = evaluate(self.model, self._evaluated, self.args, self.ranks)
        event = {**self._event(step), "eval": scores}
        if self._rules and self._watched:
            watched = event["valid"] = evaluate(self.model, self._watched, self.args, self.ranks)
        self._tell(event)
        if not self._rules:
            return scores, None
        epoch = self.order.epoch(step)
        if self._fit_epoch is None and self._rules.fits(watched):
            self._fit_epoch = epoch
        since_fit = None if self._fit_epoch is None else epoch - self._fit_epoch
        return scores, self._rules.reason(watched, since_fit)

    def _keeps_state_at(self, step: int) -> bool:
        """At regular checkpoints, and now and then in between; asked by all ranks alike."""
        if self.args.save_steps and step % self.args.save_steps == 0:
            return True
        if step % self.args.logging_steps or not self.args.resume_state_minutes:
            return False
        due = time.monotonic() - self._last_state > 60 * self.args.resume_state_minutes
        return self.ranks.any(due)

    def _stop_asked(self, step: int) -> str | None:
        """The signal that asks to stop, agreed on by all ranks; only looked at when they meet."""
        if self.ranks.world == 1:
            return self._signals.name
        if step % self.args.logging_steps or not self.ranks.any(self._signals.name is not None):
            return None
        return self._signals.name or "a signal to another rank"

    def _checkpoint(self, step: int | None) -> None:
        self._refuse_broken(step or self.total)
        self.ranks.first(lambda: self.run_folder.write_checkpoint(step, self._save))

    def _keep_state(self, step: int, ended: str | None = None) -> None:
        self._refuse_broken(step)
        state = {
            "step": step,
            "settings": self._settings(),
            "ended": ended and {"reason": ended, **self._ends()},
            **{name: part.state_dict() for name, part in self._kept.items()},
            "random": gather_random_states(self.ranks),
            "window": self._window,
            "last_loss": self._last_loss,
            "fit_epoch": self._fit_epoch,
            "elapsed_s": time.monotonic() - self._started,
        }
        self.ranks.first(lambda: self.run_folder.save_state(state))
        self._last_state = time.monotonic()

    def _ends(self) -> dict[str, object]:
        """What decides when the run ends."""
        rules = {name: getattr(self.args, name) for name in ("stop_when", _PATIENCE)}
        return {"total": self.total, **rules}

    def has_ended(self, state: Mapping) -> str | None:
        """Why a kept run has ended and is not to go on; None if it is."""
        if state["step"] >= self.total:
            return (state.get("ended") or {}).get("reason", "finished")
        ended = dict(state.get("ended") or {})
        reason = ended.pop("reason", None)
        return reason if ended == self._ends() else None

    def _settings(self) -> dict[str, str]:
        """What a continuation must share with its run, each value as text."""
        settings = {
            **self.args.shared(),
            "number of processes": self.ranks.world,
            "training data": self._digest[:16],
            "parameters": sum(p.numel() for p in self.model.parameters()),
            **own_model.recorded(self.model),
        }
        if "constant" not in self.args.scheduler:
            settings["number of steps"] = self.total  # the schedule depends on it
        return {key: str(value) for key, value in settings.items()}

    def continuation(self) -> dict | None:
        """The kept state that ``run`` goes on from; None if it begins a new run.

        Nothing is written. ``InputError`` if the folder holds a run that the arguments do not allow
        to go on with or to replace.
        """
        run, args = self.run_folder, self.args
        state = run.load_state() if args.resume else None
        if state is None:
            if not run.started or args.overwrite_output_dir:
                return None
            if not args.resume or run.done:
                holds = "already holds a run; give `resume` to go on with it,"
                if args.resume:
                    holds = "holds a run that has ended and kept no state to go on from; give"
                other = "`overwrite_output_dir` to replace it, or another `output_dir`"
                raise InputError(f"{run} {holds} {other}")
            # It was stopped before it kept its first state: it begins again.
            recorded = {**run.settings(), **run.settings().get("args", {})}
            own = own_model.recorded(self.model)
            now = json.loads(json.dumps({**args.shared(), **looks(self.model), **own}))
            old = {name: recorded.get(name, now[name]) for name in now}
        else:
            # What the run's version did not know yet had its default.
            known = {name: str(value) for name, value in Seq2SeqArgs().shared().items()}
            old, now = {**known, **state["settings"]}, self._settings()
        differing = [
            f"{k} was {old.get(k)}, is {new}" for k, new in now.items() if old.get(k) != new
        ]
        if not differing and state and state["step"] > self.total:
            done = counted(state["step"], "step")
            differing = [f"it has done {done}, more than the {self.total} asked for"]
        if not differing:
            return state
        if args.overwrite_output_dir:
            logger.info("starting anew: %s", "; ".join(differing))
            return None
        hint = "; only with a constant `scheduler` can a run be made longer"
        hint = hint if differing[0].startswith("number of steps") else ""
        raise InputError(
            f"{run} cannot be resumed with other settings: {'; '.join(differing)}{hint}"
        )

    def _restore(self, state: Mapping) -> int:
        """Load a kept state; the number of steps already done."""
        for name, part in self._kept.items():
            part.load_state_dict(state[name])
        if self.args.cuda_graphs:
            optimisation.rates_on_device(self._optimizer)
        self._window.copy_(state["window"])
        self._last_loss, self._fit_epoch = state["last_loss"], state.get("fit_epoch")
        self._started = time.monotonic() - state["elapsed_s"]
        set_random_state(state["random"][self.ranks.rank], self.ranks.device)
        logger.info("resuming %s at step %d", self.run_folder, state["step"])
        return state["step"]
