# SPDX-License-Identifier: Apache-2.0
"""What a node parameter is, how it is declared, checked and changed while the node runs.

The parameters themselves are in `parameter_tables.py`: a node reads them as `settings.min_score`.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from rmpe_ros.core.nearest import did_you_mean

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
    from rclpy.node import Node

Value = bool | int | float | str | list[str]
V = TypeVar('V', bound=Value)
S = TypeVar('S')
_ALLOW_UNKNOWN = 'allow_unknown_parameters'
# Declared by ROS itself, some of them later.
_OF_ROS = (
    _ALLOW_UNKNOWN,
    'use_sim_time',
    'qos_overrides.',
    'diagnostic_updater.',
    'start_type_description_service',
)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    default: also decides the type: bool, int, double, string or string[] (an empty list has no type
    in ROS, so [''] stands for none); bounds: of every number, inclusive; choices: for strings;
    dynamic: it may change while the node runs; at_configure: it is read by the transition
    configure, so it may change while the node is unconfigured.
    """

    name: str
    default: Value
    meaning: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False
    at_configure: bool = False

    @property
    def type_name(self) -> str:
        names = {bool: 'bool', int: 'int', float: 'double', str: 'string', list: 'string[]'}
        return names[type(self.default)]

    @property
    def limits(self) -> str:
        """The allowed values in words, empty when every value of the type is allowed."""
        if self.choices:
            return ', '.join(self.choices)
        return '{:g} … {:g}'.format(*self.bounds) if self.bounds else ''

    def problem(self, value: Any) -> str | None:
        """Why `value` is refused, or None when it is fine."""
        if type(value) is not type(self.default):
            example = {
                'bool': 'true', 'int': '1', 'double': '1.0', 'string': 'text', 'string[]': '[a, b]'
            }  # fmt: skip
            return (
                f'{self.name} must be a {self.type_name} such as {example[self.type_name]}, '
                f'got {value!r}'
            )
        if self.choices and value not in self.choices:
            return f'{self.name} must be one of {self.limits}, got {value!r}'
        if isinstance(value, int | float) and self.bounds:
            low, high = self.bounds
            if not low <= value <= high:
                return f'{self.name} must be in {self.limits}, got {value:g}'
        return None


def parameter(
    default: V,
    meaning: str,
    bounds: tuple[float, float] | None = None,
    *,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
    at_configure: bool = False,
) -> V:
    """A field of a node's settings, as `Parameter` describes it; Literal types are choices, too.

    Typed as its value, as `dataclasses.field` is.
    """
    made = Parameter('', default, meaning, bounds, choices, dynamic, at_configure)
    metadata = {'parameter': made}
    return field(default_factory=lambda: deepcopy(default), metadata=metadata)


# One that may change while the node runs.
live = partial(parameter, dynamic=True)


def table_of(settings: type) -> tuple[Parameter, ...]:
    """The parameters that a dataclass of settings stands for, in order.

    A field that is a dataclass itself is a group: its parameters are `<field>.<name>`. A `_` at the
    end keeps a name from being a keyword of Python and is no part of the parameter's.
    """
    table: list[Parameter] = []
    types = get_type_hints(settings)
    for each in fields(settings):
        name, kind = each.name.rstrip('_'), types[each.name]
        if is_dataclass(kind):
            group = table_of(cast(type, kind))
            table += [replace(inner, name=f'{name}.{inner.name}') for inner in group]
            continue
        made = each.metadata['parameter']
        choices = made.choices or (get_args(kind) if get_origin(kind) is Literal else ())
        table.append(replace(made, name=name, choices=choices))
    return tuple(table)


