# SPDX-License-Identifier: Apache-2.0
"""`config/rmpe.yaml` and the README's tables, made of the parameter tables.

`python3 -m rmpe_ros.nodes.settings.parameter_documents write` brings both up to date; `yaml` and
`markdown` in place of `write` print what goes into them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rmpe_ros.nodes.settings.parameter_tables import TABLES
from rmpe_ros.nodes.settings.parameters import Parameter, Value

README_BEGIN = (
    '<!-- parameters: made by `python3 -m rmpe_ros.nodes.settings.parameter_documents write` -->'
)
README_END = '<!-- end of parameters -->'


def parameters_yaml() -> str:
    """The text of `config/rmpe.yaml`: every parameter with its default, range and meaning."""
    lines = [
        '# Parameters of the nodes with their defaults, for any namespace.',
        '# Generated: python3 -m rmpe_ros.nodes.settings.parameter_documents write',
        '# "live" parameters may change while the node runs, those "at configure" while it is',
        '# unconfigured.',
    ]
    for node, table in TABLES.items():
        lines += ['', f'/**/{node}:', '  ros__parameters:']
        group = ''
        for parameter in table:
            *parents, name = parameter.name.split('.')
            if parents and parents[0] != group:
                lines.append(f'    {parents[0]}:')
            group = parents[0] if parents else ''
            indent = '      ' if parents else '    '
            facts = ', '.join(filter(None, [parameter.limits, _when(parameter, 'live')]))
            lines.append(f'{indent}# {parameter.meaning}' + (f' [{facts}]' if facts else ''))
            lines.append(f'{indent}{name}: {_literal(parameter.default)}')
    return '\n'.join(lines) + '\n'


def parameters_markdown(node: str) -> str:
    """The README's table of one node's parameters."""
    rows = ['| Parameter | Type | Default | Range | Live | Meaning |', '|---|---|---|---|---|---|']
    for parameter in TABLES[node]:
        live = _when(parameter, 'yes')
        rows.append(
            f'| `{parameter.name}` | {parameter.type_name} | `{_literal(parameter.default)}` '
            f'| {parameter.limits} | {live} | {parameter.meaning} |'
        )
    return '\n'.join(rows) + '\n'


def _when(parameter: Parameter, live: str) -> str:
    """When the parameter may change, empty for never."""
    return live if parameter.dynamic else 'at configure' if parameter.at_configure else ''


def _literal(value: Value) -> str:
    """`value` as YAML that reads back as the same type."""
    return json.dumps(value)


def readme_section() -> str:
    """The tables of all nodes, as they stand in README.md between the two markers."""
    return '\n'.join(f'### {node}\n\n{parameters_markdown(node)}' for node in TABLES)


def insert_section(readme: str) -> str:
    """`readme` with the present tables between the markers; ValueError when those are missing."""
    before, begin, rest = readme.partition(README_BEGIN)
    _, end, after = rest.partition(README_END)
    if not (begin and end):
        raise ValueError(f'README.md has no lines {README_BEGIN!r} and {README_END!r}')
    return f'{before}{begin}\n{readme_section()}{end}{after}'


def main(arguments: list[str]) -> int:
    """Print the generated texts, or write them into the source tree."""
    if arguments == ['yaml']:
        sys.stdout.write(parameters_yaml())
    elif arguments == ['markdown']:
        sys.stdout.write(readme_section())
    elif arguments == ['write']:
        root = Path(__file__).resolve().parents[3]
        readme = root / 'README.md'
        readme.write_text(insert_section(readme.read_text(encoding='utf-8')), encoding='utf-8')
        (root / 'config' / 'rmpe.yaml').write_text(parameters_yaml(), encoding='utf-8')
    else:
        sys.stderr.write(
            'usage: python3 -m rmpe_ros.nodes.settings.parameter_documents write|yaml|markdown\n'
        )
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
