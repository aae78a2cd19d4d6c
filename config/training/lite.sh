#!/bin/sh
# Trains and exports `lite` as models/lite.md tells: sh lite.sh DATA STANDARD_SPPE.pt OUT
# DATA holds train.json, teacher.json, val.json and images; STANDARD_SPPE.pt is what standard.sh
# trained (OUT/sppe/best.pt there): the same network on larger crops. Given again, it goes on where
# it stopped.
set -eu
data=$1 standard=$2 out=$3
recipe=$(dirname "$0")/people.yaml
mkdir -p "$out"
rmpe train sppe --model lite --data "$recipe" --data-root "$data" --out "$out/sppe" --init "$standard" \
    --batch 16 --steps 4950 --warmup 60 --learning-rate 6e-4 --encoder-factor 0.7
rmpe export pose "$out/sppe/best.pt" "$out/unscored.onnx" --model lite --name lite --model-version 0.4.1 --box-growth 0.05 \
    --data "$recipe" --data-root "$data"
rmpe fit-covariance --pose "$out/unscored.onnx" --annotations "$data/val.json" --images "$data/images" --out "$out/spread.onnx"
rmpe fit-score --pose "$out/spread.onnx" --annotations "$data/val.json" --images "$data/images" --out "$out/lite.onnx"
