#!/bin/sh
# Trains and exports `lite` as models/lite.md tells: sh lite.sh DATA MOVENET_LIGHTNING.onnx OUT
# DATA holds train.json, teacher.json, val.json and images. Given again, it goes on where it stopped.
set -eu
data=$1 movenet=$2 out=$3
recipe=$(dirname "$0")/people.yaml
mkdir -p "$out"
[ -f "$out/pgpg.json" ] || rmpe fit-pgpg --annotations "$data/train.json" --images "$data/images" --out "$out/pgpg.json"
rmpe train sppe --model mobile --data "$recipe" --data-root "$data" --out "$out/sppe" --pretrained "$movenet" \
    --frozen-blocks 3 --pgpg "$out/pgpg.json" --batch 16 --steps 7600
rmpe train sstn --model mobile --data "$recipe" --data-root "$data" --out "$out/sstn" --init "$out/sppe/checkpoint.pt" \
    --frozen-blocks 3 --pgpg "$out/pgpg.json" --batch 16 --steps 1400 --learning-rate 2e-4
rmpe export pose "$out/sstn/checkpoint.pt" "$out/bare.onnx" --model mobile --name lite --data "$recipe" --data-root "$data"
rmpe fit-covariance --pose "$out/bare.onnx" --annotations "$data/val.json" --images "$data/images" --out "$out/lite.onnx"
