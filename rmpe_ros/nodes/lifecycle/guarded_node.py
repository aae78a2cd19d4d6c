# SPDX-License-Identifier: Apache-2.0
"""Nodes that outlive whatever a message, a request or a callback of theirs does."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from rcl_interfaces.msg import ParameterType, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.service import Service
from rclpy.subscription import Subscription

from rmpe_ros.nodes.health.faults import Faults
from rmpe_ros.nodes.lifecycle.shared_memory import is_fast_dds

_PARAMETER_TYPES = range(ParameterType.PARAMETER_NOT_SET, ParameterType.PARAMETER_STRING_ARRAY + 1)


# Seconds of rest after a failure of rclpy's own, lest one that comes again and again takes a core.
_PAUSE = 0.01
_RCLPY = 'rclpy'
_TWIN_PERIOD = 2.0


class Guarded:
    """Mixed into a Node: `faults`, and services that answer whatever happens, rclpy's included.

    Warns when another node has its name. ending: it has stopped, and only answers whoever waits.
    """

    ending = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        assert isinstance(self, Node)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._twin_timer = self.create_timer(_TWIN_PERIOD, self._look_for_twins, clock=steady)

    @cached_property
    def faults(self) -> Faults:
        """What went wrong so far; there from the first callback on."""
        assert isinstance(self, Node)
        return Faults(self)

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Any, qos_profile: Any, **options: Any
    ) -> Subscription:
        """As `Node.create_subscription`; ValueError when parameters make a QoS that cannot be."""
        try:
            return super().create_subscription(  # type: ignore[misc]
                msg_type, topic, callback, qos_profile, **options
            )
        except Exception as error:
            if options.get('qos_overriding_options') is None:
                raise
            assert isinstance(self, Node)
            reason = str(error).partition(', at /')[0]
            raise ValueError(
                f'no subscription of {topic} with the parameters '
                f'qos_overrides.{self.resolve_topic_name(topic)}.subscription.*: {reason}'
            ) from error

    def create_service(
        self, srv_type: Any, srv_name: str, callback: Callable[..., Any], **options: Any
    ) -> Service:
        """As `Node.create_service`; who asks gets an answer also when `callback` raises."""

        def refusal(request: Any, response: Any, error: Exception) -> Any:
            source = f'service {srv_name}'
            if isinstance(error, ValueError):
                self.faults.refuse(source, str(error))
                return _refusal(request, response, str(error))
            self.faults.fail(source, error)
            return _refusal(request, response, f'{type(error).__name__}: {error}; see the log')

        def answer(request: Any, response: Any) -> Any:
            try:
                _check_parameters(request)
                return callback(request, response)
            except Exception as error:
                return refusal(request, response, error)

        async def answer_later(request: Any, response: Any) -> Any:
            try:
                return await callback(request, response)
            except Exception as error:
                return refusal(request, response, error)

        guarded = answer_later if inspect.iscoroutinefunction(callback) else answer
        service = super().create_service(srv_type, srv_name, guarded, **options)  # type: ignore[misc]
        if is_fast_dds():
            service.send_response = self._to_whoever_is_there(service)
        return service

    def _to_whoever_is_there(self, service: Service) -> Callable[..., None]:
        """`service.send_response`, unless the node ends and all clients are gone: with each answer
        to one whose requests were taken after that, Fast DDS waits 0.1 s, and the end with it.
        Before, there may be one that has asked and is not wholly discovered yet.
        """
        assert isinstance(self, Node)
        send, name, count_clients = service.send_response, service.service_name, self.count_clients

        def send_response(response: Any, header: Any) -> None:
            if not self.ending or count_clients(name):
                send(response, header)

        return send_response

    def _look_for_twins(self) -> None:
        assert isinstance(self, Node)
        names = self.get_node_names_and_namespaces()
        count = names.count((self.get_name(), self.get_namespace()))
        name = self.get_fully_qualified_name()
        trouble = (
            f'{count} nodes are called {name}: each of them publishes the same, and any of them '
            'answers services; stop one, or name it with -r __node:=… (one that was killed is '
            'listed for up to 20 s)'
        )
        self.faults.lasts('name', trouble if count > 1 else '')


class GuardedNode(Guarded, Node):
    """A plain node with `faults`; `exit_code` is None for as long as it wants to go on."""

    exit_code: int | None = None

    def stop(self) -> None:
        """End threads and free what the node holds; publishers still work."""


class GuardedExecutor(SingleThreadedExecutor):
    """Runs one node; what is raised while it spins is counted, told, and over.

    rclpy itself raises, too: for a message that cannot be deserialized it does so before the
    callback, and then never looks at that subscription again, or at any other of its group.
    """

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults
        self._source = _RCLPY
        self._idle_turns = 0

    def finish(self, seconds: float) -> None:
        """Run what is ready and nothing else, for so long at most."""
        end = time.monotonic() + seconds
        self._idle_turns = 0
        # rclpy ends each round of work with a turn that finds nothing.
        while self._idle_turns < 2 and time.monotonic() < end:
            self.spin_once(timeout_sec=0)

    def wait_for_ready_callbacks(self, *arguments: Any, **options: Any) -> Any:
        self._idle_turns += 1
        ready = super().wait_for_ready_callbacks(*arguments, **options)
        self._idle_turns = 0
        return ready

    def spin_once(self, timeout_sec: float | None = None) -> None:
        self._source = _RCLPY
        try:
            super().spin_once(timeout_sec)
        except (ValueError, OSError) as error:
            self._faults.refuse(self._source, str(error))
        except Exception as error:
            self._faults.fail(self._source, error)
        else:
            return
        if self._source == _RCLPY:
            time.sleep(_PAUSE)

    def _make_handler(self, entity: Any, node: Any, take: Callable[..., Any], *rest: Any) -> Any:
        def guarded_take(entity: Any) -> Any:
            self._source = _name(entity)
            try:
                return take(entity)
            except Exception as error:
                self._faults.refuse(self._source, f'what came cannot be read: {error}')
                return None

        return super()._make_handler(entity, node, guarded_take, *rest)


def _name(entity: Any) -> str:
    """What the log calls a subscription, service, client, timer or waitable."""
    for attribute in ('topic_name', 'service_name', 'srv_name'):
        name = getattr(entity, attribute, None)
        if isinstance(name, str):
            return name if attribute == 'topic_name' else f'service {name}'
    return f'a {type(entity).__name__.lower()}'


def _check_parameters(request: Any) -> None:
    """Raise ValueError for a parameter of a type that does not exist, at which rclpy would fail."""
    for parameter in getattr(request, 'parameters', ()):
        if parameter.value.type not in _PARAMETER_TYPES:
            raise ValueError(
                f'parameter {parameter.name!r} has a value of type {parameter.value.type}, which '
                'rcl_interfaces/ParameterType does not know; no parameter was changed'
            )


def _refusal(request: Any, response: Any, reason: str) -> Any:
    """`response` with the reason, where it has a place for one."""
    result = SetParametersResult(successful=False, reason=reason)
    fields = response.get_fields_and_field_types()
    if {'success', 'message'} <= fields.keys():
        response.message = reason
    elif fields.get('results') == 'sequence<rcl_interfaces/SetParametersResult>':
        response.results = [result for _ in request.parameters]
    elif fields.get('result') == 'rcl_interfaces/SetParametersResult':
        response.result = result
    return response
