# SPDX-License-Identifier: Apache-2.0
"""Compiled engines on disk: found by what they were made of, never by a file name alone.

Each engine is a plan `<model>.<precision>.<key>.plan` and a sidecar of the same name in JSON, which
says all that the key was made of, the plan's checksum, how long it took and how it compared with
ONNX Runtime. A plan without a sidecar that agrees with it is not used.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from rmpe_ros.core.json_text import parse_json
from rmpe_ros.engines import EngineError
from rmpe_ros.engines.parity import Parity
from rmpe_ros.io.files import write_file

try:
    import fcntl
except ImportError:  # Windows: two processes then build the same engine, and one of them wins
    fcntl = None  # type: ignore[assignment]

_LOG = logging.getLogger(__name__)
_T = TypeVar('_T')
_FORMAT = 1


class PlanError(EngineError):
    """A plan cannot be loaded here: it is damaged, or of another version or GPU."""


@dataclass(frozen=True)
class EngineKey:
    """All that decides whether a plan is the right one; two equal keys mean the same engine.

    model: file name of the model, after which the files in the cache are named; it is not part of
    the key. onnx_sha256: of the float32 model. backend, version: module that compiles, such as
    tensorrt 10.3.0. target: name and compute capability of the GPU. precision: fp32 or fp16.
    profiles: range of every input. options: of the builder, and the version of our own conversions.
    """

    model: str
    onnx_sha256: str
    backend: str
    version: str
    target: str
    precision: str
    profiles: str
    options: str

    @property
    def facts(self) -> dict[str, str]:
        """Everything but the model's name."""
        return {name: value for name, value in asdict(self).items() if name != 'model'}

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the model's name, in hexadecimal."""
        facts = {**self.facts, 'format': _FORMAT}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def stem(self) -> str:
        """Name of the files in the cache, without suffix."""
        model = Path(self.model).stem or 'model'
        return f'{model}.{self.precision}.{self.digest[:16]}'


@dataclass(frozen=True)
class Entry:
    """One engine: the plan, and what its sidecar says.

    facts: what the builder wants to know again when it loads the plan (JSON types).
    """

    key: EngineKey
    plan: bytes
    facts: Mapping[str, Any]
    parity: Parity
    build_seconds: float
    created: str = field(default_factory=lambda: time.strftime('%Y-%m-%dT%H:%M:%S%z'))


