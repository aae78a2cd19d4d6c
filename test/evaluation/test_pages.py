# SPDX-License-Identifier: Apache-2.0
"""The pages that commands end with: one template, numbers first, pictures with a legend."""

import re
from pathlib import Path

import pytest

from rmpe_ros.cli.ablate_command import _page as ablation_page
from rmpe_ros.cli.main import main
from rmpe_ros.evaluation.page.charts import bars, lines


def widths(svg: str) -> list[float]:
    return [float(each) for each in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]


def test_bars_are_as_long_as_their_values_and_have_a_legend() -> None:
    svg = bars([('one <a>', {'detect': 10, 'pose': 30}), ('two', {'detect': 20, 'pose': 0})], 'ms')
    one, two, three, four = widths(svg)
    assert two == pytest.approx(3 * one, rel=0.01) and three == pytest.approx(2 * one, rel=0.01)
    assert four == 0
    assert 'one &lt;a&gt;' in svg and '40.0 ms' in svg
    assert svg.count('class="key"') == 2
    assert 'legend' not in bars([('one', {'only': 1})], 'ms')
    assert bars([], 'ms') == ''


def test_curves_are_to_scale_have_a_legend_and_point_out_a_step() -> None:
    svg = lines({'a<b': [(0, 1.0), (10, 3.0), (40, 2.0)], 'c': [(20, 1.0)]}, 'step', mark=10)
    first, _ = re.findall(r'<polyline points="([^"]*)"', svg)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, each.split(',')) for each in first.split())
    assert (x1 - x0) * 3 == pytest.approx(x2 - x1, rel=0.01)
    assert (y0 - y1) == pytest.approx(2 * (y2 - y1), rel=0.01) and y1 < y2 < y0
    assert f'<path d="M{x1:.1f} ' in svg and '>step 40<' in svg and '>10<' in svg
    assert svg.count('class="key"') == 2 and 'a&lt;b 3 at 10' in svg
    assert svg.count('<circle') == 4
    long = lines({'loss': [(step, 1 / (step + 1)) for step in range(1000)]}, 'step')
    assert '<circle' not in long and 'legend' not in long
    assert 'nan' not in lines({'flat': [(5, 2.0)]}, 'step', mark=5)
    assert lines({'none': []}, 'step') == ''


def test_benchmark_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / 'speed.html'
    assert main(['benchmark', '--nms', '--repeat', '2', '--html', str(out)]) == 0
    text = out.read_text()
    assert text.count('<rect') == 4 and '30 poses x 19 joints' in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text) and '<script' not in text
    assert f'wrote {out}' in capsys.readouterr().out


def test_the_ablation_s_page_has_bars_of_the_first_column() -> None:
    table = [
        ['', 'mAP', 'AP', 'Δ mAP', 'paper mAP', 'Δ paper'],
        ['full', '70.0', '60.0', '+0.0', '80.8', '+0.0'],
        ['without SSTN', '35.0', '30.0', '-35.0', '–', '–'],
    ]
    full, without = widths(ablation_page(table, ['a note']))
    assert full == pytest.approx(2 * without, rel=0.01)
    assert 'a note' in ablation_page(table, ['a note'])
