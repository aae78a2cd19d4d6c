# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, spoken to over a pipe by its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
_TIMEOUT = 120.0


def find_browser() -> str | None:
    """The command of a Chromium, None without one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """One page in a browser without a window.

    complaints: what its console and its scripts reported as errors.
    """

    def __init__(self, profile: Path, *, width: int = 1280, height: int = 1000) -> None:
        command = find_browser()
        assert command is not None
        commands_in, self._commands = os.pipe()
        self._answers, answers_out = os.pipe()
        self._numbers = itertools.count(1)
        self._rest = b''
        self.complaints: list[str] = []
        # Chromium reads file descriptor 3 and writes 4.
        line = f'exec "$0" "$@" 3<&{commands_in} 4>&{answers_out}'
        options = [
            '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
            '--no-first-run', '--disable-background-networking', f'--user-data-dir={profile}',
            f'--window-size={width},{height}', '--remote-debugging-pipe', 'about:blank',
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ['bash', '-c', line, command, *options],
            pass_fds=(commands_in, answers_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, 'LD_LIBRARY_PATH': ''},
        )
        os.close(commands_in)
        os.close(answers_out)
        targets = self._call('Target.getTargets')['targetInfos']
        target = next(each['targetId'] for each in targets if each['type'] == 'page')
        attached = self._call('Target.attachToTarget', targetId=target, flatten=True)
        self._session: str | None = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log'):
            self.call(f'{domain}.enable')

    def open(self, file: Path, fragment: str = '') -> None:
        """Load a file, and wait until its scripts have run."""
        self.call('Page.navigate', url=f'{file.resolve().as_uri()}{fragment}')
        self.wait_for(f'location.href.includes({json.dumps(file.name)}) && '
                      'document.readyState === "complete"')  # fmt: skip

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript; promises are waited for."""
        answer = self.call(
            'Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True
        )
        assert 'exceptionDetails' not in answer, answer['exceptionDetails']
        return answer['result'].get('value')

    def wait_for(self, expression: str) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + _TIMEOUT
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f'never true: {expression}'
            time.sleep(0.05)
        return value

    def click(self, selector: str, share: float = 0.5) -> None:
        """A real click on an element, at this share of its width."""
        find = f'document.querySelector({json.dumps(selector)})'
        self.evaluate(f'{find}.scrollIntoView({{block: "center"}})')
        box = self.evaluate(f'{find}.getBoundingClientRect().toJSON()')
        place = {'x': box['x'] + share * box['width'], 'y': box['y'] + box['height'] / 2}
        for kind in ('mousePressed', 'mouseReleased'):
            self.call(
                'Input.dispatchMouseEvent', type=kind, button='left', buttons=1, clickCount=1,
                **place,
            )  # fmt: skip

    def screenshot(self) -> bytes:
        """PNG of the whole page."""
        answer = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=True)
        return base64.b64decode(answer['data'])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol to the page."""
        return self._call(method, session=self._session, **parameters)

    def _call(
        self, method: str, *, session: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {'id': number, 'method': method, 'params': parameters}
        if session:
            message['sessionId'] = session
        data = json.dumps(message).encode() + b'\0'
        while data:
            data = data[os.write(self._commands, data) :]
        while True:
            answer = self._read()
            if answer.get('id') == number:
                assert 'error' not in answer, (method, answer['error'])
                return answer['result']
            self._listen(answer)

    def _read(self) -> dict[str, Any]:
        while b'\0' not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], _TIMEOUT)
            data = os.read(self._answers, 1 << 20) if ready else b''
            assert data, 'the browser has ended, or does not answer'
            self._rest += data
        text, _, self._rest = self._rest.partition(b'\0')
        return json.loads(text)

    def _listen(self, event: dict[str, Any]) -> None:
        method, parameters = event.get('method'), event.get('params', {})
        if method == 'Runtime.exceptionThrown':
            details = parameters['exceptionDetails']
            self.complaints.append(details.get('exception', details).get('description', 'error'))
        elif method == 'Runtime.consoleAPICalled' and parameters['type'] in ('error', 'warning'):
            self.complaints.append(str(parameters['args']))
        elif method == 'Log.entryAdded' and parameters['entry']['level'] in ('error', 'warning'):
            self.complaints.append(parameters['entry']['text'])

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
