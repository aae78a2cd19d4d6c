# SPDX-License-Identifier: Apache-2.0
"""What runs a node: whatever callbacks and rclpy raise, and however long an answer takes.

Both executors, since the one without events is all there is on ROS 2 Humble.
"""

import asyncio
import threading
import time
from concurrent.futures import Future

import pytest
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from rmpe_ros.nodes.lifecycle import executors
from rmpe_ros.nodes.lifecycle.executors import EXECUTOR_VARIABLE, WAIT_SET, NodeExecutor
from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode

from .conftest import PATIENCE


@pytest.fixture(params=['', WAIT_SET], ids=['usual', 'wait_set'])
def run(request, ros, monkeypatch):
    """A node, and a function that runs it until something is true, or for some seconds."""
    if not request.param and executors.EventsExecutor is None:
        pytest.skip('rclpy has no executor of events')
    monkeypatch.setenv(EXECUTOR_VARIABLE, request.param)
    node = GuardedNode('guarded')
    executor = NodeExecutor(node)

    def until(condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, 'waited in vain'
            executor.spin_once(0.05)

    until.node, until.executor = node, executor
    yield until
    executor.shutdown()
    node.destroy_node()


def client(run, kind, service):
    made = run.node.create_client(kind, service)
    run(made.service_is_ready)
    return made


def asked(run, kind, service, request=None):
    """The answer that a client of the node itself gets."""
    made = client(run, kind, service)
    future = made.call_async(request or kind.Request())
    run(future.done)
    run.node.destroy_client(made)
    return future.result()


def test_callbacks_that_raise_are_told_and_called_again(run):
    node, came = run.node, []

    def on_word(message):
        came.append(message.data)
        if message.data == 'odd':
            raise ValueError('an odd word')
        if message.data == 'bad':
            raise KeyError('a bug')

    node.create_subscription(String, 'words', on_word, 10)
    words = node.create_publisher(String, 'words', 10)
    run(words.get_subscription_count)
    for word in ('odd', 'bad', 'good'):
        words.publish(String(data=word))
    run(lambda: len(came) == 3)
    assert came == ['odd', 'bad', 'good']
    assert (node.faults.refused, node.faults.failed) == (1, 1)
    assert node.faults.last_error == "/words: KeyError: 'a bug'"
    ticks = []

    def tick():
        ticks.append(1)
        raise OSError('no tick')

    timer = node.create_timer(0.01, tick)
    run(lambda: len(ticks) > 2)
    node.destroy_timer(timer)
    assert node.faults.last_error == 'a timer: no tick'


def test_what_rclpy_raises_is_counted_and_the_node_goes_on(run):
    run.node.create_service(Trigger, 'nothing', lambda request, response: None)
    made = client(run, Trigger, 'nothing')
    made.call_async(Trigger.Request())
    run(lambda: run.node.faults.failed)
    assert run.node.faults.last_error.startswith('rclpy: TypeError')
    ticks = []
    run.node.create_timer(0.01, lambda: ticks.append(1))
    run(lambda: ticks)
    run.node.destroy_client(made)


def test_answers_may_come_later_and_keep_nobody_waiting(run):
    answer = Future()
    run.node.create_service(Trigger, 'later', lambda request, response: answer)
    run.node.create_service(SetBool, 'at_once', lambda request, response: response)
    later = client(run, Trigger, 'later')
    asked_later = later.call_async(Trigger.Request())
    asked(run, SetBool, 'at_once')
    calls = run.node.calls
    for _ in range(5):
        run.executor.spin_once(0.01)
    assert not asked_later.done()
    assert run.node.calls <= calls + 1, 'who waits must not keep the processor busy'
    threading.Timer(0.1, answer.set_result, [Trigger.Response(message='here')]).start()
    run(asked_later.done)
    assert asked_later.result().message == 'here'
    run.node.destroy_client(later)


def test_answers_that_fail_later_are_answered_too(run):
    def never(request, response):
        answer = Future()
        threading.Timer(0.05, answer.set_exception, [KeyError('a bug')]).start()
        return answer

    run.node.create_service(Trigger, 'never', never)
    assert asked(run, Trigger, 'never').message == "KeyError: 'a bug'; see the log"
    assert run.node.faults.failed == 1


def test_threads_let_the_executor_work(run):
    def fail():
        done.append(threading.current_thread())
        raise ValueError('told')

    done = []
    threading.Thread(target=run.node.soon, args=[fail, 'a thread']).start()
    run(lambda: done)
    run(lambda: run.node.faults.refused)
    assert done == [threading.main_thread()]
    assert run.node.faults.last_error == 'a thread: told'


def test_what_is_ready_is_finished(run):
    done = []
    for index in range(50):
        run.node.soon(lambda index=index: done.append(index), 'a job')
    run.executor.finish(5.0)
    assert sorted(done) == list(range(50))


def test_what_never_ends_is_not_waited_for(run):
    async def wait_for_ever():
        while True:
            await asyncio.sleep(0)

    done = []
    run.node.soon(lambda: done.append(1), 'a job')
    endless = run.node.executor.create_task(wait_for_ever)
    run.executor.finish(0.2)
    assert (done, endless.done()) == ([1], False)


@pytest.fixture
def stranger(ros):
    """A node of another participant, which may have a topic with another type."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node('stranger', context=context)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_who_does_not_fit_is_told_as_long_as_it_lasts(run, stranger):
    node = run.node
    node.create_subscription(String, 'kinds', lambda message: None, 10)
    node.create_publisher(String, 'late', 10)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_publisher(String, 'kept', latched)
    others = [
        stranger.create_publisher(Bool, 'kinds', 10),
        stranger.create_subscription(String, 'late', lambda message: None, latched),
        *(stranger.create_subscription(String, 'kept', print, qos) for qos in (latched, 10)),
    ]
    run(lambda: len(node.misfits) == 2)
    assert node.misfits == {
        '/kinds': 'a publisher of /kinds does not fit this subscription '
        '(std_msgs/msg/Bool is published, std_msgs/msg/String subscribed), nothing comes from it; '
        'change its QoS',
        '/late': 'a subscriber of /late asks for another QoS than is offered (Volatile publisher '
        'and transient local subscription) and gets nothing; let it ask for reliable or best '
        'effort, and volatile',
    }
    assert node.misfits['/late'] in node.faults.news()
    stranger.destroy_publisher(others[0])
    stranger.destroy_subscription(others[1])
    run(lambda: not node.misfits)
    assert node.faults.news() == ''
