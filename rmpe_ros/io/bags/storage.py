# SPDX-License-Identifier: Apache-2.0
"""What a storage file of a bag (.mcap, .db3) is to its readers, and how it fails."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol


class BagError(ValueError):
    """A bag that cannot be used; names it, says what is wrong and what to do."""


class DamageError(Exception):
    """Nothing of a file can be read; the text says why."""


@dataclass(frozen=True)
class Channel:
    """The messages of one topic and type in one file.

    definition: of the type, as .msg text with all types inside; empty where the file has none.
    count: number of messages.
    """

    id: int
    topic: str
    type: str
    definition: str
    count: int


class Storage(Protocol):
    """A file that has been opened."""

    channels: list[Channel]

    def messages(self, wanted: Collection[int]) -> Iterator[tuple[Channel, int, bytes]]:
        """Channel, time of receiving in ns since 1970 and bytes of each message of `wanted`."""

    def close(self) -> None:
        """Free the file."""
