# SPDX-License-Identifier: Apache-2.0
"""The cache of engines with real files, processes and a full disk: never a wrong engine."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rmpe_ros.engines import EngineError
from rmpe_ros.engines.cache import EngineCache, EngineKey, Entry, PlanError, list_entries
from rmpe_ros.engines.parity import Parity

KEY = EngineKey(
    model='lite.onnx',
    onnx_sha256='12' * 32,
    backend='tensorrt',
    version='10.3.0',
    target='Orin sm87',
    precision='fp16',
    profiles='[[1, 4, 32]]',
    options='strongly typed',
)
PASSED = Parity('passed', 'all within 0.5 px', 0.5, 0.1, 0.1, 0.0, 100)
REFUSED = Parity('refused', '12.0% of 100 keypoints are within 0.5 px', 0.5, 30.0, 30.0, 0.88, 100)


class Maker:
    """Builds plans that say what they are of, and counts how often."""

    def __init__(self, cache: EngineCache, parity: Parity = PASSED) -> None:
        self.cache, self.parity = cache, parity
        self.builds = self.loads = self.comparisons = 0
        self.unloadable = 0

    def obtain(self, key: EngineKey = KEY, *, rebuild: bool = False) -> str:
        def build() -> tuple[bytes, dict]:
            self.builds += 1
            return f'plan {self.builds} of {key.digest}'.encode(), {'metadata': {'a': 'b'}}

        def load(entry: Entry) -> str:
            assert key.digest in entry.plan.decode(), 'the plan of another engine was loaded'
            assert entry.facts == {'metadata': {'a': 'b'}}
            if self.unloadable:
                self.unloadable -= 1
                raise PlanError('of an older driver')
            self.loads += 1
            return entry.plan.decode()

        def verify(engine: str) -> Parity:
            self.comparisons += 1
            return self.parity

        return self.cache.obtain(
            KEY if key is None else key, build=build, load=load, verify=verify, rebuild=rebuild
        )[0]


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / 'engines')


@pytest.fixture
def maker(cache: EngineCache) -> Maker:
    return Maker(cache)


def test_built_once(maker: Maker, cache: EngineCache) -> None:
    first = maker.obtain()
    assert maker.obtain() == first
    assert Maker(cache).obtain() == first
    assert (maker.builds, maker.loads, maker.comparisons) == (1, 2, 1)
    assert cache.plan_path(KEY).name.startswith('lite.fp16.')


def test_the_sidecar_says_everything(maker: Maker, cache: EngineCache) -> None:
    maker.obtain()
    said = json.loads(cache.sidecar_path(KEY).read_text())
    assert said['key'] == KEY.facts
    assert said['model'] == 'lite.onnx'
    assert said['parity']['largest_px'] == 0.1
    assert said['plan_bytes'] == cache.plan_path(KEY).stat().st_size
    assert said['build_seconds'] >= 0
    assert [each['key'] for each in list_entries(cache.folder)] == [KEY.facts]


@pytest.mark.parametrize(
    'field', ['onnx_sha256', 'backend', 'version', 'target', 'precision', 'profiles', 'options']
)
def test_anything_else_is_another_engine(maker: Maker, field: str) -> None:
    first = maker.obtain()
    assert maker.obtain(replace(KEY, **{field: 'other'})) != first
    assert maker.builds == 2
    assert maker.obtain() == first, 'and the first one is still there'


def test_a_model_of_another_name_is_the_same_engine() -> None:
    assert replace(KEY, model='copy.onnx').digest == KEY.digest


def test_rebuild(maker: Maker) -> None:
    assert maker.obtain() != maker.obtain(rebuild=True)
    assert maker.builds == 2


def damage_plan(cache: EngineCache) -> None:
    plan = bytearray(cache.plan_path(KEY).read_bytes())
    plan[3] ^= 1
    cache.plan_path(KEY).write_bytes(plan)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_key_in_sidecar(cache: EngineCache) -> None:
    said = json.loads(cache.sidecar_path(KEY).read_text())
    said['key']['version'] = '10.4.0'
    cache.sidecar_path(KEY).write_text(json.dumps(said))


@pytest.mark.parametrize(
    'damage',
    [
        damage_plan,
        lambda cache: truncate(cache.plan_path(KEY)),
        lambda cache: cache.plan_path(KEY).write_bytes(b''),
        lambda cache: cache.plan_path(KEY).unlink(),
        lambda cache: truncate(cache.sidecar_path(KEY)),
        lambda cache: cache.sidecar_path(KEY).write_bytes(b'\xff\x00'),
        lambda cache: cache.sidecar_path(KEY).write_text('[]'),
        lambda cache: cache.sidecar_path(KEY).write_text('{"format": 1}'),
        lambda cache: cache.sidecar_path(KEY).unlink(),
        other_key_in_sidecar,
    ],
    ids=[
        'bit',
        'half plan',
        'no plan bytes',
        'no plan',
        'half sidecar',
        'binary sidecar',
        'list',
        'little',
        'no sidecar',
        'other key',
    ],
)
def test_damage_means_a_new_build(damage, maker: Maker, cache: EngineCache) -> None:
    maker.obtain()
    damage(cache)
    assert 'plan 2' in maker.obtain()
    assert 'plan 2' in maker.obtain()
    assert maker.builds == 2


def test_a_plan_that_does_not_load_is_explained_and_built_once(
    maker: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    maker.obtain()
    maker.unloadable = 2  # once before and once after the lock is held
    assert 'plan 2' in maker.obtain()
    assert 'cannot be loaded and is built anew: of an older driver' in caplog.text
    maker.unloadable = 3
    with pytest.raises(EngineError, match=r'has just built cannot be loaded.*of an older driver'):
        maker.obtain()
    assert maker.builds == 3


def test_a_wrong_engine_is_refused_and_not_built_at_every_start(cache: EngineCache) -> None:
    maker = Maker(cache, REFUSED)
    for _ in range(3):
        with pytest.raises(EngineError, match=r'refused.*12\.0% of 100 keypoints.*precision fp32'):
            maker.obtain()
    assert maker.builds == 1
    assert not cache.plan_path(KEY).exists()
    with pytest.raises(EngineError, match='refused'):
        maker.obtain(rebuild=True)
    assert maker.builds == 2


def test_compared_where_it_first_can_be(cache: EngineCache) -> None:
    ahead = Maker(cache, Parity.not_run('no GPU'))
    ahead.obtain()
    said = json.loads(cache.sidecar_path(KEY).read_text())['parity']
    assert (said['status'], said['detail']) == ('not run', 'no GPU')
    there = Maker(cache)
    there.obtain()
    there.obtain()
    assert (there.builds, there.comparisons) == (0, 1)
    assert json.loads(cache.sidecar_path(KEY).read_text())['parity']['status'] == 'passed'


def test_built_ahead_but_wrong_there(cache: EngineCache) -> None:
    Maker(cache, Parity.not_run('no GPU')).obtain()
    wrong = Maker(cache, REFUSED)
    for _ in range(2):
        with pytest.raises(EngineError, match='refused'):
            wrong.obtain()
    assert (wrong.builds, wrong.comparisons) == (0, 1)


def test_a_failed_build_leaves_no_trace(cache: EngineCache) -> None:
    def build() -> tuple[bytes, dict]:
        raise EngineError('operator Det')

    for _ in range(2):
        with pytest.raises(EngineError, match='operator Det'):
            cache.obtain(KEY, build=build, load=lambda entry: entry, verify=lambda _: PASSED)
    assert not cache.plan_path(KEY).exists() and not cache.sidecar_path(KEY).exists()
    assert Maker(cache).obtain()


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file where the folder should be fails for root, too, for whom nothing is read-only."""
    (tmp_path / 'file').write_text('')
    maker = Maker(EngineCache(tmp_path / 'file' / 'engines'))
    assert 'plan 1' in maker.obtain()
    assert 'cannot be kept' in caplog.text
    assert 'RMPE_ENGINE_CACHE' in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_read_only_folder(maker: Maker, cache: EngineCache) -> None:
    cache.folder.mkdir()
    cache.folder.chmod(0o555)
    try:
        assert 'plan 1' in maker.obtain()
        assert 'plan 2' in maker.obtain()
    finally:
        cache.folder.chmod(0o755)


