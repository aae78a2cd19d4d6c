#!/bin/sh
# Trains and exports `detector` as models/detector.md tells: sh detector.sh DATA RTMDET_NANO.onnx OUT [OPTION …]
# DATA holds train.json, teacher.json, val.json and images. Given again, it goes on where it stopped.
# OPTION …: of every training, such as --device cuda.
set -eu
data=$1 rtmdet=$2 out=$3
shift 3
mkdir -p "$out"
rmpe train detector --data "$(dirname "$0")/people.yaml" --data-root "$data" --out "$out/run" --pretrained "$rtmdet" \
    --batch 16 --steps 760 --learning-rate 2e-4 "$@"
rmpe export detector "$out/run/checkpoint.pt" "$out/detector.onnx" --license "Apache-2.0; see the model card on data" \
    --training-data "COCO (273 photos), LSP, LSP Extended, INRIA negatives and others with human boxes; street, office and group photos \
labelled by RTMDet-nano and YOLOX-nano; started from OpenMMLab RTMDet-nano"
