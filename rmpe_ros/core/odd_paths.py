# SPDX-License-Identifier: Apache-2.0
"""What is odd with the path of a file that is not there, in a few words for an error message."""

import re
from itertools import islice
from pathlib import Path

from rmpe_ros.core.nearest import nearest

# pathlib makes one slash of two.
_ADDRESS = re.compile(r'(https?|ftp|s3|gs|rtsp|rtmp|rtp|udp|tcp):/{1,2}(.*)', re.IGNORECASE)
_MOST_NAMES = 1000


def web_address(path: str | Path) -> str | None:
    """The address that was given where a path is expected, None where it is a path."""
    found = _ADDRESS.fullmatch(str(path))
    return f'{found[1].lower()}://{found[2].lstrip("/")}' if found else None


def path_hint(path: str | Path) -> str:
    """'; …' about a path where nothing is: what to write instead; empty where nothing is odd."""
    text = str(path)
    if address := web_address(text):
        return f'; {address} is an address: download the file, and give the path it has here'
    if text.startswith('file:'):
        return '; leave out "file:" and give the path alone'
    if text != text.strip() or text[:1] in '"\'' or text[-1:] in '"\'':
        return '; there are quotation marks or spaces around it, which are taken as part of it'
    if text.startswith('~'):
        return '; the shell replaces ~ by the home folder only outside of quotation marks'
    if re.match(r'[A-Za-z]:\\|.*\\', text) and '/' not in text:
        return '; folders are separated by / here'
    return _near_file(Path(text))


def why_unreadable(error: OSError, path: str | Path) -> str:
    """What went wrong with a file, with `path_hint` where there is none."""
    hint = path_hint(path) if isinstance(error, FileNotFoundError) else ''
    return f'{error.strerror or error}{hint}'


def _near_file(path: Path) -> str:
    """A file with almost this name, or the first folder on the way that is missing."""
    missing = next((each for each in reversed(path.parents) if not each.exists()), None)
    if missing is not None:
        return f'; there is no folder {missing}'
    try:
        names = [each.name for each in islice(path.parent.iterdir(), _MOST_NAMES)]
    except OSError:
        return ''
    found = nearest(path.name, (name for name in names if not name.startswith('.')))
    return f' (did you mean {path.parent / found}?)' if found else ''
