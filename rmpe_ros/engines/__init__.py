# SPDX-License-Identifier: Apache-2.0
"""Engines run an ONNX model: a dict of arrays in, a dict of arrays out, whatever is beneath."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class EngineError(ValueError):
    """A model cannot be loaded, or cannot be run on the arrays given; says what to do about it."""


@dataclass(frozen=True)
class TensorInfo:
    """Shape and element type of a model's input or output.

    shape: one entry per dimension: its size, or a name (or None) where any size is accepted.
    """

    shape: tuple[int | str | None, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f'{self.dtype} [{", ".join(str(side or "?") for side in self.shape)}]'


class Engine(Protocol):
    """A loaded model."""

    @property
    def name(self) -> str:
        """What to call it in messages, usually the file's name."""

    @property
    def inputs(self) -> Mapping[str, TensorInfo]:
        """The model's inputs by name."""

    @property
    def outputs(self) -> Mapping[str, TensorInfo]:
        """The model's outputs by name."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the model says about itself (ONNX metadata_props), see `models.ModelInfo`."""

    @property
    def backend(self) -> str:
        """What runs the model, with version and device."""

    @property
    def reason(self) -> str:
        """Why this backend runs it and not a better one; empty where it was asked for by name."""

    @property
    def state(self) -> str:
        """Empty when the engine is the one that was wanted; else how far that one is, or why it is
        not there.
        """

    @property
    def preferred_batch(self) -> int:
        """The batch size that it is most efficient with, for models whose batch is free."""

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model. Raises EngineError naming the input, its shape and the limit."""

    def close(self) -> None:
        """Free the model's memory; a call afterwards is an EngineError."""


BACKENDS = ('auto', 'tensorrt', 'tensorrt_rtx', 'onnxruntime_cuda', 'onnxruntime')
"""What can run a model; 'auto' takes the first of the others that works on this machine."""


def open_engine(model: Path | str | bytes, backend: str = 'auto', **options: Any) -> Engine:
    """Load a model with the named backend; 'auto' takes the best one of this machine.

    options: see `selection.open_engine`, for example `threads=2` or `precision='fp16'`.
    Raises EngineError when the model or the backend cannot be had.
    """
    from rmpe_ros.engines import selection

    return selection.open_engine(model, backend, **options)


def check_inputs(
    name: str, expected: Mapping[str, TensorInfo], given: Mapping[str, NDArray[Any]]
) -> None:
    """Raise EngineError unless the arrays `given` are the inputs `expected` by the model `name`."""
    for missing in expected.keys() - given.keys():
        raise EngineError(f'{name}: input {missing!r} ({expected[missing]}) is missing')
    for unknown in given.keys() - expected.keys():
        raise EngineError(f'{name}: no input {unknown!r}; the model takes {", ".join(expected)}')
    for key, info in expected.items():
        array = given[key]
        fits = len(array.shape) == len(info.shape) and all(
            not isinstance(limit, int) or side == limit
            for side, limit in zip(array.shape, info.shape, strict=True)
        )
        if array.dtype != info.dtype or not fits:
            raise EngineError(
                f'{name}: input {key!r} must be {info}, got {array.dtype} {list(array.shape)}'
            )
