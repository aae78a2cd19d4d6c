# SPDX-License-Identifier: Apache-2.0
"""Finds the shipped ONNX models, and reads what a model says about itself."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rmpe_ros.core.nearest import did_you_mean
from rmpe_ros.core.odd_paths import path_hint
from rmpe_ros.core.person_score import PersonScore
from rmpe_ros.core.share_folders import share_folders
from rmpe_ros.core.skeletons import Skeleton

SHIPPED_MODELS = ('detector', 'lite', 'standard')
DEFAULT_DETECTOR = 'detector'
DEFAULT_POSE = 'lite'


# What exported and imported models say they were made by, and the version of their contract.
PRODUCER = 'rmpe_ros'
FORMAT = '1'

# Of a network's input, in pixels: a picture of this side is 50 MB.
LARGEST_SIDE = 4096
# What a model may say of itself: a mistake there would cost all memory or time.
_RANGES: Mapping[str, tuple[float, float]] = {
    'box_growth': (0, 10),
    'score_threshold': (0, 1),
    'nms_iou': (0, 1),
    'long_side': (0, LARGEST_SIDE),
    'size_step': (1, 1024),
}


class ModelError(ValueError):
    """A model cannot be found, or does not keep the contract; says what to do about it."""


def find_model(name_or_path: str | Path) -> Path:
    """The file of a shipped model (SHIPPED_MODELS) or of an explicit path.

    Shipped models are looked for in the folders of `model_folders`, in that order, and before any
    file of that name in the working folder: that one is meant by ./lite.
    Raises ModelError listing the names and the folders that were searched.
    """
    path = Path(name_or_path).expanduser()
    is_name = path.suffix != '.onnx' and path.name == str(name_or_path)
    folders = model_folders() if is_name else []
    for folder in folders:
        candidate = folder / f'{path.name}.onnx'
        if candidate.is_file():
            return candidate
    if path.is_file():
        return path
    if not is_name:
        raise ModelError(f'model file {path} does not exist{path_hint(name_or_path)}')
    raise ModelError(
        f'there is no model {str(name_or_path)!r}{did_you_mean(path.name, SHIPPED_MODELS)}; '
        f'expected the path of an .onnx file or one of {", ".join(SHIPPED_MODELS)} '
        f'(searched: {", ".join(map(str, folders))}; '
        'the environment variable RMPE_MODELS adds a folder)'
    )


def model_folders() -> list[Path]:
    """Where shipped models may lie: $RMPE_MODELS, the wheel, the source tree, the ROS installs."""
    own = [Path(each) for each in os.environ.get('RMPE_MODELS', '').split(os.pathsep) if each]
    return own + share_folders('models')


@dataclass(frozen=True)
class ModelInfo:
    """What a model says about itself in its ONNX metadata (keys `rmpe.*`).

    task: 'detector' or 'pose'. skeleton: of a pose model. box_growth: by how much boxes are
    enlarged before cropping (0.3 = 30 %). person_score: of a pose model, how scores of box and
    joints become the person's; None where it does not say. score_threshold and nms_iou: a
    detector's suggestions.
    long_side, size_step: how a detector whose input size is free wants images: longer side scaled
    to long_side pixels (0 where it does not say), both padded to multiples of size_step.
    """

    task: str
    name: str
    version: str
    skeleton: Skeleton | None
    box_growth: float
    person_score: PersonScore | None
    training_data: str
    license: str
    score_threshold: float
    nms_iou: float
    long_side: int
    size_step: int

    @staticmethod
    def from_metadata(metadata: Mapping[str, str], *, task: str, model: str) -> 'ModelInfo':
        """Read the metadata of `model` (its name, for messages), which is to do `task`.

        Raises ModelError when the model does not keep this package's contract or does another task.
        """
        if metadata.get('rmpe.format') != '1':
            raise ModelError(
                f'{model} does not say that it keeps the contract of rmpe_ros (metadata '
                f'rmpe.format is {metadata.get("rmpe.format")!r}, expected "1"); export the '
                'network to the contract first'
            )
        if metadata.get('rmpe.task') != task:
            raise ModelError(
                f'{model} is a {metadata.get("rmpe.task")} model, but a {task} model is needed '
                'here; were the two swapped?'
            )
        if metadata.get('rmpe.color', 'RGB') != 'RGB':
            raise ModelError(
                f'{model} wants {metadata["rmpe.color"]} images; only RGB is supported'
            )
        try:
            text = metadata.get('rmpe.skeleton')
            score = metadata.get('rmpe.person_score')
            info = ModelInfo(
                task=task,
                name=metadata.get('rmpe.name', model),
                version=metadata.get('rmpe.version', ''),
                skeleton=Skeleton.from_json(text) if text else None,
                box_growth=float(metadata.get('rmpe.box_growth', 0.3)),
                person_score=PersonScore.from_json(score) if score else None,
                training_data=metadata.get('rmpe.training_data', ''),
                license=metadata.get('rmpe.license', ''),
                score_threshold=float(metadata.get('rmpe.score_threshold', 0.3)),
                nms_iou=float(metadata.get('rmpe.nms_iou', 0.6)),
                long_side=int(metadata.get('rmpe.long_side', 0)),
                size_step=int(metadata.get('rmpe.size_step', 32)),
            )
        except (ValueError, OverflowError) as error:
            raise ModelError(f'{model} has unreadable metadata: {error}') from error
        for key, (least, most) in _RANGES.items():
            value = getattr(info, key)
            # NaN is in no range.
            if not least <= value <= most:
                raise ModelError(
                    f'{model} has unusable metadata: rmpe.{key} is {value}, expected {least} to '
                    f'{most}'
                )
        return info


def check_sides(model: str, name: str, sides: Mapping[str, int]) -> None:
    """Raises ModelError for a model whose input `name` has sides that no picture has."""
    for side, pixels in sides.items():
        if not 1 <= pixels <= LARGEST_SIDE:
            raise ModelError(
                f'{model}: the {side} of its input {name} is {pixels}, expected 1 to {LARGEST_SIDE}'
            )
