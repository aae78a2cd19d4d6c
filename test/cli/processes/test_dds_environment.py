# SPDX-License-Identifier: Apache-2.0
"""Domain ids that nobody uses, and an environment that leaves the user's settings alone."""

import os
import socket
from pathlib import Path

import pytest

from rmpe_ros.cli.processes import dds_environment
from rmpe_ros.cli.processes.dds_environment import (
    choose_domain_id,
    has_shared_memory,
    local_environment,
)

ROOM = pytest.mark.skipif(not has_shared_memory(1), reason='/dev/shm is too small here')


def occupy(domain_id: int) -> socket.socket:
    """Take the port that participant 0 of this domain would take."""
    occupied = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    occupied.bind(('', 7400 + 250 * domain_id + 10))
    return occupied


def test_a_domain_in_use_is_not_chosen(monkeypatch):
    first = choose_domain_id()
    monkeypatch.setattr(dds_environment, '_DOMAIN_IDS', range(first, first + 1))
    with occupy(first), pytest.raises(OSError, match='set ROS_DOMAIN_ID'):
        choose_domain_id()
    assert choose_domain_id() == first


def test_the_users_settings_stay():
    given = {
        'ROS_DOMAIN_ID': '42',
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET',
        'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp',
        'FASTRTPS_DEFAULT_PROFILES_FILE': '/mine.xml',
        'HOME': '/home/me',
    }
    made = local_environment(given, processes=1)
    assert made.items() >= given.items()
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' not in made


@ROOM
@pytest.mark.parametrize(
    ('distribution', 'variable'),
    [
        ('humble', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
        ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
        ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE'),
        ('', 'FASTDDS_DEFAULT_PROFILES_FILE'),
    ],
)
def test_each_distribution_gets_its_variable(distribution, variable):
    made = local_environment({'ROS_DISTRO': distribution}, processes=1)
    profiles = {name: value for name, value in made.items() if name.startswith('FAST')}
    assert list(profiles) == [variable]
    assert Path(profiles[variable]).read_text().startswith('<?xml')
    assert ('ROS_LOCALHOST_ONLY' in made) == (distribution == 'humble')


def test_without_room_there_is_no_profile():
    made = local_environment({}, processes=10**6)
    assert not [name for name in made if name.startswith('FAST')]


def test_packages_come_first_on_the_path():
    made = local_environment({'PYTHONPATH': '/b'}, processes=1, packages=Path('/a'))
    assert made['PYTHONPATH'] == f'/a{os.pathsep}/b'
    assert local_environment({}, processes=1, packages=Path('/a'))['PYTHONPATH'] == '/a'
