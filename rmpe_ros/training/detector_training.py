# SPDX-License-Identifier: Apache-2.0
"""Training of the person detector on scenes: zoomed, mosaicked, flipped; unlabelled background
carries no loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rmpe_ros.networks.person_detector import STRIDES, normalise_image
from rmpe_ros.networks.targets import shared_total
from rmpe_ros.training.augment import Augmentation, distort_picture
from rmpe_ros.training.batches import Batch
from rmpe_ros.training.datasets import ImageCache, LabelledScene, draw_index, mixing_probabilities

MAX_PEOPLE = 32
PAD_VALUE = 114
# Of the boxes in the loss, and how many cells may find a person.
_BOX_WEIGHT = 2.0
_CANDIDATES = 13
PICTURE_AUGMENTATION = Augmentation(blur=0.1, low_resolution=0.0, erase=0.0)


class SceneExamples:
    """Draws training pictures of (height, width): one photo, or four side by side."""

    def __init__(
        self,
        scenes: list[LabelledScene],
        weights: Mapping[str, float],
        size: tuple[int, int],
        *,
        mosaic: float = 0.4,
    ):
        self.scenes, self.size, self.mosaic = scenes, size, mosaic
        self.cumulative = np.cumsum(mixing_probabilities([s.source for s in scenes], weights))
        self.cache = ImageCache()

    def __call__(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        height, width = self.size
        if rng.random() < self.mosaic:
            split_y, split_x = (
                int(rng.uniform(0.35, 0.65) * s) // 32 * 32 for s in (height, width)
            )
            parts = (slice(0, split_y), slice(split_y, height))
            tiles = [*product(parts, (slice(0, split_x), slice(split_x, width)))]
        else:
            tiles = [(slice(0, height), slice(0, width))]
        canvas = np.full((height, width, 3), PAD_VALUE, np.uint8)
        # By detector cell: whether an empty one is a sure negative.
        background = np.ones((height // STRIDES[0], width // STRIDES[0]), bool)
        boxes, ignore = [], []
        for rows, columns in tiles:
            scene = self.scenes[draw_index(self.cumulative, rng)]
            tile = (rows.stop - rows.start, columns.stop - columns.start)
            image, kept, doubtful = place_scene(self.cache.read(scene.image), scene, tile, rng)
            canvas[rows, columns] = image
            shift = np.array([columns.start, rows.start] * 2, np.float32)
            boxes.append(kept + shift)
            ignore.append(doubtful + shift)
            if not scene.complete:
                background[
                    rows.start // STRIDES[0] : rows.stop // STRIDES[0],
                    columns.start // STRIDES[0] : columns.stop // STRIDES[0],
                ] = False
        picture = distort_picture(canvas, PICTURE_AUGMENTATION, rng)
        return {
            'images': picture,
            'boxes': padded(np.concatenate(boxes)),
            'ignore': padded(np.concatenate(ignore)),
            'background': background,
        }


def padded(boxes: np.ndarray) -> np.ndarray:
    """(MAX_PEOPLE, 4), the largest first, zeros after them."""
    order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))[:MAX_PEOPLE]
    result = np.zeros((MAX_PEOPLE, 4), np.float32)
    result[: len(order)] = boxes[order]
    return result


def place_scene(
    image: np.ndarray, scene: LabelledScene, size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo on a canvas of `size` (height, width), zoomed, shifted and perhaps flipped, with its
    boxes and doubtful ones.

    A box cut by the canvas keeps its visible part; one of which less than a third is left becomes
    doubtful.
    """
    height, width = size
    fit = min(width / image.shape[1], height / image.shape[0])
    zoom = fit * float(np.exp(rng.uniform(np.log(0.55), np.log(1.7))))
    spare = np.array([width, height]) - zoom * np.array([image.shape[1], image.shape[0]])
    offset = spare * rng.uniform(0, 1, 2)
    flip = rng.random() < 0.5
    matrix = np.array([[zoom, 0, offset[0]], [0, zoom, offset[1]]])  # edge coordinates
    shrink = max(int(0.7 / zoom), 1)
    source = (
        cv2.resize(image, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
        if shrink > 1
        else image
    )
    fx, fy = image.shape[1] / source.shape[1], image.shape[0] / source.shape[0]
    # From source pixel centres to canvas pixel centres: + 0.5, scale, - 0.5.
    pixels = np.array(
        [
            [zoom * fx, 0, offset[0] + 0.5 * zoom * fx - 0.5],
            [0, zoom * fy, offset[1] + 0.5 * zoom * fy - 0.5],
        ]
    )
    canvas = cv2.warpAffine(
        source, pixels, (width, height), flags=cv2.INTER_LINEAR, borderValue=(PAD_VALUE,) * 3
    )

    def move(boxes: np.ndarray) -> np.ndarray:
        moved = boxes * zoom + np.tile(matrix[:, 2], 2)
        if flip:
            moved = np.stack(
                [width - moved[:, 2], moved[:, 1], width - moved[:, 0], moved[:, 3]], axis=1
            )
        return moved.astype(np.float32)

    boxes = move(scene.boxes)
    visible = np.clip(boxes, 0, [width, height, width, height])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = np.prod(visible[:, 2:] - visible[:, :2], axis=1)
    small = (
        (visible[:, 2:] - visible[:, :2]).max(axis=1, initial=0) < 8
        if len(visible)
        else np.zeros(0, bool)
    )
    doubtful = (left < area / 3) | small
    ignored = np.clip(
        np.concatenate([move(scene.ignore), visible[doubtful & (left > 0)]]),
        0,
        [width, height, width, height],
    )
    return (canvas[:, ::-1] if flip else canvas), visible[~doubtful], ignored.astype(np.float32)


def sure_cells(batch: Batch, size: tuple[int, int]) -> Tensor:
    """(N, P) bool: cells of all levels whose label is known where nobody is assigned to them.

    Unknown are the background of photos in which not everyone is labelled, and doubtful people;
    inside a labelled person, a cell that is not assigned is a sure negative all the same.
    """
    sure = []
    known = batch['background'].float().unsqueeze(1)
    for stride in STRIDES:
        kernel = stride // STRIDES[0]
        background = -functional.max_pool2d(-known, kernel) if kernel > 1 else known
        cells = (size[0] // stride, size[1] // stride)
        within = cells_inside(batch['boxes'], cells, stride)
        doubtful = cells_inside(batch['ignore'], cells, stride)
        sure.append((((background.squeeze(1) > 0) | within) & ~doubtful).flatten(1))
    return torch.cat(sure, dim=1)


def cells_inside(boxes: Tensor, cells: tuple[int, int], stride: int) -> Tensor:
    """(N, h, w) bool: cells whose middle lies in any of the padded boxes (N, M, 4)."""
    rows, columns = cells
    y = (torch.arange(rows, device=boxes.device) + 0.5) * stride
    x = (torch.arange(columns, device=boxes.device) + 0.5) * stride
    within_x = (x >= boxes[..., 0:1]) & (x <= boxes[..., 2:3])
    within_y = (y >= boxes[..., 1:2]) & (y <= boxes[..., 3:4])
    return (within_y.unsqueeze(-1) & within_x.unsqueeze(-2)).any(dim=1)


def cell_points(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Points (P, 2) in pixels and strides (P,) of the cells of all levels, fine to coarse."""
    points, strides = [], []
    for stride in STRIDES:
        y = torch.arange(0, size[0], stride, device=device, dtype=torch.float32)
        x = torch.arange(0, size[1], stride, device=device, dtype=torch.float32)
        grid = torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1], dim=2).flatten(0, 1)
        points.append(grid)
        strides.append(torch.full((len(grid),), float(stride), device=device))
    return torch.cat(points), torch.cat(strides)


def assign_cells(
    logits: Tensor, boxes: Tensor, truth: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Which cells are to find which person: RTMDet's dynamic soft label assignment.

    logits: (P,), boxes: (P, 4) predicted, truth: (M, 4), none of it empty. A cell inside a person
    costs by how little its box and score fit and by how far it is from the middle; each person
    gets its cheapest cells, as many as the sum of its best IoUs, and a cell its cheapest person.
    Returns owner (P,), -1 for nobody, and IoU (P,) with the owner's box.
    """
    points, strides = cell_points(size, logits.device)
    x, y = points.unsqueeze(1).unbind(2)
    left_top = torch.stack([x - truth[:, 0], y - truth[:, 1]])
    right_bottom = torch.stack([truth[:, 2] - x, truth[:, 3] - y])
    inside = (left_top.amin(0) > 0) & (right_bottom.amin(0) > 0)
    iou = pairwise_iou(boxes, truth)
    middle = (truth[:, :2] + truth[:, 2:]) / 2
    distance = (points.unsqueeze(1) - middle).norm(dim=2) / strides.unsqueeze(1)
    miss = (iou - torch.sigmoid(logits).unsqueeze(1)).abs() ** 2
    score_cost = functional.binary_cross_entropy_with_logits(
        logits.unsqueeze(1).expand_as(iou), iou, reduction='none'
    )
    cost = miss * score_cost - 3 * torch.log(iou + 1e-7) + 10.0 ** (distance - 3).clamp_max(6)
    cost = torch.where(inside, cost, cost.new_full((), 1e8))
    best = torch.where(inside, iou, torch.zeros_like(iou)).topk(min(_CANDIDATES, len(iou)), dim=0)
    wanted = best.values.sum(0).int().clamp_min(1)
    ranks = cost.argsort(dim=0).argsort(dim=0)
    chosen = (ranks < wanted) & inside
    owner = torch.where(chosen, cost, cost.new_full((), 1e9)).argmin(dim=1)
    owner = torch.where(chosen.any(dim=1), owner, torch.full_like(owner, -1))
    return owner, iou.gather(1, owner.clamp_min(0).unsqueeze(1)).squeeze(1) * (owner >= 0)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of (P, 4) with every box of (M, 4): (P, M)."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = (high - low).clamp_min(0).prod(2)
    areas = [(x[:, 2:] - x[:, :2]).clamp_min(0).prod(1) for x in (a, b)]
    return intersection / (areas[0][:, None] + areas[1][None] - intersection).clamp_min(1e-6)


def detector_loss(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Quality focal loss on the scores, whose target is the box's IoU, and GIoU loss on the boxes
    of the assigned cells, weighted by that IoU, too (RTMDet).
    """
    height, width = batch['images'].shape[1:3]
    size = (height, width)
    logits, boxes = network(normalise_image(batch['images']))
    owners, qualities = torch.full_like(logits, -1).long(), torch.zeros_like(logits)
    with torch.no_grad():
        for index in range(len(logits)):
            truth = batch['boxes'][index]
            truth = truth[truth[:, 2] > truth[:, 0]]
            if len(truth):
                owners[index], qualities[index] = assign_cells(
                    logits[index], boxes[index], truth, size
                )
    assigned = owners >= 0
    probability = torch.sigmoid(logits)
    focus = (qualities - probability).abs() ** 2
    score_loss = focus * functional.binary_cross_entropy_with_logits(
        logits, qualities, reduction='none'
    )
    counted = assigned | sure_cells(batch, size)
    total = shared_total(qualities.sum())
    score = (score_loss * counted).sum() / total
    truth = batch['boxes'].gather(1, owners.clamp_min(0).unsqueeze(2).expand(-1, -1, 4))
    giou = generalised_iou(boxes[assigned], truth[assigned])
    box = ((1 - giou) * qualities[assigned]).sum() / total
    return {'loss': score + _BOX_WEIGHT * box, 'score': score.detach(), 'box': box.detach()}


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of boxes pair by pair, (..., 4) → (...)."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    intersection = (high - low).clamp_min(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - intersection
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return intersection / union.clamp_min(1e-6) - (hull - union) / hull.clamp_min(1e-6)
