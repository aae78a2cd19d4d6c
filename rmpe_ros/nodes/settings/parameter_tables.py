# SPDX-License-Identifier: Apache-2.0
"""The parameters of every node, a dataclass each: for the nodes, `config/rmpe.yaml` and README.

After a change: `python3 -m rmpe_ros.nodes.settings.parameter_documents write`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rmpe_ros.core.limits import DETECT_EVERY, MAX_PEOPLE
from rmpe_ros.core.people.people_tracker import PeopleParameters
from rmpe_ros.core.people.sights import SightParameters
from rmpe_ros.core.pose_nms import DEFAULT_POSE_NMS
from rmpe_ros.core.tracking import TrackingParameters
from rmpe_ros.engines import BACKENDS
from rmpe_ros.io.image_decoding import MAX_MEGAPIXELS
from rmpe_ros.models import DEFAULT_DETECTOR, DEFAULT_POSE, LARGEST_SIDE
from rmpe_ros.nodes.settings.parameters import Parameter, live, parameter, table_of

_NMS = DEFAULT_POSE_NMS
_TRACKING = TrackingParameters()
_SIGHTS = SightParameters()
_PEOPLE = PeopleParameters()


def _compressed() -> bool:
    return parameter(
        False,
        'Subscribe to `image_raw/compressed` (CompressedImage) instead of `image_raw` (Image).',
    )


def _max_megapixels() -> float:
    return parameter(
        MAX_MEGAPIXELS,
        'Compressed images, photos and videos that declare more pixels are refused undecoded: a '
        'few hundred bytes can declare gigabytes.',
        (0.01, 10000.0),
    )


def _rectified() -> bool:
    return parameter(
        False, 'The poses are of a rectified image: use P of `camera_info`, not K and D.'
    )


@dataclass
class PoseNmsSettings:
    """`pose_nms.*` of `pose_node`."""

    enabled: bool = live(True, 'Remove poses of the same person (RMPE section 3.2).')
    sigma1: float = live(
        _NMS.sigma1, 'Joint score at which a joint starts to count as agreeing.', (0.001, 10.0)
    )
    sigma2: float = live(
        _NMS.sigma2,
        'Squared joint distance, in tenths of the box, that still counts as close.',
        (0.001, 100.0),
    )
    lambda_: float = live(
        _NMS.lambda_, 'Weight of closeness against agreement of joints.', (0.0, 100.0)
    )
    eta: float = live(
        _NMS.eta,
        f'Poses more similar than this are one person; for {_NMS.num_keypoints} joints, scaled '
        'for others; lower removes more.',
        (0.0, 1000.0),
    )
    variant: Literal['paper', 'released'] = live(
        _NMS.variant, "Formulas of the paper or of the authors' released code."
    )
    merge: bool = live(_NMS.merge, 'Average each kept pose with those it replaces.')


@dataclass
class TrackingSettings:
    """`tracking.*` of `pose_node`."""

    enabled: bool = live(True, 'Give the same person the same track_id from image to image.')
    max_age: float = live(
        _TRACKING.max_age,
        'Seconds, by the stamps of the images, that a person may be out of sight; who comes back '
        'later gets a new track_id.',
        (0.01, 60.0),
    )
    smoothing: bool = live(
        False, 'Take the jitter off the joints of tracked people (one-euro filter).'
    )


@dataclass
class PoseSettings:
    """Parameters of `pose_node`."""

    detector: str = parameter(
        DEFAULT_DETECTOR,
        'Person detector: the name of a shipped model or the path of an ONNX file.',
        at_configure=True,
    )
    pose_model: str = parameter(
        DEFAULT_POSE,
        'Pose network: the name of a shipped model or the path of an ONNX file.',
        at_configure=True,
    )
    backend: str = parameter('auto', 'What runs the networks.', choices=BACKENDS, at_configure=True)
    precision: Literal['fp32', 'fp16'] = parameter(
        'fp32',
        'Of TensorRT engines; fp16 is faster and moves joints by less than half a pixel.',
        at_configure=True,
    )
    serve_while_building: bool = parameter(
        False,
        'While a TensorRT engine is being built, estimate poses with ONNX Runtime, not none.',
        at_configure=True,
    )
    threads: int = parameter(
        0,
        'CPU threads of each network, no more than there are CPUs; 0 means all physical cores.',
        (0, 256),
        at_configure=True,
    )
    compressed: bool = _compressed()
    max_megapixels: float = _max_megapixels()
    cameras: list[str] = parameter(
        [''],
        'Names of several cameras: each gets `<camera>/image_raw`, `<camera>/poses` and '
        '`<camera>/skeleton`, and one pose network serves all; none: one camera on `image_raw`.',
    )
    autostart: bool = parameter(
        True, 'Configure and activate at start; false: wait for lifecycle transitions.'
    )
    max_age: float = live(
        0.0,
        "Images whose stamp is more seconds behind the node's clock are dropped; 0: none are.",
        (0.0, 3600.0),
    )
    idle_without_subscribers: bool = live(
        False, 'Do not infer while nobody subscribes to the poses.'
    )
    detect_every: int = live(
        DETECT_EVERY,
        'Detect people in every such image of a camera, and follow their poses in the others; 1: '
        'detect in all. Who is new is found at the next detection.',
        (1, 1000),
    )
    detector_size: int = live(
        0,
        "Longer side of the detector's input, pixels, from 64 on: more finds smaller people, and "
        'takes longer; 0: as the model suggests.',
        (0, LARGEST_SIDE),
    )
    score_threshold: float = live(
        -1.0,
        'Boxes with a lower detector score are not looked at; negative: as the model suggests.',
        (-1.0, 1.0),
    )
    box_nms_iou: float = live(
        -1.0,
        'A box that overlaps a better one by more is dropped; loose, since pose NMS follows; '
        'negative: as the model suggests.',
        (-1.0, 1.0),
    )
    max_people: int = live(
        MAX_PEOPLE,
        'At most so many boxes, the best ones, get a pose: bounds the time of a frame; 0: all.',
        (0, 1000),
    )
    min_score: float = live(
        -1.0,
        'People with a lower score are not published; negative: as the pose model suggests. At '
        'this threshold of their own and above, poses of the shipped models are likely to be '
        'of people, and the higher the score, the likelier all joints are right.',
        (-1.0, 1.0),
    )
    pose_nms: PoseNmsSettings = field(default_factory=PoseNmsSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    image_timeout: float = live(
        5.0, 'Seconds without an image after which log and diagnostics warn.', (0.1, 3600.0)
    )
    log_period: float = parameter(
        10.0, 'Seconds between log lines on rate and latency; 0: none.', (0.0, 3600.0)
    )


@dataclass
class VisualizerSettings:
    """Parameters of `visualizer_node`."""

    compressed: bool = _compressed()
    max_megapixels: float = _max_megapixels()
    min_score: float = live(0.3, 'Joints with a lower score are not drawn.', (0.0, 1.0))
    color_by: Literal['person', 'side'] = live(
        'person', 'A colour for each person, or for the left and right side of the body.'
    )
    draw_boxes: bool = live(False, 'Draw the box of each person.')
    draw_labels: bool = live(True, 'Write track number and score at each person.')
    marker_depth: float = live(
        2.0,
        'Distance in metres along the optical axis of the plane on which joints without a 3D '
        'position are shown.',
        (0.01, 1000.0),
    )
    marker_lifetime: float = live(
        2.0, 'Seconds until RViz removes markers when no newer ones come; 0: never.', (0.0, 3600.0)
    )
    rectified: bool = _rectified()
    buffer_size: int = parameter(
        30, 'So many images wait for their poses, and so many poses for their image.', (1, 1000)
    )
    save_dir: str = parameter(
        '', 'Folder that gets every annotated picture as a file; empty: none.'
    )
    save_format: Literal['jpg', 'png'] = parameter('jpg', 'File type of saved pictures.')


@dataclass
class ImageSourceSettings:
    """Parameters of `image_source_node`."""

    source: str = parameter(
        '', 'A photo, a folder of photos, a video file, or a webcam (`webcam:0`, `/dev/video0`).'
    )
    rate: float = parameter(
        0.0,
        'Images per second at most; 0: a photo per second, a video or webcam at its own pace.',
        (0.0, 1000.0),
    )
    max_megapixels: float = _max_megapixels()
    loop: bool = parameter(False, 'Start again at the end instead of exiting.')
    repeat: int = parameter(
        1, 'Publish each image so many times in a row, each time with a new stamp.', (1, 100000)
    )
    max_images: int = parameter(
        0, 'Exit after so many images, repeats not counted; 0: no limit.', (0, 2**31)
    )
    frame_id: str = parameter(
        'camera_optical_frame',
        'frame_id of the header; `{name}` in it becomes the name of the file, for photos of '
        'different cameras.',
    )
    wait_for_subscribers: int = parameter(
        1, 'Publish nothing until `image_raw` has so many subscribers.', (0, 100)
    )
    wait_for_answer: float = parameter(
        0.0,
        'Seconds to wait for the `poses` of an image before the next one, so that none is '
        'dropped; an unanswered image is published again, three times at most; 0: do not wait.',
        (0.0, 3600.0),
    )
    compressed: bool = parameter(False, 'Publish `image_raw/compressed` (JPEG), not `image_raw`.')
    retry_period: float = parameter(
        2.0, 'Seconds until a lost webcam is opened again; 0: exit with an error.', (0.0, 3600.0)
    )


@dataclass
class LiftSettings:
    """Parameters of `lift_node`."""

    min_score: float = live(0.3, 'Joints with a lower score get no position.', (0.0, 1.0))
    window: float = live(
        0.015,
        'Half the side of the square of depth pixels around a joint, as a share of the longer side '
        "of the person's box.",
        (0.0, 0.5),
    )
    min_valid: float = live(
        0.2,
        'Share of the square that must have a depth near the person, else the position is unknown.',
        (0.0, 1.0),
    )
    reach: float = live(
        1.0,
        'Metres before and behind the trunk within which depth can be of the same person.',
        (0.0, 100.0),
    )
    slop: float = parameter(
        0.02,
        'Seconds between the stamps of poses and depth image at most; 0: equal stamps only.',
        (0.0, 10.0),
    )
    rectified: bool = _rectified()
    target_frame: str = parameter(
        '',
        'TF frame to which positions are transformed at the stamp of the image (needs tf2_ros); '
        "empty: the camera's optical frame.",
    )
    buffer_size: int = parameter(
        30,
        'So many poses, of 2000 people at most, and so many depth images wait for each other.',
        (1, 1000),
    )


@dataclass
class HriBridgeSettings:
    """Parameters of `hri_bridge_node`."""

    forget_after: float = parameter(
        5.0,
        'Seconds, by the stamps, after which the topics of a body that is not seen are removed.',
        (0.1, 3600.0),
    )


@dataclass
class PeopleSettings:
    """Parameters of `people_node`."""

    source: Literal['poses_3d', 'poses'] = parameter(
        'poses_3d',
        'Topic to take people from: `poses_3d` of lift_node, or `poses` without a depth camera.',
    )
    method: Literal['best', 'depth', 'ground', 'size'] = parameter(
        'best',
        'What distances are measured by: depth, the ankles on the ground, the size of the body, or '
        'all that there is, weighted by how sure each is.',
    )
    target_frame: str = parameter(
        '',
        'TF frame that people are followed in, one that stands still such as odom (needs tf2_ros); '
        "empty: the camera's optical frame.",
    )
    ground_frame: str = parameter(
        '',
        'TF frame whose x-y plane is the floor, such as base_footprint (needs tf2_ros); empty: '
        'camera_height and camera_tilt tell, or nothing does.',
    )
    camera_height: float = parameter(
        0.0,
        'Metres of the camera above the floor, where ground_frame is empty; 0: unknown.',
        (0.0, 100.0),
    )
    camera_tilt: float = parameter(
        0.0, 'Radians that the camera looks down from the horizontal.', (-1.5, 1.5)
    )
    rectified: bool = _rectified()
    min_score: float = live(_SIGHTS.min_score, 'Joints with a lower score are guesses.', (0.0, 1.0))
    depth_noise: float = live(
        _SIGHTS.depth_noise,
        'Standard deviation of the depth at 1 m, in metres; it grows with the square of the '
        'distance.',
        (0.0, 1.0),
    )
    stature: float = live(
        _SIGHTS.stature,
        'Height in metres of the people that are expected, for distances by size.',
        (0.3, 3.0),
    )
    max_occlusion: float = live(
        _PEOPLE.max_occlusion,
        'Seconds, by the stamps, that a person may be out of sight and keep the number.',
        (0.1, 60.0),
    )
    start_score: float = live(
        _PEOPLE.start_score,
        'A person with a lower score continues one and does not begin one.',
        (0.0, 1.0),
    )
    bridges: list[str] = parameter(
        [''],
        'Publish people also as `people_msgs`, `vision_msgs`, `hri_msgs` or `tf` (frames '
        '`person_<id>`), where these packages are installed; none: as `people` only.',
    )


SETTINGS: Mapping[str, type] = {
    'pose_node': PoseSettings,
    'visualizer_node': VisualizerSettings,
    'image_source_node': ImageSourceSettings,
    'lift_node': LiftSettings,
    'people_node': PeopleSettings,
    'hri_bridge_node': HriBridgeSettings,
}
TABLES: Mapping[str, tuple[Parameter, ...]] = {
    node: table_of(settings) for node, settings in SETTINGS.items()
}
