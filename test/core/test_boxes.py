# SPDX-License-Identifier: Apache-2.0
"""Boxes and crops: worked values, inverses, and where a dot in a picture ends up."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmpe_ros.core.boxes import (
    PeopleCrops,
    box_iou,
    box_nms,
    boxes_with_area,
    clip_boxes,
    crop_people,
    crop_transforms,
    grow_boxes,
    invert_transforms,
    map_covariances,
    map_points,
)


def test_iou_worked_values() -> None:
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 9], [np.nan, 0, 1, 1]])
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    expected = [[1, 50 / 150, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(box_iou(a, b), expected)
    assert box_iou(np.zeros((0, 4)), b).shape == (0, 3)


def test_iou_of_two_points_is_zero() -> None:
    point = np.array([[3.0, 3, 3, 3]])
    assert box_iou(point, point)[0, 0] == 0


def test_nms_keeps_the_best_of_each_group() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10], [0, 0, 10, 9]], float)
    scores = np.array([0.5, 0.9, 0.7, 0.8])
    assert box_nms(boxes, scores, 0.5).tolist() == [1, 2]
    # IoU of 0 and 3 is 0.9, of the others with each other at most 9/11.
    assert box_nms(boxes, scores, 0.85).tolist() == [1, 3, 2]
    assert box_nms(boxes, scores, 1.0).tolist() == [1, 3, 2, 0]


def test_nms_of_a_chain_is_greedy() -> None:
    """The middle one removes nothing once it has been removed itself."""
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], float)
    assert box_nms(boxes, np.array([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]


def test_nms_of_odd_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [np.nan, 0, 1, 1], [5, 5, 5, 5], [0, 0, np.inf, 5]])
    assert box_nms(boxes, np.array([0.5, 0.9, 0.4, 0.8]), 0.5).tolist() == [0, 2]
    assert box_nms(boxes[:1], np.array([np.nan]), 0.5).tolist() == []
    assert box_nms(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []
    with pytest.raises(ValueError, match='4 boxes need scores'):
        box_nms(boxes, np.zeros(3), 0.5)


def test_shape_of_boxes_is_checked() -> None:
    with pytest.raises(ValueError, match=r'\(N, 4\)'):
        grow_boxes(np.zeros(4))


def test_clip_and_area() -> None:
    boxes = np.array([[-5, -5, 5, 5], [90, 10, 120, 90], [200, 0, 300, 10], [np.nan, 0, 1, 1]])
    clipped = clip_boxes(boxes, (50, 100))
    np.testing.assert_array_equal(clipped[:2], [[0, 0, 5, 5], [90, 10, 100, 50]])
    assert boxes_with_area(clipped).tolist() == [True, True, False, False]


def test_grow_adds_15_percent_on_each_side() -> None:
    grown = grow_boxes(np.array([[100, 100, 200, 300]]), 0.3)
    np.testing.assert_allclose(grown, [[85, 70, 215, 330]])


def test_whole_image_at_its_own_size_is_the_identity() -> None:
    transforms = crop_transforms(np.array([[0, 0, 64, 48]]), (48, 64))
    np.testing.assert_allclose(transforms[0], [[1, 0, 0], [0, 1, 0]])
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_people(image, transforms, (48, 64))[0], image)


def test_short_side_is_enlarged_about_the_centre() -> None:
    """A 10 x 40 box in a crop of 32 x 64: scale 40 / 64, so 20 pixels wide about x = 25."""
    (transform,) = crop_transforms(np.array([[20, 0, 30, 40]]), (64, 32))
    scale = 40 / 64
    corners = np.array([[[-0.5, -0.5], [31.5, 63.5]]])
    np.testing.assert_allclose(
        map_points(corners, transform[None])[0] + 0.5, [[15, 0], [35, 40]], atol=1e-9
    )
    np.testing.assert_allclose(transform[:, :2], [[scale, 0], [0, scale]])


finite_boxes = st.tuples(
    st.floats(-500, 500), st.floats(-500, 500), st.floats(0.5, 900), st.floats(0.5, 900)
)


@given(finite_boxes, st.integers(1, 300), st.integers(1, 300))
def test_crop_holds_the_box_in_its_middle(box: tuple, height: int, width: int) -> None:
    x, y, box_width, box_height = box
    boxes = np.array([[x, y, x + box_width, y + box_height]])
    transforms = crop_transforms(boxes, (height, width))
    corners = np.array([[[-0.5, -0.5], [width - 0.5, height - 0.5]]])
    low, high = map_points(corners, transforms)[0] + 0.5
    np.testing.assert_allclose((low + high) / 2, [x + box_width / 2, y + box_height / 2], atol=1e-6)
    assert (low <= boxes[0, :2] + 1e-6).all()
    assert (high >= boxes[0, 2:] - 1e-6).all()


@given(finite_boxes, st.integers(1, 300), st.integers(1, 300))
def test_inverse_brings_points_back(box: tuple, height: int, width: int) -> None:
    x, y, box_width, box_height = box
    transforms = crop_transforms(np.array([[x, y, x + box_width, y + box_height]]), (height, width))
    points = np.array([[[0, 0], [width, 0.5], [-3, height]]], float)
    back = map_points(map_points(points, transforms), invert_transforms(transforms))
    np.testing.assert_allclose(back, points, atol=1e-6)


def test_singular_maps_have_no_inverse() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        invert_transforms(np.zeros((1, 2, 3)))


@pytest.mark.parametrize('box', [[0, 0, 0, 0], [5, 5, 3, 9], [0, 0, np.nan, 1], [0, 0, np.inf, 1]])
def test_boxes_that_cannot_be_cropped(box: list[float]) -> None:
    with pytest.raises(ValueError, match='cannot be cropped'):
        crop_transforms(np.array([box]), (64, 48))


def test_nobody() -> None:
    transforms = crop_transforms(np.zeros((0, 4)), (64, 48))
    assert transforms.shape == (0, 2, 3)
    image = np.zeros((10, 10, 3), np.uint8)
    assert crop_people(image, transforms, (64, 48)).shape == (0, 64, 48, 3)
    assert map_points(np.zeros((0, 19, 2)), transforms).shape == (0, 19, 2)


def centroid(image: np.ndarray) -> np.ndarray:
    """Brightness-weighted mean position (x, y) in pixel-centre coordinates."""
    weights = image[..., 0].astype(float)
    y, x = np.indices(weights.shape)
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


@pytest.mark.parametrize(
    'box',
    [
        [100, 80, 160, 180],  # enlarged
        [20.3, 10.7, 290.1, 230.4],  # shrunk a little
        [-400, -300, 700, 800],  # shrunk more than tenfold, far beyond the image
        [60, 40, 900, 1500],
    ],
)
def test_a_dot_lands_where_the_map_says(box: list[float]) -> None:
    """Within a tenth of a pixel of the crop, however it is scaled."""
    image = np.zeros((240, 320, 3), np.uint8)
    # A soft dot, larger where the crop shrinks the image, so that sampling can see it.
    transforms = crop_transforms(np.array([box]), (128, 96))
    radius = 6 * max(1.0, transforms[0, 0, 0])
    y, x = np.indices(image.shape[:2])
    dot = np.exp(-((x - 130.25) ** 2 + (y - 125.75) ** 2) / (radius**2 / 4))
    image[:] = np.rint(250 * dot)[..., None]
    (crop,) = crop_people(image, transforms, (128, 96))
    mapped = map_points(centroid(crop)[None, None], transforms)[0, 0]
    np.testing.assert_allclose(mapped, centroid(image), atol=0.1 * max(1, transforms[0, 0, 0]))


def test_rotated_crop() -> None:
    """A general affine map: a quarter turn moves every pixel where map_points says."""
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    quarter = np.array([[[0, 1, 0], [-1, 0, 19]]], float)
    (crop,) = crop_people(image, quarter, (20, 20))
    for x, y in ((0, 0), (3, 7), (19, 2)):
        source_x, source_y = map_points(np.array([[[x, y]]]), quarter)[0, 0].astype(int)
        np.testing.assert_array_equal(crop[y, x], image[source_y, source_x])


def test_outside_of_the_image_is_black() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    boxes = np.array([[-20, 0, 20, 40], [100, 100, 140, 140], [-90, -90, -50, -50]])
    crops = crop_people(image, crop_transforms(boxes, (40, 40)), (40, 40))
    assert (crops[0, :20, 20:] == 200).all()
    assert (crops[0, :, :20] == 0).all()
    assert (crops[0, 20:] == 0).all()
    assert (crops[1:] == 0).all()


@pytest.mark.parametrize('shrink', [2, 3, 4, 8])
def test_whole_factors_average_blocks(shrink: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 96, 3), dtype=np.uint8)
    size = (48 // shrink, 96 // shrink)
    (crop,) = crop_people(image, crop_transforms(np.array([[0, 0, 96, 48]]), size), size)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(crop, expected)


def test_crops_cut_later_are_the_same_bits() -> None:
    random = np.random.default_rng(0)
    images = [
        random.integers(0, 255, (*size, 3), dtype=np.uint8) for size in ((90, 70), (500, 400))
    ]
    boxes = np.array([[3.2, 5, 40, 80.5], [-20, 10, 90, 60]])
    transforms = [crop_transforms(boxes * scale, (64, 48)) for scale in (1, 5)]
    expected = np.concatenate(
        [crop_people(*each, (64, 48)) for each in zip(images, transforms, strict=True)]
    )
    crops = PeopleCrops([images[0]] * 2 + [images[1]] * 2, np.concatenate(transforms), (64, 48))
    assert (crops.shape, crops.dtype, len(crops)) == ((4, 64, 48, 3), np.uint8, 4)
    np.testing.assert_array_equal(np.asarray(crops), expected)
    assert crops[1:3].shape == (2, 64, 48, 3)
    np.testing.assert_array_equal(np.asarray(crops[1:3]), expected[1:3])
    np.testing.assert_array_equal(np.asarray(crops[3:9], np.float32), expected[3:])
    assert np.asarray(PeopleCrops([], np.zeros((0, 2, 3)), (64, 48))).shape == (0, 64, 48, 3)


def test_shrinking_does_not_alias() -> None:
    """Stripes finer than the crop's pixels become even grey, not coarser stripes."""
    image = np.zeros((600, 600, 3), np.uint8)
    image[:, ::2] = 255
    boxes = np.array([[3.3, 3.3, 593.3, 593.3]])
    (crop,) = crop_people(image, crop_transforms(boxes, (100, 100)), (100, 100))
    inside = crop[2:-2, 2:-2].astype(float)
    assert abs(inside.mean() - 127.5) < 3
    # Blocks of five pixels hold two or three bright ones; sampling alone would leave 0 and 255.
    assert inside.std() < 16


def test_covariances_follow_the_points():
    rng = np.random.default_rng(0)
    transforms = rng.normal(size=(2, 2, 3))
    samples = rng.multivariate_normal([3, -2], [[4, 1.5], [1.5, 2]], 50000)
    told = np.tile([4, 1.5, 2], (2, 1, 1))
    mapped = map_points(np.tile(samples, (2, 1, 1)), transforms)
    for found, points in zip(map_covariances(told, transforms), mapped, strict=True):
        np.testing.assert_allclose(found[0], np.cov(points.T).ravel()[[0, 1, 3]], rtol=0.06)
