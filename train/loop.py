"""The training loop of every task: a step, its log, validation and checkpoints, the same on one worker and on many.

What a step does is a function of (recipe, data, seed, step): batches, augmentation, rates and stochastic depth are
drawn from the step's number, so that a checkpoint holds tensors and counts only, and a resumed training is an
undisturbed one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from actors.errors import OutputError, TrainingError
from actors.seeding import seed_for
from factory.store.storage import Storage
from train import batch_norm, checkpoint
from train.checkpoint import Best, State
from train.distributed import Workers
from train.feed import Feed, Step
from train.hooks import Hooks, Report
from train.optimisation import optimizer_for, rate_of
from train.recipe import TrainingRecipe
from train.state import module_tensors, optimizer_tensors, restore_optimizer
from train.task import Batch, Example, Task

_RECENT = 20
"""Steps, since the latest checkpoint, over which speed and waiting are averaged."""

_PREEMPTION_CHECK = 10.0
"""Seconds between two looks for a notice that a node is about to be taken away."""


@dataclass
class _Progress:
    step: int = 0
    best: Best | None = None
    since_best: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    read: list[dict[str, Any]] = field(default_factory=list)


class Loop(Generic[Example, Batch]):
    """One worker's training.

    Args:
        task: what is trained.
        recipe: of the training.
        digest: of recipe, data and initial weights; a checkpoint of another one is refused.
        storage: the output.
        workers: this worker and the others.
        hooks: see `Hooks`.

    Raises:
        TrainingError: the recipe's batch norms cannot work on so few images.
    """

    def __init__(
        self,
        task: Task[Example, Batch],
        recipe: TrainingRecipe,
        *,
        digest: str,
        storage: Storage,
        workers: Workers,
        hooks: Hooks | None = None,
    ) -> None:
        self.task, self.recipe, self.digest = task, recipe, digest
        self.storage, self.workers, self.hooks = storage, workers, hooks or Hooks()
        self._slots = workers.slots(recipe.batch)
        self._check_batch_norm()
        task.module = batch_norm.prepare(
            task.module, recipe.model.batch_norm if workers.world > 1 else "per_worker"
        )
        task.module.to(workers.device)
        self.optimizer = optimizer_for(task.module, recipe.optimizer)
        self._rate = rate_of(recipe.optimizer, recipe.iterations)
        self._averaged: AveragedModel | None = None
        if recipe.ema is not None:
            average = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
            self._averaged = AveragedModel(task.module, multi_avg_fn=average, use_buffers=True)
        self._model: nn.Module = task.module
        self._progress = _Progress()
        self._saved_step = 0
        self._report: Report | None = None
        self._last_look = time.monotonic()
        self._noticed = False

    def run(self) -> State:
        """Train from the latest checkpoint on, or from the start.

        Returns:
            The state of the last checkpoint.

        Raises:
            TrainingError: the loss is not finite, or a sample cannot be read and the recipe does not skip it.
            OutputError: a checkpoint is damaged, of another training, or cannot be written.
        """
        self._resume()
        if self._ends():
            return checkpoint.read_state(self.storage, self._progress.step)
        if self.workers.world > 1:
            ids = [self.workers.device.index or 0] if self.workers.device.type == "cuda" else None
            buffers = self.recipe.model.batch_norm != "frozen"
            self._model = DistributedDataParallel(self.task.module, device_ids=ids, broadcast_buffers=buffers)
        recipe, progress = self.recipe, self._progress
        with (
            torch.random.fork_rng(
                devices=[self.workers.device] if self.workers.device.type == "cuda" else []
            ),
            Feed(
                self.task,
                self._slots,
                micro_batch=recipe.execution.micro_batch,
                threads=recipe.execution.decoders,
                first=progress.step,
                last=recipe.iterations,
            ) as feed,
        ):
            self.task.training_mode()
            began = time.monotonic()
            for step in feed:
                loss, preempted = self._step(step)
                progress.step = step.number + 1
                now = time.monotonic()
                self._log(step, loss, now - began)
                began = now
                if self._after(step.number + 1, preempted):
                    break
                began = time.monotonic() if self._is_pause(step.number + 1) else began
        if self._saved_step != progress.step:
            self._save()
        self.workers.total([0.0])  # Worker 0 has written the checkpoint.
        return checkpoint.read_state(self.storage, progress.step)

    def _step(self, step: Step[Batch]) -> tuple[float, bool]:
        """Forward, backward and update; the mean loss of the step over all workers, and whether a notice is new."""
        recipe, workers = self.recipe, self.workers
        units = [self.task.units(batch) for batch in step.batches]
        look = workers.rank == 0 and time.monotonic() - self._last_look > _PREEMPTION_CHECK
        total, looks = workers.total([sum(units), float(look)]).tolist()
        rate = self._rate(step.number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), dtype=torch.float64, device=workers.device)
        size = recipe.execution.micro_batch or len(self._slots)
        for number, batch in enumerate(step.batches):
            # Stochastic depth depends on the first slot of a micro-batch, not on the worker that has it.
            torch.manual_seed(
                seed_for(recipe.seed, str(step.number), "network", self._slots.start + number * size)
            )
            last = number == len(step.batches) - 1
            with self._synchronised(last), self._autocast():
                part = self._model(self.task.to_device(batch, workers))
                # DistributedDataParallel divides the sum over the workers by their number.
                (part * (workers.world / max(total, 1.0))).backward()
            loss += part.detach().double()
        mean = float(workers.total(loss).item()) / max(total, 1.0)
        if not math.isfinite(mean):
            raise self._not_finite(step, "loss", mean, rate)
        trained = [one for one in self.task.module.parameters() if one.grad is not None]
        norm = nn.utils.get_total_norm([one.grad for one in trained if one.grad is not None])
        if not math.isfinite(norm):
            raise self._not_finite(step, "norm of the gradient", float(norm), rate)
        if recipe.optimizer.clip is not None:
            nn.utils.clip_grads_with_norm_(trained, recipe.optimizer.clip, norm)
        self.optimizer.step()
        if self._averaged is not None:
            self._averaged.update_parameters(self.task.module)
        if not looks:
            return mean, False
        self._last_look = time.monotonic()
        before, self._noticed = self._noticed, self.hooks.preempted()
        return mean, self._noticed and not before

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients are summed over the workers after the last micro-batch only."""
        if isinstance(self._model, DistributedDataParallel) and not last:
            return self._model.no_sync()
        return contextlib.nullcontext()

    def _autocast(self) -> torch.autocast:
        enabled = self.recipe.precision == "bfloat16"
        return torch.autocast(self.workers.device.type, torch.bfloat16, enabled=enabled)

    def _not_finite(self, step: Step[Batch], what: str, value: float, rate: float) -> TrainingError:
        keys = ", ".join(read.key for read in step.reads[:8])
        return TrainingError(
            f"the {what} of step {step.number + 1:,} is {value:g}, at a learning rate of {rate:.3g}; worker "
            f"{self.workers.rank} had the samples {keys}: lower optimizer.learning_rate, set optimizer.clip, or take "
            "precision float32; the checkpoints before it are sound"
        )

    def _log(self, step: Step[Batch], loss: float, seconds: float) -> None:
        progress, recipe = self._progress, self.recipe
        skipped = Counter(read.data_set for read in step.reads if read.example is None)
        names = [one.name for one in recipe.data]
        if recipe.bad_samples == "skip":
            counts = self.workers.total([float(skipped[name]) for name in names]).tolist()
            progress.skipped.update(
                {name: int(count) for name, count in zip(names, counts, strict=True) if count}
            )
        if recipe.execution.log_samples:
            progress.read += [
                {"step": step.number, "slot": slot, "data": read.data_set, "key": read.key}
                for slot, read in zip(self._slots, step.reads, strict=True)
            ]
        if self.workers.rank:
            return
        rate = self._rate(step.number)
        line = {"step": step.number + 1, "loss": loss, "lr": rate, "seconds": round(seconds, 4)}
        line["waited"] = round(step.waited, 4)
        progress.lines.append(line)
        recent = progress.lines[-_RECENT:]
        spent = sum(one["seconds"] for one in recent)
        pace = recipe.batch * len(recent) / spent if spent else 0.0
        share = sum(one["waited"] for one in recent) / spent if spent else 0.0
        self._report = Report(
            step=step.number + 1,
            loss=loss,
            rate=rate,
            best=progress.best,
            images_per_second=pace,
            waited=share,
            checkpoint=self._saved_step,
            skipped=dict(progress.skipped),
        )
        self.hooks.report(self._report)

    def _is_pause(self, done: int) -> bool:
        """Whether a validation or a checkpoint follows the step."""
        validation = self.recipe.validation
        return done % self.recipe.execution.save_every == 0 or (
            validation is not None and done % validation.every == 0
        )

    def _after(self, done: int, preempted: bool) -> bool:
        """Validate and save where it is due; whether the training ends here."""
        recipe = self.recipe
        last = done == recipe.iterations
        better = False
        if recipe.validation is not None and (last or done % recipe.validation.every == 0):
            better = self._validate()
        if self._ends() or better or preempted or done % recipe.execution.save_every == 0:
            self._save()
        return self._ends()

    def _ends(self) -> bool:
        """Whether all steps are done, or the validations have not become better for too long."""
        validation, progress = self.recipe.validation, self._progress
        patience = validation.patience if validation is not None else None
        return progress.step >= self.recipe.iterations or (
            patience is not None and progress.since_best >= patience
        )

    def _validate(self) -> bool:
        """Score the weights; whether they are the best so far."""
        progress = self._progress
        # The buffers of worker 0 are those that a checkpoint holds.
        self.workers.share(self._result().buffers())
        scores = self.task.validate(self.task.network(self._result()), self.workers)
        self.task.training_mode()
        better = progress.best is None or scores.value > progress.best.value
        if better:
            progress.best = Best(
                step=progress.step, value=scores.value, threshold=scores.threshold, figures=scores.figures
            )
        progress.since_best = 0 if better else progress.since_best + 1
        if progress.lines:
            progress.lines[-1]["validation"] = scores.figures
        return better

    def _result(self) -> nn.Module:
        """The module whose weights are the result: the averaged one where the recipe has one."""
        return self.task.module if self._averaged is None else self._averaged.module

    def _save(self) -> None:
        progress, storage, workers = self._progress, self.storage, self.workers
        name = f"{progress.step:06d}"
        if self.recipe.execution.log_samples:
            path = f"samples/{name}-{workers.rank:04d}.jsonl"
            checkpoint.write_lines(storage, path, progress.read)
            progress.samples += [f"samples/{name}-{rank:04d}.jsonl" for rank in range(workers.world)]
            progress.read.clear()
        workers.total([0.0])  # All files of the others are written.
        if workers.rank == 0:
            progress.log.append(checkpoint.write_lines(storage, f"log/{name}.jsonl", progress.lines))
            progress.lines.clear()
            tensors = {
                "model": module_tensors(self.task.module),
                "optimizer": optimizer_tensors(self.optimizer),
            }
            if self._averaged is not None:
                tensors["ema"] = module_tensors(self._averaged)
            files = {
                name: checkpoint.write_tensors(storage, progress.step, name, part)
                for name, part in tensors.items()
            }
            state = State(
                step=progress.step,
                digest=self.digest,
                best=progress.best,
                since_best=progress.since_best,
                skipped=dict(progress.skipped),
                log=list(progress.log),
                samples=list(progress.samples),
                files=files,
            )
            checkpoint.commit(storage, state)
            checkpoint.prune(storage, state, keep=self.recipe.execution.keep)
        self._saved_step = progress.step
        if self._report is not None:
            self._report = replace(self._report, best=progress.best, checkpoint=progress.step)
            self.hooks.report(self._report)
        self.hooks.saved({"step": progress.step, **(progress.best.figures if progress.best else {})})

    def _resume(self) -> None:
        step = self.workers.agreed(self._latest())
        self._saved_step = step
        if step == 0:
            return
        state = checkpoint.read_state(self.storage, step)
        if state.digest != self.digest:
            raise TrainingError(
                f"{self.storage.url}: the checkpoint of step {step:,} is of another training (recipe, data or initial "
                "weights differ): choose another folder"
            )
        self._restore(state, "model", self.task.module.load_state_dict)
        self._restore(state, "optimizer", partial(restore_optimizer, self.optimizer))
        if self._averaged is not None:
            self._restore(state, "ema", self._averaged.load_state_dict)
        self._progress = _Progress(
            step, state.best, state.since_best, Counter(state.skipped), list(state.log), list(state.samples)
        )

    def _restore(self, state: State, name: str, load: Callable[[dict[str, Tensor]], object]) -> None:
        tensors = checkpoint.read_tensors(self.storage, state, name)
        try:
            load(tensors)
        except (RuntimeError, ValueError, LookupError) as error:
            raise OutputError(
                f"{self.storage.url}: the {name} of the checkpoint of step {state.step:,} does not fit this training: "
                f"{' '.join(str(error).split())[:300]}; choose another folder"
            ) from error

    def _latest(self) -> int:
        steps = checkpoint.steps_of(self.storage)
        return steps[-1] if steps else 0

    def _check_batch_norm(self) -> None:
        recipe, workers = self.recipe, self.workers
        policy = recipe.model.batch_norm
        slots: Sequence[int] = [workers.most_slots(recipe.batch), workers.fewest_slots(recipe.batch)]
        size = recipe.execution.micro_batch
        fewest = min(slots) if size is None else min(count % size or min(size, count) for count in slots)
        batch_norm.check_images(
            self.task.module, policy, fewest * (workers.world if policy == "synchronised" else 1)
        )
        if size is not None and policy == "synchronised":
            batch_norm.check_passes({math.ceil(count / size) for count in slots})
