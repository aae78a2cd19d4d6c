# SPDX-License-Identifier: Apache-2.0
"""Training of the pose network in the paper's stages: the SPPE alone, then SSTN and parallel SPPE
around it (sec. 3.1, 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from rmpe_ros.core.boxes import (
    crop_people,
    crop_transforms,
    grow_boxes,
    invert_transforms,
    map_points,
)
from rmpe_ros.core.oks import keypoint_similarity
from rmpe_ros.core.skeletons import BODY19, COCO17
from rmpe_ros.evaluation.labels.label_files import read_labels
from rmpe_ros.evaluation.labels.lsp import LSP_JOINTS
from rmpe_ros.evaluation.pck import correct_keypoints, mean_pck, torso_lengths
from rmpe_ros.networks.backbones.hourglass import HourglassSppe
from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.networks.export import fit_score_calibration
from rmpe_ros.networks.localisation import DetectorFeatures, ZoomLocalisation
from rmpe_ros.networks.sstn_sppe import BOX_GROWTH, SstnSppe, normalise_crops
from rmpe_ros.networks.stn import LocalisationNetwork, ResNetLocalisation
from rmpe_ros.training.augment import Augmentation, jitter_box, make_crop
from rmpe_ros.training.checkpoints import read_checkpoint
from rmpe_ros.training.datasets import (
    ImageCache,
    LabelledPerson,
    body19_labels,
    check_photos,
    draw_index,
    evenly,
    mixing_probabilities,
)

# What a network learns of a placed person.
_LEARNT = ('joints', 'weights', 'centred', 'centred_weights', 'theta')


@dataclass(frozen=True)
class PoseModel:
    """A pose network one can ask for by name. size: (height, width) of what its SPPE sees.
    localisation, growth, zoom: as `SstnSppe` takes them.
    """

    size: tuple[int, int]
    sppe: Callable[[], nn.Module]
    localisation: Callable[[tuple[int, int]], nn.Module] = LocalisationNetwork
    growth: float = BOX_GROWTH
    zoom: float = 1.0


# `paper` is the RMPE paper's network, `paper-parallel` the smaller SPPE of its parallel branch
# (sec. 4.2); `base` is the same hourglass for an embedded GPU, `lite` and `standard` are for CPUs.
POSE_MODELS: Mapping[str, PoseModel] = {
    'lite': PoseModel(
        (192, 128),
        lambda: LiteHrnetSppe(BODY19.num_keypoints),
        ZoomLocalisation,
        growth=0.15,  # its crops are small: what they hold beside the person costs pixels
        zoom=0.8,
    ),
    'standard': PoseModel(
        (256, 192),
        lambda: LiteHrnetSppe(BODY19.num_keypoints),
        lambda size: ZoomLocalisation(size, DetectorFeatures()),
        growth=0.2,
        zoom=0.8,
    ),
    'base': PoseModel((256, 192), lambda: HourglassSppe(BODY19.num_keypoints, stacks=2)),
    'paper': PoseModel(
        (256, 256),
        lambda: HourglassSppe(BODY19.num_keypoints, stacks=8),
        lambda size: ResNetLocalisation(),
    ),
    'paper-parallel': PoseModel((256, 256), lambda: HourglassSppe(BODY19.num_keypoints, stacks=4)),
}


def build_pose_network(name: str, *, sstn: bool, pretrained: Path | None = None) -> SstnSppe:
    """A network of POSE_MODELS by name; a Lite-HRNet starts from PP-TinyPose where its ONNX file is
    given. Raises ValueError when there is no such model or the file does not fit it.
    """
    if name not in POSE_MODELS:
        raise ValueError(f'no pose model {name!r}: there are {", ".join(POSE_MODELS)}')
    model = POSE_MODELS[name]
    sppe = model.sppe()
    network = SstnSppe(
        sppe,
        model.size,
        sstn=sstn,
        localisation=model.localisation,
        growth=model.growth,
        zoom=model.zoom,
    )
    if pretrained is None:
        return network
    if not isinstance(sppe, LiteHrnetSppe):
        raise ValueError(
            f'the pose model {name!r} cannot start from {pretrained}: no published network has '
            'the features of an hourglass; train it without --pretrained, or from a checkpoint '
            'of its own'
        )
    from rmpe_ros.importing.tinypose import load_tinypose

    load_tinypose(sppe, pretrained)
    return network


def load_teacher(path: Path) -> nn.Module:
    """PP-TinyPose as it was published, from its ONNX file: COCO's 17 joints."""
    from rmpe_ros.importing.tinypose import load_tinypose

    teacher = LiteHrnetSppe(COCO17.num_keypoints)
    load_tinypose(teacher, path)
    return teacher


