# SPDX-License-Identifier: Apache-2.0
"""The pipeline that the parameters of `pose_node` describe, and the memory that it leaves."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Mapping
from typing import Any

from rmpe_ros.core.pose_nms import PoseNmsParameters
from rmpe_ros.pipeline import PosePipeline


def open_pipeline(settings: Mapping[str, Any]) -> PosePipeline:
    """The pipeline that the parameters of `pose_node` describe; raises ModelError, EngineError."""
    pipeline = PosePipeline(
        settings['detector'],
        settings['pose_model'],
        threads=settings['threads'] or None,
        backend=settings['backend'],
        precision=settings['precision'],
        serve_while_building=settings['serve_while_building'],
    )
    apply_settings(pipeline, settings)
    return pipeline


def apply_settings(pipeline: PosePipeline, settings: Mapping[str, Any]) -> None:
    """Set what may change while the pipeline runs; raises ValueError for impossible values."""
    nms = PoseNmsParameters(
        sigma1=settings['pose_nms.sigma1'],
        sigma2=settings['pose_nms.sigma2'],
        lambda_=settings['pose_nms.lambda'],
        eta=settings['pose_nms.eta'],
        variant=settings['pose_nms.variant'],
        merge=settings['pose_nms.merge'],
    )
    detector = pipeline.detector
    threshold, iou = settings['score_threshold'], settings['box_nms_iou']
    detector.score_threshold = detector.info.score_threshold if threshold < 0 else threshold
    detector.nms_iou = detector.info.nms_iou if iou < 0 else iou
    pipeline.pose_nms = nms if settings['pose_nms.enabled'] else None
    min_score = settings['min_score']
    pipeline.min_score = pipeline.suggested_min_score if min_score < 0 else min_score
    pipeline.max_people = settings['max_people'] or None


def return_memory() -> None:
    """Give freed memory back to the system; glibc keeps it otherwise."""
    gc.collect()
    if sys.platform == 'linux':
        trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
        if trim is not None:
            trim(0)
