# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node that says why a transition failed, and that can start itself."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from rmpe_ros.nodes.health.misfits import NO_PUBLISHER_EVENTS
from rmpe_ros.nodes.lifecycle.guarded_node import Guarded

_SUCCESS = TransitionCallbackReturn.SUCCESS


class ManagedNode(Guarded, LifecycleNode):
    """Turns the transitions of a lifecycle node into four methods that may raise.

    A subclass overrides `configure`, `activate`, `deactivate` and `cleanup`. The latter two are
    also called to undo a transition that failed half-way, so they must do with what there is.
    rclpy swallows exceptions of transitions: here they are logged with their traceback, and the
    node returns to the state it came from (from deactivate and cleanup: to unconfigured).
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.exit_code: int | None = None
        self.state = 'unconfigured'
        self._starting = False
        self._failure: Exception | None = None
        service = self._service_change_state
        service.callback = self._always_answers(service.callback)

    def configure(self) -> None:
        """Unconfigured → inactive: load what takes time and memory."""

    def activate(self) -> None:
        """Inactive → active: begin to work."""

    def deactivate(self) -> None:
        """Active → inactive: stop to work."""

    def cleanup(self) -> None:
        """Inactive → unconfigured: free what configure() took."""

    def start(self) -> None:
        """Configure and activate; raises what went wrong in that."""
        self._starting = True
        try:
            for trigger in (self.trigger_configure, self.trigger_activate):
                if trigger() != _SUCCESS:
                    raise self._failure or RuntimeError('a lifecycle transition was refused')
        finally:
            self._starting = False
            self._failure = None

    def stop(self) -> None:
        """Shut down from whatever state the node is in."""
        if self.state != 'finalized':
            self.trigger_shutdown()

    def create_lifecycle_publisher(self, *arguments: Any, **options: Any) -> Any:
        """As `LifecycleNode.create_lifecycle_publisher`; see `Guarded.create_publisher`."""
        options.setdefault('event_callbacks', NO_PUBLISHER_EVENTS)
        return super().create_lifecycle_publisher(*arguments, **options)

    def destroy_node(self) -> None:
        """As `Node.destroy_node`, and at once: rclpy leaves the state machine, and with it the
        node's part of DDS and its shared memory, to the end of Python, which `run_node` may skip.
        """
        self._state_machine.destroy_when_not_in_use()
        super().destroy_node()

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        return self._do('configure', self.configure, super().on_configure, state, 'inactive')

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        return self._do('activate', self.activate, super().on_activate, state, 'active')

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        return self._do('deactivate', self.deactivate, super().on_deactivate, state, 'inactive')

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        return self._do('cleanup', self.cleanup, super().on_cleanup, state, 'unconfigured')

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        def shut_down() -> None:
            self.deactivate()
            self.cleanup()

        return self._do('shutdown', shut_down, super().on_shutdown, state, 'finalized')

    def on_error(self, state: Any) -> TransitionCallbackReturn:
        """Free everything, so that configure can be tried again."""
        self._undo(self.deactivate, self.cleanup)
        self.state = 'unconfigured'
        return super().on_error(state)

    def _always_answers(self, change: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """`change` for transitions that the state does not have, too: before Kilted, rclpy raises
        there, and who asked would wait for ever.
        """

        def answer(request: Any, response: Any) -> Any:
            try:
                return change(request, response)
            except RuntimeError as error:  # rclpy's own class has no public name
                wanted = request.transition.label or request.transition.id
                self.get_logger().error(
                    f'no transition {wanted} from the state {self.state}: {error}'
                )
                response.success = False
                return response

        return answer

    def _do(
        self,
        transition: str,
        body: Callable[[], None],
        entities: Callable[[Any], TransitionCallbackReturn],
        previous: Any,
        state: str,
    ) -> TransitionCallbackReturn:
        """One transition: our part, then that of the managed publishers."""
        try:
            # Publishers work while the body does: what is at hand is still published.
            if transition == 'activate':
                result = entities(previous)
                body()
            else:
                body()
                result = entities(previous)
        except Exception as error:
            # run_node says in one line what an operator can put right.
            if not (self._starting and isinstance(error, ValueError | OSError)):
                self.get_logger().error(
                    f'{transition} failed: {error}\n{traceback.format_exc().rstrip()}'
                )
            if self._starting:
                self._failure = _without_frames(error)
            if transition == 'configure':
                self._undo(self.cleanup)
                return TransitionCallbackReturn.FAILURE
            if transition == 'activate':
                self._undo(self.deactivate)
                return TransitionCallbackReturn.FAILURE
            return TransitionCallbackReturn.ERROR
        if result == _SUCCESS:
            self.state = state
        return result

    def _undo(self, *steps: Callable[[], None]) -> None:
        for step in steps:
            try:
                step()
            except Exception as error:
                self.get_logger().error(
                    f'{step.__name__} failed: {error}\n{traceback.format_exc().rstrip()}'
                )


def _without_frames(error: Exception) -> Exception:
    """The same error; the frames of its tracebacks hold the networks that were loaded so far."""
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error
