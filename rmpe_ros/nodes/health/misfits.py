# SPDX-License-Identifier: Apache-2.0
"""Publishers and subscribers of other nodes that a node's own ones do not reach, and why.

Asked of the graph: rclpy's events of the middleware are told once, and one that is destroyed with
its publisher can end the process (ros2/rclpy issue 1644).
"""

from __future__ import annotations

from itertools import product

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

_CONFLICT = 'ERROR: '

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

# What a publisher and a subscription are created with, to have no events of the middleware.
NO_PUBLISHER_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)
NO_SUBSCRIPTION_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)


def misfits(node: Node) -> dict[str, str]:
    """By topic, a sentence about each on which somebody offers or asks what does not fit."""
    found = {}
    for topic in {each.topic_name for each in node.subscriptions}:
        asked = _of(node, node.get_subscriptions_info_by_topic(topic))
        if reason := _misfit(node.get_publishers_info_by_topic(topic), asked):
            found[topic] = (
                f'a publisher of {topic} does not fit this subscription ({reason}), nothing comes '
                f'from it; {_advice(node, topic)}'
            )
    for publisher in node.publishers:
        topic = publisher.topic_name
        if publisher.get_subscription_count() == node.count_subscribers(topic):
            continue  # all of them are served
        offered = _of(node, node.get_publishers_info_by_topic(topic))
        if reason := _misfit(offered, node.get_subscriptions_info_by_topic(topic)):
            found[topic] = (
                f'a subscriber of {topic} asks for another QoS than is offered ({reason}) and '
                'gets nothing; let it ask for reliable or best effort, and volatile'
            )
    return found


def _of(node: Node, ends: list[TopicEndpointInfo]) -> list[TopicEndpointInfo]:
    """Those of `node`: as the middleware has them, without anything unspecified."""
    name = node.get_name(), node.get_namespace()
    return [each for each in ends if (each.node_name, each.node_namespace) == name]


def _misfit(publishers: list[TopicEndpointInfo], subscriptions: list[TopicEndpointInfo]) -> str:
    """Why the first of them that do not fit do not; empty when all do."""
    for publisher, subscription in product(publishers, subscriptions):
        offered, asked = publisher.topic_type, subscription.topic_type
        if offered != asked:
            return f'{offered} is published, {asked} subscribed'
        if reason := _conflict(publisher.qos_profile, subscription.qos_profile):
            return reason
    return ''


def _conflict(offered: QoSProfile, asked: QoSProfile) -> str:
    """What of the QoS does not fit, in the middleware's words."""
    compatibility, reason = qos_check_compatible(offered, asked)
    if compatibility != QoSCompatibility.ERROR:
        return ''
    parts = [part.strip() for part in str(reason).split(';')]
    return '; '.join(part.removeprefix(_CONFLICT) for part in parts if part.startswith(_CONFLICT))


def _advice(node: Node, topic: str) -> str:
    parameters = f'qos_overrides.{topic}.subscription'
    if node.has_parameter(f'{parameters}.reliability'):
        return f'change its QoS or the parameters {parameters}.*'
    return 'change its QoS'
