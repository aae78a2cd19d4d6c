# SPDX-License-Identifier: Apache-2.0
"""Crops for training: labels follow the picture, and pictures get worse as they should."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.training.augment import (
    NO_AUGMENTATION,
    Augmentation,
    distort_picture,
    jitter_box,
    make_crop,
    motion_kernel,
)
from rmpe_ros.training.datasets import LabelledPerson
from rmpe_ros.training.pose_training import PoseExamples

# 19 colours that differ by 100 levels or more in some channel.
COLORS = np.array(
    [(r, g, b) for r in (0, 120, 255) for g in (0, 120, 255) for b in (0, 120, 255)][1:20]
)
SIZE = (224, 160)


def dotted_person(seed: int = 0) -> tuple[np.ndarray, LabelledPerson]:
    """A photo in which every joint is a bright dot."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform((120, 60), (220, 260), (19, 2)).astype(np.float32)
    image = np.zeros((320, 360, 3), np.uint8)
    for x, y in joints:
        cv2.circle(
            image,
            (round(float(x) * 16), round(float(y) * 16)),
            3 * 16,
            (255, 255, 255),
            -1,
            cv2.LINE_AA,
            4,
        )
    box = np.concatenate([joints.min(0) - 5, joints.max(0) + 5]).astype(np.float32)
    return image, LabelledPerson(None, box, joints, np.ones(19, np.float32), 'synthetic')


@pytest.mark.parametrize('seed', range(8))
def test_labels_follow_the_picture_through_every_augmentation(seed):
    image, person = dotted_person(seed)
    options = Augmentation(color=0, blur=0, low_resolution=0, erase=0, half_body=0.3)
    rng = np.random.default_rng(seed)
    crop, placed = make_crop(
        image, person, SIZE, options, rng, proposal=jitter_box(person.box, rng)
    )
    inner = placed.weights > 0
    assert inner.sum() >= 5
    for x, y in placed.joints[inner]:
        patch = cv2.getRectSubPix(crop[:, :, 0], (1, 1), (float(x), float(y)))
        assert patch[0, 0] > 120


def test_flipping_swaps_left_and_right():
    image, person = dotted_person()
    _, flipped = make_crop(
        image, person, SIZE, replace(NO_AUGMENTATION, flip=1), np.random.default_rng(0)
    )
    _, plain = make_crop(image, person, SIZE, NO_AUGMENTATION, np.random.default_rng(0))
    left, right = BODY19.index('left_wrist'), BODY19.index('right_wrist')
    assert flipped.joints[left] == pytest.approx(
        [159 - plain.joints[right][0], plain.joints[right][1]], abs=1e-3
    )


@pytest.mark.parametrize('seed', range(12))
def test_a_photo_cut_within_the_person_shows_and_asks_for_the_rest_only(seed):
    image, person = dotted_person(seed)
    image = image.clip(40)
    options = replace(NO_AUGMENTATION, cut=1, flip=0.5, rotation_probability=0.5, rotation=20)
    crop, placed = make_crop(image, person, SIZE, options, np.random.default_rng(seed), growth=0.6)
    plain, _ = make_crop(
        image, person, SIZE, NO_AUGMENTATION, np.random.default_rng(seed), growth=0.6
    )
    asked = placed.weights > 0
    assert 4 <= asked.sum() < 19
    assert (crop == 0).all(axis=2).mean() > (plain == 0).all(axis=2).mean()
    checked = 0
    for joint, (x, y) in enumerate(placed.joints.round().astype(int)):
        around = crop[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2, 0]
        if around.size == 9 and (around > 0).all() == (around > 0).any():  # not at an edge
            assert asked[joint] == (around[1, 1] > 60)
            checked += 1
    assert checked >= 8


def test_centred_labels_ignore_the_proposal():
    image, person = dotted_person()
    shifted = person.box + np.float32([20, 0, 20, 0])
    _, a = make_crop(
        image, person, SIZE, NO_AUGMENTATION, np.random.default_rng(0), proposal=shifted
    )
    _, b = make_crop(image, person, SIZE, NO_AUGMENTATION, np.random.default_rng(0))
    assert np.array_equal(a.centred, b.centred)
    assert np.array_equal(b.centred, b.joints)
    assert np.abs(a.joints - b.joints).max() > 5


def test_jitter_keeps_the_iou_above_one_half():
    box = np.float32([10, 20, 60, 150])
    moved = np.stack([jitter_box(box, np.random.default_rng(i), spread=0.3) for i in range(200)])
    assert box_iou(box[None], moved).min() > 0.5
    assert len(np.unique(moved, axis=0)) > 150


