# SPDX-License-Identifier: Apache-2.0
"""The pipeline that the parameters of `pose_node` describe."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rmpe_ros.core.pose_nms import PoseNmsParameters
from rmpe_ros.engines.onnxruntime import usable_cpus
from rmpe_ros.nodes.settings.parameter_tables import PoseSettings
from rmpe_ros.pipeline import PosePipeline

_LOG = logging.getLogger(__name__)


def make_pipeline(
    settings: PoseSettings, warn: Callable[[str], object] = _LOG.warning
) -> PosePipeline:
    """The pipeline that the parameters of `pose_node` describe; raises ModelError, EngineError.

    warn: is told what is not taken as it was asked for.
    """
    threads, most = settings.threads, usable_cpus()
    if threads > most:
        warn(f'parameter threads is {threads}, but there are {most} CPUs here: {most} are used')
    pipeline = PosePipeline(
        settings.detector,
        settings.pose_model,
        threads=min(threads, most) or None,
        backend=settings.backend,
        precision=settings.precision,
        serve_while_building=settings.serve_while_building,
    )
    apply_settings(pipeline, settings)
    return pipeline


def apply_settings(pipeline: PosePipeline, settings: PoseSettings) -> None:
    """Set what may change while the pipeline runs; raises ValueError for impossible values."""
    nms = PoseNmsParameters(
        sigma1=settings.pose_nms.sigma1,
        sigma2=settings.pose_nms.sigma2,
        lambda_=settings.pose_nms.lambda_,
        eta=settings.pose_nms.eta,
        variant=settings.pose_nms.variant,
        merge=settings.pose_nms.merge,
    )
    detector = pipeline.detector
    threshold, iou = settings.score_threshold, settings.box_nms_iou
    detector.score_threshold = detector.info.score_threshold if threshold < 0 else threshold
    detector.size = settings.detector_size or None
    detector.nms_iou = detector.info.nms_iou if iou < 0 else iou
    pipeline.pose_nms = nms if settings.pose_nms.enabled else None
    min_score = settings.min_score
    pipeline.min_score = pipeline.suggested_min_score if min_score < 0 else min_score
    pipeline.max_people = settings.max_people or None


def engines_sentence(pipeline: PosePipeline) -> str:
    """What runs the models; of the reasons why nothing better does, one short one."""
    engines = (pipeline.detector.engine, pipeline.estimator.engine)
    backends = list(dict.fromkeys(engine.backend for engine in engines))
    if len(backends) > 1:
        return ', '.join(f'{engine.name} runs on {engine.backend}' for engine in engines)
    why = ''
    if reasons := [engine.reason for engine in engines if engine.reason]:
        missing = all(each.endswith('not installed') for each in reasons[0].split('; ')[:2])
        short = 'TensorRT is not installed' if missing else reasons[0].partition('; ')[0]
        why = f', as {short} ("rmpe doctor" tells all)'
    return f'the models run on {backends[0]}{why}'
