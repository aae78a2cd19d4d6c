# SPDX-License-Identifier: Apache-2.0
"""One training loop for every network here: EMA, warm-up and cosine, mixed precision, clock,
checkpoints, resume.

Examples are drawn and augmented from a random state made of (seed, step, position), so a run that
was stopped goes on with exactly the examples it would have seen.
"""

from __future__ import annotations

import copy
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    steps: optimiser steps of the whole run. minutes: stop after this long with a valid checkpoint;
    without `steps` the learning rate follows the clock instead. learning_rate falls by a cosine to
    `final_fraction` of itself. encoder_factor: the encoder learns this much slower; without batch
    norm to steady it, it would lose what it has learned before.
    """

    steps: int | None
    minutes: float | None
    batch: int = 32
    learning_rate: float = 4e-4
    final_fraction: float = 0.02
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    clip_norm: float = 5.0
    encoder_factor: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError('a run needs an end: give steps, minutes or both')


class Trainer:
    """Trains `network` until the schedule ends, a signal comes, or the clock runs out; `folder`
    always holds the state.

    loss: (network, batch) → {'loss': …, other scalars to log}. draw: (step, position, rng) → one
    example as a dict of arrays. evaluate: (EMA network) → scalars, called every `evaluate_every`
    steps and at the end.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[nn.Module, Batch], dict[str, Tensor]],
        draw: Callable[[np.random.Generator], dict[str, np.ndarray]],
        schedule: Schedule,
        folder: Path,
        *,
        evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
        evaluate_every: int = 1000,
        device: str = 'cpu',
        log: Callable[[str], None] = print,
    ):
        self.device = torch.device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.loss, self.draw, self.schedule = loss, draw, schedule
        self.evaluate, self.evaluate_every, self.log = evaluate, evaluate_every, log
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.network, schedule))
        self.step, self.elapsed = 0, 0.0
        self.stopping = False

    @property
    def checkpoint(self) -> Path:
        return self.folder / 'checkpoint.pt'

    def resume(self) -> bool:
        """Go on from `folder`'s checkpoint; False when there is none."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state['network'])
        self.ema.load_state_dict(state['ema'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.step, self.elapsed = state['step'], state['elapsed']
        return True

    def save(self) -> None:
        """Write the checkpoint beside its place and move it there, so that it is never
        half-written.
        """
        state = {
            'network': self.network.state_dict(),
            'ema': self.ema.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'step': self.step,
            'elapsed': self.elapsed,
        }
        partial = self.checkpoint.with_suffix('.partial')
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        if self.schedule.steps is not None:
            return min(self.step / self.schedule.steps, 1.0)
        return min(self.elapsed / (60 * self.schedule.minutes), 1.0)  # type: ignore[operator]

    def done(self) -> bool:
        out_of_time = (
            self.schedule.minutes is not None and self.elapsed >= 60 * self.schedule.minutes
        )
        return (
            self.stopping
            or out_of_time
            or (self.schedule.steps is not None and self.step >= self.schedule.steps)
        )

    def run(self) -> dict[str, float]:
        """Train to the end; returns the last evaluation's scalars. Ctrl-C and SIGTERM stop after
        the current step.
        """
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16)
        averages: dict[str, float] = {}
        saved = started = time.monotonic()
        before, first = self.elapsed, self.step
        scores: dict[str, float] = {}
        with stop_on_signals(self), prefetched(self._batches()) as batches:
            for batch in batches:
                if self.done():
                    break
                self._optimise(batch, autocast, averages)
                now = time.monotonic()
                self.elapsed = before + now - started
                if self.step % 50 == 0:
                    rate = (self.step - first) * self.schedule.batch / (now - started)
                    values = '  '.join(f'{name} {value:.4f}' for name, value in averages.items())
                    self.log(
                        f'step {self.step}  {self.elapsed / 60:.1f} min  {self.progress():.0%}  '
                        f'{rate:.0f} examples/s  {values}'
                    )
                if now - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = now
                if self.evaluate and self.step % self.evaluate_every == 0:
                    self._evaluate(scores)
                    # The clock is for training: what evaluation took is not charged to it.
                    started += time.monotonic() - now
        self.save()
        if self.evaluate and not self.stopping:
            self._evaluate(scores)
        return scores

    def _evaluate(self, scores: dict[str, float]) -> None:
        assert self.evaluate is not None
        scores.update(self.evaluate(self.ema))
        self.log(
            f'step {self.step}  validation  '
            + '  '.join(f'{name} {value:.4f}' for name, value in scores.items())
        )

    def _optimise(
        self, batch: Batch, autocast: AbstractContextManager, averages: dict[str, float]
    ) -> None:
        self.network.train()
        warmup = min(1.0, (self.step + 1) / max(self.schedule.warmup_steps, 1))
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress()))
        final = self.schedule.final_fraction
        for group in self.optimizer.param_groups:
            group['lr'] = group['peak'] * warmup * (final + (1 - final) * cosine)
        with autocast:
            losses = self.loss(self.network, batch)
        if not torch.isfinite(losses['loss']):
            raise FloatingPointError(
                f'the loss became {losses["loss"].item()} at step {self.step}: '
                'lower the learning rate'
            )
        self.optimizer.zero_grad(set_to_none=True)
        losses['loss'].backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip_norm)
        self.optimizer.step()
        self.step += 1
        # Early on the average follows closely, or it would remember the start for long.
        decay = min(self.schedule.ema_decay, self.step / (self.step + 10))
        with torch.no_grad():
            for kept, value in zip(
                self.ema.state_dict().values(), self.network.state_dict().values(), strict=False
            ):
                if kept.dtype.is_floating_point:
                    kept.lerp_(value.to(kept.dtype), 1 - decay)
                else:
                    kept.copy_(value)
        for name, value in losses.items():
            number = float(value.detach())
            averages[name] = 0.98 * averages.get(name, number) + 0.02 * number

    def _batches(self) -> Iterator[Batch]:
        step = self.step
        while True:
            examples = [
                self.draw(np.random.default_rng((self.schedule.seed, step, position)))
                for position in range(self.schedule.batch)
            ]
            yield {
                name: torch.from_numpy(np.stack([e[name] for e in examples])).to(self.device)
                for name in examples[0]
            }
            step += 1


def parameter_groups(network: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Optimiser groups: the encoder slower than the rest, no weight decay on biases and scales."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            slow = not {'encoder', 'backbone'}.isdisjoint(name.split('.'))
            key = (slow, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            'params': parameters,
            'peak': schedule.learning_rate * (schedule.encoder_factor if encoder else 1.0),
            'weight_decay': schedule.weight_decay if decays else 0.0,
        }
        for (encoder, decays), parameters in groups.items()
    ]


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the current step; a second Ctrl-C at once."""

    def stop(number: int, frame: Any) -> None:
        if trainer.stopping:
            raise KeyboardInterrupt
        trainer.log('stopping after this step; the checkpoint will be complete')
        trainer.stopping = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def prefetched(batches: Iterator[Batch], depth: int = 4) -> Iterator[Iterator[Batch]]:
    """Make batches in a thread while the last one trains; an error there is raised here."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(depth)
    closed = threading.Event()

    def work() -> None:
        try:
            for batch in batches:
                while not closed.is_set():
                    try:
                        ready.put(batch, timeout=0.2)
                        break
                    except queue.Full:
                        continue
                if closed.is_set():
                    return
        except BaseException as error:  # handed to the consumer, which raises it
            ready.put(error)

    def take() -> Iterator[Batch]:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=work, name='batches', daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        closed.set()
        thread.join()
