# SPDX-License-Identifier: Apache-2.0
"""The output `covariance`: moments of heatmaps, through θ, added to any model with heatmaps."""

import json
from importlib.util import find_spec

import numpy as np
import onnx
import pytest

torch = pytest.importorskip('torch')
if find_spec('onnxsim') is None:  # importing it takes a second, in every worker
    pytest.skip('needs onnxsim', allow_module_level=True)

from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.engines import open_engine
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.models import ModelError, find_model
from rmpe_ros.networks.decode import decode_gaussians, heatmap_moments
from rmpe_ros.networks.joint_covariance import (
    METADATA,
    MOMENTS,
    CovarianceScale,
    JointCovariance,
    add_covariance,
)
from rmpe_ros.networks.stn import map_points
from rmpe_ros.pipeline import PosePipeline

SIZE = (256, 192)
ROWS, COLUMNS = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing='ij')


def gaussian_map(x, y, along, across, angle):
    """A hill of height 1 with standard deviations in cells, its long axis turned by `angle`."""
    dx, dy = COLUMNS - x, ROWS - y
    u = np.cos(angle) * dx + np.sin(angle) * dy
    v = -np.sin(angle) * dx + np.cos(angle) * dy
    return torch.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))


def covariance_matrix(xx, xy, yy):
    return np.array([[xx, xy], [xy, yy]])


def test_moments_are_the_covariance_of_the_hill():
    # The square of a Gaussian is one of half the variance.
    maps = gaussian_map(20.3, 30.8, 4.0, 2.0, 0.5)[None, None]
    points = torch.tensor([[[20.3, 30.8]]])
    found = covariance_matrix(*heatmap_moments(maps, points)[0, 0].tolist())
    values, vectors = np.linalg.eigh(found)
    np.testing.assert_allclose(values, [2.0, 8.0], rtol=0.02)
    assert abs(vectors[:, 1] @ [np.cos(0.5), np.sin(0.5)]) == pytest.approx(1, abs=1e-3)


def test_moments_are_about_the_point_and_ignore_what_is_negative():
    maps = gaussian_map(20, 30, 2.0, 2.0, 0)[None, None]
    aside = heatmap_moments(maps, torch.tensor([[[23.0, 30.0]]]))[0, 0]
    assert aside.tolist() == pytest.approx([2 + 9, 0, 2], abs=0.05)
    lowered = torch.where(maps > 0.01, maps, -0.3)
    point = torch.tensor([[[20.0, 30.0]]])
    np.testing.assert_allclose(
        heatmap_moments(lowered, point), heatmap_moments(maps, point), rtol=0.02, atol=1e-6
    )


@pytest.mark.parametrize('crop', [SIZE, (320, 256)])
def test_the_transformer_turns_covariances_as_it_turns_points(crop):
    """Samples of the ellipse in the transformed crop, mapped as points are."""
    maps = gaussian_map(24, 32, 4.0, 1.5, 0.3).expand(1, 19, 64, 48)
    theta = torch.tensor([[[0.7, 0.25, 0.1], [-0.2, 0.9, 0.05]]])
    points, _ = decode_gaussians(maps)
    keypoints = torch.cat([map_points(points, theta, SIZE, crop), torch.ones(1, 19, 1)], dim=2)
    part = JointCovariance(BODY19, crop, MOMENTS, gaussian=True)
    found = covariance_matrix(*part(maps, keypoints, theta)[0, 5].tolist())
    inside = covariance_matrix(*heatmap_moments(maps, points / 4)[0, 5].tolist()) * 4**2
    samples = np.random.default_rng(0).multivariate_normal(points[0, 5].numpy(), inside, 40000)
    mapped = map_points(torch.tensor(samples[None], dtype=torch.float32), theta, SIZE, crop)
    mapped = mapped[0].numpy()
    np.testing.assert_allclose(found, np.cov(mapped.T), rtol=0.05, atol=1.0)


def test_doubt_widens_by_sigma_and_score():
    maps = gaussian_map(24, 32, 2.0, 2.0, 0).expand(1, 19, 64, 48)
    keypoints = torch.tensor([96.0, 128.0, 0.75]).expand(1, 19, 3)
    fit = CovarianceScale(0.5, 0.04, 1.6)
    found = JointCovariance(BODY19, SIZE, fit, gaussian=True)(
        maps, keypoints, torch.eye(2, 3)[None]
    )
    for joint, sigma in enumerate(BODY19.sigmas):
        every_way = ((0.04 + 1.6 * 0.25) * sigma * 256) ** 2
        assert found[0, joint].tolist() == pytest.approx(
            [0.5 * 2 * 16 + every_way, 0, 0.5 * 2 * 16 + every_way], rel=1e-3, abs=1e-3
        )


def without_covariance(model):
    """As `rmpe export` makes it."""
    del model.graph.output[2:]
    told = (METADATA, 'rmpe.person_score')  # the score goes by it
    kept = [each for each in model.metadata_props if each.key not in told]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return model


@pytest.mark.parametrize('name', ['lite', 'standard'])
def test_a_shipped_model_gets_it_and_keeps_its_keypoints(
    name, tmp_path, two_people, detector_model
):
    model = without_covariance(onnx.load(str(find_model(name))))
    bare = tmp_path / 'bare.onnx'
    onnx.save(model, str(bare))
    fit = CovarianceScale(0.2, 0.05, 1.5)
    once = add_covariance(add_covariance(model), fit)
    assert json.loads({p.key: p.value for p in once.metadata_props}[METADATA])['doubt'] == 1.5
    assert [each.name for each in once.graph.output] == ['keypoints', 'theta', 'covariance']
    assert len({node.name for node in once.graph.node}) == len(once.graph.node)
    path = tmp_path / 'with.onnx'
    onnx.save(once, str(path))
    boxes = np.array([[50, 60, 100, 210], [400, 250, 500, 450]], float)
    plain, told = PoseEstimator(open_engine(bare)), PoseEstimator(open_engine(path))
    crops, transforms = plain.crop(two_people, boxes)
    before, after = plain.estimate(crops, transforms), told.estimate(crops, transforms)
    np.testing.assert_array_equal(before[0], after[0])
    assert before[2] is None
    with PosePipeline(detector_model, path, pose_nms=None, min_score=0) as pipeline:
        poses = pipeline(two_people, boxes=boxes)
    found = {
        tuple(points.ravel()): spread for points, spread in zip(after[0], after[2], strict=True)
    }
    for points, spread in zip(poses.keypoints, poses.covariances, strict=True):
        np.testing.assert_allclose(found[tuple(points.ravel())], spread, rtol=1e-4)
    xx, xy, yy = np.moveaxis(after[2], 2, 0)
    assert (xx > 0).all() and (xx * yy > xy**2).all()
    # The less sure a joint, the wider for what it is.
    wide, score = ((xx + yy) / np.array(BODY19.sigmas) ** 2).ravel(), after[1].ravel()
    order = np.argsort(score)
    assert np.median(wide[order[:12]]) > np.median(wide[order[-12:]])


def test_what_has_no_heatmaps_is_refused(pose_model):
    with pytest.raises(ModelError, match=r'no heatmaps|outputs keypoints and theta'):
        add_covariance(onnx.load(str(pose_model)))
    with pytest.raises(ModelError, match='detector'):
        add_covariance(onnx.load(str(find_model('detector'))))