class EngineCache:
    """The folder of compiled engines; several processes may use it at once.

    folder: $RMPE_ENGINE_CACHE by default, else ~/.cache/rmpe_ros/engines.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder else default_folder()

    def plan_path(self, key: EngineKey) -> Path:
        return self.folder / f'{key.stem}.plan'

    def sidecar_path(self, key: EngineKey) -> Path:
        return self.folder / f'{key.stem}.json'

    def obtain(
        self,
        key: EngineKey,
        *,
        build: Callable[[], tuple[bytes, Mapping[str, Any]]],
        load: Callable[[Entry], _T],
        verify: Callable[[_T], Parity],
        rebuild: bool = False,
    ) -> tuple[_T, Entry]:
        """The engine of `key`: loaded from the cache, or built, compared, stored and loaded.

        build: returns the plan and facts for loading it. load: makes an engine of an entry, or
        raises PlanError, upon which the plan is built anew, once. verify: compares a new engine, or
        one that could not be compared where it was built, with ONNX Runtime.
        Raises EngineError when it cannot be built, or was refused now or earlier.
        """
        reason = 'asked for'
        if not rebuild:
            found = self._use(key, load, verify)
            if not isinstance(found, str):
                return found
            reason = found
        with self._locked(key):
            if not rebuild:
                # Another process may have built it while this one waited for the lock.
                found = self._use(key, load, verify)
                if not isinstance(found, str):
                    return found
                reason = found
            self._remove_leftovers(key)
            _LOG.info('building %s for %s: %s', key.stem, key.target, reason)
            return self._build(key, build, load, verify)

    def _build(
        self,
        key: EngineKey,
        build: Callable[[], tuple[bytes, Mapping[str, Any]]],
        load: Callable[[Entry], _T],
        verify: Callable[[_T], Parity],
    ) -> tuple[_T, Entry]:
        start = time.monotonic()
        plan, facts = build()
        seconds = round(time.monotonic() - start, 2)
        entry = Entry(key, plan, facts, Parity.not_run('not compared yet'), seconds)
        try:
            engine = load(entry)
        except PlanError as error:
            raise EngineError(
                f'{key.model}: the engine that {key.backend} {key.version} has just built cannot '
                f'be loaded by it: {error}; is the GPU driver older than {key.backend} needs?'
            ) from error
        entry = replace(entry, parity=verify(engine))
        self._store(entry)
        self._refuse_if_wrong(entry)
        return engine, entry

    def _use(
        self,
        key: EngineKey,
        load: Callable[[Entry], _T],
        verify: Callable[[_T], Parity],
    ) -> tuple[_T, Entry] | str:
        """The engine in the cache, or why there is none. Raises EngineError for a refused one."""
        entry = self.read(key)
        if isinstance(entry, str):
            return entry
        self._refuse_if_wrong(entry)
        try:
            engine = load(entry)
        except PlanError as error:
            _LOG.warning('%s cannot be loaded and is built anew: %s', self.plan_path(key), error)
            return f'the stored plan cannot be loaded ({error})'
        if entry.parity.status == 'not run':
            entry = replace(entry, parity=verify(engine))
            if entry.parity.status != 'not run':
                self._store(entry)
            self._refuse_if_wrong(entry)
        return engine, entry

    def read(self, key: EngineKey) -> Entry | str:
        """The entry of `key`, checked against its sidecar, or why there is none."""
        try:
            said = parse_json(self.sidecar_path(key).read_bytes())
            if said.get('format') != _FORMAT or said.get('key') != key.facts:
                return 'its sidecar is of another engine'
            parity = Parity(**said['parity'])
            plan = b'' if parity.status == 'refused' else self.plan_path(key).read_bytes()
            if parity.status != 'refused' and _sha256(plan) != said['plan_sha256']:
                return 'the plan is not the one of its sidecar (damaged or half written)'
            facts, seconds = dict(said['facts']), float(said['build_seconds'])
            return Entry(key, plan, facts, parity, seconds, str(said['created']))
        except FileNotFoundError:
            return 'not built yet'
        except OSError as error:
            return f'{error.filename} cannot be read: {error.strerror}'
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f'its sidecar is damaged ({type(error).__name__}: {error})'

    def _store(self, entry: Entry) -> None:
        """Write plan, then sidecar, each whole or not at all; a failure costs only the next start.

        A refused engine leaves its sidecar alone, so that it is not built again at each start.
        """
        key = entry.key
        refused = entry.parity.status == 'refused'
        sidecar = {
            'format': _FORMAT,
            'model': key.model,
            'key': key.facts,
            'key_sha256': key.digest,
            'plan_sha256': '' if refused else _sha256(entry.plan),
            'plan_bytes': 0 if refused else len(entry.plan),
            'build_seconds': entry.build_seconds,
            'created': entry.created,
            'parity': asdict(entry.parity),
            'facts': dict(entry.facts),
        }
        try:
            if refused:
                self.plan_path(key).unlink(missing_ok=True)
            else:
                write_file(self.plan_path(key), entry.plan)
            write_file(self.sidecar_path(key), json.dumps(sidecar, indent=2) + '\n')
        except OSError as error:
            advice = 'free some space' if error.errno == errno.ENOSPC else 'make it writable'
            _LOG.warning(
                'the engine %s works but cannot be kept, so the next start builds it again: '
                '%s: %s; %s or set RMPE_ENGINE_CACHE to another folder',
                *(key.stem, error.filename, error.strerror, advice),
            )

    def _refuse_if_wrong(self, entry: Entry) -> None:
        if entry.parity.status == 'refused':
            key = entry.key
            advice = ' or use precision fp32' if key.precision == 'fp16' else ''
            raise EngineError(
                f'{key.model}: the {key.precision} engine of {key.backend} {key.version} for '
                f'{key.target} is refused, because it answers otherwise than ONNX Runtime: '
                f'{entry.parity.detail}; try another version of {key.backend}{advice} (to build it '
                f'again, remove {self.sidecar_path(key)})'
            )

    @contextmanager
    def _locked(self, key: EngineKey) -> Iterator[None]:
        """Hold the entry's lock file; the system frees it when a process is killed.

        Where there can be no lock (read-only folder, no file locks), two processes may build the
        same engine; as files are replaced whole, that only costs time.
        """
        path = self.folder / f'.{key.stem}.lock'
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            _LOG.warning('no lock while building: %s: %s', path, error.strerror)
            yield
            return
        try:
            _wait_for_lock(handle, key)
            yield
        finally:
            os.close(handle)

    def _remove_leftovers(self, key: EngineKey) -> None:
        """Remove temporary files of processes that were killed; only called with the lock held."""
        for leftover in self.folder.glob(f'.{glob.escape(key.stem)}.*.*'):
            try:
                leftover.unlink()
            except OSError as error:
                _LOG.debug('%s stays: %s', leftover, error.strerror)


def default_folder() -> Path:
    """$RMPE_ENGINE_CACHE, or rmpe_ros/engines in the user's cache folder."""
    if os.environ.get('RMPE_ENGINE_CACHE'):
        return Path(os.environ['RMPE_ENGINE_CACHE']).expanduser()
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(base) / 'rmpe_ros' / 'engines'


def list_entries(folder: Path) -> Iterator[dict[str, Any]]:
    """What the sidecars in `folder` say; unreadable ones are left out."""
    for path in sorted(folder.glob('*.json')):
        try:
            said = parse_json(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(said, dict) and {each.name for each in fields(EngineKey)} - {'model'} <= set(
            said.get('key', ())
        ):
            yield said


def _wait_for_lock(handle: int, key: EngineKey) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _LOG.info('waiting for another process that builds %s', key.stem)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        _LOG.warning('no file locks in this folder (%s): building without one', error.strerror)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