def colored_person(seed: int) -> tuple[np.ndarray, LabelledPerson]:
    """A photo in which every joint is a dot of a colour of its own, on black."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(30)[:19]
    joints = np.stack([95 + 32 * (cells % 5), 80 + 38 * (cells // 5)], axis=1)
    joints = (joints + rng.uniform(-4, 4, (19, 2))).astype(np.float32)
    image = np.zeros((340, 330, 3), np.uint8)
    for (x, y), color in zip(joints, COLORS, strict=True):
        at = round(float(x) * 16), round(float(y) * 16)
        cv2.circle(image, at, 10 * 16, color.tolist(), -1, cv2.LINE_AA, 4)
    box = np.array([80, 60, 240, 290], np.float32)
    return image, LabelledPerson(None, box, joints, np.ones(19, np.float32), 'dots')


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_each_joints_own_dot_is_found_at_it(flip):
    """Through jitter, rotation, zoom, half bodies and mirrors: in a mirrored crop the left wrist's
    dot lies where the label says that the right wrist is.
    """
    options = Augmentation(
        flip=flip, half_body=0.3, rotation_probability=1.0, upside_down=0.1, cut=0,
        color=0, blur=0, low_resolution=0, erase=0,
    )  # fmt: skip
    named = BODY19.flip_permutation if flip else np.arange(19)
    checked = 0
    for seed in range(16):
        rng = np.random.default_rng(seed)
        image, person = colored_person(seed % 4)
        crop, placed = make_crop(
            image, person, SIZE, options, rng, proposal=jitter_box(person.box, rng)
        )
        for joint in np.flatnonzero(placed.weights):
            x, y = placed.joints[joint]
            seen = cv2.getRectSubPix(crop, (1, 1), (float(x), float(y)))[0, 0].astype(int)
            assert np.abs(seen - COLORS[named[joint]]).max() < 40
            checked += 1
    assert checked > 100


@pytest.mark.parametrize(('flip', 'side'), [(0.0, 'left'), (1.0, 'right')])
def test_a_mirrored_persons_left_is_the_right(flip, side):
    """Where only the left side is labelled, by a teacher, only the right is in a mirrored crop."""
    image, person = dotted_person()
    left = np.array(['left' in name for name in BODY19.keypoints])
    one_sided = replace(person, weights=0.4 * left)
    options = replace(NO_AUGMENTATION, flip=flip)
    _, placed = make_crop(image, one_sided, SIZE, options, np.random.default_rng(0))
    expected = [0.4 * (side in name) for name in BODY19.keypoints]
    for weights in (placed.weights, placed.centred_weights):
        assert weights.tolist() == pytest.approx(expected)


def scenery() -> np.ndarray:
    """A picture as smooth as photos are."""
    noise = np.random.default_rng(1).integers(40, 216, (9, 7, 3), np.uint8)
    return cv2.resize(noise, (80, 112), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize('kind', ['low_resolution', 'blur', 'color', 'erase'])
def test_pictures_get_worse_in_one_way_at_a_time(kind):
    picture = scenery()
    before = picture.copy()
    options = replace(NO_AUGMENTATION, **{kind: 1})
    for seed in range(20):
        worse = distort_picture(picture, options, np.random.default_rng(seed))
        assert worse.shape == picture.shape and worse.dtype == np.uint8
        changed = (worse != picture).any(axis=2).mean()
        assert 0 < changed
        if kind == 'erase':  # three patches of a quarter by a third, at most
            assert changed < 0.25
        if kind in ('low_resolution', 'blur'):
            steps = [np.abs(np.diff(each.astype(float), axis=1)).mean() for each in (worse, before)]
            assert steps[0] < steps[1]
            assert worse.mean() == pytest.approx(before.mean(), abs=2)
    assert np.array_equal(picture, before)
    plain = distort_picture(picture, NO_AUGMENTATION, np.random.default_rng(0))
    assert np.array_equal(plain, picture)


@pytest.mark.parametrize('length', range(3, 8))
def test_motion_blur_runs_along_its_angle(length):
    flat, steep = motion_kernel(length, 0), motion_kernel(length, 90)
    assert np.count_nonzero(flat.sum(axis=1) > 0.05) == 1
    assert flat[length // 2] == pytest.approx(np.full(length, 1 / length))
    for angle in (0, 37, 90):
        assert motion_kernel(length, angle).sum() == pytest.approx(1)
    assert steep.sum(axis=0).max() > 0.7


def test_examples_follow_from_the_generator_alone(tmp_path: Path):
    image, person = colored_person(0)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    people = [replace(person, image=tmp_path / 'a.png')]
    first, again, other = (
        PoseExamples(people, {'*': 1.0}, SIZE)(np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert set(first) == {'crops', 'joints', 'weights', 'centred', 'centred_weights', 'theta'}
    for name, values in first.items():
        assert np.array_equal(values, again[name])
        assert values.dtype == (np.uint8 if name == 'crops' else np.float32)
    assert not np.array_equal(first['crops'], other['crops'])
    narrow = PoseExamples(people, {'*': 1.0}, SIZE, growth=0.15)(np.random.default_rng(3))
    sides = [np.ptp(each['centred'], axis=0) for each in (narrow, first)]
    assert sides[0] == pytest.approx(sides[1] * 1.3 / 1.15, rel=1e-4)


def test_a_broken_photo_is_named(tmp_path: Path):
    (tmp_path / 'broken.jpg').write_bytes(b'no photo')
    _, person = colored_person(0)
    people = [replace(person, image=tmp_path / 'broken.jpg')]
    with pytest.raises(ValueError, match=r'broken\.jpg: not an image'):
        PoseExamples(people, {'*': 1.0}, SIZE)(np.random.default_rng(0))
