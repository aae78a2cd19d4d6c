# SPDX-License-Identifier: Apache-2.0
"""The YAML file that tells training which data to learn from, and in which mixture (see
config/training/).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rmpe_ros.core.odd_paths import why_unreadable
from rmpe_ros.evaluation.fingerprints import hash_files, hash_pictures, hash_settings
from rmpe_ros.evaluation.labels.label_files import label_files
from rmpe_ros.training.datasets import (
    FORMATS,
    Format,
    LabelledPerson,
    LabelledScene,
    load_people,
    load_scenes,
)


@dataclass(frozen=True)
class AnnotationSet:
    """One file of labels and the folder its file names are relative to.

    file_format: 'auto' finds out by what is in it. source: one name for all its photos in the
    mixtures; None keeps their own. weight: share of the draws of that source.
    """

    annotations: Path
    images: Path
    file_format: Format = 'auto'
    source: str | None = None
    weight: float | None = None


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
        """Everyone to learn poses from. Raises ValueError when nobody is labelled."""
        people = [
            p
            for s in self.train
            for p in load_people(
                s.annotations,
                s.images,
                file_format=s.file_format,
                source=s.source,
                teacher_weight=self.teacher_weight,
            )
        ]
        if not people:
            raise ValueError(
                f'nobody in {self._names()} can be learned from: people need five labelled joints '
                'and a side of 24 pixels'
            )
        return people

    def scenes(self) -> list[LabelledScene]:
        """Every photo for a detector. Raises ValueError when there is none."""
        scenes = [
            scene
            for s in self.train
            for scene in load_scenes(
                s.annotations, s.images, file_format=s.file_format, source=s.source
            )
        ]
        if not scenes:
            raise ValueError(f'{self._names()} list no photos')
        return scenes

    def fingerprint(self) -> str:
        """Changes when anything does that training on this data depends on.

        Raises OSError for a file that cannot be read.
        """
        sets = [
            {
                'annotations': hash_files(label_files(each.annotations)),
                'pictures': hash_pictures(
                    scene.image
                    for scene in load_scenes(
                        each.annotations, each.images, file_format=each.file_format
                    )
                ),
                'format': each.file_format,
                'source': each.source,
                'weight': each.weight,
            }
            for each in (*self.train, self.validation)
        ]
        mixes = [dict(self.people_mix), dict(self.scenes_mix), self.teacher_weight]
        return hash_settings({'sets': sets, 'mixes': mixes})

    def _names(self) -> str:
        return ', '.join(str(s.annotations) for s in self.train)


_KEYS = ('train', 'validation', 'people_mix', 'scenes_mix', 'teacher_weight')
_ENTRY_KEYS = ('annotations', 'images', 'format', 'source', 'weight')


def read_data_config(path: Path, *, root: Path | None = None) -> DataConfig:
    """Read and check a data file. Paths in it are relative to `root`, the file's own folder when
    None.

    Raises ValueError naming the missing or unknown key, or the file that is not there.
    """
    try:
        data = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {why_unreadable(error, path)}') from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f'{path} is no readable data file: {error}') from error
    if not isinstance(data, dict):
        raise ValueError(
            f'{path} must be a mapping with train, validation, people_mix and scenes_mix'
        )
    if unknown := set(data) - set(_KEYS):
        raise ValueError(f'{path} has unknown keys {sorted(unknown)}: known are {sorted(_KEYS)}')
    if missing := {'train', 'validation'} - set(data):
        raise ValueError(f'{path} lacks {sorted(missing)}')
    if not isinstance(data['train'], list) or not data['train']:
        raise ValueError(
            f'{path}: train must be a list of files, as - {{annotations: a.json, images: photos}}'
        )
    folder = root or path.parent
    train = tuple(_annotation_set(entry, path, folder) for entry in data['train'])
    people_mix, scenes_mix = (
        _with_weights(_shares(data, name, path), train, path)
        for name in ('people_mix', 'scenes_mix')
    )
    return DataConfig(
        train=train,
        validation=_annotation_set(data['validation'], path, folder),
        people_mix=people_mix,
        scenes_mix=scenes_mix,
        teacher_weight=_number(data.get('teacher_weight', 0.5), f'{path}: teacher_weight'),
    )


def _annotation_set(entry: Any, path: Path, folder: Path) -> AnnotationSet:
    example = '{annotations: a.json, images: photos}'
    if not isinstance(entry, dict):
        raise ValueError(f'{path} lists {entry!r}; expected a file and its photos, as {example}')
    if unknown := set(entry) - set(_ENTRY_KEYS):
        raise ValueError(
            f'{path} has unknown keys {sorted(map(str, unknown))} in an entry: known are '
            f'{", ".join(_ENTRY_KEYS)}'
        )
    if missing := {'annotations', 'images'} - set(entry):
        raise ValueError(f'{path} has an entry that lacks {sorted(missing)}; expected {example}')
    annotations, images = folder / str(entry['annotations']), folder / str(entry['images'])
    for file in (annotations, images):
        if not os.path.exists(file):
            raise ValueError(
                f'{path} names {file}, which is not there; say where the data is with --data-root'
            )
    file_format = entry.get('format', 'auto')
    if file_format not in FORMATS:
        raise ValueError(
            f'{path}: format {file_format!r} of {annotations.name} is none of {", ".join(FORMATS)}'
        )
    weight = entry.get('weight')
    if weight is not None:
        weight = _number(weight, f'{path}: weight of {annotations.name}')
    # A weight is a share of the mixture, which goes by names.
    source = entry.get('source', None if weight is None else annotations.stem)
    return AnnotationSet(
        annotations, images, file_format, None if source is None else str(source), weight
    )


def _shares(data: Mapping[str, Any], name: str, path: Path) -> dict[str, float]:
    shares = data.get(name, {'*': 1.0})
    if not isinstance(shares, dict):
        raise ValueError(f'{path}: {name} must give each source its share, as {{lsp: 0.3, "*": 1}}')
    return {
        str(source): _number(share, f'{path}: {name} of {source}')
        for source, share in shares.items()
    }


def _with_weights(
    shares: dict[str, float], train: tuple[AnnotationSet, ...], path: Path
) -> dict[str, float]:
    """The shares of a mixture and the weights of entries, which name a source of their own."""
    weights: dict[str, float] = {}
    for entry in train:
        if entry.source is None or entry.weight is None:
            continue
        if entry.source in shares or entry.source in weights:
            raise ValueError(
                f'{path} gives {entry.source!r} two shares, one as the weight of '
                f'{entry.annotations.name}: leave one out, or give the files a different source'
            )
        weights[entry.source] = entry.weight
    return shares | weights


def _number(value: Any, what: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 <= value <= sys.float_info.max):
        raise ValueError(f'{what} is {value!r}; expected a number of 0 or more')
    return float(value)
