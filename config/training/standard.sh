#!/bin/sh
# Trains and exports `standard` as models/standard.md tells: sh standard.sh DATA TINYPOSE_256x192.onnx RTMDET_NANO.onnx OUT [OPTION …]
# DATA holds train.json, teacher.json, val.json and images. Given again, it goes on where it stopped.
# OPTION …: of every training, such as --device cuda.
set -eu
data=$1 tinypose=$2 detector=$3 out=$4
recipe=$(dirname "$0")/people.yaml
shift 4
mkdir -p "$out"
rmpe train sppe --model standard --data "$recipe" --data-root "$data" --out "$out/sppe" --pretrained "$tinypose" \
    --teacher "$tinypose" --frozen-blocks 2 --batch 16 --steps 900 --warmup 60 --learning-rate 4e-4 --encoder-factor 0.5 "$@"
# What it learns further makes it better at sports and worse at everyday people: the mean of all is best at both.
rmpe train sppe --model standard --data "$recipe" --data-root "$data" --out "$out/further" --init "$out/sppe/best.pt" \
    --frozen-blocks 2 --batch 16 --steps 755 --warmup 60 --learning-rate 5e-4 --encoder-factor 0.7 "$@"
rmpe mix-weights "$out/sppe/best.pt=0.2" "$out/further/best.pt=0.35" --pretrained "$tinypose=0.45" \
    --model standard --data "$recipe" --data-root "$data" --out "$out/mixed.pt"
# The transformer starts from a detector, the shipped one or the one it was trained from.
rmpe train localisation --model standard --data "$recipe" --data-root "$data" --out "$out/stn" --init "$out/mixed.pt" \
    --stn-pretrained "$detector" --batch 32 --steps 1820 --warmup 100 --learning-rate 1e-3 --encoder-factor 0.2 --validation-people 40 "$@"
rmpe train localisation --model standard --data "$recipe" --data-root "$data" --out "$out/stn-further" --init "$out/stn/checkpoint.pt" \
    --batch 32 --steps 2292 --warmup 100 --learning-rate 7e-4 --encoder-factor 0.25 --validation-people 40 --seed 5 "$@"
rmpe export pose "$out/stn-further/checkpoint.pt" "$out/unscored.onnx" --model standard --name standard --model-version 0.5.1 \
    --training-data "COCO val2017 (part), LSP, LSP Extended and others, see models/standard.md" --license Apache-2.0 \
    --data "$recipe" --data-root "$data"
rmpe fit-covariance --pose "$out/unscored.onnx" --annotations "$data/val.json" --images "$data/images" --out "$out/spread.onnx"
rmpe fit-score --pose "$out/spread.onnx" --annotations "$data/val.json" --images "$data/images" --out "$out/standard.onnx"
