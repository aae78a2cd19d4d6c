# SPDX-License-Identifier: Apache-2.0
"""Nodes that outlive whatever a message, a request or a callback of theirs does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property, partial, wraps
from typing import Any, NamedTuple

from rcl_interfaces.msg import ParameterType, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from rmpe_ros.nodes.health.faults import Faults
from rmpe_ros.nodes.health.misfits import NO_PUBLISHER_EVENTS, NO_SUBSCRIPTION_EVENTS, misfits
from rmpe_ros.nodes.lifecycle.shared_memory import is_fast_dds

_PARAMETER_TYPES = range(ParameterType.PARAMETER_NOT_SET, ParameterType.PARAMETER_STRING_ARRAY + 1)

_LOOK_PERIOD = 2.0


class Guarded:
    """Mixed into a Node: `faults`, callbacks that end nothing, and services that always answer.

    Tells as long as it lasts that another node has its name, and who gets or gives nothing since
    a QoS or a type does not fit: misfits, a sentence by topic. calls: so many callbacks were
    called. ending: it has stopped, and only answers whoever waits.
    """

    calls = 0
    ending = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.misfits: dict[str, str] = {}
        super().__init__(*arguments, **options)
        assert isinstance(self, Node)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._look_timer = self.create_timer(_LOOK_PERIOD, self._look_around, clock=steady)

    @cached_property
    def faults(self) -> Faults:
        """What went wrong so far; there from the first callback on."""
        assert isinstance(self, Node)
        return Faults(self)

    def soon(self, callback: Callable[[], None], source: str) -> None:
        """Let the executor call it, from whatever thread this is."""
        assert isinstance(self, Node)
        if self.executor is not None:
            self.executor.create_task(self._guarded(callback, source))

    def create_publisher(self, *arguments: Any, **options: Any) -> Publisher:
        """As `Node.create_publisher`, without events of the middleware; see `misfits`."""
        options.setdefault('event_callbacks', NO_PUBLISHER_EVENTS)
        return super().create_publisher(*arguments, **options)  # type: ignore[misc]

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Any, qos_profile: Any, **options: Any
    ) -> Subscription:
        """As `Node.create_subscription`; ValueError when parameters make a QoS that cannot be."""
        options.setdefault('event_callbacks', NO_SUBSCRIPTION_EVENTS)
        assert isinstance(self, Node)
        name = self.resolve_topic_name(topic)
        try:
            return super().create_subscription(  # type: ignore[misc]
                msg_type, topic, self._guarded(callback, name), qos_profile, **options
            )
        except Exception as error:
            if options.get('qos_overriding_options') is None:
                raise
            reason = str(error).partition(', at /')[0]
            raise ValueError(
                f'no subscription of {topic} with the parameters '
                f'qos_overrides.{name}.subscription.*: {reason}'
            ) from error

    def create_timer(
        self, timer_period_sec: float, callback: Any, *arguments: Any, **options: Any
    ) -> Timer:
        """As `Node.create_timer`."""
        guarded = self._guarded(callback, 'a timer')
        return super().create_timer(timer_period_sec, guarded, *arguments, **options)  # type: ignore[misc]

    def create_service(
        self, srv_type: Any, srv_name: str, callback: Callable[..., Any], **options: Any
    ) -> Service:
        """As `Node.create_service`; who asks gets an answer also when `callback` raises.

        callback: may return a future of the response, which is sent when that is done.
        """

        def refusal(request: Any, response: Any, error: Exception) -> Any:
            source = f'service {srv_name}'
            if isinstance(error, ValueError):
                self.faults.refuse(source, str(error))
                return _refusal(request, response, str(error))
            self.faults.fail(source, error)
            return _refusal(request, response, f'{type(error).__name__}: {error}; see the log')

        def answer(request: Any, response: Any) -> Any:
            self.calls += 1
            try:
                _check_parameters(request)
                result = callback(request, response)
            except Exception as error:
                return refusal(request, response, error)
            if isinstance(result, Future):
                return _Later(result, partial(refusal, request, response))
            return result

        service = super().create_service(srv_type, srv_name, answer, **options)  # type: ignore[misc]
        send = self._to_whoever_is_there(service) if is_fast_dds() else service.send_response

        def send_response(response: Any, header: Any) -> None:
            if isinstance(response, _Later):
                response.future.add_done_callback(lambda _: send(response.answer(), header))
            else:
                send(response, header)

        service.send_response = send_response
        return service

    def _guarded(self, callback: Any, source: str) -> Any:
        """`callback`; what it raises is counted and told as of `source`."""

        @wraps(callback)
        def guarded(*arguments: Any) -> None:
            self.calls += 1
            try:
                callback(*arguments)
            except Exception as error:
                self.faults.caught(source, error)

        return guarded

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

    def _look_around(self) -> None:
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
        before, self.misfits = self.misfits, misfits(self)
        for topic in before.keys() | self.misfits:
            self.faults.lasts(f'QoS of {topic}', self.misfits.get(topic, ''))


class _Later(NamedTuple):
    """What a service will answer, and what it answers if that fails."""

    future: Future
    refusal: Callable[[Exception], Any]

    def answer(self) -> Any:
        try:
            return self.future.result()
        except Exception as error:
            return self.refusal(error)


class GuardedNode(Guarded, Node):
    """A plain node with `faults`; `exit_code` is None for as long as it wants to go on."""

    exit_code: int | None = None

    def stop(self) -> None:
        """End threads and free what the node holds; publishers still work."""


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
