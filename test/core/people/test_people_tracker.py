# SPDX-License-Identifier: Apache-2.0
"""Who is who in space: through new numbers, occlusions, a moving camera, crossings."""

from dataclasses import replace

import numpy as np
import pytest

from rmpe_ros.core.people.clothing import Clothing
from rmpe_ros.core.people.heads import Heads
from rmpe_ros.core.people.matching import compare, owners_of
from rmpe_ros.core.people.people_filter import CameraPose
from rmpe_ros.core.people.people_state import OCCLUDED, TENTATIVE, TRACKED, Axes
from rmpe_ros.core.people.people_tracker import PeopleParameters, PeopleTracker
from rmpe_ros.core.people.shared_boxes import same_numbers
from rmpe_ros.core.people.sights import Sights
from rmpe_ros.core.people.ways import doubtful_sights

RATE = 15.0
MAP = Axes.of_map()


def camera(place=(0.0, 0.0), yaw=0.0):
    """A level camera 1.2 m high."""
    level = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])
    return CameraPose(turn @ level, np.array([*place, 1.2]))


def sights(people, view, *, rng=None, depth_sd=0.02, tall=None, worn=None):
    """What a depth camera sees of people (image id, x, y): all of each, faced by nobody.

    tall: of their boxes, metres; worn: (N, 6) colours; unknown if they are None.
    """
    count = len(people)
    points = view.to_camera(np.array([(x, y, 1.1) for _, x, y in people], float).reshape(-1, 3))
    rays = points[:, :2] / points[:, 2:]
    logs = np.zeros((count, 3))
    logs[:, 0] = np.log(points[:, 2])
    if rng is not None:
        rays = rays + rng.normal(0, 0.005, rays.shape)
        logs[:, 0] += rng.normal(0, depth_sd, count)
    variances = np.full((count, 3), np.inf)
    variances[:, 0] = depth_sd**2
    corner = 500 * rays + 300
    return Sights(
        rays,
        np.tile(np.eye(2) * 0.006**2, (count, 1, 1)),
        logs,
        variances,
        np.tile([0.0, 0.0, -1.0], (count, 1)),
        np.full(count, 0.05),
        np.ones(count),
        np.array([number for number, _, _ in people], np.int32),
        np.concatenate([corner - 20, corner + 20], axis=1).astype(np.float32),
        np.full(count, 0.8, np.float32),
        Heads.unseen(count),
        np.full(count, np.nan) if tall is None else np.log(tall) - np.log(points[:, 2]),
        Clothing.of_sights(worn, count),
        np.zeros(count),
    )


def run(frames, tracker=None, *, start=0.0, view=None, noise=True):
    """The people after each of frames, lists of (image id, x, y)."""
    rng = np.random.default_rng(0) if noise else None
    tracker = tracker or PeopleTracker()
    result = []
    for index, people in enumerate(frames):
        here = view(index) if view else camera()
        seen = sights(people, here, rng=rng)
        result.append(tracker.update(seen, start + index / RATE, here, MAP))
    return result


def walk(seconds, start, velocity, number=0):
    """One person in each frame."""
    return [
        [(number, start[0] + velocity[0] * i / RATE, start[1] + velocity[1] * i / RATE)]
        for i in range(round(seconds * RATE))
    ]


def test_somebody_who_walks_is_found_with_place_and_velocity():
    result = run(walk(4, (5, 1), (-0.8, -0.4)))
    assert result[0].phases.tolist() == result[1].phases.tolist() == [TENTATIVE]
    last = result[-1]
    assert last.phases.tolist() == [TRACKED]
    assert {number for people in result for number in people.ids.tolist()} == {0}
    assert last.positions[0] == pytest.approx([1.853, -0.573, 1.1], abs=0.1)
    assert last.velocities[0] == pytest.approx([-0.8, -0.4, 0], abs=0.15)
    assert last.first_seen[0] == 0
    assert last.last_seen[0] == last.stamp
    # The camera looks along x, and everybody faces it.
    assert abs(last.yaws[0]) > np.pi - 0.5
    assert last.yaw_variances[0] < 0.2


