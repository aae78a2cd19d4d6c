# SPDX-License-Identifier: Apache-2.0
"""The training loop: that it learns, stops, resumes to the same result and says what is wrong."""

import errno
import math
import signal
from contextlib import contextmanager

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.training.averaging import AveragedWeights
from rmpe_ros.training.batches import ExampleBatches
from rmpe_ros.training.checkpoints import CheckpointError
from rmpe_ros.training.schedule import Schedule
from rmpe_ros.training.trainer import Trainer


def draw(rng):
    x = rng.normal(size=4).astype(np.float32)
    return {'x': x, 'y': np.float32([x.sum()])}


def loss(network, batch):
    return {'loss': ((network(batch['x']).float() - batch['y']) ** 2).mean()}


def linear_trainer(folder, steps, *, network=None, source=None, options=None, **schedule):
    torch.manual_seed(0)
    schedule = {'learning_rate': 0.05, 'warmup_steps': 1, 'batch': 8, **schedule}
    return Trainer(
        network or torch.nn.Linear(4, 1),
        loss,
        source or ExampleBatches(draw),
        Schedule(steps, schedule.pop('minutes', None), **schedule),
        folder,
        **{'log': lambda line: None, 'precision': 'fp32', **(options or {})},
    )


class StopsAt(ExampleBatches):
    """Asks for `action` when the examples of a step are drawn."""

    def __init__(self, step, action):
        super().__init__(draw)
        self.at, self.action = step, action

    def batch(self, seed, step, positions):
        if step == self.at:
            self.action()
        return super().batch(seed, step, positions)


