# SPDX-License-Identifier: Apache-2.0
"""Training photos as the networks see them in use, to find the ranges of their activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.detector import PersonDetector, letterbox
from rmpe_ros.engines import Engine
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.training.data_config import DataConfig
from rmpe_ros.training.datasets import (
    LabelledPerson,
    LabelledScene,
    mixing_probabilities,
    read_photo,
)

_Example = TypeVar('_Example', LabelledPerson, LabelledScene)
_SEED = 2017


def calibration_inputs(
    data: DataConfig, engine: Engine, count: int
) -> list[dict[str, NDArray[np.uint8]]]:
    """Inputs of a contract model, each from one example of the training part, always the same ones.

    They are drawn by the shares of the data file and prepared as the pipeline does it: people in
    their boxes for a pose network, whole photos for a detector. count: how many.
    """
    if engine.metadata.get('rmpe.task') == 'pose':
        estimator = PoseEstimator(engine)
        return [
            {'crops': estimator.crop(read_photo(person.image), person.box[None])[0]}
            for person in _draw(data.people(), data.people_mix, count)
        ]
    detector = PersonDetector(engine)
    photos = (read_photo(s.image) for s in _draw(data.scenes(), data.scenes_mix, count))
    return [
        {'image': letterbox(photo, detector.input_size(photo.shape[:2]))[0][None]}
        for photo in photos
    ]


def _draw(examples: Sequence[_Example], shares: Mapping[str, float], count: int) -> list[_Example]:
    probabilities = mixing_probabilities([each.source for each in examples], shares)
    chosen = np.random.default_rng(_SEED).choice(len(examples), count, p=probabilities)
    return [examples[index] for index in chosen]
