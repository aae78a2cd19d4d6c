#!/bin/sh
# Trains and exports `lite` as models/lite.md tells: sh lite.sh DATA TINYPOSE_256x192.onnx STANDARD OUT [OPTION …]
# DATA holds train.json, teacher.json, val.json and images; STANDARD is what standard.sh left: the same network on
# larger crops. Given again, it goes on where it stopped.
# OPTION …: of every training, such as --device cuda.
set -eu
data=$1 tinypose=$2 standard=$3 out=$4
recipe=$(dirname "$0")/people.yaml
shift 4
mkdir -p "$out"
rmpe train sppe --model lite --data "$recipe" --data-root "$data" --out "$out/sppe" --init "$standard/sppe/best.pt" \
    --batch 16 --steps 4950 --warmup 60 --learning-rate 6e-4 --encoder-factor 0.7 "$@"
rmpe mix-weights "$out/sppe/best.pt=0.5" "$standard/sppe/best.pt=0.1" "$standard/further/best.pt=0.2" \
    --pretrained "$tinypose=0.2" --data "$recipe" --data-root "$data" --box-growth 0.05 --out "$out/mixed.pt"
# It learned on boxes grown by 0.15 and is best at boxes grown by 0.05: the transformer learns to find those.
rmpe train localisation --model lite --data "$recipe" --data-root "$data" --out "$out/stn" --init "$out/mixed.pt" \
    --box-growth 0.05 --batch 64 --steps 2500 --warmup 100 --learning-rate 2e-3 --validation-people 60 "$@"
rmpe export pose "$out/stn/checkpoint.pt" "$out/unscored.onnx" --model lite --name lite --model-version 0.6.0 --box-growth 0.05 \
    --training-data "COCO val2017 (part), LSP, LSP Extended and others, see models/lite.md" --license Apache-2.0 \
    --data "$recipe" --data-root "$data"
rmpe fit-covariance --pose "$out/unscored.onnx" --annotations "$data/val.json" --images "$data/images" --out "$out/spread.onnx"
rmpe fit-score --pose "$out/spread.onnx" --annotations "$data/val.json" --images "$data/images" --out "$out/lite.onnx"
