# SPDX-License-Identifier: Apache-2.0
"""Several processes that train together do what one does: real ones, over gloo."""

import multiprocessing
import os
import runpy
import signal
import socket
import time
from pathlib import Path

import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.training.distributed import Processes

ROOT = Path(__file__).parents[2]

# Started by torchrun; or, with its arguments, environment and log given, by `start`. Joints carry
# very different weights, batch 5 does not divide by 2, and the network has a frozen branch, as the
# parallel SPPE is.
PROGRAM = """
import os
import sys
from pathlib import Path

if 'LOG' in globals():
    sys.argv = ARGUMENTS
    os.environ.update(ENVIRONMENT)
    sys.stdout = sys.stderr = open(LOG, 'w')

import numpy as np
import torch

from rmpe_ros.networks.targets import heatmap_cross_entropy
from rmpe_ros.training.batches import ExampleBatches
from rmpe_ros.training.checkpoints import CheckpointError
from rmpe_ros.training.distributed import joined_processes
from rmpe_ros.training.schedule import Schedule
from rmpe_ros.training.trainer import Trainer

folder, steps, minutes = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.main = torch.nn.Conv2d(3, 5, 3, padding=1)
        self.frozen = torch.nn.Conv2d(3, 5, 3, padding=1).requires_grad_(False)

    def forward(self, x):
        main = 3 * torch.tanh(self.main(x))  # or no bias would matter to a softmax
        return main, self.frozen(main[:, :3])


def draw(rng):
    return {
        'x': rng.normal(size=(3, 8, 6)).astype(np.float32),
        'target': rng.dirichlet(np.ones(48), size=5).astype(np.float32).reshape(5, 8, 6),
        'weights': (rng.random(5) ** 4 * rng.choice([0, 1, 20])).astype(np.float32),
    }


def loss(network, batch):
    if len(sys.argv) > 4 and processes.rank == 1 and trainer.step == 3:
        batch = {name: value * float(sys.argv[4]) for name, value in batch.items()}
    main, frozen = network(batch['x'])
    first = heatmap_cross_entropy(main, batch['target'], batch['weights'])
    second = heatmap_cross_entropy(frozen, batch['target'], batch['weights'].sqrt())
    return {'loss': first + 0.5 * second, 'first': first}


def note(line):
    print(processes.rank, line, flush=True)


with joined_processes(torch.device('cpu')) as (processes, device):
    torch.manual_seed(7 if processes.main else 8)  # the main one's weights count
    trainer = Trainer(
        Network(),
        loss,
        ExampleBatches(draw),
        Schedule(
            steps or None, minutes or None, batch=5, learning_rate=0.05, warmup_steps=2,
            weight_decay=0.0,
        ),
        folder,
        evaluate=lambda network: {'bias': float(network.main.bias.sum())},
        evaluate_every=4,
        precision='fp32',
        processes=processes,
        settings={'batch': 5},
        log=note,
    )
    try:
        if trainer.resume():
            note(f'goes on from {trainer.step}')
    except CheckpointError as error:
        note(f'CheckpointError {error}')
    try:
        trainer.run()
        note(f'ended at {trainer.step}')
    except FloatingPointError as error:
        note(f'FloatingPointError {error}')
"""

# As the command torchrun.
TORCHRUN = """
import os
import sys

sys.argv = ARGUMENTS
os.environ.update(ENVIRONMENT)
log = os.open(LOG, os.O_WRONLY | os.O_CREAT)
os.dup2(log, 1)
os.dup2(log, 2)

from torch.distributed.run import main

main()
"""


