# SPDX-License-Identifier: Apache-2.0
"""Buckets, padding and input ranges of engines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmpe_ros.engines import EngineError, TensorInfo
from rmpe_ros.engines.profiles import (
    BUCKETS,
    Piece,
    choose_bucket,
    find_profile,
    plan_profiles,
    split_batch,
)

UINT8 = np.dtype(np.uint8)
DETECTOR = {'image': TensorInfo((1, 'height', 'width', 3), UINT8)}
SIZES = {'rmpe.long_side': '320', 'rmpe.size_step': '32'}


@pytest.mark.parametrize(
    ('rows', 'bucket'), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 16), (31, 32), (32, 32)]
)
def test_the_smallest_bucket_that_holds_them(rows: int, bucket: int) -> None:
    assert choose_bucket(rows) == bucket


@pytest.mark.parametrize('rows', [0, -1, 33])
def test_no_bucket(rows: int) -> None:
    with pytest.raises(ValueError, match=f'batch of {rows} fits no bucket: 1 to 32'):
        choose_bucket(rows)


def test_large_batches_are_cut() -> None:
    assert split_batch(70) == (Piece(0, 32, 32), Piece(32, 64, 32), Piece(64, 70, 8))
    assert split_batch(0) == ()


@given(st.integers(0, 300), st.sampled_from([BUCKETS, (1,), (1, 3), (1, 2, 4, 8)]))
def test_pieces_cover_every_row_once(count: int, buckets: tuple[int, ...]) -> None:
    pieces = split_batch(count, buckets)
    assert [row for piece in pieces for row in range(piece.start, piece.stop)] == [*range(count)]
    for piece in pieces:
        assert piece.bucket in buckets
        assert 0 < piece.stop - piece.start <= piece.bucket
    assert sum(piece.bucket for piece in pieces) < max(2 * count, 1) + buckets[-1]


def test_a_pose_model_has_one_profile() -> None:
    (profile,) = plan_profiles('pose', {'crops': TensorInfo(('people', 224, 160, 3), UINT8)}, {})
    assert profile['crops'].minimum == (1, 224, 160, 3)
    assert profile['crops'].maximum == (32, 224, 160, 3)
    assert profile['crops'].holds((7, 224, 160, 3))
    assert not profile['crops'].holds((33, 224, 160, 3))
    assert not profile['crops'].holds((7, 224, 160))


def test_a_detector_has_landscape_and_portrait() -> None:
    profiles = plan_profiles('detector', DETECTOR, SIZES)
    shapes = {
        (256, 320): 0,
        (320, 320): 0,
        (64, 320): 0,
        (320, 192): 1,
        (32, 320): None,
        (256, 256): None,
        (320, 352): None,
    }
    found = {size: find_profile(profiles, {'image': (1, *size, 3)}) for size in shapes}
    assert found == shapes


def test_fixed_shapes_stay_fixed() -> None:
    (profile,) = plan_profiles('fixed', {'image': TensorInfo((1, 96, 128, 3), UINT8)}, {})
    assert profile['image'].minimum == profile['image'].maximum == (1, 96, 128, 3)


@pytest.mark.parametrize(
    ('inputs', 'metadata', 'message'),
    [
        (DETECTOR, {}, 'rmpe.long_side'),
        (DETECTOR, {'rmpe.long_side': 'wide'}, 'unreadable metadata'),
        ({'words': TensorInfo((1, 'length'), UINT8)}, SIZES, "input 'words' is uint8 [1, length]"),
        ({'x': TensorInfo((1, 3, 'h', 'w'), UINT8)}, SIZES, 'only the batch, or height and width'),
    ],
)
def test_free_sides_that_nothing_bounds(inputs: dict, metadata: dict, message: str) -> None:
    with pytest.raises(EngineError) as caught:
        plan_profiles('model.onnx', inputs, metadata)
    assert 'model.onnx' in str(caught.value)
    assert message in str(caught.value)