def freeze_encoder(network: SstnSppe, blocks: int) -> None:
    """Keep the first `blocks` blocks of the SPPE's encoder as they are. Raises ValueError when it
    has no encoder.
    """
    if not isinstance(network.sppe, LiteHrnetSppe):
        raise ValueError(
            'only the pose models lite and standard have an encoder whose blocks can be frozen; '
            'train this one without --frozen-blocks'
        )
    network.sppe.encoder.freeze(blocks)


def start_localisation(network: SstnSppe, name: str, detector: Path) -> None:
    """Start the localisation network from a detector's backbone, from its ONNX file. Raises
    ValueError where it has none (`name` is the model's), or the file is of another detector.
    """
    features = getattr(network.localisation, 'features', None)
    if not isinstance(features, DetectorFeatures):
        raise ValueError(
            f'the localisation network of {name} is not a detector, so it cannot start from '
            f'{detector}; train it without --stn-pretrained'
        )
    features.load_detector(detector)


def load_sppe(checkpoint: Path) -> nn.Module:
    """The trained SPPE in a pose checkpoint of any of POSE_MODELS, for a parallel branch that is
    another network than the main one. Raises ValueError when it is of none of them.
    """
    state = read_checkpoint(checkpoint)['ema']
    prefix = 'sppe.'
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    for model in POSE_MODELS.values():
        with torch.device('meta'):  # the shapes alone, in no time
            outline = model.sppe().state_dict()
        if shapes == {name: tensor.shape for name, tensor in outline.items()}:
            sppe = model.sppe()
            sppe.load_state_dict(weights)
            return sppe
    raise ValueError(
        f'{checkpoint} holds no pose network of these models: {", ".join(POSE_MODELS)}'
    )