class Started:
    """A process of the program. log: everything that it writes."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def lines(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_for_lines(self, count):
        while len(self.lines()) < count:
            assert self.process.is_alive(), self.lines()
            time.sleep(0.05)

    def finish(self):
        self.process.join(120)
        assert self.process.exitcode == 0, self.lines()
        return self.lines()


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp('distributed') / 'program.py'
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope='module')
def forked():
    """Starts processes from one that has imported what they need, which takes longer than they."""
    context = multiprocessing.get_context('forkserver')
    # Of torch._dynamo, optimizers import as much again as torch is, when they are made.
    modules = ['rmpe_ros.training.trainer', 'rmpe_ros.networks.targets']
    context.set_forkserver_preload([*modules, 'torch._dynamo', 'torch.distributed.run'])
    return context


@pytest.fixture
def fork(forked, tmp_path):
    """Starts a file of Python with arguments and environment."""
    running = []

    def run(file, arguments, environment):
        log = tmp_path / f'{len(running)}.log'
        given = {
            'ARGUMENTS': list(map(str, arguments)), 'ENVIRONMENT': environment, 'LOG': str(log)
        }  # fmt: skip
        process = forked.Process(target=runpy.run_path, args=(str(file), given, '__main__'))
        process.start()
        running.append(Started(process, log))
        return running[-1]

    yield run
    for child in running:
        if child.process.is_alive():
            child.process.terminate()
            child.process.join(40)


@pytest.fixture
def start(program, fork):
    """Starts the program with arguments: alone, or with the environment of torchrun."""

    def run(folder, *arguments, **environment):
        folder.mkdir(exist_ok=True)
        return fork(program, [program, folder, *arguments], environment)

    return run


def start_two(start, folder, *arguments):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    common = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
    return [start(folder, *arguments, RANK=rank, LOCAL_RANK=rank, **common) for rank in ('0', '1')]


def finished(*children):
    """All lines that they wrote."""
    return [line for child in children for line in child.finish()]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(program, fork, start, tmp_path):
    (tmp_path / 'torchrun.py').write_text(TORCHRUN)
    (tmp_path / 'two').mkdir()
    command = ['torchrun', '--standalone', '--nproc-per-node=2', program, tmp_path / 'two', 12, 0]
    environment = {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    out = '\n'.join(fork(tmp_path / 'torchrun.py', command, environment).finish())
    start(tmp_path / 'one', 12, 0).finish()
    assert '0 ended at 12' in out and '1 ended at 12' in out
    assert out.count('0 step') == 3 and '1 step' not in out  # one process validates
    one, two = (
        torch.load(tmp_path / name / 'checkpoint.pt', weights_only=True) for name in ('one', 'two')
    )
    for name in ('network', 'ema'):
        for key, value in one[name].items():
            assert torch.allclose(value, two[name][key], atol=1e-5), key
    for name, value in one['averages'].items():
        assert two['averages'][name] == pytest.approx(value, abs=1e-4)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_the_same_step(start, tmp_path):
    children = start_two(start, tmp_path / 'run', 0, 5)
    children[0].wait_for_lines(3)  # it trains: these are validations
    os.kill(children[1].process.pid, signal.SIGTERM)
    lines = finished(*children)
    ends = [int(line.rpartition(' ')[2]) for line in lines if 'ended at' in line]
    assert len(ends) == 2 and len(set(ends)) == 1
    assert torch.load(tmp_path / 'run' / 'checkpoint.pt')['step'] == ends[0]
    out = '\n'.join(finished(*start_two(start, tmp_path / 'run', ends[0] + 3, 0)))
    assert out.count(f'goes on from {ends[0]}') == 2
    assert out.count(f'ended at {ends[0] + 3}') == 2


@pytest.mark.slow
def test_what_is_wrong_in_one_process_is_told_by_both(start, tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'checkpoint.pt').write_bytes(b'nothing')
    lines = finished(*start_two(start, tmp_path / 'run', 6, 0, 'nan'))
    assert sum('CheckpointError' in line for line in lines) == 2
    errors = [line for line in lines if 'FloatingPointError' in line]
    assert len(errors) == 2 and all('at step 4' in line for line in errors)
    assert (tmp_path / 'run' / 'checkpoint.pt').read_bytes() == b'nothing'


def test_each_process_makes_its_part_of_the_batch():
    parts = [Processes(rank, 3).part(8) for rank in range(3)]
    assert sorted(position for part in parts for position in part) == list(range(8))
    with pytest.raises(ValueError, match='--batch 3'):
        Processes(0, 3).part(2)


def test_alone_there_is_nobody_to_ask():
    alone = Processes()
    assert alone.agree(True, 2.5) == (True, 2.5)
    assert alone.from_main({'a': 1}) == {'a': 1}
    assert alone.mean(torch.tensor([1.0, 3.0])).tolist() == [1, 3]
    module = torch.nn.Linear(2, 2)
    assert alone.wrap(module, torch.device('cpu')) is module
