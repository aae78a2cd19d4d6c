# SPDX-License-Identifier: Apache-2.0
"""The nearest of the known names to one that was mistyped."""

from collections.abc import Iterable

_LEAST_LIKENESS = 0.6


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, None where none is like it."""
    from difflib import get_close_matches  # only when something was mistyped

    by_letters = {each.lower().replace('_', '-'): each for each in known}
    found = get_close_matches(
        name.lower().replace('_', '-'), by_letters, n=1, cutoff=_LEAST_LIKENESS
    )
    return by_letters[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the end of a message, empty where nothing known is like `name`."""
    found = nearest(name, known)
    return f' (did you mean {found}?)' if found else ''
