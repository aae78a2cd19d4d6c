# SPDX-License-Identifier: Apache-2.0
"""What a Fast DDS profile says of shared memory."""

from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from rmpe_ros.nodes.lifecycle import shared_memory
from rmpe_ros.nodes.lifecycle.shared_memory import (
    PROFILE_VARIABLES,
    USUAL_SEGMENT,
    advice_on_lost_images,
    segment_bytes,
)

PROFILE = Path(__file__).resolve().parents[3] / 'config' / 'fastdds_shared_memory.xml'


@pytest.mark.parametrize('variable', PROFILE_VARIABLES)
def test_the_segment_is_read_from_the_profile(variable, tmp_path):
    copy = tmp_path / 'profile.xml'
    copy.write_text(PROFILE.read_text().replace('33554432', '104857600'))
    assert segment_bytes({variable: str(copy)}) == 100 << 20


def test_ours_is_the_usual_one_and_so_is_none(tmp_path):
    assert segment_bytes({'FASTDDS_DEFAULT_PROFILES_FILE': str(PROFILE)}) == USUAL_SEGMENT
    odd = tmp_path / 'odd.xml'
    for text in ('', 'no XML', '<dds/>', '<dds><segment_size>large</segment_size></dds>'):
        odd.write_text(text)
        assert segment_bytes({'FASTDDS_DEFAULT_PROFILES_FILE': str(odd)}) == USUAL_SEGMENT
    assert segment_bytes({}) == USUAL_SEGMENT
    assert segment_bytes({'FASTDDS_DEFAULT_PROFILES_FILE': str(tmp_path / 'none')}) == USUAL_SEGMENT


@pytest.mark.parametrize(
    ('distribution', 'variable'),
    [('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'), ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE')],
)
def test_lost_images_are_explained_with_a_profile_that_is_there(
    distribution, variable, monkeypatch
):
    monkeypatch.setattr(shared_memory, 'is_fast_dds', lambda: True)
    advice = advice_on_lost_images({'ROS_DISTRO': distribution})
    name, _, file = advice.partition('without ')[2].partition(',')[0].partition('=')
    assert name == variable
    assert segment_bytes({variable: file}) == USUAL_SEGMENT
    assert Path(file).read_text() == PROFILE.read_text()


def test_other_middlewares_have_no_such_profile(monkeypatch):
    monkeypatch.setattr(shared_memory, 'is_fast_dds', lambda: False)
    assert advice_on_lost_images() == ''
