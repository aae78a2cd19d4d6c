# SPDX-License-Identifier: Apache-2.0
"""Where labels of people go: on no face, on no other label, and not over the picture's edge."""

from __future__ import annotations

from collections.abc import Sequence

Rectangle = tuple[float, float, float, float]
"""x, y of the top-left corner, width, height."""

# To cover a face is worse than to cover another label, which is worse than to lie inside the box.
_FACE, _LABEL, _BOX = 4.0, 2.0, 0.2


def place_labels(
    sizes: Sequence[tuple[float, float]],
    boxes: Sequence[Sequence[float]],
    faces: Sequence[Rectangle],
    canvas: tuple[float, float],
) -> list[tuple[float, float]]:
    """The top-left corners of labels, one for each person, the first person choosing first.

    sizes: width and height of each; boxes: of the people, x1, y1, x2, y2; canvas: width, height.
    Tried are the box's corners, above, below and beside it, each moved into the picture; taken is
    the first of those that cover least.
    """
    places: list[tuple[float, float]] = []
    taken: list[Rectangle] = []
    for (width, height), (x1, y1, x2, y2) in zip(sizes, boxes, strict=True):
        candidates = [
            (x1, y1 - height), (x2 - width, y1 - height), (x1, y2), (x2 - width, y2),
            (x1 - width, y1), (x2, y1), (x1 - width, y2 - height), (x2, y2 - height),
            (x1, y2 - height), (x2 - width, y2 - height), (x1, y1), (x2 - width, y1),
        ]  # fmt: skip
        box = (x1, y1, x2 - x1, y2 - y1)
        best, least = (0.0, 0.0), float('inf')
        for x, y in candidates:
            x = min(max(x, 0.0), max(0.0, canvas[0] - width))
            y = min(max(y, 0.0), max(0.0, canvas[1] - height))
            label = (x, y, width, height)
            cost = _BOX * overlap(label, box)
            cost += sum(_FACE * overlap(label, face) for face in faces)
            cost += sum(_LABEL * overlap(label, other) for other in taken)
            if cost < least - 1e-6:
                best, least = (x, y), cost
        places.append(best)
        taken.append((*best, width, height))
    return places


def overlap(a: Rectangle, b: Rectangle) -> float:
    """The area that two rectangles share."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(wide, 0.0) * max(high, 0.0)