def test_a_read_only_folder_with_the_engine(maker: Maker, cache: EngineCache) -> None:
    maker.obtain()
    cache.folder.chmod(0o555)
    try:
        assert 'plan 1' in maker.obtain()
    finally:
        cache.folder.chmod(0o755)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 64 kB."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip('only root can mount a small tmpfs')
    yield disk
    subprocess.run(['umount', str(disk)], check=True)


def test_a_full_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = EngineCache(small_disk)
    built = []

    def obtain(size: int) -> bytes:
        def build() -> tuple[bytes, dict]:
            built.append(size)
            return bytes(size), {}

        return cache.obtain(
            KEY, build=build, load=lambda entry: entry.plan, verify=lambda _: PASSED
        )[0]

    assert len(obtain(500_000)) == 500_000, 'it works, it is only not kept'
    assert os.strerror(errno.ENOSPC) in caplog.text and 'free some space' in caplog.text
    assert [each.name for each in small_disk.iterdir() if each.suffix != '.lock'] == []
    assert len(obtain(1000)) == 1000
    assert len(obtain(1000)) == 1000
    assert built == [500_000, 1000]


WORKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import logging
logging.basicConfig(level=logging.INFO)
from rmpe_ros.engines.cache import EngineCache, EngineKey
from rmpe_ros.engines.parity import Parity
key = EngineKey(**{key!r})
log, hold = map(Path, sys.argv[2:])
def build():
    with log.open('a') as file:
        file.write('start\\n')
    while hold.exists():
        time.sleep(0.01)
    with log.open('a') as file:
        file.write('end\\n')
    return b'x' * 200000, {{}}
