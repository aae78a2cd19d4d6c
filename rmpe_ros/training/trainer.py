# SPDX-License-Identifier: Apache-2.0
"""One training loop for every network here: EMA, warm-up and cosine, mixed precision, clock,
checkpoints, resume, several processes.

What is random depends on (seed, step) alone, see `batches.py`, so a run that was stopped goes on as
if it had not been.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_ros.training.autocast import autocast, choose_precision
from rmpe_ros.training.averaging import AveragedWeights
from rmpe_ros.training.batches import Batch, ExampleBatches, prefetched, step_batches
from rmpe_ros.training.checkpoints import (
    CheckpointError,
    compare_settings,
    only_run_in,
    read_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from rmpe_ros.training.curves import Curves
from rmpe_ros.training.distributed import Processes
from rmpe_ros.training.scalars import Scalars
from rmpe_ros.training.schedule import Schedule, parameter_groups
from rmpe_ros.training.signals import calls_on_signals
from rmpe_ros.training.training_progress import TrainingProgress

Loss = Callable[[nn.Module, Batch], dict[str, Tensor]]

CHECKPOINT_SECONDS = 60.0
STEPS_BETWEEN_SCALARS = 20
# fp16 skips a step whose gradients overflow and halves the loss's scale; so many in a row are no
# overflow.
MOST_SKIPPED_STEPS = 50


class LossModule(nn.Module):
    """A network and its loss in one, which is what several processes can share."""

    def __init__(self, network: nn.Module, loss: Loss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.loss(self.network, batch)


@dataclass(frozen=True)
class Measured:
    """What a step came to, on its way from the device. values: the losses, the gradient's norm."""

    step: int
    names: tuple[str, ...]
    values: Tensor
    arrived: torch.cuda.Event | None