def restless_network():
    """Everything that could make a resumed run differ: batch norm, dropout, a running count."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3),
        torch.nn.Linear(16, 1),
    )  # fmt: skip


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_training_learns(tmp_path, precision):
    trainer = linear_trainer(tmp_path, 300, options={'precision': precision})
    trainer.run()
    assert torch.allclose(trainer.ema.weight, torch.ones(1, 4), atol=0.1)


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_a_stopped_run_resumes_to_the_same_result(tmp_path, precision):
    def trainer(name, source=None):
        torch.rand(3)  # resuming happens in another state of the random generator
        return linear_trainer(
            tmp_path / name,
            60,
            network=restless_network(),
            source=source,
            options={'precision': precision},
        )

    whole = trainer('whole')
    whole.run()
    first = trainer('parts', StopsAt(25, lambda: first.stop()))
    first.run()
    assert 0 < first.step < 60 and first.checkpoint.exists()
    torch.rand(7)
    second = trainer('parts')
    assert second.resume() and second.step == first.step
    second.run()
    assert second.step == 60
    for name in ('network', 'ema'):
        for key, value in getattr(whole, name).state_dict().items():
            assert torch.equal(value, getattr(second, name).state_dict()[key]), key
    states = [torch.load(t.checkpoint, weights_only=True) for t in (whole, second)]
    assert states[0]['averages'] == states[1]['averages']
    assert states[0]['scaler'] == states[1]['scaler']
    moments = [state['optimizer']['state'] for state in states]
    assert all(
        torch.equal(moments[0][i][name], moments[1][i][name])
        for i in moments[0]
        for name in ('exp_avg', 'exp_avg_sq', 'step')
    )


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_with_a_checkpoint(tmp_path, number):
    lines = []
    source = StopsAt(10, lambda: signal.raise_signal(number))
    trainer = linear_trainer(
        tmp_path, None, minutes=5, source=source, options={'log': lines.append}
    )
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    was = signal.signal(number, usual)  # the tests may run where it is ignored
    try:
        trainer.run()
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, was)
    assert trainer.stopping and any('stopping after this step' in line for line in lines)
    assert torch.load(trainer.checkpoint, weights_only=True)['step'] == trainer.step


def test_a_clock_without_steps_ends_with_a_checkpoint(tmp_path):
    trainer = linear_trainer(tmp_path, None, minutes=0.01)
    trainer.run()
    assert trainer.elapsed >= 0.6 and trainer.checkpoint.exists()


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ValueError, match='steps, minutes'):
        Schedule(None, None)


@pytest.mark.parametrize('wrong', [{'minutes': -1}, {'learning_rate': 0.0}, {'batch': 0}])
def test_schedules_of_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match='must be more than 0'):
        Schedule(5, wrong.pop('minutes', None), **wrong)


def test_learning_rate_warms_up_and_falls_to_its_end():
    schedule = Schedule(1000, None, warmup_steps=10, final_fraction=0.1)
    fractions = [schedule.learning_fraction(step, 0) for step in range(1001)]
    assert fractions[0] == pytest.approx(0.1)
    assert max(fractions) == fractions[9] and fractions[9] > 0.99
    assert fractions[500] == pytest.approx(0.55) and fractions[1000] == pytest.approx(0.1)


def test_time_left_is_that_of_the_first_end():
    both = Schedule(100, 1)
    assert both.seconds_left(50, 30, steps_per_second=10) == 5
    assert both.seconds_left(50, 30, steps_per_second=1) == 30
    assert Schedule(None, 1).seconds_left(7, 45, steps_per_second=1) == 15


def test_errors_in_drawing_reach_the_caller(tmp_path):
    def broken(rng):
        raise ValueError('photo.jpg cannot be read as an image')

    with pytest.raises(ValueError, match=r'photo\.jpg'):
        linear_trainer(tmp_path, 5, source=ExampleBatches(broken)).run()


def poisoned_from(step):
    class Poisoned(ExampleBatches):
        def batch(self, seed, at, positions):
            batch = super().batch(seed, at, positions)
            return {k: v * math.nan for k, v in batch.items()} if at >= step else batch

    return Poisoned(draw)


@pytest.mark.parametrize(('precision', 'steps'), [('fp32', 13), ('bf16', 13), ('fp16', 63)])
def test_a_loss_that_is_no_number_ends_the_run_but_not_the_checkpoint(tmp_path, precision, steps):
    """In fp16 as many steps may be skipped as an overflow takes, and no more."""
    good = linear_trainer(tmp_path, 5)
    good.run()
    before = good.checkpoint.read_bytes()
    source = poisoned_from(12)
    trainer = linear_trainer(tmp_path, 100, source=source, options={'precision': precision})
    trainer.resume()
    with pytest.raises(FloatingPointError, match=f'nan at step {steps}: lower the learning rate'):
        trainer.run()
    assert trainer.checkpoint.read_bytes() == before


def test_fp16_skips_steps_that_overflow(tmp_path):
    class Huge(ExampleBatches):
        def batch(self, seed, step, positions):
            batch = super().batch(seed, step, positions)
            return {k: v * 1e7 for k, v in batch.items()} if 3 <= step < 6 else batch

    trainer = linear_trainer(tmp_path, 40, source=Huge(draw), options={'precision': 'fp16'})
    scale = trainer.scaler.get_scale()
    trainer.run()
    assert trainer.scaler.get_scale() < scale
    assert all(torch.isfinite(p).all() for p in trainer.ema.parameters())
    assert all(math.isfinite(value) for value in trainer.averages.values())


@pytest.mark.parametrize('damage', ['truncated', 'empty', 'text', 'flipped'])
def test_a_damaged_checkpoint_is_explained(tmp_path, damage):
    trainer = linear_trainer(tmp_path, 5)
    trainer.run()
    data = trainer.checkpoint.read_bytes()
    middle = data.index(b'data.pkl') + 20
    trainer.checkpoint.write_bytes(
        {
            'truncated': data[: len(data) // 2],
            'empty': b'',
            'text': b'not a checkpoint at all',
            'flipped': data[:middle] + bytes(255 - b for b in data[middle : middle + 40])
            + data[middle + 40 :],
        }[damage]
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r'checkpoint\.pt is damaged .* delete it'):
        linear_trainer(tmp_path, 5).resume()


def test_a_checkpoint_of_another_network_is_explained(tmp_path):
    linear_trainer(tmp_path, 5).run()
    other = linear_trainer(tmp_path, 5, network=torch.nn.Linear(4, 1, bias=False))
    with pytest.raises(CheckpointError, match='of another network'):
        other.resume()
    torch.save({'ema': {'weight': torch.zeros(1)}}, other.checkpoint)
    with pytest.raises(CheckpointError, match='lacks'):
        other.resume()


SETTINGS = {'stage': 'sppe', 'batch': 8, 'steps': 5}


@pytest.mark.parametrize(
    ('changed', 'allow', 'message'),
    [
        ({'stage': 'sstn'}, True, 'of another network: stage was sppe, now sstn'),
        ({'batch': 16}, False, 'other settings: batch was 8, now 16.*--allow-changes'),
        ({'batch': 16}, True, None),
        ({'steps': 10}, False, None),
    ],
)
def test_settings_that_changed_are_noticed(tmp_path, changed, allow, message):
    linear_trainer(tmp_path, 5, options={'settings': SETTINGS}).run()
    lines = []
    again = linear_trainer(
        tmp_path, 10, options={'settings': SETTINGS | changed, 'log': lines.append}
    )
    if message:
        with pytest.raises(CheckpointError, match=message):
            again.resume(allow_changes=allow)
    else:
        assert again.resume(allow_changes=allow)
        name, value = next(iter(changed.items()))
        assert f'{name} was {SETTINGS[name]}, now {value}' in lines[0]


def test_a_checkpoint_from_before_settings_were_kept_is_taken(tmp_path):
    trainer = linear_trainer(tmp_path, 5)
    trainer.run()
    state = torch.load(trainer.checkpoint, weights_only=True)
    for name in ('settings', 'averages', 'scaler'):
        del state[name]
    torch.save(state, trainer.checkpoint)
    again = linear_trainer(tmp_path, 10, options={'settings': SETTINGS})
    assert again.resume() and again.step == 5
    again.run()
    assert again.step == 10


@contextmanager
def full_disk(monkeypatch):
    """The kernel's answer where a file does not fit any more."""

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr('os.fsync', refuse)
        yield


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    trainer = linear_trainer(tmp_path, 5)
    trainer.run()
    before = trainer.checkpoint.read_bytes()
    again = linear_trainer(tmp_path, 10)
    again.resume()
    with (
        full_disk(monkeypatch),
        pytest.raises(CheckpointError, match=r'No space left on device.*one before is untouched'),
    ):
        again.run()
    assert trainer.checkpoint.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} <= {'checkpoint.pt', 'tensorboard'}


