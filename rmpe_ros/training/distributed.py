# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one network together, started by torchrun: each makes its part of
every batch, and the gradients are averaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """Who takes part. rank: this process among `count`; local_rank: among those of this machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this is the process that logs, validates and writes files."""
        return self.rank == 0

    def part(self, batch: int) -> range:
        """The positions of a batch that this process makes. Raises ValueError when some process
        would have none.
        """
        if batch < self.count:
            raise ValueError(
                f'a batch of {batch} is too small for {self.count} processes: '
                f'give --batch {self.count} or more (it counts the examples of all together)'
            )
        return range(self.rank, batch, self.count)

    def agree(self, stopping: bool, elapsed: float) -> tuple[bool, float]:
        """Whether any process wants to stop, and the main one's clock: the same for everybody."""
        if self.count == 1:
            return stopping, elapsed
        state = torch.tensor([float(stopping), elapsed if self.main else 0.0], dtype=torch.float64)
        dist.all_reduce(state, op=dist.ReduceOp.MAX)
        return bool(state[0]), float(state[1])

    def mean(self, values: Tensor) -> Tensor:
        """Mean of the same-shaped values of all processes."""
        if self.count > 1:
            dist.all_reduce(values)
            values = values / self.count
        return values

    def from_main(self, value: Any) -> Any:
        """The main process's value, in every process."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """`module`, with its gradients averaged over the processes."""
        if self.count == 1:
            return module
        if device.type == 'cuda':
            # PyTorch has it for GPUs only: on CPUs each process normalises its part of the batch.
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return nn.parallel.DistributedDataParallel(
            module, device_ids=[device.index] if device.type == 'cuda' else None
        )


@contextmanager
def joined_processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join those that torchrun started with this process; alone without torchrun.

    Yields the processes and this one's device: of several GPUs, each process has its own.
    """
    count = int(os.environ.get('WORLD_SIZE', '1'))
    if count == 1:
        yield Processes(), device
        return
    processes = Processes(int(os.environ['RANK']), count, int(os.environ['LOCAL_RANK']))
    if device.type == 'cuda':
        if processes.local_rank >= torch.cuda.device_count():
            raise ValueError(
                f'{processes.local_rank + 1} processes on a machine with '
                f'{torch.cuda.device_count()} GPUs: give torchrun --nproc-per-node '
                f'{torch.cuda.device_count()}'
            )
        device = torch.device('cuda', processes.local_rank)
        torch.cuda.set_device(device)
    dist.init_process_group('cpu:gloo,cuda:nccl' if device.type == 'cuda' else 'gloo')
    try:
        yield processes, device
    finally:
        dist.destroy_process_group()
