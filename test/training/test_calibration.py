# SPDX-License-Identifier: Apache-2.0
"""Calibration sees the training part as the run-time would, and always the same of it."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip('torch')

from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.training.calibration import calibration_inputs
from rmpe_ros.training.data_config import read_data_config

SIZES = {'wide': (48, 96), 'tall': (96, 48), 'unwanted': (40, 40)}


@pytest.fixture
def data(tmp_path):
    """Three photos with a person each, of three sources; one source is never drawn."""
    images, people = [], []
    for number, (source, (height, width)) in enumerate(SIZES.items(), start=1):
        photo = np.full((height, width, 3), 40 * number, np.uint8)
        photo[:, : width // 2] += 90
        assert cv2.imwrite(str(tmp_path / f'{source}.png'), photo)
        images.append(
            {
                'id': number,
                'file_name': f'{source}.png',
                'source': source,
                'height': height,
                'width': width,
                'all_persons_labelled': True,
            }
        )
        x, y = np.linspace(8, 36, 19), np.linspace(6, 38, 19)
        people.append(
            {
                'id': number,
                'image_id': number,
                'category_id': 1,
                'bbox': [4, 2, 36, 38],
                'area': 36 * 38,
                'keypoints': np.stack([x, y, np.full(19, 2)], axis=1).flatten().tolist(),
                'num_keypoints': 19,
                'iscrowd': 0,
            }
        )
    labels = {
        'images': images,
        'annotations': people,
        'categories': [{'id': 1, 'name': 'person', 'keypoints': list(BODY19.keypoints)}],
    }
    (tmp_path / 'labels.json').write_text(json.dumps(labels))
    files = '{annotations: labels.json, images: .}'
    (tmp_path / 'data.yaml').write_text(
        f'train: [{files}]\nvalidation: {files}\n'
        'people_mix: {wide: 1, tall: 1}\nscenes_mix: {wide: 1, tall: 1}\n'
    )
    return read_data_config(tmp_path / 'data.yaml')


def test_pose_models_see_grown_crops_of_people_who_are_drawn(data, pose_model):
    engine = OnnxRuntimeEngine(pose_model)
    size = engine.inputs['crops'].shape[1:]
    inputs = calibration_inputs(data, engine, 12)
    crops = np.concatenate([each['crops'] for each in inputs])
    assert crops.shape == (12, *size) and crops.dtype == np.uint8
    assert len({crop.tobytes() for crop in crops}) == 2  # the two sources that are drawn
    assert all((crop == 0).any() for crop in crops)  # boxes grown beyond the photo
    again = calibration_inputs(data, engine, 12)
    assert all(np.array_equal(a['crops'], b['crops']) for a, b in zip(inputs, again, strict=True))


def test_detectors_see_whole_photos_letterboxed(data, detector_model):
    engine = OnnxRuntimeEngine(detector_model)
    pictures = [each['image'] for each in calibration_inputs(data, engine, 12)]
    assert {each.shape for each in pictures} == {(1, *engine.inputs['image'].shape[1:])}
    assert len({each.tobytes() for each in pictures}) == 2
    assert all((each == 114).any() for each in pictures)  # the letterbox's grey
