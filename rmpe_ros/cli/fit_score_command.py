# SPDX-License-Identifier: Apache-2.0
"""`rmpe fit-score`: what people's scores go by, fitted and put into a pose model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from rmpe_ros.cli.errors import says_errors
from rmpe_ros.cli.evaluate_command import (
    add_detector_options,
    add_label_options,
    open_pictures,
    prepare_pipeline,
    run_models,
)
from rmpe_ros.cli.predict_command import add_pipeline_options, open_pipeline
from rmpe_ros.io.file_guard import writes


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'fit-score',
        help='fit the score of people to labelled pictures, and put it into a pose model',
        description='Runs the pipeline on labelled pictures, fits the probabilities that a box is '
        'on a person and that its joints are right (OKS 0.5) to the scores of box and joints, '
        'takes the lowest threshold at which 87 % of the boxes are on people, and writes the pose '
        'model with all of it in its metadata. Only pictures in which everybody is labelled count; '
        'pictures without people among them teach what a ghost is.',
    )
    add_label_options(parser)
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='the pose model to write'
    )
    add_pipeline_options(parser, most=None)
    add_detector_options(parser)
    writes(parser, '--out')
    parser.set_defaults(run=run, gt_boxes=False)


@says_errors('fit-score', extra='train')
def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, or 2 for wrong usage and files that cannot be used."""
    import onnx
    import sklearn  # noqa: F401  missing? better known before the work than after

    from rmpe_ros.evaluation.person_scores import fit_person_score, judge_poses, measure_quality
    from rmpe_ros.io.files import write_file
    from rmpe_ros.models import DEFAULT_POSE, find_model

    labels, _, paths = open_pictures(args, lambda image: image.complete)
    model = onnx.load(str(find_model(args.pose or DEFAULT_POSE)))
    with open_pipeline(args) as pipeline:
        prepare_pipeline(pipeline, args)
        pipeline.min_score = 0.0
        if pipeline.pose_nms is not None:  # scores are told before poses are merged
            pipeline.pose_nms = replace(pipeline.pose_nms, merge=False)
        found = run_models(args, labels, paths, pipeline)
    poses = judge_poses(labels, found)
    score = fit_person_score(poses)
    kept = [each for each in model.metadata_props if each.key != 'rmpe.person_score']
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key='rmpe.person_score', value=score.to_json())
    write_file(args.out, model.SerializeToString())
    quality = measure_quality(score, poses)
    print(f'{len(poses.right)} poses in {len(labels.images)} pictures, {poses.people} people')
    print(f'person score {score.to_json()}')
    print(
        f'at {quality.threshold:g}: precision {quality.precision:.3f}, recall {quality.recall:.3f}'
    )
    return 0
