# SPDX-License-Identifier: Apache-2.0
"""What data sets and networks call the class of people."""

from collections.abc import Mapping

PERSON_NAMES = frozenset(
    {'person', 'persons', 'people', 'pedestrian', 'pedestrians', 'human', 'humans'}
)


def is_person(name: str) -> bool:
    """Whether a class of this name is of people, in whatever case it is written."""
    return name.strip().lower() in PERSON_NAMES


def person_numbers(names: Mapping[int, str]) -> list[int]:
    """The numbers of the classes of people: of one called person alone where there is one."""
    people = [number for number, name in names.items() if is_person(name)]
    exact = [number for number in people if names[number].strip().lower() == 'person']
    return exact or people
