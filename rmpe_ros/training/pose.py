# SPDX-License-Identifier: Apache-2.0
"""Training of the pose network in the paper's stages: the SPPE alone, then SSTN and parallel SPPE
around it (sec. 3.1, 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_ros.boxes import crop_people, crop_transforms, grow_boxes, map_points
from rmpe_ros.evaluation.oks import keypoint_similarity
from rmpe_ros.evaluation.pck import LSP_JOINTS, correct_keypoints, mean_pck, torso_lengths
from rmpe_ros.networks.export import fit_score_calibration
from rmpe_ros.networks.mobile import MobileSppe, load_movenet
from rmpe_ros.networks.sstn_sppe import SstnSppe, detransform_heatmaps
from rmpe_ros.networks.targets import (
    gaussian_targets,
    heatmap_cross_entropy,
    probability_cross_entropy,
)
from rmpe_ros.skeletons import BODY19
from rmpe_ros.training.augment import Augmentation, jitter_box, make_crop
from rmpe_ros.training.datasets import (
    ImageCache,
    LabelledPerson,
    corner_box,
    mixing_probabilities,
    read_annotations,
)
from rmpe_ros.training.trainer import Batch

BOX_GROWTH = 0.3  # RMPE sec. 4.2: proposals are extended by 30 % along height and width


@dataclass(frozen=True)
class PoseModel:
    """A pose network one can ask for by name. size: (height, width) of its crops."""

    size: tuple[int, int]
    sppe: Callable[[], nn.Module]


POSE_MODELS: Mapping[str, PoseModel] = {
    'lite': PoseModel((224, 160), lambda: MobileSppe(BODY19.num_keypoints, width=1.0)),
    'standard': PoseModel(
        (256, 192), lambda: MobileSppe(BODY19.num_keypoints, width=1.75, last=1280)
    ),
}


def build_pose_network(name: str, *, sstn: bool, pretrained: Path | None = None) -> SstnSppe:
    """A network of POSE_MODELS by name, its SPPE started from MoveNet's features where a file is
    given.
    """
    if name not in POSE_MODELS:
        raise ValueError(f'no pose model {name!r}: there are {", ".join(POSE_MODELS)}')
    model = POSE_MODELS[name]
    sppe = model.sppe()
    if pretrained is not None:
        load_movenet(sppe, pretrained)
    return SstnSppe(sppe, model.size, sstn=sstn)


class PoseExamples:
    """Draws training crops; picklable state is only the lists, photos are cached as they come."""

    def __init__(
        self,
        people: list[LabelledPerson],
        weights: Mapping[str, float],
        size: tuple[int, int],
        *,
        augmentation: Augmentation | None = None,
        propose: Callable[[LabelledPerson, np.random.Generator], np.ndarray] | None = None,
        cache: ImageCache | None = None,
    ):
        self.people, self.size = people, size
        self.cumulative = np.cumsum(mixing_probabilities([p.source for p in people], weights))
        self.augmentation = augmentation or Augmentation()
        self.propose = propose or (lambda person, rng: jitter_box(person.box, rng))
        self.cache = cache or ImageCache()

    def __call__(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        index = min(int(np.searchsorted(self.cumulative, rng.random())), len(self.people) - 1)
        person = self.people[index]
        proposal = self.propose(person, rng)
        crop = make_crop(
            self.cache.read(person.image),
            person,
            self.size,
            self.augmentation,
            rng,
            proposal=proposal,
            growth=BOX_GROWTH,
        )
        return {
            'crops': crop.image,
            'joints': crop.joints,
            'weights': crop.weights,
            'centred': crop.centred,
            'centred_weights': crop.centred_weights,
        }


def normalise_crops(crops: Tensor) -> Tensor:
    """uint8 (N, h, w, 3) → float32 (N, 3, h, w) in [-1, 1]. Cast before the transpose: TensorRT
    wants it so.
    """
    return crops.float().permute(0, 3, 1, 2) / 127.5 - 1.0


def sppe_loss(network: SstnSppe, batch: Batch) -> dict[str, Tensor]:
    """Stage 1: cross-entropy of every supervised stage's heatmaps, no transformer."""
    stages = network.sppe(normalise_crops(batch['crops']))
    target = gaussian_targets(batch['joints'], network.size, stages[-1].shape[-2:])
    loss = torch.stack(
        [heatmap_cross_entropy(logits, target, batch['weights']) for logits in stages]
    ).sum()
    return {'loss': loss}


def sstn_loss(
    network: SstnSppe, batch: Batch, *, parallel_weight: float = 0.5
) -> dict[str, Tensor]:
    """Stage 2: the main branch through the SDTN against the crop's labels, the parallel one against
    centred labels.
    """
    output = network(normalise_crops(batch['crops']))
    target = gaussian_targets(batch['joints'], network.size, output.logits[-1].shape[-2:])
    losses = [
        probability_cross_entropy(
            detransform_heatmaps(logits, output.theta), target, batch['weights']
        )
        for logits in output.logits
    ]
    main = torch.stack(losses).sum()
    values = {'main': main.detach(), 'loss': main}
    if output.parallel is not None:
        centred = gaussian_targets(batch['centred'], network.size, output.parallel.shape[-2:])
        parallel = heatmap_cross_entropy(output.parallel, centred, batch['centred_weights'])
        values |= {'parallel': parallel.detach(), 'loss': main + parallel_weight * parallel}
    return values


class PoseValidation:
    """Scores a pose network on labelled people with true boxes: PCK@0.2 on LSP people, mean OKS on
    COCO people.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        size: tuple[int, int],
        *,
        cache: ImageCache | None = None,
    ):
        data = read_annotations(annotations)
        records = {image['id']: image for image in data['images']}
        cache = cache or ImageCache()
        people = [
            a for a in data['annotations'] if a.get('num_keypoints', 0) > 0 and not a.get('iscrowd')
        ]
        self.sources = np.array([records[a['image_id']].get('source', 'all') for a in people])
        labels = np.array([a['keypoints'] for a in people], np.float64).reshape(len(people), -1, 3)
        self.joints, self.labelled = labels[..., :2], labels[..., 2] > 0
        self.areas = np.array([a['area'] for a in people], np.float64)
        self.size = size
        boxes = np.stack([corner_box(a['bbox']) for a in people])
        self.boxes = boxes
        self.transforms = crop_transforms(grow_boxes(boxes, BOX_GROWTH), size)
        self.crops = np.concatenate(
            [
                crop_people(
                    cache.read(images / records[a['image_id']]['file_name']), transform[None], size
                )
                for a, transform in zip(people, self.transforms, strict=False)
            ]
        )

    def predict(self, network: SstnSppe, batch: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints in image pixels (N, K, 2) and peak mass (N, K)."""
        points, masses = [], []
        with torch.no_grad():
            for start in range(0, len(self.crops), batch):
                found, mass, _ = network.predict(
                    normalise_crops(torch.from_numpy(self.crops[start : start + batch]))
                )
                points.append(found.numpy())
                masses.append(mass.numpy())
        return map_points(np.concatenate(points), self.transforms), np.concatenate(masses)

    def __call__(self, network: nn.Module) -> dict[str, float]:
        predicted, _ = self.predict(network)
        scores = {}
        lengths = torso_lengths(self.joints, self.labelled, BODY19)
        correct = correct_keypoints(predicted, self.joints, self.labelled, lengths)
        lsp = [BODY19.index(name) for name in LSP_JOINTS]
        for source in ('lsp', 'lspet'):
            if (mask := self.sources == source).any():
                scores[f'pck_{source}'] = mean_pck(correct[mask][:, lsp])
        sigmas = BODY19.sigmas[:17]
        oks = keypoint_similarity(
            predicted[:, :17], self.joints[:, :17], self.labelled[:, :17], self.areas, sigmas
        )
        for source in ('coco', 'julito_people'):
            if (mask := self.sources == source).any():
                scores[f'oks_{source}'] = float(np.nanmean(oks[mask]))
        return scores


def calibrate_scores(
    validation: PoseValidation, network: SstnSppe, *, threshold: float = 0.2
) -> tuple[float, float]:
    """Logistic that turns peak mass into the probability that a joint lies within 0.2 torso of the
    truth.

    People without both ends of a torso diagonal are left out.
    """
    predicted, mass = validation.predict(network)
    lengths = torso_lengths(validation.joints, validation.labelled, BODY19)
    correct = correct_keypoints(
        predicted, validation.joints, validation.labelled, lengths, threshold
    )
    known = ~np.isnan(correct)
    return fit_score_calibration(mass[known], correct[known])
