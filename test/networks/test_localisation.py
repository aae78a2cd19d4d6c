# SPDX-License-Identifier: Apache-2.0
"""The localisation network: bounds, and what it does with boxes that are nearly right."""

from pathlib import Path

import pytest
import torch

from rmpe_ros.networks.localisation import (
    DEAD_ZONE,
    DetectorFeatures,
    ZoomLocalisation,
    as_theta,
    without_small,
)
from rmpe_ros.networks.person_detector import DetectorNetwork, load_rtmdet, normalise_image
from rmpe_ros.networks.sstn_sppe import SstnSppe, normalise_crops

SIZE = (96, 64)
MODELS = Path(__file__).parents[2] / 'models'


def told(offset: list[float], *, training: bool = False) -> torch.Tensor:
    """The θ of a network whose last layer says that, whatever it sees."""
    network = ZoomLocalisation(SIZE).train(training)
    network.offset.bias.data = torch.tensor(offset, dtype=torch.float32)
    with torch.no_grad():
        return network(torch.rand(2, 3, *SIZE) * 2 - 1)[0]


def test_before_training_it_is_the_identity():
    network = ZoomLocalisation(SIZE)
    assert torch.equal(network(torch.rand(3, 3, *SIZE)), torch.eye(2, 3).expand(3, 2, 3))


def test_whatever_the_weights_say_theta_can_be_inverted():
    smallest, largest = told([-99, 99, -99], training=True), told([99, 0, 0], training=True)
    assert torch.linalg.det(smallest[:, :2]) == pytest.approx(1 / 1.7**2, rel=1e-3)
    assert torch.linalg.det(largest[:, :2]) == pytest.approx(1.7**2, rel=1e-3)
    assert smallest[:, 2].tolist() == pytest.approx([0.6, -0.6], rel=1e-3)


def test_a_box_that_is_nearly_right_stays_as_it_is():
    share = DEAD_ZONE / 4
    assert torch.equal(told([share, -share, share]), torch.eye(2, 3))
    assert told([share, -share, share], training=True)[0, 2] == pytest.approx(-share, rel=0.05)


def test_a_box_that_is_off_is_moved_all_the_way():
    offset = torch.tensor([[0.1, -0.2, 0.1]])
    torch.testing.assert_close(without_small(offset), offset)
    between = offset * 1.5 * DEAD_ZONE / 0.4
    torch.testing.assert_close(without_small(between), between / 2)


def test_theta_zooms_both_axes_alike():
    (theta,) = as_theta(torch.tensor([[0.0953102, 0.3, -0.2]]))
    expected = torch.tensor([[1.1, 0.0, 0.3], [0.0, 1.1, -0.2]])
    torch.testing.assert_close(theta, expected)


def test_it_sees_the_whole_crop_where_that_is_larger_than_what_the_sppe_sees():
    network = SstnSppe(torch.nn.Identity(), (96, 64), localisation=ZoomLocalisation)
    assert network.localisation.hidden[0].in_features == 2 * 1 * 48  # a quarter, halved 4 times
    sppe = torch.nn.Identity()
    sppe.gaussian = True
    zoomed = SstnSppe(sppe, (192, 128), localisation=ZoomLocalisation, zoom=0.8)
    assert zoomed.size == (240, 160)
    assert zoomed.localisation.hidden[0].in_features == 4 * 3 * 48


def test_what_a_detector_knows_of_a_crop_is_where_its_localisation_starts():
    features, detector = DetectorFeatures().eval(), DetectorNetwork().eval()
    features.load_detector(MODELS / 'detector.onnx')
    load_rtmdet(detector, MODELS / 'detector.onnx')
    crops = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)

    with torch.no_grad():
        expected = detector.backbone(normalise_image(crops))[1]
        unit = normalise_crops(crops)
        given = features.backbone((unit - features.mean) / features.deviation)
        assert features(unit).shape == (2, 24, 4, 4)

    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match=r'lite\.onnx is no RTMDet'):
        DetectorFeatures().load_detector(MODELS / 'lite.onnx')


def test_a_localisation_of_detector_features_starts_as_the_identity():
    network = ZoomLocalisation((160, 120), DetectorFeatures())
    assert network.hidden[0].in_features == 24 * 3 * 2  # a quarter, halved 4 times
    assert torch.equal(network(torch.rand(2, 3, 160, 120)), torch.eye(2, 3).expand(2, 2, 3))
