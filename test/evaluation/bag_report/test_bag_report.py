# SPDX-License-Identifier: Apache-2.0
"""What a report says of a bag: drops and why, ids, moments, differences, and its bounded size."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rosbags')
sys.path.insert(0, str(Path(__file__).parent))

from made_runs import START, make_run, walkers

from rmpe_ros.cli.main import main
from rmpe_ros.evaluation.bag_report.recorded_run import AFTER, BEFORE, BUSY, UNKNOWN, read_run
from rmpe_ros.evaluation.bag_report.run_lanes import curve
from rmpe_ros.evaluation.bag_report.run_moments import compare_runs, find_moments
from rmpe_ros.evaluation.bag_report.shown_run import choose_frames, fit_pictures
from rmpe_ros.evaluation.page import page
from rmpe_ros.io.bags.reader import Bag


def read(path: Path) -> Any:
    with Bag(path) as bag:
        return read_run(bag, poses_topic=None, image_topic=None)


def data_of(html: str) -> Any:
    return json.loads(re.findall(r'id="data">(.*?)</script>', html, re.S)[0])


def test_drops_and_ids_are_found(tmp_path: Path) -> None:
    run = read(
        make_run(tmp_path / 'bag', frames=20, dropped=frozenset({0, 1, 9, 19}), renumbered=12)
    )
    assert run.drops == {BEFORE: 2, UNKNOWN: 1, AFTER: 1}
    assert [(f.number, f.changes) for f in run.frames if f.changes] == [(12, [(1, 7)])]
    assert run.clock_problem is None
    kinds = {moment.kind for moment in find_moments(run)}
    assert kinds == {'slowest', 'no answer for long', 'least sure', 'another id'}


def test_a_busy_node_is_told_from_a_lost_image(tmp_path: Path) -> None:
    # At 100 Hz every image comes while the one before is still in work (45 ms).
    run = read(make_run(tmp_path / 'bag', frames=20, rate=100, dropped=frozenset({5, 6})))
    assert run.drops == {BUSY: 2}


def test_two_runs_are_compared_by_stamp(tmp_path: Path) -> None:
    a = read(make_run(tmp_path / 'a', frames=10))
    b = read(
        make_run(tmp_path / 'b', frames=10, shift=3, missing=frozenset({4}), dropped=frozenset({7}))
    )
    differences = compare_runs(a, b)
    assert len(differences) == 9
    odd = differences[START + 400_000_000]
    assert odd.marked and odd.people == (2, 1) and odd.text() == '2 → 1 people'
    assert all(each.shift == pytest.approx(3, abs=0.01) for each in differences.values())
    assert differences[START].likeness > odd.likeness


def test_the_page_holds_everything_and_loads_nothing(tmp_path: Path, capsys: Any) -> None:
    bag = make_run(tmp_path / 'bag', frames=12, dropped=frozenset({5}))
    out = tmp_path / 'report.html'
    assert main(['report', str(bag), '--out', str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ['bag: 12 frames, 11 with poses, 12 of them in the player', f'wrote {out}']
    text = out.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', text) and 'http' not in text
    run = data_of(text)['runs'][0]
    assert len(run['pictures']) == len(run['frames']) == 12
    assert [len(frame['people']) for frame in run['frames']] == [2] * 5 + [0] + [2] * 6
    joints = run['frames'][0]['people'][0][3]
    expected = walkers(0, (320, 240)).keypoints[0]
    np.testing.assert_allclose(np.array(joints)[:, :2], expected, atol=0.051)
    assert {lane['title'] for lane in data_of(text)['lanes']} == {
        'Latency', 'Drops and ids', 'People', 'Score, mean of the people',
    }  # fmt: skip


def test_long_recordings_are_thinned_and_it_is_said(tmp_path: Path) -> None:
    bag = make_run(tmp_path / 'bag', frames=450, dropped=frozenset(range(200, 210)))
    out = tmp_path / 'report.html'
    assert main(['report', str(bag), '--out', str(out), '--max-frames', '60']) == 0
    text = out.read_text()
    data = data_of(text)
    assert len(data['runs'][0]['frames']) <= 60
    assert 200 in [frame['number'] for frame in data['runs'][0]['frames']]  # worth a look
    assert re.search(r'the player shows \d+ of 450 frames', text)
    latency = next(lane for lane in data['lanes'] if lane['title'] == 'Latency')
    assert {len(series['values']) for series in latency['series']} == {400}


def test_pictures_are_left_out_until_they_fit(tmp_path: Path) -> None:
    frames = choose_frames(read(make_run(tmp_path / 'bag', frames=20)))
    pictures = {frame.stamp: bytes(1000) for frame in frames}
    assert len(fit_pictures(frames, pictures, 20_000)) == 20
    assert len(fit_pictures(frames, pictures, 7_000)) == 7
    assert len(fit_pictures(frames, pictures, 0)) == 1  # the first one, whatever it needs


def test_a_bag_without_images_and_one_without_poses(tmp_path: Path, capsys: Any) -> None:
    bag = make_run(tmp_path / 'bag', frames=5, images=False)
    out = tmp_path / 'report.html'
    assert main(['report', str(bag), '--out', str(out)]) == 0
    assert 'bag has no images' in out.read_text()
    assert data_of(out.read_text())['runs'][0]['frames'][0]['picture'] is None
    empty = make_run(tmp_path / 'empty', frames=5, dropped=frozenset(range(5)))
    assert main(['report', str(empty), '--out', str(out)]) == 2
    assert 'rmpe report: error: ' in (said := capsys.readouterr().err) and 'has no poses' in said
    assert main(['report', str(bag), str(bag), str(bag)]) == 2


def test_labels_bring_the_accuracy(tmp_path: Path) -> None:
    pytest.importorskip('pycocotools')
    bag = make_run(tmp_path / 'bag', frames=4, missing=frozenset({2}))
    images, people = [], []
    for number in range(4):
        images.append({'id': number, 'file_name': f'{number}.jpg', 'width': 320, 'height': 240})
        poses = walkers(number, (320, 240))
        for points, box in zip(poses.keypoints, poses.boxes.astype(float), strict=True):
            x1, y1, x2, y2 = box.tolist()
            joints = [v for x, y in points.astype(float).tolist() for v in (x, y, 2)]
            people.append(
                {'id': len(people) + 1, 'image_id': number, 'category_id': 1, 'iscrowd': 0,
                 'bbox': [x1, y1, x2 - x1, y2 - y1], 'area': (x2 - x1) * (y2 - y1),
                 'keypoints': joints, 'num_keypoints': 17}
            )  # fmt: skip
    labels = tmp_path / 'labels.json'
    category = {'id': 1, 'name': 'person'}
    labels.write_text(
        json.dumps({'images': images, 'annotations': people, 'categories': [category]})
    )
    out = tmp_path / 'report.html'
    options = ['--annotations', str(labels), '--start', str(START / 1e9), '--rate', '10']
    assert main(['report', str(bag), '--out', str(out), *options]) == 0
    data = data_of(out.read_text())
    lane = next(lane for lane in data['lanes'] if lane['title'].startswith('Accuracy'))
    assert lane['series'][0]['values'] == pytest.approx([1, 1, 0.5, 1], abs=1e-3)
    assert 'OKS AP' in out.read_text()


def test_curves_of_many_values_keep_their_percentiles() -> None:
    values = [(i / 100, float(i % 10)) for i in range(4000)]
    series = curve('x', 'red', values, 50, upper=100)
    assert len(series['times']) == 400
    assert set(series['values']) == {4.5} and set(series['upper']) == {9}


def test_texts_cannot_break_out_of_the_page() -> None:
    text = page('<b>', [], data={'name': '</script><script>alert(1)', 'number': float('nan')})
    assert '<h1>&lt;b&gt;</h1>' in text
    assert text.count('</script>') == 2
    assert data_of(text) == {'name': '</script><script>alert(1)', 'number': None}