def test_a_disk_that_is_full_for_a_while_does_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr('rmpe_ros.training.trainer.CHECKPOINT_SECONDS', 0.0)
    lines = []
    trainer = linear_trainer(tmp_path, 6, options={'log': lines.append})
    with full_disk(monkeypatch), pytest.raises(CheckpointError):
        trainer.run()
    assert trainer.step == 6
    assert sum('tries again in a minute' in line for line in lines) == 6
    trainer.save()
    assert linear_trainer(tmp_path, 6).resume()


def test_what_a_killed_run_was_writing_is_removed(tmp_path):
    (tmp_path / '.checkpoint.pt.abc123').write_bytes(b'half')
    (tmp_path / 'notes.txt').write_text('mine')
    linear_trainer(tmp_path, 5).run()
    names = {p.name for p in tmp_path.iterdir()} - {'tensorboard'}
    assert names == {'notes.txt', 'checkpoint.pt'}


def test_two_runs_in_one_folder_are_refused(tmp_path):
    second = linear_trainer(tmp_path, 5)
    refused = []

    def start_another():
        with pytest.raises(CheckpointError, match='another run is training in') as caught:
            second.run()
        refused.append(caught.value)

    linear_trainer(tmp_path, 5, source=StopsAt(3, start_another)).run()
    assert refused
    second.run()  # the other one has ended
    assert second.step == 5


def test_averages_follow_closely_at_first():
    network = torch.nn.BatchNorm1d(2)
    average = AveragedWeights(network, decay=0.998)
    expected = network.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            network.weight.fill_(step)
        network.num_batches_tracked += 1
        average.follow(step)
        expected = expected.lerp(torch.full((2,), float(step)), 1 - step / (step + 10))
    assert torch.allclose(average.average.weight, expected)
    assert average.average.num_batches_tracked == 29
