# SPDX-License-Identifier: Apache-2.0
"""The parameters of every node: for declaration, checks, `config/rmpe.yaml` and README.

After a change: `python3 -m rmpe_ros.nodes.parameter_documents write`.
"""

from __future__ import annotations

from collections.abc import Mapping

from rmpe_ros.core.limits import MAX_PEOPLE
from rmpe_ros.core.people import PeopleParameters
from rmpe_ros.core.pose_nms import PoseNmsParameters
from rmpe_ros.core.sights import SightParameters
from rmpe_ros.core.tracking import TrackingParameters
from rmpe_ros.engines import BACKENDS
from rmpe_ros.io.image_decoding import MAX_MEGAPIXELS
from rmpe_ros.models import DEFAULT_DETECTOR, DEFAULT_POSE
from rmpe_ros.nodes.parameters import Parameter

_NMS = PoseNmsParameters()
_TRACKING = TrackingParameters()
_SIGHTS = SightParameters()
_PEOPLE = PeopleParameters()

_MEGAPIXELS = Parameter(
    'max_megapixels',
    MAX_MEGAPIXELS,
    'Compressed images, photos and videos that declare more pixels are refused undecoded: a few '
    'hundred bytes can declare gigabytes.',
    0.01,
    10000.0,
)

POSE_NODE = (
    Parameter(
        'detector',
        DEFAULT_DETECTOR,
        'Person detector: the name of a shipped model or the path of an ONNX file.',
    ),
    Parameter(
        'pose_model',
        DEFAULT_POSE,
        'Pose network: the name of a shipped model or the path of an ONNX file.',
    ),
    Parameter('backend', 'auto', 'What runs the networks.', choices=BACKENDS),
    Parameter(
        'precision',
        'fp32',
        'Of TensorRT engines; fp16 is faster and moves joints by less than half a pixel.',
        choices=('fp32', 'fp16'),
    ),
    Parameter(
        'serve_while_building',
        False,
        'While a TensorRT engine is being built, estimate poses with ONNX Runtime, not none.',
    ),
    Parameter(
        'threads',
        0,
        'CPU threads of each network, no more than there are CPUs; 0 means all physical cores.',
        0,
        256,
    ),
    Parameter(
        'compressed',
        False,
        'Subscribe to `image_raw/compressed` (CompressedImage) instead of `image_raw` (Image).',
    ),
    _MEGAPIXELS,
    Parameter(
        'cameras',
        [''],
        'Names of several cameras: each gets `<camera>/image_raw`, `<camera>/poses` and '
        '`<camera>/skeleton`, and one pose network serves all; none: one camera on `image_raw`.',
    ),
    Parameter(
        'autostart',
        True,
        'Configure and activate at start; false: wait for lifecycle transitions.',
    ),
    Parameter(
        'max_age',
        0.0,
        "Images whose stamp is more seconds behind the node's clock are dropped; 0: none are.",
        0.0,
        3600.0,
        dynamic=True,
    ),
    Parameter(
        'idle_without_subscribers',
        False,
        'Do not infer while nobody subscribes to the poses.',
        dynamic=True,
    ),
    Parameter(
        'score_threshold',
        -1.0,
        'Boxes with a lower detector score are not looked at; negative: as the model suggests.',
        -1.0,
        1.0,
        dynamic=True,
    ),
    Parameter(
        'box_nms_iou',
        -1.0,
        'A box that overlaps a better one by more is dropped; loose, since pose NMS follows; '
        'negative: as the model suggests.',
        -1.0,
        1.0,
        dynamic=True,
    ),
    Parameter(
        'max_people',
        MAX_PEOPLE,
        'At most so many boxes, the best ones, get a pose: bounds the time of a frame; 0: all.',
        0,
        1000,
        dynamic=True,
    ),
    Parameter(
        'min_score',
        -1.0,
        'People with a lower score are not published: with the shipped models the probability that '
        'it is a person whose pose is right; negative: as the pose model suggests.',
        -1.0,
        1.0,
        dynamic=True,
    ),
    Parameter(
        'pose_nms.enabled',
        True,
        'Remove poses of the same person (RMPE section 3.2).',
        dynamic=True,
    ),
    Parameter(
        'pose_nms.sigma1',
        _NMS.sigma1,
        'Joint score at which a joint starts to count as agreeing.',
        0.001,
        10.0,
        dynamic=True,
    ),
    Parameter(
        'pose_nms.sigma2',
        _NMS.sigma2,
        'Squared joint distance, in tenths of the box, that still counts as close.',
        0.001,
        100.0,
        dynamic=True,
    ),
    Parameter(
        'pose_nms.lambda',
        _NMS.lambda_,
        'Weight of closeness against agreement of joints.',
        0.0,
        100.0,
        dynamic=True,
    ),
    Parameter(
        'pose_nms.eta',
        _NMS.eta,
        f'Poses more similar than this are one person; for {_NMS.num_keypoints} joints, scaled '
        'for others; lower removes more.',
        0.0,
        1000.0,
        dynamic=True,
    ),
    Parameter(
        'pose_nms.variant',
        _NMS.variant,
        "Formulas of the paper or of the authors' released code.",
        choices=('paper', 'released'),
        dynamic=True,
    ),
    Parameter(
        'pose_nms.merge',
        _NMS.merge,
        'Average each kept pose with those it replaces.',
        dynamic=True,
    ),
    Parameter(
        'tracking.enabled',
        True,
        'Give the same person the same track_id from image to image.',
        dynamic=True,
    ),
    Parameter(
        'tracking.max_age',
        _TRACKING.max_age,
        'Seconds, by the stamps of the images, that a person may be out of sight; who comes back '
        'later gets a new track_id.',
        0.01,
        60.0,
        dynamic=True,
    ),
    Parameter(
        'tracking.smoothing',
        False,
        'Take the jitter off the joints of tracked people (one-euro filter).',
        dynamic=True,
    ),
    Parameter(
        'image_timeout',
        5.0,
        'Seconds without an image after which log and diagnostics warn.',
        0.1,
        3600.0,
        dynamic=True,
    ),
    Parameter(
        'log_period',
        10.0,
        'Seconds between log lines on rate and latency; 0: none.',
        0.0,
        3600.0,
    ),
)