def test_velocities_are_told_surer_than_the_filter_holds_them():
    """Of whom one image says nothing of the velocity: 0.85 of 0.8 m/s."""
    tracker = PeopleTracker()
    (first,) = run([[(0, 4, 0)]], tracker)
    assert first.covariances[0][3, 3] == pytest.approx((0.85 * 0.8) ** 2)
    # What is told is not what the filter goes on from.
    later = tracker.update(None, 1e-6, camera(), MAP)
    assert later.covariances[0][3, 3] == pytest.approx((0.85 * 0.8) ** 2, rel=1e-4)


def test_an_id_switch_of_the_image_tracker_is_none_here():
    frames = walk(2, (4, -1), (0, 0.7), number=3) + walk(2, (4, 0.4), (0, 0.7), number=9)
    result = run(frames)
    assert {number for people in result for number in people.ids.tolist()} == {0}
    assert result[-1].image_ids.tolist() == [9]


@pytest.mark.parametrize(('seconds', 'same'), [(1.0, True), (3.0, True), (4.8, True), (5.5, False)])
def test_the_same_person_after_an_occlusion_of_up_to_five_seconds(seconds, same):
    before = walk(2, (4, -1.5), (0, 0.5))
    hidden = [[] for _ in range(round(seconds * RATE))]
    # Somewhere behind the cupboard she went slower.
    after = walk(1, (4, -0.5 + 0.3 * seconds), (0, 0.5), number=1)
    result = run(before + hidden + after)
    middle = result[len(before) + len(hidden) // 2]
    assert middle.phases.tolist() == [OCCLUDED]
    assert middle.positions[0, 1] > -0.5
    spread = np.trace(middle.covariances[0, :3, :3])
    assert spread > 2 * np.trace(result[len(before) - 1].covariances[0, :3, :3])
    assert (result[-1].ids.tolist() == [0]) is same


def test_max_occlusion_is_a_parameter():
    tracker = PeopleTracker(PeopleParameters(max_occlusion=1.0))
    frames = walk(1, (4, 0), (0, 0)) + [[]] * round(1.3 * RATE) + walk(1, (4, 0), (0, 0), 1)
    assert run(frames, tracker)[-1].ids.tolist() == [1]


def test_a_single_miss_is_no_occlusion():
    frames = walk(2, (4, -1), (0, 0.7))
    frames[20] = []
    assert [people.phases.tolist() for people in run(frames)][20] == [TRACKED]


@pytest.mark.parametrize('rate', [7.0, 15.0, 30.0])
def test_missed_images_are_counted_not_seconds(rate):
    """At any rate of images: an image that was not looked at is none in which she was missed."""
    tracker, view = PeopleTracker(), camera()
    seen, nobody = sights([(0, 4.0, 0.0)], view), sights([], view)
    looks = [seen, seen, seen, nobody, None, nobody, seen]
    missed = [
        tracker.update(look, index / rate, view, MAP).missed.tolist()
        for index, look in enumerate(looks)
    ]
    assert missed == [[0], [0], [0], [1], [1], [2], [0]]


def test_who_was_missed_is_expected_to_be_missed_again():
    tracker, view = PeopleTracker(), camera()
    seen = sights([(0, 4.0, 0.0)], view)
    for index in range(5):
        people = tracker.update(seen, index / RATE, view, MAP)
    unseen = []
    for missed in range(4):
        people = people.changed(missed=np.full(1, missed))
        unseen.append(float(np.exp(compare(people, seen, view, MAP.up).unseen)))
    assert unseen[0] < unseen[1] < unseen[2] == unseen[3] < 0.93
    # Who counts as out of sight is found least of all.
    lost = people.changed(last_seen=people.last_seen - 1)
    assert np.exp(compare(lost, seen, view, MAP.up).unseen) == pytest.approx(0.93)


def test_two_people_who_cross_keep_their_ids_when_the_image_tracker_swaps_theirs():
    """One walks before the other, who is hidden for a second; then the image's ids are swapped."""
    frames, truth = [], []
    for index in range(round(5 * RATE)):
        near, far = -1.25 + 0.5 * index / RATE, 1.5 - 0.6 * index / RATE
        swapped = near > far
        hidden = abs(near / 2.5 - far / 4) < 0.1
        people = [(int(swapped), 2.5, near)] + ([] if hidden else [(int(not swapped), 4.0, far)])
        frames.append(people)
        truth.append([(2.5, near), (4.0, far)])
    result = run(frames)
    last = result[-1]
    assert sorted(last.ids.tolist()) == [0, 1]
    for number in (0, 1):
        row = last.ids.tolist().index(number)
        assert last.positions[row, :2] == pytest.approx(truth[-1][number], abs=0.15)


def test_a_number_that_goes_to_somebody_farther_away_does_not_take_the_person_along():
    """Somebody comes out from behind another who is missed, and is given her number."""
    tracker, view, rng = PeopleTracker(), camera(), np.random.default_rng(3)
    for index in range(60):
        near, far = -1.0 + 0.5 * index / RATE, 1.0 - 0.5 * index / RATE
        frame = [(0, 2.5, near)] if index < 28 else [(0, 3.3, far)]
        frame += [(1, 3.3, far)] if index < 20 else []
        frame += [(1, 2.5, near)] if index >= 34 else []
        seen = sights(frame, view, rng=rng)
        # Which of the two a sight is of is written into its score, by which nothing is decided.
        whose = np.array([place == 3.3 for _, place, _ in frame])
        clarity = np.full(len(frame), 0.65 if 28 <= index < 34 else 1.0)
        seen = replace(seen, scores=np.where(whose, 0.81, 0.8).astype(np.float32), clarity=clarity)
        if 28 <= index < 34:
            seen.ray_covariances[:] = 0.06**2 * np.eye(2)
        people = tracker.update(seen, index / RATE, view, MAP)
        now = people.last_seen == people.stamp
        assert people.ids[now].tolist() == (people.scores[now] > 0.805).astype(int).tolist()
    assert sorted(people.ids.tolist()) == [0, 1]


def test_the_depth_of_who_hides_somebody_is_not_hers():
    """Somebody comes out from behind another, of whom the depth is measured for both at first."""
    behind, before = walk(1, (4, 0), (0, 0.2)), walk(4, (2.5, 0.9), (0, -0.3), number=1)
    frames = [first + second for first, second in zip(behind, before, strict=False)]
    frames += before[len(frames) : len(frames) + 15]
    result = run(frames, tracker := PeopleTracker())
    start, view = result[-1].stamp + 1 / RATE, camera()
    for index in range(8):
        y = 0.2 * (start + index / RATE)
        seen = sights([(2, 4.0, y), before[len(frames) + index][0]], view)
        if index < 4:
            wrong = np.array([np.log(2.5), seen.log_depths[1, 0]])
            seen = replace(seen, log_depths=np.tile(wrong[:, None], 3), clarity=np.full(2, 0.85))
        people = tracker.update(seen, start + index / RATE, view, MAP)
    assert sorted(people.ids.tolist()) == [0, 1]
    assert people.positions[people.ids == 0][0, :2] == pytest.approx([4.0, y], abs=0.2)


def test_the_depth_of_who_is_lost_before_somebody_does_not_take_her_sight_along():
    """Her number is unbroken, her line of sight fits: the depth is that of who stands before her,
    whom the detector does not find.
    """
    tracker, view, rng = PeopleTracker(), camera(), np.random.default_rng(4)
    for index in range(75):
        frame = [(1, 3.6, 0.05)] + ([(0, 2.4, 0.0)] if index < 30 else [])
        seen = sights(frame, view, rng=rng)
        rays = seen.rays - [0.0, 0.41] / np.exp(seen.log_depths[:, :1])
        depths = np.exp(seen.log_depths[:, 0])
        clarity = np.full(len(frame), 0.8)
        if index >= 45 and index % 5 == 0:
            depths[0] = 2.4
            seen.log_depths[0, 0] = np.log(2.4)
        spread = np.tile(np.eye(2) * 0.006**2, (len(frame), 1, 1))
        heads = Heads(rays, spread, depths, np.full(len(frame), 0.02**2))
        seen = replace(seen, heads=heads, clarity=clarity)
        people = tracker.update(seen, index / RATE, view, MAP)
        if index >= 30:
            her = people.image_ids.tolist().index(1)
            assert (people.last_seen == people.stamp)[np.arange(len(people)) != her].sum() == 0
            assert people.positions[her, 0] == pytest.approx(3.6, abs=0.2)


def test_who_comes_back_behind_something_is_nobody_new():
    """After a moment out of sight, her line of sight has the same nearer depth image by image."""
    tracker, view, rng = PeopleTracker(), camera(), np.random.default_rng(5)
    for index in range(60):
        if 30 <= index < 38:
            tracker.update(sights([], view), index / RATE, view, MAP)
            continue
        seen = sights([(0, 4.0, 0.0)], view, rng=rng)
        if index >= 38:
            nearer = seen.log_depths + np.log(2.9 / 4.0)
            seen = replace(seen, log_depths=nearer, clarity=np.full(1, 0.9))
        people = tracker.update(seen, index / RATE, view, MAP)
        assert people.ids.tolist() == [0]
    assert people.positions[0, 0] == pytest.approx(4.0, abs=0.2)


def test_two_people_side_by_side_never_merge():
    frames = [[(0, 3.0, 0.2), (1, 3.2, -0.2)] for _ in range(60)]
    # For two seconds only one of them is found, and has the other's number.
    frames[20:50] = [[(1, 3.0, 0.2)]] * 30
    result = run(frames)
    assert all(len(people) == 2 for people in result)
    last = result[-1]
    places = dict(zip(last.ids.tolist(), last.positions[:, 1].tolist(), strict=True))
    assert places[0] == pytest.approx(0.2, abs=0.1)
    assert places[1] == pytest.approx(-0.2, abs=0.1)


def test_the_camera_may_drive_and_turn():
    """People stand still in the world; the camera turns them out of sight and back."""
    world = [(4.0, 0.3), (3.0, -0.8)]

    def view(index):
        seconds = index / RATE
        return camera((0.2 * seconds, 0.0), 0.9 * np.sin(1.2 * seconds))

    frames = []
    for index in range(round(8 * RATE)):
        points = view(index).to_camera(np.array([(*place, 1.1) for place in world]))
        # Each time somebody comes into the image, it is with another number.
        frames.append(
            [
                (index // 30 * 10 + number, *place)
                for number, place in enumerate(world)
                if abs(points[number, 0]) < 0.6 * points[number, 2]
            ]
        )
    assert min(len(people) for people in frames) == 0
    result = run(frames, view=view)
    assert {number for people in result for number in people.ids.tolist()} == {0, 1}
    for row, number in enumerate(result[-1].ids.tolist()):
        assert result[-1].positions[row, :2] == pytest.approx(world[number], abs=0.15)
        assert np.linalg.norm(result[-1].velocities[row]) < 0.5


def test_a_wrong_distance_does_not_move_a_person():
    frames = walk(3, (4, 0), (0, 0))
    tracker = PeopleTracker()
    run(frames, tracker)
    view = camera()
    seen = sights([(0, 4.0, 0.0)], view)
    for index in range(3):
        wrong = replace(seen, log_depths=np.log(np.full((1, 3), 2.0)), clarity=np.full(1, 0.4))
        people = tracker.update(wrong, 3.0 + index / RATE, view, MAP)
    assert people.ids.tolist() == [0]
    assert people.positions[0, 0] == pytest.approx(4.0, abs=0.1)


def test_a_wrong_beginning_is_put_right():
    view = camera()
    tracker = PeopleTracker()
    for index in range(20):
        metres = 7.5 if index < 5 else 3.0  # at first the wall behind was measured
        seen = sights([(0, metres, 0.0)], view)
        people = tracker.update(seen, index / RATE, view, MAP)
    assert people.ids.tolist() == [0]
    assert people.positions[0, 0] == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize(
    ('metres', 'tall', 'moved'),
    [
        (3.9, 1.6, True),
        (2.2, 1.6, False),  # nearer: of somebody who hides her now
        (7.5, 3.5, False),  # the wall, through a head that the depth camera missed
    ],
)
def test_whose_place_was_that_of_her_hider_is_soon_where_her_head_is(metres, tall, moved):
    """Her head is seen over somebody's shoulder, whose depth was measured; then it is her own."""
    view, tracker, rng = camera(), PeopleTracker(), np.random.default_rng(7)
    for index in range(33):
        z = metres if index >= 30 else 3.2
        seen = sights([(0, z, 0.0)], view, rng=rng, tall=np.array([tall if index >= 30 else 1.35]))
        heads = Heads(seen.heads.rays, seen.heads.covariances, np.full(1, z), np.full(1, 0.02**2))
        people = tracker.update(replace(seen, heads=heads), index / RATE, view, MAP)
    her = people.positions[people.ids == 0]
    assert her[0, 0] == pytest.approx(metres if moved else 3.2, abs=0.15)


def test_what_cannot_be_looked_at_only_moves_on():
    tracker = PeopleTracker()
    last = run(walk(2, (4, -1), (0, 1.0)), tracker)[-1]
    people = tracker.update(None, 2.0 + 0.2, camera(), MAP)
    assert people.ids.tolist() == [0]
    assert people.positions[0, 1] == pytest.approx(last.positions[0, 1] + 0.27, abs=0.05)
    assert people.last_seen[0] == last.stamp


def test_somebody_without_a_distance_does_not_begin_but_goes_on():
    view, tracker = camera(), PeopleTracker()
    nowhere = sights([(0, 4.0, 0.0)], view)
    nowhere.log_depth_variances[:] = np.inf
    assert len(tracker.update(nowhere, 0.0, view, MAP)) == 0
    people = run(walk(1, (4, 0), (0, 0)), tracker, start=0.1)[-1]
    again = tracker.update(nowhere, people.stamp + 0.1, view, MAP)
    assert again.last_seen[0] == again.stamp


def test_a_number_is_one_persons():
    """Somebody hidden must not claim a number that another person was given meanwhile."""
    frames = [[(0, 3.0, 0.5), (1, 4.0, -0.5)]] * 20 + [[(1, 3.0, 0.5)]] * 10
    last = run(frames)[-1]
    numbers = dict(zip(last.ids.tolist(), last.image_ids.tolist(), strict=True))
    assert numbers == {0: 1, 1: -1}


def test_without_number_and_distance_nobody_is_found():
    view, tracker = camera(), PeopleTracker()
    people = run(walk(1, (4, 0), (0, 0)), tracker)[-1]
    stranger = sights([(9, 4.0, 0.0)], view)
    stranger.log_depth_variances[:] = np.inf
    assert tracker.update(stranger, people.stamp + 0.1, view, MAP).last_seen[0] == people.stamp


def test_an_error_of_the_detector_is_not_who_is_hidden():
    tracker = PeopleTracker()
    frames = walk(2, (4, -1), (0, 0.6)) + [[]] * 30
    hidden = run(frames, tracker)[-1]
    view = camera()
    x, y = hidden.positions[0, :2]
    ghost = replace(sights([(5, x, y)], view), clarity=np.full(1, 0.4))
    people = tracker.update(ghost, hidden.stamp + 0.1, view, MAP)
    assert people.phases[0] == OCCLUDED


def test_who_comes_back_elsewhere_is_there():
    hidden = walk(2, (4, 0), (0, 0)) + [[]] * round(3 * RATE)
    # A few images alone might show somebody new.
    at_first, *_, soon = run([*hidden, *([[(7, 5.2, 0)]] * 4)])[-4:]
    assert at_first.ids.tolist() == soon.ids.tolist() == [0]
    assert at_first.phases[0] == OCCLUDED and soon.last_seen[0] == soon.stamp
    surely = run([*hidden, *walk(0.4, (5.2, 0), (0, 0), number=7)])[-1]
    assert surely.positions[0] == pytest.approx([5.2, 0, 1.1], abs=0.1)
    assert np.sqrt(np.trace(surely.covariances[0, :3, :3])) < 0.15


def test_who_came_back_with_a_wrong_depth_is_recognised():
    """Her first two sights have the depth of something nearer, of which too little is seen."""
    tracker = PeopleTracker()
    hidden = walk(2, (4, 0), (0, 0)) + [[]] * round(RATE)
    stamp = run(hidden, tracker)[-1].stamp
    view, result = camera(), []
    rng = np.random.default_rng(1)
    for index in range(12):
        half = sights([(7, 4.0, 0)], view, rng=rng)
        if index < 2:
            logs = half.log_depths.copy()
            logs[0, 0] = np.log(2.2)
            half = replace(half, log_depths=logs, clarity=np.full(1, 0.6))
        result.append(tracker.update(half, stamp + (1 + index) / RATE, view, MAP))
    assert all(0 in people.ids for people in result)
    sure = [people.ids[people.phases == TRACKED].tolist() for people in result]
    assert sure[-1] == [0] and all(ids in ([], [0]) for ids in sure)
    assert result[-1].positions[0] == pytest.approx([4.0, 0, 1.1], abs=0.1)


@pytest.mark.parametrize('gone', [True, False])
def test_who_begins_half_hidden_is_no_person_at_once_while_somebody_is_out_of_sight(gone):
    tracker, view = PeopleTracker(), camera()
    phases = []
    for index in range(48):
        frame = [] if gone and index >= 30 else [(0, 4.0, -1.0)]
        if index >= 40:
            frame = [*frame, (7, 2.5, 0.8)]
        seen = sights(frame, view)
        doubts = np.where(seen.image_ids == 7, 0.8, 0.0)
        people = tracker.update(replace(seen, doubts=doubts), index / RATE, view, MAP)
        phases += people.phases[people.ids == 1].tolist()
    sure = 5 if gone else 2
    assert phases == [TENTATIVE] * sure + [TRACKED] * (8 - sure)


def test_somebody_new_whose_first_depth_was_wrong_does_not_run():
    """A step from one depth to another is an error, no speed."""
    tracker = PeopleTracker()
    view = camera()
    for index, depth in enumerate((2.2, 3.9, 3.9, 3.9)):
        seen = sights([(1, 3.9, 0)], view)
        logs = seen.log_depths.copy()
        logs[0, 0] = np.log(depth)
        seen = replace(seen, log_depths=logs, clarity=np.full(1, 0.7 if index else 0.55))
        people = tracker.update(seen, index / RATE, view, MAP)
    assert people.positions[0] == pytest.approx([3.9, 0, 1.1], abs=0.1)
    assert np.hypot(*people.velocities[0, :2]) < 0.5


def test_who_sits_down_while_nobody_finds_her_is_found_again():
    tracker = PeopleTracker()
    frames = walk(2, (3, 0), (0, 0)) + walk(2, (3, 1), (0, 0), number=1)
    frames = [[*one, *other] for one, other in zip(frames[:30], frames[30:], strict=True)]
    stamp = run(frames, tracker)[-1].stamp
    lower = sights([(0, 3, 0), (1, 3, 1)], camera())
    lower = replace(lower, rays=lower.rays + np.array([[0.0, 0.05], [0.0, 0.0]]))
    people = tracker.update(lower, stamp + 0.4, camera(), MAP)
    assert people.ids.tolist() == [0, 1]
    assert (people.last_seen == people.stamp).all()


def test_who_turns_out_of_sight_keeps_her_number():
    """She walks behind somebody, and comes out where she went in: 0.8 m from where she would be."""
    tracker = PeopleTracker()
    frames = walk(2, (4, -2), (0, 1.1)) + [[]] * round(0.75 * RATE)
    expected = run(frames, tracker)[-1].positions[0, 1]
    back = walk(0.5, (4, expected - 0.8), (0, -0.9), number=7)
    people = run(back, tracker, start=len(frames) / RATE)[-1]
    assert people.ids.tolist() == [0]
    assert people.velocities[0, 1] == pytest.approx(-0.9, abs=0.25)


def test_of_two_who_come_back_each_keeps_her_number_by_height():
    """Each comes out where the other one would, with new numbers of the image tracker."""
    tracker, view, rng = PeopleTracker(), camera(), np.random.default_rng(5)
    for index in range(90):
        y = -1.5 + 0.8 * min(index, 30) / RATE + 0.1 * (index > 52)
        frame, tall = [(0, 4.0, y), (1, 4.4, y + 0.1)], np.array([1.5, 1.75])
        if 30 <= index < 52:
            frame, tall = [], np.zeros(0)
        elif index >= 52:
            frame, tall = [(2, 4.4, y + 0.1), (3, 4.0, y)], tall
        spread = np.exp(rng.normal(0, 0.03, len(tall)))
        seen = sights(frame, view, rng=rng, tall=tall * spread)
        people = tracker.update(seen, index / RATE, view, MAP)
    places = dict(zip(people.ids.tolist(), people.positions[:, 0].tolist(), strict=True))
    assert places == {0: pytest.approx(4.4, abs=0.15), 1: pytest.approx(4.0, abs=0.15)}


@pytest.mark.parametrize('dressed', [True, False])
def test_of_two_who_come_back_each_keeps_her_number_by_her_clothes(dressed):
    """They walk behind something, where both turn: each comes back where the other is expected."""
    tracker, here = PeopleTracker(), camera()
    worn = np.array([[45.0, 55, 35, 25, 2, -20], [90.0, 0, 5, 40, 2, -12]])
    for index in range(round(2 * RATE)):
        away = 0.5 * index / RATE
        people = [(0, 4, -1.5 + away), (1, 4, 1.5 - away)]
        seen = sights(people, here, worn=worn if dressed else None)
        tracker.update(seen, index / RATE, here, MAP)
    for index in range(round(3 * RATE)):
        people = [(7, 4, -0.6 - 0.3 * index / RATE), (8, 4, 0.6 + 0.3 * index / RATE)]
        seen = sights(people, here, worn=worn if dressed else None)
        told = tracker.update(seen, 4.5 + index / RATE, here, MAP)
    ids = {int(number): int(image) for number, image in zip(told.ids, told.image_ids, strict=True)}
    assert (ids == {0: 7, 1: 8}) is dressed


def test_who_is_seen_all_the_time_is_not_somebody_who_is_lost_beside_her():
    """Her joints stray once to where the other one may be."""
    tracker, view, rng = PeopleTracker(), camera(), np.random.default_rng(6)
    for index in range(60):
        frame = [(0, 4.0, 0.15 if index in (44, 48) else 0.0)]
        frame += [(1, 4.3, 0.35)] if index < 30 else []
        seen = sights(frame, view, rng=rng, tall=np.array([1.6, 1.65])[: len(frame)])
        people = tracker.update(seen, index / RATE, view, MAP)
        now = people.last_seen == people.stamp
        assert people.image_ids[now].tolist() == people.ids[now].tolist()


def test_one_strange_sight_is_not_somebody_else():
    view, tracker = camera(), PeopleTracker()
    run(walk(2, (4, 0), (0, 0)), tracker)
    for index, metres in enumerate((2.0, 4.0, 4.0)):
        seen = sights([(0, metres, 0.0)], view)
        people = tracker.update(seen, 2.0 + index / RATE, view, MAP)
        assert people.ids.tolist() == [0]
    assert people.positions[0, 0] == pytest.approx(4.0, abs=0.1)


def test_who_is_new_may_have_the_number_of_somebody_whom_she_hides():
    """Heads tell that she is not the other one, who keeps her place and her number here."""
    tracker, view, rng = PeopleTracker(), camera(), np.random.default_rng(3)
    for index in range(50):
        frame = [(0, 4.0, 0.0)] if index < 40 else [(0, 2.5, 0.02)]
        seen = sights(frame, view, rng=rng, tall=np.array([1.75 if index < 40 else 1.55]))
        depths = np.exp(seen.log_depths[:, 0])
        heads = replace(seen.heads, depths=depths, depth_variances=np.full(len(frame), 0.02**2))
        seen = replace(seen, heads=heads)
        people = tracker.update(seen, index / RATE, view, MAP)
        if index == 44:  # before the other one counts as out of sight
            assert people.phases[people.ids == 1] == TENTATIVE
    assert people.phases.tolist() == [OCCLUDED, TRACKED]
    places = dict(zip(people.ids.tolist(), people.positions[:, 0].tolist(), strict=True))
    assert places == {0: pytest.approx(3.8, abs=0.4), 1: pytest.approx(2.5, abs=0.15)}


@pytest.mark.parametrize(
    ('doubt', 'tall', 'told'), [(0.8, 1.4, False), (0.8, 1.6, True), (0.1, 1.4, True)]
)
def test_a_lower_box_of_whom_little_is_seen_is_not_told_to_be_hers(doubt, tall, told):
    """She is missed, and of who is behind her a bit is found, with her number and her depth."""
    view, tracker, rng = camera(), PeopleTracker(), np.random.default_rng(8)
    for index in range(40):
        last = index == 39
        seen = sights([(0, 3.0, 0.0)], view, rng=rng, tall=np.array([tall if last else 1.6]))
        seen = replace(seen, doubts=np.full(1, doubt if last else 0.0))
        people = tracker.update(seen, index / RATE, view, MAP)
    assert bool(people.last_seen[0] == people.stamp) is told
    people = tracker.update(sights([(0, 3.0, 0.0)], view), 40 / RATE, view, MAP)
    assert people.ids.tolist() == [0] and people.last_seen[0] == people.stamp


@pytest.mark.parametrize(
    ('number', 'doubt', 'doubtful'),
    [(0, 0.8, False), (1, 0.8, True), (9, 0.8, False), (1, 0.3, False)],
)
def test_a_sight_with_somebody_elses_number_is_doubtful_if_little_is_seen(number, doubt, doubtful):
    people = run([[(0, 3.0, 0.0), (1, 3.4, 0.4)]] * 20)[-1]
    seen = sights([(number, 3.0, 0.0)], camera())
    seen = replace(seen, doubts=np.full(1, doubt))
    first = np.array([0])
    owners = owners_of(same_numbers(people, seen))
    assert doubtful_sights(people, first, seen, owners).tolist() == [doubtful]


def test_nobodys_place_is_where_somebody_else_is_who_hides_her():
    """The depth of who is before her is measured again and again, with her own number."""
    tracker, view, rng = PeopleTracker(), camera(), np.random.default_rng(4)
    for index in range(52):
        hidden = index >= 40
        frame = [(0, 4.0, 0.0), (1, 3.0, 0.1)]
        seen = sights(frame, view, rng=rng)
        if hidden:
            logs = seen.log_depths.copy()
            logs[0] = logs[1]
            seen = replace(seen, log_depths=logs)
            seen = seen[np.array([0, 1] if index % 4 == 0 else [0])]
        people = tracker.update(seen, index / RATE, view, MAP)
    places = dict(zip(people.ids.tolist(), people.positions[:, 0].tolist(), strict=True))
    assert places == {0: pytest.approx(4.0, abs=0.2), 1: pytest.approx(3.0, abs=0.2)}


def test_low_scores_do_not_begin_and_ghosts_vanish():
    view, tracker = camera(), PeopleTracker()
    faint = replace(sights([(0, 4.0, 0.0)], view), scores=np.full(1, 0.1, np.float32))
    assert len(tracker.update(faint, 0.0, view, MAP)) == 0
    ghost = run([[(0, 4.0, 0.0)], *[[]] * 10], tracker, start=0.1)
    assert ghost[0].phases.tolist() == [TENTATIVE]
    assert len(ghost[-1]) == 0


def test_a_stamp_that_jumps_back_begins_anew_and_numbers_go_on():
    tracker = PeopleTracker()
    run(walk(1, (4, 0), (0, 0)), tracker, start=100.0)
    assert run(walk(1, (4, 0), (0, 0)), tracker, start=0.0)[-1].ids.tolist() == [1]
    tracker.reset()
    assert run(walk(1, (4, 0), (0, 0)), tracker, start=50.0)[-1].ids.tolist() == [2]
    with pytest.raises(ValueError, match='the stamp must be a number of seconds'):
        tracker.update(None, np.nan, camera(), MAP)


def test_who_is_behind_the_camera_is_not_taken_for_who_is_before_it():
    tracker = PeopleTracker()
    run(walk(1, (2, 0), (0, 0)), tracker)
    turned = camera((4.0, 0.0))  # drove past
    seen = sights([(1, 6.0, 0.0)], turned)
    people = tracker.update(seen, 1.1, turned, MAP)
    assert people.ids.tolist() == [0, 1]


@pytest.mark.parametrize('up', [np.array([0.0, -1.0, 0.0]), np.array([0.0, -0.96, -0.28])])
def test_yaw_is_the_same_in_optical_frames_and_those_with_z_up(up):
    optical = Axes.of_optical(up)
    assert optical.forward @ up == pytest.approx(0)
    assert optical.yaw(optical.forward) == pytest.approx(0)
    assert optical.yaw(np.array([-1.0, 0, 0])) == pytest.approx(np.pi / 2)
    assert MAP.yaw(np.array([0.0, 1.0, 0.0])) == pytest.approx(np.pi / 2)
    assert optical.level(up) == pytest.approx(np.zeros(2))


@pytest.mark.parametrize(
    ('settings', 'problem'),
    [
        ({'max_occlusion': 0.0}, 'max_occlusion must be positive seconds'),
        ({'start_score': 1.5}, r'start_score must be in \[0, 1\]'),
        ({'speed_sd': np.inf}, 'speed_sd must be positive'),
    ],
)
def test_bad_parameters_are_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        PeopleParameters(**settings)