class Trainer:
    """Trains `network` until the schedule ends, a signal comes, or the clock runs out; `folder`
    always holds the state.

    loss: (network, batch) → {'loss': …, other scalars to log}. evaluate: (EMA network) → scalars,
    called every `evaluate_every` steps and at the end; where one is called `score`, the averaged
    weights with the highest are kept in best.pt; pictures: (EMA network) → pictures uint8
    (H, W, 3) by name, at the same times. settings: what the run was asked for, plain values kept
    in the checkpoint and compared on `resume`. progress: shows how far the run is; `log`, its
    `say` by default, is for everything else. `curves` has what was measured.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        batches: ExampleBatches,
        schedule: Schedule,
        folder: Path,
        *,
        evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
        pictures: Callable[[nn.Module], dict[str, np.ndarray]] | None = None,
        evaluate_every: int = 1000,
        device: str | torch.device = 'cpu',
        precision: str = 'auto',
        processes: Processes | None = None,
        settings: Mapping[str, Any] | None = None,
        progress: TrainingProgress | None = None,
        log: Callable[[str], None] | None = None,
    ):
        self.device = torch.device(device)
        # The stub of Module.to lacks memory_format.
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._averaging = AveragedWeights(self.network, schedule.ema_decay)
        self.ema = self._averaging.average
        self.loss, self.batches, self.schedule = loss, batches, schedule
        self.evaluate, self.pictures, self.evaluate_every = evaluate, pictures, evaluate_every
        self.precision = choose_precision(precision, self.device)
        self.processes = processes or Processes()
        self.settings = dict(settings or {})
        self.display = progress
        self.log = log or (progress.say if progress else print)
        self.folder = folder
        self.optimizer = torch.optim.AdamW(parameter_groups(self.network, schedule))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == 'fp16')
        self.positions = self.processes.part(schedule.batch)
        self.step, self.elapsed = 0, 0.0
        self.averages: dict[str, float] = {}
        self.best = -math.inf
        self.curves = Curves()
        self.stopping = False  # as all processes agreed
        self._asked_to_stop = False
        self._skipped = 0
        self._measured: deque[Measured] = deque()

    @property
    def checkpoint(self) -> Path:
        return self.folder / 'checkpoint.pt'

    @property
    def best_checkpoint(self) -> Path:
        """The averaged weights with the highest `score` in validation so far."""
        return self.folder / 'best.pt'

    def resume(self, *, allow_changes: bool = False) -> bool:
        """Go on from `folder`'s checkpoint; False when there is none.

        Raises CheckpointError for one that is damaged, of another network, or, unless
        `allow_changes`, made with other settings.
        """
        state = self.processes.from_main(self._read(allow_changes) if self.processes.main else None)
        if isinstance(state, CheckpointError):
            raise state
        if state is None:
            return False
        try:
            self.network.load_state_dict(state['network'])
            self.ema.load_state_dict(state['ema'])
            self.optimizer.load_state_dict(state['optimizer'])
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f'{self.checkpoint} is of another network: {error}. Give its own settings to go '
                'on, or another --out for a new run'
            ) from error
        if state.get('scaler'):
            self.scaler.load_state_dict(state['scaler'])
        self.step, self.elapsed = state['step'], state['elapsed']
        self.averages = state.get('averages', {})
        self.best = state.get('best', -math.inf)
        self.curves = Curves(state.get('curves'))
        return True

    def save(self) -> None:
        """Write the checkpoint; the one before stays until it is whole. Raises CheckpointError."""
        self._take_measured(0)
        if not self.processes.main:
            return
        write_checkpoint(
            self.checkpoint,
            {
                'network': self.network.state_dict(),
                'ema': self.ema.state_dict(),
                'optimizer': self.optimizer.state_dict(),
                'scaler': self.scaler.state_dict(),
                'step': self.step,
                'elapsed': self.elapsed,
                'averages': self.averages,
                'best': self.best,
                'curves': self.curves.state(),
                'settings': self.settings,
            },
        )

    def run(self) -> dict[str, float]:
        """Train to the end; returns the last evaluation's scalars. Ctrl-C, SIGTERM and SIGHUP stop
        after the current step.

        Raises FloatingPointError when the loss is no number any more, CheckpointError when the
        last checkpoint cannot be written or another run is at work in `folder`.
        """
        with ExitStack() as stack:
            scalars = None
            if self.processes.main:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(only_run_in(self.folder))
                remove_leftovers(self.checkpoint)
                scalars = Scalars(self.folder / 'tensorboard', self.step, log=self.log)
                stack.callback(scalars.close)
            stack.enter_context(calls_on_signals(self.stop))
            return self._run(scalars)

    def stop(self) -> None:
        """End the run after the current step."""
        if not self._asked_to_stop:
            self.log('stopping after this step; the checkpoint will be complete')
        self._asked_to_stop = True

    def _run(self, scalars: Scalars | None) -> dict[str, float]:
        module = self.processes.wrap(LossModule(self.network, self.loss), self.device)
        ahead = step_batches(
            self.batches,
            seed=self.schedule.seed,
            first_step=self.step,
            positions=self.positions,
            device=self.device,
        )
        saved = started = time.monotonic()
        before, first, evaluated = self.elapsed, self.step, -1
        scores: dict[str, float] = {}
        with prefetched(ahead) as batches:
            for batch in batches:
                if self._finished():
                    break
                self._optimise(module, batch)
                now = time.monotonic()
                if not self.processes.main:
                    continue
                self.elapsed = before + now - started
                self._show(scalars, self.step - first, now - started)
                if now - saved > CHECKPOINT_SECONDS:
                    self._save_in_passing()
                    saved = now
                if self.step % self.evaluate_every == 0 and not self._asked_to_stop:
                    self._evaluate(scalars, scores)
                    evaluated = self.step
                    # The clock is for training: what evaluation took is not charged to it.
                    started += time.monotonic() - now
        self._take_measured(0)
        if self.step > first:
            self._show(scalars, self.step - first, time.monotonic() - started, last=True)
            self.save()
        if scalars and not self.stopping and evaluated != self.step:
            self._evaluate(scalars if self.step > first else None, scores)
            if self.step > first:
                self.save()  # once more, with this validation
        return scores

    def _finished(self) -> bool:
        self.stopping, self.elapsed = self.processes.agree(self._asked_to_stop, self.elapsed)
        return self.stopping or self.schedule.over(self.step, self.elapsed)

    def _optimise(self, module: nn.Module, batch: Batch) -> None:
        self.network.train()
        fraction = self.schedule.learning_fraction(self.step, self.elapsed)
        for group in self.optimizer.param_groups:
            group['lr'] = group['peak'] * fraction
        seed_step(self.device, self.schedule.seed, self.step, self.processes.rank)
        with autocast(self.precision, self.device):
            losses = module(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses['loss']).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self._averaging.follow(self.step)
        self._measure(losses, norm)

    def _measure(self, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        values = torch.stack([value.detach().float() for value in (*losses.values(), norm)])
        values = self.processes.mean(values).to('cpu', non_blocking=True)
        on_gpu = self.device.type == 'cuda'
        arrived = torch.cuda.Event() if on_gpu else None
        if arrived:
            arrived.record()
        self._measured.append(Measured(self.step, (*losses, 'gradient_norm'), values, arrived))
        # One step behind on a GPU, so that it has the next one to compute while this one is read.
        self._take_measured(1 if on_gpu else 0)

    def _take_measured(self, behind: int) -> None:
        """Follow the losses up to `behind` steps ago. Raises FloatingPointError where one is no
        number.
        """
        while len(self._measured) > behind:
            measured = self._measured.popleft()
            if measured.arrived:
                measured.arrived.synchronize()
            values = dict(zip(measured.names, measured.values.tolist(), strict=True))
            if all(math.isfinite(value) for value in values.values()):
                self._skipped = 0
                for name, value in values.items():
                    self.averages[name] = 0.98 * self.averages.get(name, value) + 0.02 * value
                continue
            self._skipped += 1
            if self.precision != 'fp16' or self._skipped > MOST_SKIPPED_STEPS:
                name, value = next(i for i in values.items() if not math.isfinite(i[1]))
                raise FloatingPointError(
                    f'the {name.replace("_", " ")} became {value} at step {measured.step}: lower '
                    f'the learning rate; {self.checkpoint} is from before that, if there is one'
                )

    def _show(
        self, scalars: Scalars | None, steps: int, seconds: float, *, last: bool = False
    ) -> None:
        """Tell of the step just made, after `steps` of this process in `seconds`."""
        rate = steps / max(seconds, 1e-9)
        if self.display:
            self.display.show(
                self.step,
                self.schedule.progress(self.step, self.elapsed),
                seconds_left=self.schedule.seconds_left(self.step, self.elapsed, rate),
                rate=rate * self.schedule.batch,
                values=self.averages,
                last=last,
            )
        if self.step % STEPS_BETWEEN_SCALARS == 0 or last:
            self.curves.add(self.step, self.averages, group='train')
        # The last step once, not once more at the end.
        if scalars and last != (self.step % STEPS_BETWEEN_SCALARS == 0):
            speed = {'examples_per_second': rate * self.schedule.batch}
            fraction = self.schedule.learning_fraction(self.step, self.elapsed)
            speed['learning_rate'] = self.schedule.learning_rate * fraction
            scalars.add(self.step, {**self.averages, **speed}, group='train')

    def _evaluate(self, scalars: Scalars | None, scores: dict[str, float]) -> None:
        self._take_measured(0)
        if self.evaluate:
            scores.update(self.evaluate(self.ema))
            numbers = '  '.join(f'{name} {value:.4f}' for name, value in scores.items())
            self.log(f'step {self.step}  validation  {numbers}')
            self.curves.add(self.step, scores, group='validation')
            self._keep_best(scores.get('score', -math.inf))
        if scalars:
            scalars.add(self.step, scores, group='validation')
            if self.pictures and scalars.active:
                scalars.add_pictures(self.step, self.pictures(self.ema))

    def _keep_best(self, score: float) -> None:
        if not score > self.best:
            return
        self.best = score
        state = {'ema': self.ema.state_dict(), 'step': self.step, 'settings': self.settings}
        try:
            write_checkpoint(self.best_checkpoint, {**state, 'score': score})
        except CheckpointError as error:
            self.log(f'{error}. Training goes on without')

    def _save_in_passing(self) -> None:
        try:
            self.save()
        except CheckpointError as error:
            self.log(f'{error}. Training goes on and tries again in a minute')

    def _read(self, allow_changes: bool) -> dict[str, Any] | CheckpointError | None:
        """The checkpoint's state or what is wrong with it, for all processes."""
        if not self.checkpoint.exists():
            return None
        try:
            state = read_checkpoint(self.checkpoint)
            if missing := {'network', 'optimizer', 'step', 'elapsed'} - set(state):
                raise CheckpointError(f'{self.checkpoint} lacks {sorted(missing)} to go on from')
            for change in compare_settings(
                self.checkpoint,
                state.get('settings', {}),
                self.settings,
                allow_changes=allow_changes,
            ):
                self.log(f'goes on with another setting: {change}')
            return state
        except CheckpointError as error:
            return error


def seed_step(device: torch.device, *parts: int) -> None:
    """Start what networks draw at random, such as dropout, from a seed made of several numbers."""
    seed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    # torch.manual_seed would note the call stack for every device that is not in use.
    torch.default_generator.manual_seed(seed)
    if device.type == 'cuda':
        torch.cuda.manual_seed(seed)
