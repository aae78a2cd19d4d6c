# SPDX-License-Identifier: Apache-2.0
"""The photo that imported models are tried on: who finds people is told from who does not."""

from pathlib import Path

from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.importing.photo_check import try_on_photo, try_pose_on_photo
from rmpe_ros.models import find_model


def test_networks_that_know_people_find_the_person() -> None:
    said = try_on_photo(find_model('detector').read_bytes())
    assert said.startswith('on a photo of a person it finds her, with a score of 0.')
    for name in ('lite', 'standard'):
        said = try_pose_on_photo(find_model(name).read_bytes())
        assert said == 'on a photo of a person 7 of 7 joints are where she has them'


def test_networks_that_do_not_are_told(
    detector_model: Path, pose_model: Path, make_pose_model
) -> None:
    assert try_on_photo(detector_model.read_bytes()).startswith('warning: on a photo of a person')
    assert try_pose_on_photo(pose_model.read_bytes()).startswith('warning: on a photo of a person')
    strange = Skeleton('stick', ('top', 'bottom'), ((0, 1),), (), (0.1, 0.1))
    said = try_pose_on_photo(make_pose_model(strange).read_bytes())
    assert said.startswith('not tried on a photo')
