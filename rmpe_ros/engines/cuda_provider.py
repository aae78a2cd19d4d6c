# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime needs on a GPU: its libraries, float32 that is float32, and few input shapes.

For every new shape, cuDNN chooses its kernels, which takes up to some seconds, and a session seems
to forget them when another shape comes in between. So each shape has a session of its own, and
batches of people have one of two sizes.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rmpe_ros.engines.profiles import Piece, Shape, split_batch

CUDA = 'CUDAExecutionProvider'
PEOPLE = (8, 32)
"""Sizes of a batch of people. On an H100, eight take no longer than one."""

# Shapes kept ready: of people, and of the pictures of some cameras.
_MOST_SHAPES = 8

Arrays = dict[str, NDArray[Any]]


class SessionsByShape:
    """ONNX Runtime sessions of one model, one for each shape of the inputs in use.

    open_session: opens another one. first: is there already.
    """

    def __init__(
        self,
        open_session: Callable[[], onnxruntime.InferenceSession],
        first: onnxruntime.InferenceSession,
    ) -> None:
        self._open = open_session
        self._spare: onnxruntime.InferenceSession | None = first
        self._sessions: OrderedDict[tuple[Shape, ...], onnxruntime.InferenceSession] = OrderedDict()

    def __call__(self, inputs: Arrays) -> list[NDArray[Any]]:
        """The model's outputs."""
        shapes = tuple(array.shape for array in inputs.values())
        session = self._sessions.pop(shapes, None)
        if session is None:
            if len(self._sessions) >= _MOST_SHAPES:
                self._sessions.popitem(last=False)
            session, self._spare = self._spare or self._open(), None
        self._sessions[shapes] = session
        outputs: list[NDArray[Any]] = session.run(None, inputs)
        return outputs


def run_in_batches(
    run: Callable[[Arrays], list[NDArray[Any]]],
    inputs: Mapping[str, NDArray[Any]],
    batches: tuple[int, ...],
) -> list[NDArray[Any]]:
    """The outputs of `run` for all rows of the inputs, which sees batches of these sizes only: the
    last one is padded with zeros, whose answers are left out.
    """
    rows = len(next(iter(inputs.values())))
    parts = []
    for piece in split_batch(rows, batches) or (Piece(0, 0, batches[0]),):
        count = piece.stop - piece.start
        padded = {
            name: np.zeros((piece.bucket, *array.shape[1:]), array.dtype)
            for name, array in inputs.items()
        }
        for name, array in inputs.items():
            padded[name][:count] = array[piece.start : piece.stop]
        parts.append([output[:count] for output in run(padded)])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def provider_options() -> dict[str, str]:
    """What ONNX Runtime's CUDA provider should do otherwise than by default."""
    # Instead of trying every algorithm, which took cuDNN longer and found no better ones for lite.
    options = {'cudnn_conv_algo_search': 'HEURISTIC'}
    if tuple(map(int, onnxruntime.__version__.split('.')[:2])) >= (1, 18):
        # TF32 would round the inputs of float32 convolutions to 10 bits, which moves keypoints by
        # more than an fp32 engine may. Older versions do not know the option.
        options['use_tf32'] = '0'
    return options


@cache
def load_cuda_libraries() -> str:
    """Load CUDA and cuDNN from where pip puts them, for this process.

    What cannot be loaded, in ONNX Runtime's words; empty when all is well, and for versions before
    1.21, which do not do this.
    """
    preload = getattr(onnxruntime, 'preload_dlls', None)
    if preload is None:
        return ''
    with redirect_stdout(StringIO()) as said:  # it prints, and standard output is not ours
        preload()
    return '; '.join(line for line in said.getvalue().splitlines() if line.startswith('Failed'))
