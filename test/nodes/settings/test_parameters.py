# SPDX-License-Identifier: Apache-2.0
"""One table, in step with config/rmpe.yaml, and refusals with a reason."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml

from rmpe_ros.nodes.settings.parameter_documents import (
    README_BEGIN,
    README_END,
    insert_section,
    parameters_markdown,
    parameters_yaml,
)
from rmpe_ros.nodes.settings.parameter_tables import SETTINGS, TABLES
from rmpe_ros.nodes.settings.parameters import Parameter, parameter, table_of

REMEDY = 'run python3 -m rmpe_ros.nodes.settings.parameter_documents write'
README = Path(__file__).parents[3] / 'README.md'
CONFIG = Path(__file__).parents[3] / 'config' / 'rmpe.yaml'
EVERY = [
    pytest.param(node, parameter, id=f'{node}.{parameter.name}')
    for node, table in TABLES.items()
    for parameter in table
]


@dataclass
class Group:
    kind: Literal['a', 'b'] = parameter('a', 'A choice.', dynamic=True)
    lambda_: float = parameter(2.0, 'A weight.', dynamic=True)


@dataclass
class Settings:
    level: float = parameter(0.5, 'A number.', (0.0, 1.0), dynamic=True)
    count: int = parameter(3, 'A count.', (1, 9), dynamic=True)
    group: Group = field(default_factory=Group)
    names: list[str] = parameter([''], 'Names.')
    model: str = parameter('lite', 'A model.', at_configure=True)


def lookup(node: str, name: str) -> Parameter:
    return next(parameter for parameter in TABLES[node] if parameter.name == name)


def test_a_table_is_made_of_a_dataclass_with_groups_and_choices():
    table = table_of(Settings)
    names = [each.name for each in table]
    assert names == ['level', 'count', 'group.kind', 'group.lambda', 'names', 'model']
    assert table[2] == Parameter('group.kind', 'a', 'A choice.', choices=('a', 'b'), dynamic=True)


@pytest.mark.parametrize('kind', SETTINGS.values(), ids=SETTINGS)
def test_settings_hold_the_defaults_and_share_no_list(kind):
    first, second = kind(), kind()
    assert first == second
    for name, value in vars(first).items():
        if isinstance(value, list):
            assert value is not getattr(second, name)


def test_the_shipped_file_is_the_generated_one():
    assert CONFIG.read_text() == parameters_yaml(), (
        'run python3 -m rmpe_ros.nodes.settings.parameter_documents write'
    )


def test_the_readme_holds_the_generated_tables():
    readme = README.read_text()
    assert insert_section(readme) == readme, (
        'run python3 -m rmpe_ros.nodes.settings.parameter_documents write'
    )
    for node in TABLES:
        assert parameters_markdown(node) in readme


def test_the_tables_replace_what_stands_between_the_markers():
    text = f'before\n{README_BEGIN}\nstale text\n{README_END}\nafter\n'
    made = insert_section(text)
    assert made.startswith(f'before\n{README_BEGIN}\n### pose_node')
    assert made.endswith(f'|\n{README_END}\nafter\n')
    assert 'stale text' not in made
    assert insert_section(made) == made
    with pytest.raises(ValueError, match=r'README\.md has no lines'):
        insert_section('nothing here')


@pytest.mark.parametrize(('node', 'parameter'), EVERY)
def test_the_file_holds_every_default_with_its_type(node, parameter):
    value = yaml.safe_load(CONFIG.read_text())[f'/**/{node}']['ros__parameters']
    for part in parameter.name.split('.'):
        value = value[part]
    assert value == parameter.default
    assert type(value) is type(parameter.default)


@pytest.mark.parametrize(('node', 'parameter'), EVERY)
def test_every_parameter_is_described_and_allows_its_default(node, parameter):
    assert parameter.meaning.endswith('.')
    assert parameter.problem(parameter.default) is None
    assert (parameter.bounds is not None) == (type(parameter.default) in (int, float))
    row = next(
        line for line in parameters_markdown(node).splitlines() if f'`{parameter.name}`' in line
    )
    assert parameter.meaning in row
    assert row.count('|') == 7


@pytest.mark.parametrize('table', TABLES.values(), ids=TABLES)
def test_names_are_unique(table):
    names = [parameter.name for parameter in table]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ('parameter', 'value', 'reason'),
    [
        (lookup('pose_node', 'min_score'), 1, 'min_score must be a double such as 1.0, got 1'),
        (lookup('pose_node', 'min_score'), 1.5, 'min_score must be in -1 … 1, got 1.5'),
        (lookup('pose_node', 'min_score'), float('nan'), 'min_score must be in -1 … 1, got nan'),
        (lookup('pose_node', 'threads'), -1, 'threads must be in 0 … 256, got -1'),
        (lookup('pose_node', 'threads'), True, 'threads must be a int such as 1, got True'),
        (
            lookup('pose_node', 'compressed'),
            'yes',
            "compressed must be a bool such as true, got 'yes'",
        ),
        (
            lookup('visualizer_node', 'save_format'),
            'gif',
            "save_format must be one of jpg, png, got 'gif'",
        ),
        (lookup('image_source_node', 'source'), 3, 'source must be a string such as text, got 3'),
        (
            lookup('pose_node', 'cameras'),
            'front',
            "cameras must be a string[] such as [a, b], got 'front'",
        ),
    ],
)
def test_bad_values_are_refused_with_the_reason(parameter, value, reason):
    assert parameter.problem(value) == reason


class TestOnANode:
    """With a real rclpy node; no other process is involved."""

    pytestmark = pytest.mark.ros

    @pytest.fixture
    def node(self, request):
        rclpy = pytest.importorskip('rclpy', reason='needs ROS 2')
        overrides = getattr(request, 'param', {})
        context = rclpy.Context()
        rclpy.init(context=context, args=[])
        node = rclpy.create_node(
            'parameters',
            context=context,
            parameter_overrides=[
                rclpy.Parameter(name, value=value) for name, value in overrides.items()
            ],
        )
        yield node
        node.destroy_node()
        rclpy.shutdown(context=context)

    @staticmethod
    def set(node, **values):
        from rclpy import Parameter as RosParameter

        return node.set_parameters_atomically(
            [RosParameter(name.replace('__', '.'), value=value) for name, value in values.items()]
        )

    @staticmethod
    def declare(node, on_change=None):
        from rmpe_ros.nodes.settings.parameters import declare_parameters

        return declare_parameters(node, Settings, on_change)

    @pytest.mark.parametrize('node', [{'level': 0.25}], indirect=True)
    def test_values_come_from_the_table_and_the_command_line(self, node):
        assert self.declare(node) == Settings(level=0.25)
        descriptor = node.describe_parameter('level')
        assert descriptor.description == 'A number.'
        assert not descriptor.read_only
        limits = descriptor.floating_point_range[0]
        assert (limits.from_value, limits.to_value) == (0.0, 1.0)
        assert node.describe_parameter('count').integer_range[0].to_value == 9
        assert node.describe_parameter('names').read_only
        assert 'a, b' in node.describe_parameter('group.kind').additional_constraints

    def test_changes_are_told_with_all_values_and_kept(self, node):
        told = []
        values = self.declare(node, told.append)
        assert self.set(node, level=0.75, group__kind='b', group__lambda=1.0).successful
        assert told == [Settings(level=0.75, group=Group('b', 1.0))]
        assert values == told[0]
        assert Settings() != values

    @pytest.mark.parametrize(
        ('change', 'reason'),
        [
            ({'level': 1.5}, 'level'),
            ({'count': 0}, 'count'),
            ({'group__kind': 'c'}, "group.kind must be one of a, b, got 'c'"),
            ({'names': ['x']}, 'read-only'),
            ({'level': 0.75, 'group__kind': 'c'}, "got 'c'"),
        ],
    )
    def test_bad_changes_are_refused_and_change_nothing(self, node, change, reason):
        told = []
        values = self.declare(node, told.append)
        before = asdict(values)
        result = self.set(node, **change)
        assert not result.successful
        assert reason in result.reason
        assert told == []
        assert asdict(values) == before
        assert node.get_parameter('level').value == 0.5

    def test_what_configure_reads_may_change_while_the_node_is_unconfigured(self, node):
        values = self.declare(node)
        for node.state in ('active', 'inactive'):
            result = self.set(node, model='standard')
            assert not result.successful and 'deactivate and cleanup first' in result.reason
        node.state = 'unconfigured'
        assert self.set(node, model='standard').successful
        assert values.model == 'standard'

    def test_changes_are_logged(self, node, capfd):
        self.declare(node)
        assert self.set(node, level=0.75, count=3).successful
        said = capfd.readouterr().err
        assert 'parameter level: 0.5 → 0.75' in said and 'parameter count' not in said

    @pytest.mark.parametrize('node', [{'levle': 0.25, 'qos_overrides./x': 1}], indirect=True)
    def test_an_unknown_parameter_is_refused_with_the_nearest(self, node):
        expected = 'parameters has no parameter levle (did you mean level?)'
        with pytest.raises(ValueError, match=re.escape(expected)):
            self.declare(node)

    @pytest.mark.parametrize(
        'node', [{'levle': 0.25, 'allow_unknown_parameters': True}], indirect=True
    )
    def test_an_unknown_parameter_can_be_allowed(self, node, capfd):
        assert self.declare(node) == Settings()
        assert 'does not have: levle (did you mean level?)' in capfd.readouterr().err

    def test_the_node_can_refuse(self, node):
        def refuse(values):
            raise ValueError(f'level {values.level} does not suit me')

        values = self.declare(node, refuse)
        result = self.set(node, level=0.75)
        assert not result.successful
        assert result.reason == 'level 0.75 does not suit me'
        assert values.level == 0.5

    @pytest.mark.parametrize(
        ('node', 'reason'),
        [
            ({'level': 2.0}, 'level must be in 0 … 1, got 2'),
            ({'level': 1}, 'level must be a double such as 1.0, got 1'),
            ({'group.kind': 'c'}, "group.kind must be one of a, b, got 'c'"),
        ],
        indirect=['node'],
    )
    def test_a_bad_value_at_start_is_an_error(self, node, reason):
        with pytest.raises(ValueError) as caught:
            self.declare(node)
        assert str(caught.value) == reason