plan = EngineCache(sys.argv[1]).obtain(
    key, build=build, load=lambda entry: entry.plan, verify=lambda _: Parity('passed', '')
)[0]
assert plan == b'x' * 200000
print('done')
"""


def start_worker(cache: EngineCache, log: Path, hold: Path) -> subprocess.Popen:
    """A process that builds until the file `hold` is gone, unless another one has built."""
    root = str(Path(__file__).resolve().parents[2])
    code = WORKER.format(root=root, key={**KEY.facts, 'model': 'lite.onnx'})
    return subprocess.Popen(
        [sys.executable, '-c', code, str(cache.folder), str(log), str(hold)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f'{text!r} does not appear'
        time.sleep(0.02)


def test_of_three_processes_one_builds_and_the_others_say_that_they_wait(
    cache: EngineCache, tmp_path: Path
) -> None:
    log, hold = tmp_path / 'builds', tmp_path / 'hold'
    hold.touch()
    first = start_worker(cache, log, hold)
    wait_for(log, 'start')
    others = [start_worker(cache, log, hold) for _ in range(2)]
    for each in others:
        assert any('waiting for another process' in line for line in each.stderr or ())
    hold.unlink()
    for worker in (first, *others):
        out, err = worker.communicate(timeout=120)
        assert (worker.returncode, out) == (0, 'done\n'), err
    assert log.read_text() == 'start\nend\n'


@pytest.mark.parametrize('moment', ['building', 'writing'])
def test_killed_in_the_middle(moment: str, cache: EngineCache, tmp_path: Path) -> None:
    log, hold = tmp_path / 'builds', tmp_path / 'hold'
    if moment == 'building':
        hold.touch()
    worker = start_worker(cache, log, hold)
    if moment == 'building':
        wait_for(log, 'start')
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        hold.unlink()
    else:
        # As if it had died after the plan and before the sidecar, with a half file left over.
        worker.communicate(timeout=120)
        cache.sidecar_path(KEY).unlink()
        truncate(cache.plan_path(KEY))
        (cache.folder / f'.{cache.sidecar_path(KEY).name}.abc').write_text('{"format"')
    log.unlink()
    again = start_worker(cache, log, hold)
    out, err = again.communicate(timeout=120)
    assert (again.returncode, out) == (0, 'done\n'), err
    assert log.read_text() == 'start\nend\n', 'it was built anew, and the lock was free'
    assert sorted(each.suffix for each in cache.folder.iterdir()) == ['.json', '.lock', '.plan']


def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RMPE_ENGINE_CACHE', str(tmp_path / 'a'))
    assert EngineCache().folder == tmp_path / 'a'
    monkeypatch.delenv('RMPE_ENGINE_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'b'))
    assert EngineCache().folder == tmp_path / 'b' / 'rmpe_ros' / 'engines'


def test_list_entries_leaves_out_what_is_none(
    maker: Maker, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    maker.obtain()
    (cache.folder / 'notes.json').write_text('[1]')
    (cache.folder / 'half.json').write_text('{"key"')
    shutil.copy(cache.sidecar_path(KEY), cache.folder / 'copy.json')
    assert len(list(list_entries(cache.folder))) == 2
    assert list(list_entries(cache.folder / 'missing')) == []