VISUALIZER_NODE = (
    Parameter(
        'compressed',
        False,
        'Subscribe to `image_raw/compressed` (CompressedImage) instead of `image_raw` (Image).',
    ),
    _MEGAPIXELS,
    Parameter('min_score', 0.3, 'Joints with a lower score are not drawn.', 0.0, 1.0, dynamic=True),
    Parameter(
        'color_by',
        'person',
        'A colour for each person, or for the left and right side of the body.',
        choices=('person', 'side'),
        dynamic=True,
    ),
    Parameter('draw_boxes', False, 'Draw the box of each person.', dynamic=True),
    Parameter('draw_labels', True, 'Write track number and score at each person.', dynamic=True),
    Parameter(
        'marker_depth',
        2.0,
        'Distance in metres along the optical axis of the plane on which joints without a 3D '
        'position are shown.',
        0.01,
        1000.0,
        dynamic=True,
    ),
    Parameter(
        'marker_lifetime',
        2.0,
        'Seconds until RViz removes markers when no newer ones come; 0: never.',
        0.0,
        3600.0,
        dynamic=True,
    ),
    Parameter(
        'rectified',
        False,
        'The poses are of a rectified image: use P of `camera_info`, not K and D.',
    ),
    Parameter(
        'buffer_size',
        30,
        'So many images wait for their poses, and so many poses for their image.',
        1,
        1000,
    ),
    Parameter('save_dir', '', 'Folder that gets every annotated picture as a file; empty: none.'),
    Parameter('save_format', 'jpg', 'File type of saved pictures.', choices=('jpg', 'png')),
)

IMAGE_SOURCE_NODE = (
    Parameter(
        'source',
        '',
        'A photo, a folder of photos, a video file, or a webcam (`webcam:0`, `/dev/video0`).',
    ),
    Parameter(
        'rate',
        0.0,
        'Images per second at most; 0: a photo per second, a video or webcam at its own pace.',
        0.0,
        1000.0,
    ),
    _MEGAPIXELS,
    Parameter('loop', False, 'Start again at the end instead of exiting.'),
    Parameter(
        'repeat',
        1,
        'Publish each image so many times in a row, each time with a new stamp.',
        1,
        100000,
    ),
    Parameter(
        'max_images', 0, 'Exit after so many images, repeats not counted; 0: no limit.', 0, 2**31
    ),
    Parameter(
        'frame_id',
        'camera_optical_frame',
        'frame_id of the header; `{name}` in it becomes the name of the file, for photos of '
        'different cameras.',
    ),
    Parameter(
        'wait_for_subscribers',
        1,
        'Publish nothing until `image_raw` has so many subscribers.',
        0,
        100,
    ),
    Parameter(
        'wait_for_answer',
        0.0,
        'Seconds to wait for the `poses` of an image before the next one, so that none is '
        'dropped; an unanswered image is published again, three times at most; 0: do not wait.',
        0.0,
        3600.0,
    ),
    Parameter('compressed', False, 'Publish `image_raw/compressed` (JPEG), not `image_raw`.'),
    Parameter(
        'retry_period',
        2.0,
        'Seconds until a lost webcam is opened again; 0: exit with an error.',
        0.0,
        3600.0,
    ),
)

