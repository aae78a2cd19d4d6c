# SPDX-License-Identifier: Apache-2.0
"""Number formats that a network is trained in; its weights themselves stay float32."""

from __future__ import annotations

import torch

PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
_TYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def choose_precision(name: str, device: torch.device) -> str:
    """A precision of PRECISIONS; 'auto' is bf16 where the device computes in it, else fp16 on a GPU
    and fp32 on a CPU.
    """
    if name not in PRECISIONS:
        raise ValueError(f'no precision {name!r}: there are {", ".join(PRECISIONS)}')
    if name != 'auto':
        return name
    if device.type == 'cuda':
        return 'bf16' if torch.cuda.is_bf16_supported(including_emulation=False) else 'fp16'
    return 'bf16' if _cpu_has_bf16() else 'fp32'


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Convolutions and the like in `precision`, sensitive operations in float32."""
    return torch.autocast(device.type, dtype=_TYPES[precision], enabled=precision != 'fp32')


def _cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for it; where it has not, bf16 is slower than float32."""
    # Before PyTorch 2.11 nobody could be asked.
    get_capabilities = getattr(torch.cpu, 'get_capabilities', None)
    return get_capabilities is not None and any(
        there is True for name, there in get_capabilities().items() if 'bf16' in name
    )