def declare_parameters(
    node: Node, kind: type[S], on_change: Callable[[S], None] | None = None
) -> S:
    """Declare the parameters of a dataclass of settings on `node`; return them with their values.

    Dynamic ones change in the returned object while the node runs. on_change: called before that
    with all values as they would be; what it raises as ValueError refuses the change.
    Raises ValueError when a value given at start is not allowed, and for a parameter that the node
    does not have, unless `allow_unknown_parameters` is given as true.
    """
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    by_name = {parameter.name: parameter for parameter in table_of(kind)}
    settings = kind()
    for name, parameter in by_name.items():
        try:
            value: Any = node.declare_parameter(name, parameter.default, describe(parameter)).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            given = node._parameter_overrides.get(name)  # the exceptions do not hold the value
            problem = parameter.problem(given.value) if given is not None else None
            raise ValueError(problem or str(error)) from error
        problem = parameter.problem(value)
        if problem:
            raise ValueError(problem)
        _assign(settings, name, value)

    _refuse_unknown(node, by_name)

    def change(parameters: list[Any]) -> SetParametersResult:
        from rcl_interfaces.msg import SetParametersResult

        changed = {each.name: each.value for each in parameters if each.name in by_name}
        for name, value in changed.items():
            problem = by_name[name].problem(value) or _untimely(node, by_name[name])
            if problem:
                return SetParametersResult(successful=False, reason=problem)
        if changed and on_change is not None:
            wanted = deepcopy(settings)
            for name, value in changed.items():
                _assign(wanted, name, value)
            try:
                on_change(wanted)
            except ValueError as error:
                return SetParametersResult(successful=False, reason=str(error))
        for name, value in changed.items():
            before = _value(settings, name)
            _assign(settings, name, value)
            if value != before:
                node.get_logger().info(f'parameter {name}: {before!r} → {value!r}')
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(change)
    return settings


def _refuse_unknown(node: Node, known: Mapping[str, Parameter]) -> None:
    """Raise ValueError for a parameter given at start that nobody will ever read."""
    overrides = node._parameter_overrides
    unknown = [name for name in overrides if name not in known and not name.startswith(_OF_ROS)]
    if not unknown:
        return
    told = ', '.join(f'{name}{did_you_mean(name, known)}' for name in sorted(unknown))
    allowed = overrides.get(_ALLOW_UNKNOWN)
    if allowed is not None and allowed.value is True:
        node.get_logger().warning(f'parameters that {node.get_name()} does not have: {told}')
        return
    raise ValueError(
        f'{node.get_name()} has no parameter {told}; with {_ALLOW_UNKNOWN} true it starts all the '
        'same'
    )


def _untimely(node: Node, parameter: Parameter) -> str | None:
    """Why the state of the node forbids a change."""
    state = getattr(node, 'state', 'running')
    if not parameter.at_configure or parameter.dynamic or state == 'unconfigured':
        return None
    return (
        f'{parameter.name} is read by the transition configure, and the node is {state}: '
        'deactivate and cleanup first, then set it and configure'
    )


def _owner(settings: Any, name: str) -> tuple[Any, str]:
    """The object and its field that the parameter `name` stands for."""
    *groups, last = (part + '_' * keyword.iskeyword(part) for part in name.split('.'))
    for group in groups:
        settings = getattr(settings, group)
    return settings, last


def _value(settings: Any, name: str) -> Any:
    return getattr(*_owner(settings, name))


def _assign(settings: Any, name: str, value: Any) -> None:
    setattr(*_owner(settings, name), value)


def describe(parameter: Parameter) -> ParameterDescriptor:
    """The descriptor that `ros2 param describe` shows, with the range that rclpy enforces."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(
        description=parameter.meaning,
        read_only=not (parameter.dynamic or parameter.at_configure),
        additional_constraints=f'one of {parameter.limits}' if parameter.choices else '',
    )
    if parameter.bounds and parameter.type_name == 'int':
        least, most = map(int, parameter.bounds)
        descriptor.integer_range = [IntegerRange(from_value=least, to_value=most, step=1)]
    elif parameter.bounds:
        low, high = map(float, parameter.bounds)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor
