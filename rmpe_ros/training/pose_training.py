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

from rmpe_ros.core.boxes import (
    crop_people,
    crop_transforms,
    grow_boxes,
    invert_transforms,
    map_points,
)
from rmpe_ros.core.oks import keypoint_similarity
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.evaluation.labels.label_files import read_labels
from rmpe_ros.evaluation.labels.lsp import LSP_JOINTS
from rmpe_ros.evaluation.pck import correct_keypoints, mean_pck, torso_lengths
from rmpe_ros.networks.backbones.hourglass import HourglassSppe
from rmpe_ros.networks.backbones.mobile import MobileSppe, load_movenet
from rmpe_ros.networks.export import fit_score_calibration
from rmpe_ros.networks.sstn_sppe import SstnSppe, detransform_heatmaps
from rmpe_ros.networks.stn import LocalisationNetwork, ResNetLocalisation
from rmpe_ros.networks.targets import (
    gaussian_targets,
    heatmap_cross_entropy,
    probability_cross_entropy,
)
from rmpe_ros.training.augment import Augmentation, jitter_box, make_crop
from rmpe_ros.training.batches import Batch
from rmpe_ros.training.checkpoints import read_checkpoint
from rmpe_ros.training.datasets import (
    ImageCache,
    LabelledPerson,
    body19_labels,
    check_photos,
    draw_index,
    mixing_probabilities,
)

BOX_GROWTH = 0.3  # RMPE sec. 4.2: proposals are extended by 30 % along height and width


@dataclass(frozen=True)
class PoseModel:
    """A pose network one can ask for by name. size: (height, width) of its crops. localisation: as
    `SstnSppe` takes it.
    """

    size: tuple[int, int]
    sppe: Callable[[], nn.Module]
    localisation: Callable[[tuple[int, int]], nn.Module] = LocalisationNetwork


# `paper` is the RMPE paper's network, `paper-parallel` the smaller SPPE of its parallel branch
# (sec. 4.2); `base` is the same hourglass for an embedded GPU.
POSE_MODELS: Mapping[str, PoseModel] = {
    'lite': PoseModel((224, 160), lambda: MobileSppe(BODY19.num_keypoints, width=1.0)),
    'standard': PoseModel(
        (256, 192), lambda: MobileSppe(BODY19.num_keypoints, width=1.75, last=1280)
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
    """A network of POSE_MODELS by name, its SPPE started from MoveNet's features where a file is
    given. Raises ValueError when there is no such model or MoveNet's features do not fit it.
    """
    if name not in POSE_MODELS:
        raise ValueError(f'no pose model {name!r}: there are {", ".join(POSE_MODELS)}')
    model = POSE_MODELS[name]
    sppe = model.sppe()
    if pretrained is not None:
        if not isinstance(sppe, MobileSppe):
            raise ValueError(
                f'the pose model {name!r} cannot start from {pretrained}: MoveNet has the features '
                'of a mobile network (lite, standard), not of an hourglass; train it without '
                '--pretrained, or from a checkpoint of its own'
            )
        load_movenet(sppe, pretrained)
    return SstnSppe(sppe, model.size, sstn=sstn, localisation=model.localisation)


def freeze_encoder(network: SstnSppe, blocks: int) -> None:
    """Keep the first `blocks` blocks of the SPPE's encoder as they are. Raises ValueError when it
    has no encoder.
    """
    if not isinstance(network.sppe, MobileSppe):
        raise ValueError(
            'only the mobile pose models (lite, standard) have an encoder whose blocks can be '
            'frozen; train this one without --frozen-blocks'
        )
    network.sppe.encoder.freeze(blocks)


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
        person = self.people[draw_index(self.cumulative, rng)]
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
        # Of the full LSP the official test half: the other one is trained on.
        labels = read_labels(annotations).select(lambda image: image.source != 'lsp_train')
        people = np.flatnonzero(labels.counted)
        if not len(people):
            raise ValueError(f'{annotations} labels nobody: there is nothing to validate on')
        files = {image.id: images / image.file for image in labels.images}
        photos = [files[i] for i in labels.image_ids[people].tolist()]
        check_photos(photos, images)
        cache = cache or ImageCache()
        joints, labelled = body19_labels(labels)
        self.sources = labels.sources[people]
        self.joints, self.labelled = joints[people], labelled[people]
        self.areas = labels.areas[people]
        self.size = size
        self.boxes = boxes = labels.boxes[people]
        self.transforms = crop_transforms(grow_boxes(boxes, BOX_GROWTH), size)
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
        predicted, _ = self.predict(network)
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
        for source in ('coco', 'julito_people'):
            if (mask := self.sources == source).any():
                scores[f'oks_{source}'] = float(np.nanmean(oks[mask]))
        return scores or {'pck': mean_pck(correct[:, lsp]), 'oks': float(np.nanmean(oks))}


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
