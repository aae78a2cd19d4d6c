# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of a step: one line when they work, the end of the log and advice when not."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TAIL_LINES = 25
OTHER_ADVICE = 'The reason is in the lines above.'
ADVICE = {
    r'No space left on device': 'The disk is full: free some space and run this again.',
    r'Failed to establish a new connection|Temporary failure in name resolution|ConnectTimeout'
    r'|Network is unreachable|ProxyError|Read timed out|Connection broken': (
        'The package index could not be reached: check the network and the settings of pip, '
        'then run this again.'
    ),
    r'No matching distribution found': (
        'The package index has no such version for this Python and system, or pip is set to use '
        'another index: see `pip config list`.'
    ),
    r'Python\.h: No such file': (
        'The C headers of Python are missing: on Debian or Ubuntu, sudo apt install python3-dev'
    ),
    r'Killed signal terminated program': (
        'The compiler ran out of memory: close other programs and run this again.'
    ),
}


class StepFailed(Exception):
    """A step cannot go on; the text says why and what to do."""


def run_quietly(
    what: str, command: Sequence[str | Path], *, folder: Path, env: Mapping[str, str], log: Path
) -> None:
    """Run a command in `folder`, with its output in the file `log`, and print how long it took.

    Raises StepFailed with the end of the log and what to do when it fails or cannot be started.
    """
    print(f'{what} … ', end='', flush=True)
    start = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('w', encoding='utf-8') as file:
        file.write(f'$ {" ".join(map(str, command))}\n')
        file.flush()
        try:
            finished = subprocess.run(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except OSError as error:
            print('failed', flush=True)
            raise StepFailed(f'{command[0]} could not be started: {error}') from error
    if finished.returncode != 0:
        print('failed', flush=True)
        text = log.read_text(encoding='utf-8', errors='replace')
        tail = '\n'.join(text.splitlines()[-TAIL_LINES:])
        raise StepFailed(
            f'{tail}\n\n{what} failed with code {finished.returncode}. {advice(text)}\n'
            f'Full log: {log}'
        )
    print(f'{time.monotonic() - start:.1f} s', flush=True)


def advice(log: str) -> str:
    """What to do about a failure, from the text of its log."""
    for pattern, sentence in ADVICE.items():
        if re.search(pattern, log):
            return sentence
    return OTHER_ADVICE