class PoseExamples:
    """Draws training crops; picklable state is only the lists, photos are cached as they come."""

    def __init__(
        self,
        people: list[LabelledPerson],
        weights: Mapping[str, float],
        size: tuple[int, int],
        *,
        growth: float = BOX_GROWTH,
        propose: Callable[[LabelledPerson, np.random.Generator], np.ndarray] | None = None,
        augmentation: Augmentation | None = None,
    ):
        self.people, self.size, self.growth = people, size, growth
        self.cumulative = np.cumsum(mixing_probabilities([p.source for p in people], weights))
        self.augmentation = augmentation or Augmentation()
        self.propose = propose or (lambda person, rng: jitter_box(person.box, rng))
        self.cache = ImageCache()

    def __call__(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        person = self.people[draw_index(self.cumulative, rng)]
        proposal = self.propose(person, rng)
        picture, placed = make_crop(
            self.cache.read(person.image),
            person,
            self.size,
            self.augmentation,
            rng,
            proposal=proposal,
            growth=self.growth,
        )
        return {'crops': picture, **{name: getattr(placed, name) for name in _LEARNT}}


class PoseValidation:
    """Scores a pose network on labelled people with true boxes: PCK@0.2 on LSP people, mean OKS on
    COCO people, and as `score` the mean of these, source by source.

    most: so many people of a source at most, spread over all of them. moved: boxes are off by
    N(0, moved) of their sides, the same for every network.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        size: tuple[int, int],
        *,
        growth: float = BOX_GROWTH,
        most: int | None = None,
        moved: float = 0.0,
    ):
        # Of the full LSP the official test half: the other one is trained on.
        labels = read_labels(annotations).select(lambda image: image.source != 'lsp_train')
        people = spread_over_sources(np.flatnonzero(labels.counted), labels.sources, most)
        if not len(people):
            raise ValueError(f'{annotations} labels nobody: there is nothing to validate on')
        files = {image.id: images / image.file for image in labels.images}
        photos = [files[i] for i in labels.image_ids[people].tolist()]
        check_photos(photos, images)
        cache = ImageCache()
        joints, labelled = body19_labels(labels)
        self.sources = labels.sources[people]
        self.joints, self.labelled = joints[people], labelled[people]
        self.areas = labels.areas[people]
        self.size = size
        sides = np.tile(labels.boxes[people, 2:] - labels.boxes[people, :2], 2)
        off = np.random.default_rng(0).normal(0, 1, sides.shape) * moved
        self.boxes = boxes = labels.boxes[people] + (off * sides).astype(labels.boxes.dtype)
        self.transforms = crop_transforms(grow_boxes(boxes, growth), size)
        self.crop_joints = map_points(self.joints, invert_transforms(self.transforms))
        self.crops = np.concatenate(
            [
                crop_people(cache.read(photo), transform[None], size)
                for photo, transform in zip(photos, self.transforms, strict=True)
            ]
        )

    def predict(self, network: SstnSppe, batch: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints in image pixels (N, K, 2) and peak mass (N, K)."""
        points, masses = [], []
        device = next(network.parameters()).device
        with torch.no_grad():
            for start in range(0, len(self.crops), batch):
                crops = torch.from_numpy(self.crops[start : start + batch]).to(device)
                found, mass, _ = network.predict(normalise_crops(crops))
                points.append(found.cpu().numpy())
                masses.append(mass.cpu().numpy())
        return map_points(np.concatenate(points), self.transforms), np.concatenate(masses)

    def __call__(self, network: nn.Module) -> dict[str, float]:
        predicted, _ = self.predict(cast(SstnSppe, network))
        scores = {}
        lengths = torso_lengths(self.joints, self.labelled, BODY19)
        correct = correct_keypoints(predicted, self.joints, self.labelled, lengths)
        lsp = [BODY19.index(name) for name in LSP_JOINTS]
        for source in ('lsp', 'lsp_test', 'lspet'):
            if (mask := self.sources == source).any():
                scores[f'pck_{source}'] = mean_pck(correct[mask][:, lsp])
        sigmas = BODY19.sigmas[:17]
        oks = keypoint_similarity(
            predicted[:, :17], self.joints[:, :17], self.labelled[:, :17], self.areas, sigmas
        )
        for source in ('coco', 'coco_val2017', 'julito_people'):
            if (mask := self.sources == source).any():
                scores[f'oks_{source}'] = float(np.nanmean(oks[mask]))
        scores = scores or {'pck': mean_pck(correct[:, lsp]), 'oks': float(np.nanmean(oks))}
        return {**scores, 'score': float(np.nanmean(list(scores.values())))}


def spread_over_sources(people: np.ndarray, sources: np.ndarray, most: int | None) -> np.ndarray:
    """Of people (indices into `sources`) at most so many of each source, evenly spread."""
    if most is None:
        return people
    chosen = []
    for source in np.unique(sources[people]):
        here = people[sources[people] == source]
        chosen.append(here[evenly(len(here), most)])
    return np.sort(np.concatenate(chosen)) if chosen else people


def calibrate_scores(validation: PoseValidation, network: SstnSppe) -> tuple[float, float]:
    """Logistic that turns peak mass into the probability that a joint lies within 0.2 torso of the
    truth.

    People without both ends of a torso diagonal are left out.
    """
    predicted, mass = validation.predict(network)
    lengths = torso_lengths(validation.joints, validation.labelled, BODY19)
    correct = correct_keypoints(predicted, validation.joints, validation.labelled, lengths)
    known = ~np.isnan(correct)
    return fit_score_calibration(mass[known], correct[known])
