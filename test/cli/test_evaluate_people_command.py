# SPDX-License-Identifier: Apache-2.0
"""`rmpe evaluate-people`: tables and JSON, and how good people in space are."""

import json

import pytest

from rmpe_ros.cli.main import main


def test_the_goals_are_kept(tmp_path, capsys):
    """A short film of people who walk; docs/use_the_poses.md has the numbers of all scenes."""
    file = tmp_path / 'numbers.json'
    arguments = ['--scenes', 'walking', '--cameras', 'wide', '--modes', 'rgbd', 'rgb']
    command = ['evaluate-people', *arguments, '--seconds', '8', '--json', str(file)]
    assert main(command) == 0
    told = capsys.readouterr()
    assert 'filming: walking, wide' in told.err
    assert told.out.splitlines()[0].split()[:3] == ['mode', 'place', 'm']
    result = json.loads(file.read_text())
    with_depth, without = result['modes']['rgbd'], result['modes']['rgb']
    assert with_depth['position_rmse_m'] < 1.1 * with_depth['position_allowed_m']
    assert with_depth['velocity_rmse'] < 0.19
    assert without['position_percent'] < 8
    # Both are errors of the same people, seen with their feet and without.
    assert without['position_percent_feet'] < 8 < 15
    between = sorted(without[f'position_percent{part}'] for part in ('_feet', '', '_no_feet'))
    assert between[1] == without['position_percent']
    for summary in (with_depth, without):
        assert 0.4 < summary['nees'] < 2
        assert summary['id_switches'] <= 1
        assert summary['lost_percent'] < 5
        assert summary['undecided_percent'] < 5
        assert summary['minutes'] == pytest.approx(8 / 60)
    assert list(result['scenes']) == ['rgbd: walking', 'rgb: walking']


def test_headings_follow_people_who_turn(tmp_path):
    """A short film of people who pass each other and turn round, whose headings are told as sure
    as they are.
    """
    file = tmp_path / 'numbers.json'
    arguments = ['--scenes', 'crossing', '--cameras', 'wide', '--modes', 'rgbd', 'rgb']
    command = ['evaluate-people', *arguments, '--seconds', '8', '--json', str(file)]
    assert main(command) == 0
    for summary in json.loads(file.read_text())['modes'].values():
        assert summary['heading_rmse_deg'] < 17
        assert 0.4 < summary['nees_heading'] < 1.4


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    numbers = []
    for seed in (1, 1, 2):
        file = tmp_path / 'numbers.json'
        arguments = ['--scenes', 'sitting', '--cameras', 'pinhole', '--modes', 'rgb']
        command = ['evaluate-people', *arguments, '--seconds', '1', '--seed', str(seed)]
        assert main([*command, '--by-scene', '--json', str(file)]) == 0
        numbers.append(file.read_text())
    assert numbers[0] == numbers[1] != numbers[2]


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        (['--modes', 'sonar'], "--modes has no 'sonar'; there are depth, ground, size, rgb, rgbd"),
        (['--scenes', 'flying'], "--scenes has no 'flying'; there are walking, crossing"),
        (['--seconds', '0.1'], '--seconds must be from 1 to 100000, got 0.1'),
    ],
)
def test_what_cannot_be_is_refused(arguments, problem, capsys):
    assert main(['evaluate-people', *arguments]) == 2
    assert problem in capsys.readouterr().err


def test_the_cost_of_a_crowd_is_told_by_step(capsys):
    assert main(['evaluate-people', '--cost', '3']) == 0
    told = capsys.readouterr().out
    assert told.startswith('3 people, CPU time an image: sights ')
    assert 'ms, following ' in told
