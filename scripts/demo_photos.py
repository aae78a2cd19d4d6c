# SPDX-License-Identifier: Apache-2.0
"""The photos of people that the demo shows. They travel in packages on PyPI that are never run."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Photo:
    """One photo in a wheel, and who may use it."""

    package: str  # as in the wheel's file name; pinned in requirements/photos.txt
    member: str
    credit: str


PHOTOS = (
    Photo(
        'ultralytics',
        'ultralytics/assets/bus.jpg',
        'Ultralytics, in a package under AGPL-3.0; shown only, not passed on',
    ),
    Photo(
        'ultralytics',
        'ultralytics/assets/zidane.jpg',
        'Ultralytics, in a package under AGPL-3.0; shown only, not passed on',
    ),
    Photo('scikit_image', 'skimage/data/astronaut.png', 'NASA, Eileen Collins; public domain'),
    Photo('scikit_image', 'skimage/data/camera.png', 'Lav Varshney; CC0'),
    Photo(
        'matplotlib',
        'matplotlib/mpl-data/sample_data/grace_hopper.jpg',
        'U.S. Navy, Grace Hopper; public domain',
    ),
)


def unpack_photos(wheels: Path, folder: Path) -> list[Path]:
    """Copy the photos out of the wheels in one folder into another, with .credits.txt.

    Raises ValueError when a wheel or a photo in it is missing.
    """
    copies = []
    for photo in PHOTOS:
        found = sorted(wheels.glob(f'{photo.package}-*.whl'))
        if not found:
            raise ValueError(
                f'no wheel of {photo.package} in {wheels}: requirements/photos.txt must name it'
            )
        with zipfile.ZipFile(found[0]) as wheel:
            if photo.member not in wheel.namelist():
                raise ValueError(
                    f'{found[0].name} has no {photo.member}: '
                    'pin a version that has it in requirements/photos.txt'
                )
            copy = folder / PurePosixPath(photo.member).name
            copy.write_bytes(wheel.read(photo.member))
        copies.append(copy)
    credits = [f'{PurePosixPath(photo.member).name}: {photo.credit}\n' for photo in PHOTOS]
    (folder / '.credits.txt').write_text(''.join(credits), encoding='utf-8')
    return copies
