# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: it loads, plays and seeks, and nothing complains."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags')
sys.path.insert(0, str(Path(__file__).parent))

from browser import Browser, find_browser
from made_runs import make_run

from rmpe_ros.cli.main import main
from rmpe_ros.core.drawing import PERSON_COLORS

pytestmark = [
    pytest.mark.skipif(find_browser() is None, reason='there is no Chromium (apt: chromium)'),
    pytest.mark.slow,
]
SCREEN = 'document.querySelectorAll(".screen")[{}]'
FRAME = f'{SCREEN}.dataset.frame'


def pixels_of(browser: Browser, color: tuple[int, int, int]) -> int:
    """How many pixels of the first screen have this colour."""
    return browser.evaluate(
        'Array.from(new Uint32Array(document.querySelector(".screen canvas").getContext("2d")'
        '.getImageData(0, 0, 400, 300).data.buffer))'
        f'.filter((p) => (p & 0xffffff) === {color[0] | color[1] << 8 | color[2] << 16}).length'
    )


def test_two_bags_side_by_side(tmp_path: Path) -> None:
    a = make_run(tmp_path / 'before', frames=40, dropped=frozenset({10, 11}), renumbered=30)
    b = make_run(tmp_path / 'after', frames=40, shift=1, missing=frozenset({20, 21}))
    page = tmp_path / 'report.html'
    assert main(['report', str(a), str(b), '--out', str(page)]) == 0
    with Browser(tmp_path / 'profile') as browser:
        browser.open(page)
        browser.wait_for(f'{FRAME.format(1)} === "0"')
        # Skeletons are drawn, in the colours of the ids.
        assert pixels_of(browser, PERSON_COLORS[1]) > 50
        # It plays by itself, and stops at the end.
        browser.evaluate('document.getElementById("speed").value = "16"')
        browser.click('#play')
        browser.wait_for(f'{FRAME.format(0)} === "39" && {FRAME.format(1)} === "39"')
        browser.wait_for('document.getElementById("play").textContent === "Play"')
        # A click into a lane goes to that moment, in both bags.
        browser.click('.lane canvas', 0.52)
        browser.wait_for(f'{FRAME.format(0)} === "20" && {FRAME.format(1)} === "20"')
        people = [browser.evaluate(f'{SCREEN.format(i)}.dataset.people') for i in (0, 1)]
        assert people == ['2', '1']
        assert browser.evaluate(f'{SCREEN.format(0)}.classList.contains("differs")')
        # Buttons, keys, and links to a moment.
        browser.evaluate('document.querySelector("[data-moment=\'3.0\']").click()')
        browser.wait_for(f'{FRAME.format(0)} === "30"')
        assert 'id 1 became 7' in browser.evaluate(f'{SCREEN.format(0)}.textContent')
        browser.click('#back')
        browser.wait_for(f'{FRAME.format(0)} === "29"')
        browser.open(page, '#t=1')
        browser.call('Page.reload')
        browser.wait_for(f'document.querySelector(".screen") && {FRAME.format(0)} === "10"')
        assert 'no answer' in browser.evaluate(f'{SCREEN.format(0)}.textContent')
        picture = cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert len(np.unique(picture @ np.array([1, 2**8, 2**16]))) > 100  # colours
        assert browser.complaints == []
