# SPDX-License-Identifier: Apache-2.0
"""Pictures of what a network makes of the validation data, to look at while it trains."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from rmpe_ros.core.drawing import draw_poses
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.networks.decode import spatial_softmax
from rmpe_ros.networks.sstn_sppe import SstnSppe, normalise_crops
from rmpe_ros.networks.stn import transform
from rmpe_ros.training.datasets import evenly
from rmpe_ros.training.detector_validation import DetectorValidation
from rmpe_ros.training.pose_training import PoseValidation

MOST_PEOPLE = 8
MOST_PHOTOS = 6
# Of a heatmap that learned its target exactly (a Gaussian of 1.5 cells); drawn as full brightness.
SHARP_PEAK = 0.07
LEAST_BOX_SCORE = 0.3


def people_pictures(validation: PoseValidation, network: nn.Module) -> dict[str, np.ndarray]:
    """'people': some of the validation's, a column each. From top to bottom: the labels, the joints
    found, what the spatial transformer makes of the crop (where there is one), and the heatmaps
    on that.
    """
    assert isinstance(network, SstnSppe)
    chosen = evenly(len(validation.crops), MOST_PEOPLE)
    crops = validation.crops[chosen]
    device = next(network.parameters()).device
    with torch.no_grad():
        inputs = normalise_crops(torch.from_numpy(crops).to(device))
        output = network(inputs)
        points, mass, _ = network.predict(inputs)
        maps = output.logits[-1]
        sharpest = maps * SHARP_PEAK if network.gaussian else spatial_softmax(maps)
        heatmaps = sharpest.cpu().numpy()
        transformed = (
            as_pictures(transform(inputs, output.theta)) if network.localisation else crops
        )
    found = drawn(crops, points.cpu().numpy(), mass.clamp(0, 1).cpu().numpy())
    labels = drawn(crops, validation.crop_joints[chosen], validation.labelled[chosen])
    rows = [labels, found]
    if network.localisation is not None:
        rows.append(transformed)
    rows.append(np.stack([glowing(*pair) for pair in zip(transformed, heatmaps, strict=True)]))
    return {'people': np.concatenate([np.concatenate(list(row), axis=1) for row in rows])}


def photo_pictures(validation: DetectorValidation, network: nn.Module) -> dict[str, np.ndarray]:
    """'photos': some of the validation's, a column each: the labelled boxes above, below the found
    ones with a score of LEAST_BOX_SCORE or more. Mostly photos with people, where there are any.
    """
    peopled = np.array([len(boxes) > 0 for boxes in validation.boxes])
    groups = [np.flatnonzero(peopled), np.flatnonzero(~peopled)]
    most = [MOST_PHOTOS - 1, 1] if len(groups[0]) else [0, MOST_PHOTOS]
    chosen = np.concatenate(
        [g[evenly(len(g), m)] for g, m in zip(groups, most, strict=True) if len(g) and m]
    )
    canvases = validation.canvases[chosen]
    columns = []
    for canvas, index, (boxes, scores) in zip(
        canvases, chosen, validation.detect(network, canvases), strict=True
    ):
        labelled = validation.boxes[index]
        sure = scores >= LEAST_BOX_SCORE
        columns.append(
            np.concatenate(
                [
                    draw_poses(
                        canvas,
                        only_boxes(labelled, np.ones(len(labelled))),
                        boxes=True,
                        only_sure=False,
                    ),
                    draw_poses(
                        canvas,
                        only_boxes(boxes[sure], scores[sure]),
                        boxes=True,
                        labels=True,
                        only_sure=False,
                    ),
                ]
            )
        )
    return {'photos': np.concatenate(columns, axis=1)}


def drawn(crops: np.ndarray, points: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Crops (N, h, w, 3) with a skeleton each: points (N, K, 2) in crop pixels, scores (N, K)."""
    height, width = crops.shape[1:3]
    return np.stack(
        [
            draw_poses(
                crop,
                Poses(
                    BODY19,
                    points[i : i + 1].astype(np.float32),
                    scores[i : i + 1].astype(np.float32),
                    np.array([[0, 0, width, height]], np.float32),
                    np.ones(1, np.float32),
                ),
                min_score=0.1,
                color_by='side',
            )
            for i, crop in enumerate(crops)
        ]
    )


def only_boxes(boxes: np.ndarray, scores: np.ndarray) -> Poses:
    """People of whom nothing is known but their boxes (N, 4)."""
    count, joints = len(boxes), BODY19.num_keypoints
    return Poses(
        BODY19,
        np.zeros((count, joints, 2), np.float32),
        np.zeros((count, joints), np.float32),
        boxes.astype(np.float32),
        scores.astype(np.float32),
    )


def as_pictures(inputs: Tensor) -> np.ndarray:
    """The network's inputs (N, 3, h, w) in [-1, 1] as pictures uint8 (N, h, w, 3)."""
    levels = ((inputs + 1) * 127.5).round().clamp(0, 255).byte()
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def glowing(crop: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """A crop (h, w, 3) in grey with all heatmaps (K, rows, columns) on it; sharp peaks glow."""
    height, width = crop.shape[:2]
    strength = np.clip(heatmaps.max(axis=0) / SHARP_PEAK, 0, 1).astype(np.float32)
    strength = cv2.resize(strength, (width, height), interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap((255 * strength).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[:, :, None] * 0.6
    mixed = grey * (1 - strength[:, :, None]) + colors[:, :, ::-1] * strength[:, :, None]
    return mixed.round().astype(np.uint8)
