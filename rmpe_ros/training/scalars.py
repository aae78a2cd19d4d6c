# SPDX-License-Identifier: Apache-2.0
"""Curves and pictures of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Scalars:
    """Writes below `folder`, or nothing where TensorBoard is not installed or the disk is full:
    training matters more.

    step: that the run goes on from; what an earlier process wrote for later steps, between its
    last checkpoint and its end, is hidden.
    """

    def __init__(self, folder: Path, step: int, *, log: Callable[[str], None] = print):
        self._log = log
        self._writer: SummaryWriter | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log('no curves and pictures: TensorBoard is not installed (pip install tensorboard)')
            return
        with self._gives_up():
            self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    @property
    def active(self) -> bool:
        """Whether anything is written."""
        return self._writer is not None

    def add(self, step: int, values: Mapping[str, float], *, group: str) -> None:
        """Numbers at a step, shown together as `group`."""
        if self._writer is None:
            return
        with self._gives_up():
            for name, value in values.items():
                self._writer.add_scalar(f'{group}/{name}', value, step)

    def add_pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Pictures uint8 (H, W, 3) RGB at a step, by name."""
        if self._writer is None:
            return
        with self._gives_up():
            for name, picture in pictures.items():
                self._writer.add_image(f'pictures/{name}', picture, step, dataformats='HWC')
            self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer is None:
            return
        with self._gives_up():
            self._writer.close()

    @contextmanager
    def _gives_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            self._log(f'no more curves and pictures from here on: {error}')
