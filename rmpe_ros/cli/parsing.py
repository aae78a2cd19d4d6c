# SPDX-License-Identifier: Apache-2.0
"""The parser of `rmpe`: commands in groups, and a guess at what was meant by an unknown word."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rmpe_ros.core.nearest import did_you_mean


class Parser(argparse.ArgumentParser):
    """Says what was probably meant by an unknown command, option or choice."""

    # argparse is typed by overloads that say nothing more.
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self._chosen(parsed)._refuse(unknown)
        return parsed

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(each) for each in action.choices]
            kind = 'command' if isinstance(action, argparse._SubParsersAction) else 'choice'
            raise argparse.ArgumentError(
                None if kind == 'command' else action,
                f'unknown {kind} {value!r}{did_you_mean(str(value), known)}'
                f'; there are {", ".join(known)}',
            )

    def _chosen(self, parsed: argparse.Namespace) -> Parser:
        """The parser of the command that was given."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen = action.choices.get(getattr(parsed, action.dest, None) or '')
                if isinstance(chosen, Parser):
                    return chosen._chosen(parsed)
        return self

    def _refuse(self, unknown: Sequence[str]) -> None:
        word = unknown[0].partition('=')[0]
        if word.startswith('-'):
            known = [name for action in shown_actions(self) for name in action.option_strings]
            self.error(f'unknown option {word}{did_you_mean(word, known)}')
        self.error(f'unknown argument {word!r}: nothing more is expected there')


class CommandGroups:
    """Takes the place of argparse's own list of commands, which has one order and no groups.

    groups: heading → names of commands, the common ones first.
    """

    def __init__(self, parser: Parser, groups: Mapping[str, Sequence[str]]) -> None:
        self._commands = parser.add_subparsers(dest='command', metavar='COMMAND')
        self._groups = groups
        self.summaries: dict[str, str] = {}

    def add_parser(self, name: str, *, help: str, **options: Any) -> Any:
        """As argparse has it."""
        self.summaries[name] = help
        return self._commands.add_parser(name, **options)

    def text(self) -> str:
        """The list of commands; those in no group come last."""
        known = {name for names in self._groups.values() for name in names}
        groups = {**self._groups, 'Others': [name for name in self.summaries if name not in known]}
        return '\n\n'.join(
            '\n'.join([f'{title}:', *(f'  {name:17} {self.summaries[name]}' for name in present)])
            for title, names in groups.items()
            if (present := [name for name in names if name in self.summaries])
        )


def shown_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a parser, without older spellings, which help does not show."""
    return [action for action in parser._actions if action.help is not argparse.SUPPRESS]


def all_parsers(
    parser: argparse.ArgumentParser, name: str = ''
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and the commands below it, by their full names."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, each in action.choices.items():
                yield from all_parsers(each, f'{name} {word}'.strip())
