# SPDX-License-Identifier: Apache-2.0
"""Gives exported pose models the decoding that exports have now, in place: python
scripts/renew_decoding.py models/lite.onnx … (see `rmpe_ros.networks.renewed_decoding`).

A model is only written when its keypoints stay within a thousandth of a pixel on crops of a photo.
"""

import sys
from pathlib import Path

import numpy as np
import onnx

from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.engines.parity import example_inputs, point_differences
from rmpe_ros.io.files import write_file
from rmpe_ros.networks.renewed_decoding import renew_decoding

MOST_PIXELS = 1e-3


def main(files: list[str]) -> int:
    for file in files:
        path = Path(file)
        before = path.read_bytes()
        model = onnx.load_model_from_string(before)
        if not renew_decoding(model):
            print(f'{file}: nothing to do')
            continue
        after = model.SerializeToString()
        old, new = OnnxRuntimeEngine(before), OnnxRuntimeEngine(after)
        crops = example_inputs(old.inputs, old.metadata)
        assert crops is not None, 'it is a pose model'
        off = float(np.max(point_differences('pose', old(crops), new(crops))))
        if (
            off > MOST_PIXELS
            or old.metadata != new.metadata
            or list(old.outputs) != list(new.outputs)
        ):
            print(f'{file} was not written: a keypoint would move by {off:.1e} px')
            return 1
        write_file(path, after)
        print(f'{file}: decoding renewed, keypoints move by {off:.1e} px at most')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
