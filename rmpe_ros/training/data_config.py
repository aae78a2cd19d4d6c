# SPDX-License-Identifier: Apache-2.0
"""The YAML file that tells training which data to learn from, and in which mixture (see
config/training/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from rmpe_ros.training.datasets import LabelledPerson, LabelledScene, load_people, load_scenes


@dataclass(frozen=True)
class AnnotationSet:
    """One COCO-format file and the folder its file names are relative to."""

    annotations: Path
    images: Path


@dataclass(frozen=True)
class DataConfig:
    """What to train and validate on.

    people_mix, scenes_mix: share of the draws for each image source, '*' for all others together.
    teacher_weight: loss weight of a joint that a teacher labelled, times the teacher's probability.
    """

    train: tuple[AnnotationSet, ...]
    validation: AnnotationSet
    people_mix: Mapping[str, float]
    scenes_mix: Mapping[str, float]
    teacher_weight: float = 0.5

    def people(self) -> list[LabelledPerson]:
        return [
            p
            for s in self.train
            for p in load_people(s.annotations, s.images, teacher_weight=self.teacher_weight)
        ]

    def scenes(self) -> list[LabelledScene]:
        return [s for part in self.train for s in load_scenes(part.annotations, part.images)]


def read_data_config(path: Path, *, root: Path | None = None) -> DataConfig:
    """Read and check a data file. Paths in it are relative to `root`, the file's own folder when
    None.

    Raises ValueError naming the missing or unknown key, or the file that is not there.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f'{path} is no readable data file: {error}') from error
    if not isinstance(data, dict):
        raise ValueError(
            f'{path} must be a mapping with train, validation, people_mix and scenes_mix'
        )
    known = {'train', 'validation', 'people_mix', 'scenes_mix', 'teacher_weight'}
    if unknown := set(data) - known:
        raise ValueError(f'{path} has unknown keys {sorted(unknown)}: known are {sorted(known)}')
    if missing := {'train', 'validation'} - set(data):
        raise ValueError(f'{path} lacks {sorted(missing)}')
    folder = root or path.parent

    def annotation_set(entry: Mapping[str, str]) -> AnnotationSet:
        files = AnnotationSet(folder / entry['annotations'], folder / entry['images'])
        for file in (files.annotations, files.images):
            if not file.exists():
                raise ValueError(
                    f'{path} names {file}, which is not there; '
                    'say where the data is with --data-root'
                )
        return files

    return DataConfig(
        train=tuple(annotation_set(entry) for entry in data['train']),
        validation=annotation_set(data['validation']),
        people_mix=data.get('people_mix', {'*': 1.0}),
        scenes_mix=data.get('scenes_mix', {'*': 1.0}),
        teacher_weight=float(data.get('teacher_weight', 0.5)),
    )