LIFT_NODE = (
    Parameter(
        'min_score', 0.3, 'Joints with a lower score get no position.', 0.0, 1.0, dynamic=True
    ),
    Parameter(
        'window',
        0.015,
        'Half the side of the square of depth pixels around a joint, as a share of the longer side '
        "of the person's box.",
        0.0,
        0.5,
        dynamic=True,
    ),
    Parameter(
        'min_valid',
        0.2,
        'Share of the square that must have a depth near the person, else the position is unknown.',
        0.0,
        1.0,
        dynamic=True,
    ),
    Parameter(
        'reach',
        1.0,
        'Metres before and behind the trunk within which depth can be of the same person.',
        0.0,
        100.0,
        dynamic=True,
    ),
    Parameter(
        'slop',
        0.02,
        'Seconds between the stamps of poses and depth image at most; 0: equal stamps only.',
        0.0,
        10.0,
    ),
    Parameter(
        'rectified',
        False,
        'The poses are of a rectified image: use P of `camera_info`, not K and D.',
    ),
    Parameter(
        'target_frame',
        '',
        'TF frame to which positions are transformed at the stamp of the image (needs tf2_ros); '
        "empty: the camera's optical frame.",
    ),
    Parameter(
        'buffer_size', 30, 'So many poses, and so many depth images, wait for each other.', 1, 1000
    ),
)

HRI_BRIDGE_NODE = (
    Parameter(
        'forget_after',
        5.0,
        'Seconds, by the stamps, after which the topics of a body that is not seen are removed.',
        0.1,
        3600.0,
    ),
)

PEOPLE_NODE = (
    Parameter(
        'source',
        'poses_3d',
        'Topic to take people from: `poses_3d` of lift_node, or `poses` without a depth camera.',
        choices=('poses_3d', 'poses'),
    ),
    Parameter(
        'method',
        'best',
        'What distances are measured by: depth, the ankles on the ground, the size of the body, or '
        'all that there is, weighted by how sure each is.',
        choices=('best', 'depth', 'ground', 'size'),
    ),
    Parameter(
        'target_frame',
        '',
        'TF frame that people are followed in, one that stands still such as odom (needs tf2_ros); '
        "empty: the camera's optical frame.",
    ),
    Parameter(
        'ground_frame',
        '',
        'TF frame whose x-y plane is the floor, such as base_footprint (needs tf2_ros); empty: '
        'camera_height and camera_tilt tell, or nothing does.',
    ),
    Parameter(
        'camera_height',
        0.0,
        'Metres of the camera above the floor, where ground_frame is empty; 0: unknown.',
        0.0,
        100.0,
    ),
    Parameter(
        'camera_tilt', 0.0, 'Radians that the camera looks down from the horizontal.', -1.5, 1.5
    ),
    Parameter(
        'rectified',
        False,
        'The poses are of a rectified image: use P of `camera_info`, not K and D.',
    ),
    Parameter(
        'min_score',
        _SIGHTS.min_score,
        'Joints with a lower score are guesses.',
        0.0,
        1.0,
        dynamic=True,
    ),
    Parameter(
        'depth_noise',
        _SIGHTS.depth_noise,
        'Standard deviation of the depth at 1 m, in metres; it grows with the square of the '
        'distance.',
        0.0,
        1.0,
        dynamic=True,
    ),
    Parameter(
        'stature',
        _SIGHTS.stature,
        'Height in metres of the people that are expected, for distances by size.',
        0.3,
        3.0,
        dynamic=True,
    ),
    Parameter(
        'max_occlusion',
        _PEOPLE.max_occlusion,
        'Seconds, by the stamps, that a person may be out of sight and keep the number.',
        0.1,
        60.0,
        dynamic=True,
    ),
    Parameter(
        'start_score',
        _PEOPLE.start_score,
        'A person with a lower score continues one and does not begin one.',
        0.0,
        1.0,
        dynamic=True,
    ),
    Parameter(
        'bridges',
        [''],
        'Publish people also as `people_msgs`, `vision_msgs`, `hri_msgs` or `tf` (frames '
        '`person_<id>`), where these packages are installed; none: as `people` only.',
    ),
)

TABLES: Mapping[str, tuple[Parameter, ...]] = {
    'pose_node': POSE_NODE,
    'visualizer_node': VISUALIZER_NODE,
    'image_source_node': IMAGE_SOURCE_NODE,
    'lift_node': LIFT_NODE,
    'people_node': PEOPLE_NODE,
    'hri_bridge_node': HRI_BRIDGE_NODE,
}
