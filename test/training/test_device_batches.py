# SPDX-License-Identifier: Apache-2.0
"""Crops made on a device are those made one by one on the host, here with the CPU as the device."""

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.training.augment import NO_AUGMENTATION, Augmentation, jitter_box
from rmpe_ros.training.batches import ExampleBatches
from rmpe_ros.training.datasets import ImageCache, LabelledPerson
from rmpe_ros.training.device_batches import (
    DeviceMemoryError,
    DevicePoseBatches,
    estimate_bytes,
    load_regions,
)
from rmpe_ros.training.device_pixels import PixelStore, distort_batch, resampling_matrix
from rmpe_ros.training.distortions import Distortion, Patch, distort, motion_kernel
from rmpe_ros.training.pose_training import PoseExamples

SIZE = (112, 80)
DEVICE = torch.device('cpu')
# One of each at a time, always.
NONE = {
    'rotation_probability': 0.0, 'upside_down': 0.0, 'scale': 0.0, 'flip': 0.0, 'cut': 0.0,
    'half_body': 0.0, 'color': 0.0, 'blur': 0.0, 'low_resolution': 0.0, 'erase': 0.0,
}  # fmt: skip


def scenery(height: int, width: int, seed: int) -> np.ndarray:
    """A picture as smooth as photos are."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 12, width // 12, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    """Small, middle and large people, some at the photo's edge, two in one photo."""
    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(0)
    found = []
    for number, (height, x, y) in enumerate(
        [(60, 40, 30), (90, 150, 100), (140, 10, 5), (170, 220, 60), (90, -15, 110), (230, 60, 5)]
    ):
        photo = folder / f'{number % 5}.png'
        cv2.imwrite(str(photo), scenery(240, 320, number % 5))
        box = np.array([x, y, x + 0.6 * height, y + height], np.float32)
        joints = rng.uniform(box[:2] + 3, box[2:] - 3, (19, 2)).astype(np.float32)
        weights = np.ones(19, np.float32)
        weights[:number] = 0
        weights[5:8] = 0.4
        found.append(LabelledPerson(photo, box, joints, weights, 'ab'[number % 2]))
    return found


def both(people, size=SIZE, count=24, step=3, **options):
    """The same examples from the device and from the host."""
    weights = {'a': 0.7, 'b': 0.3}
    device = DevicePoseBatches(people, weights, size, 'cpu', **options)
    host = ExampleBatches(PoseExamples(people, weights, size, **options))
    return device.batch(5, step, range(count)), host.batch(5, step, range(count))


def true_box(person, rng):
    return person.box


def difference(a, b) -> np.ndarray:
    """Mean of the absolute differences of grey levels, crop by crop."""
    return (a['crops'].float() - b['crops'].float()).abs().mean(dim=(1, 2, 3)).numpy()


@pytest.mark.parametrize(
    'augmentation',
    [
        NO_AUGMENTATION,
        Augmentation(),
        *(Augmentation(**{**NONE, name: 0.2 if name == 'scale' else 1.0}) for name in NONE),
    ],
    ids=['none', 'all', *NONE],
)
def test_crops_and_labels_are_the_hosts(people, augmentation):
    a, b = both(people, augmentation=augmentation)
    assert set(a) == {'crops', 'joints', 'weights', 'centred', 'centred_weights', 'theta'}
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape
        if name != 'crops':
            assert torch.equal(a[name], b[name])
    assert difference(a, b).max() < 2
    # Nobody passes by being dark.
    assert b['crops'].float().std() > 30


def test_true_boxes_without_augmentation_are_the_hosts(people):
    a, b = both(people, augmentation=NO_AUGMENTATION, propose=true_box)
    assert difference(a, b).max() < 2
    assert torch.equal(a['joints'], b['joints']) and torch.equal(a['joints'], a['centred'])


def test_people_many_times_the_crop_are_the_hosts(people):
    """At 56 pixels, regions are reduced and crops that show more are sampled several times."""
    a, b = both(
        people, (56, 40), augmentation=Augmentation(**{**NONE, 'scale': 1.0}), propose=true_box
    )
    assert np.median(difference(a, b)) < 1 and difference(a, b).max() < 6
    assert torch.equal(a['joints'], b['joints'])


@pytest.mark.parametrize('scale', [2.0, 2.7, 3.4, 5.5])
@pytest.mark.parametrize('angle', [0.0, 0.4])
def test_shrinking_does_not_alias(scale, angle):
    """Of a chequerboard of single pixels only grey is left."""
    board = np.indices((200, 200)).sum(axis=0) % 2 * 255
    store = PixelStore.upload([np.repeat(board[..., None], 3, axis=2).astype(np.uint8)], DEVICE)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([99.7, 99.4]) - turn @ [9.5, 9.5]
    transform = np.concatenate([turn, middle[:, None]], axis=1)
    crop = store.crop(np.array([0]), transform[None], (20, 20))[0].numpy().astype(float)
    assert np.abs(crop - 127.5).max() < 40


def test_an_example_depends_on_seed_step_and_position_alone(people):
    source = DevicePoseBatches(people, {'*': 1.0}, SIZE, 'cpu')
    whole = source.batch(1, 2, range(8))
    parts = [source.batch(1, 2, range(rank, 8, 3)) for rank in range(3)]
    for name, values in whole.items():
        for rank, part in enumerate(parts):
            assert torch.equal(part[name], values[rank::3])
    for other in (source.batch(1, 3, range(8)), source.batch(2, 2, range(8))):
        assert not torch.equal(other['crops'], whole['crops'])


def test_large_batches_are_those_of_their_parts(people):
    source = DevicePoseBatches(people, {'*': 1.0}, (24, 16), 'cpu')
    whole, end = source.batch(0, 0, range(300)), source.batch(0, 0, range(250, 300))
    assert whole['crops'].shape == (300, 24, 16, 3)
    assert torch.equal(whole['crops'][250:], end['crops'])


def dotted_people(folder: Path) -> list[LabelledPerson]:
    """People whose joints are dots of a colour each, on black."""
    people = []
    for number in range(4):
        rng = np.random.default_rng(number)
        box = np.array([80, 60, 240, 290], np.float32)
        cells = rng.permutation(30)[:19]
        joints = np.stack([95 + 32 * (cells % 5), 80 + 38 * (cells // 5)], axis=1)
        joints = (joints + rng.uniform(-4, 4, (19, 2))).astype(np.float32)
        image = np.zeros((340, 330, 3), np.uint8)
        for (x, y), color in zip(joints, COLORS, strict=True):
            at = round(float(x) * 16), round(float(y) * 16)
            cv2.circle(image, at, 6 * 16, color.tolist(), -1, cv2.LINE_AA, 4)
        photo = folder / f'{number}.png'
        cv2.imwrite(str(photo), image[:, :, ::-1])
        people.append(LabelledPerson(photo, box, joints, np.ones(19, np.float32), 'dots'))
    return people


# 19 colours that differ by 100 levels or more in some channel.
COLORS = np.array(
    [(r, g, b) for r in (0, 120, 255) for g in (0, 120, 255) for b in (0, 120, 255)][1:20]
)


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_joints_follow_the_pixels(tmp_path, flip):
    """Through jitter, rotation, zoom, half bodies and mirrors, each joint's dot is found at it: in
    a mirrored crop the left wrist's dot lies where the label says that the right wrist is.
    """
    options = Augmentation(
        flip=flip, half_body=0.3, rotation_probability=1.0, upside_down=0.1,
        color=0, blur=0, low_resolution=0, erase=0,
    )  # fmt: skip
    source = DevicePoseBatches(
        dotted_people(tmp_path), {'*': 1.0}, (224, 160), 'cpu', augmentation=options
    )
    batch = source.batch(0, 0, range(16))
    named = BODY19.flip_permutation if flip else np.arange(19)
    checked = 0
    for crop, joints, weights in zip(
        batch['crops'].numpy(), batch['joints'].numpy(), batch['weights'].numpy(), strict=True
    ):
        for joint in np.flatnonzero(weights):
            x, y = joints[joint]
            seen = cv2.getRectSubPix(crop, (1, 1), (float(x), float(y)))[0, 0].astype(int)
            assert np.abs(seen - COLORS[named[joint]]).max() < 40
            checked += 1
    assert checked > 100


def test_a_mirrored_persons_left_is_the_right(people):
    """Where only the left side is labelled, by a teacher, only the right is in a mirrored crop."""
    person = people[2]
    left = np.array(['left' in name for name in BODY19.keypoints])
    one_sided = LabelledPerson(person.image, person.box, person.joints, 0.4 * left, 'a')
    for flip, side in ((0.0, 'left'), (1.0, 'right')):
        options = Augmentation(**{**NONE, 'flip': flip})
        batch = DevicePoseBatches(
            [one_sided], {'*': 1.0}, SIZE, 'cpu', augmentation=options, propose=true_box
        ).batch(0, 0, range(1))
        expected = [0.4 * (side in name) for name in BODY19.keypoints]
        for name in ('weights', 'centred_weights'):
            assert batch[name][0].tolist() == pytest.approx(expected)


def distorted(image: np.ndarray, distortion: Distortion) -> tuple[np.ndarray, np.ndarray]:
    device = distort_batch(torch.from_numpy(image[None].copy()), [distortion])[0].numpy()
    return device.astype(int), distort(image, distortion).astype(int)


@pytest.mark.parametrize('small', [(28, 20), (41, 33), (79, 57)])
def test_low_resolution_is_the_hosts(small):
    a, b = distorted(scenery(112, 80, 1), Distortion(small=small))
    assert np.abs(a - b).max() <= 2 and np.abs(b - scenery(112, 80, 1)).mean() > 0.1


@pytest.mark.parametrize('length', range(3, 8))
@pytest.mark.parametrize('angle', [0.0, 90.0, 37.0])
def test_motion_blur_is_the_hosts(length, angle):
    image = np.random.default_rng(0).integers(0, 256, (112, 80, 3), np.uint8)
    a, b = distorted(image, Distortion(blur=motion_kernel(length, angle)))
    assert np.abs(a - b).max() <= 1


def test_patches_are_the_hosts():
    image = scenery(112, 80, 1)
    red = np.array([255, 0, 0], np.uint8)
    # The last copies what the first has covered, and overlaps itself.
    patches = (
        Patch(10, 20, 30, 8, red),
        Patch(90, 60, 22, 20, None, 0, 0),
        Patch(15, 22, 25, 20, None, 20, 25),
    )
    a, b = distorted(image, Distortion(patches=patches))
    assert np.array_equal(a, b)
    assert (b[10, 20] == red).all() and not np.array_equal(b[90:, 60:], image[90:, 60:])


def test_a_batch_mixes_crops_with_different_distortions():
    images = np.stack([scenery(112, 80, i) for i in range(3)])
    distortions = [
        Distortion(),
        Distortion(blur=motion_kernel(5, 10)),
        Distortion(patches=(Patch(0, 0, 9, 9, np.zeros(3, np.uint8)),)),
    ]
    device = distort_batch(torch.from_numpy(images.copy()), distortions).numpy().astype(int)
    host = np.stack([distort(i, d) for i, d in zip(images, distortions, strict=True)])
    assert np.abs(device - host).max() <= 1
    assert np.array_equal(device[0], images[0])


def test_reducing_and_enlarging_keeps_the_mean_of_a_plain_row():
    for n, small in ((10, 4), (224, 61), (7, 7)):
        assert resampling_matrix(n, small).sum(axis=1) == pytest.approx(np.ones(n), abs=1e-5)
    assert resampling_matrix(7, 7) == pytest.approx(np.eye(7))


def test_pixels_beyond_a_picture_are_black_and_never_its_neighbours():
    pictures = [np.full((4, 6, 3), level, np.uint8) for level in (50, 250, 99)]
    store = PixelStore.upload(pictures, DEVICE)
    assert store.nbytes == 3 * 72
    # Two pixels to the left and one up, at the picture's own scale.
    shifted = np.array([[[1, 0, -2], [0, 1, -1]]], np.float64)
    crop = store.crop(np.array([1]), shifted, (6, 10))[0, :, :, 0].numpy()
    expected = np.zeros((6, 10), int)
    expected[1:5, 2:8] = 250
    assert np.array_equal(crop, expected)


def test_photos_are_read_once_and_each_person_has_a_region(people):
    read: list[Path] = []
    cache = ImageCache()

    def count(path: Path) -> np.ndarray:
        read.append(path)
        return cache.read(path)

    regions = load_regions(people, SIZE, limit_bytes=None, read=count)
    assert len(regions) == len(people) and len(read) == len(set(read)) == 5
    assert estimate_bytes(people, SIZE) == sum(region.pixels.size for region in regions)
    # The largest person is reduced, the smallest needs less than the photo.
    assert regions[5].from_photo[0, 0] < 1
    assert regions[0].pixels.size < 240 * 320 * 3 and regions[0].from_photo[0, 0] == 1


@pytest.mark.parametrize('share', [0.5, 0.9])
def test_photos_that_do_not_fit_are_refused(people, share):
    """Far too many after a look at some, a little too many after reading them."""
    needed = estimate_bytes(people, SIZE)
    with pytest.raises(DeviceMemoryError, match=r'6 people take about .* GiB.* on cpu'):
        DevicePoseBatches(people, {'*': 1.0}, SIZE, 'cpu', limit_bytes=int(share * needed))
    source = DevicePoseBatches(people, {'*': 1.0}, SIZE, 'cpu', limit_bytes=needed)
    assert source.nbytes == needed


def test_a_broken_photo_is_named(people, tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no photo')
    broken = LabelledPerson(
        tmp_path / 'broken.jpg', people[0].box, people[0].joints, people[0].weights, 'a'
    )
    with pytest.raises(ValueError, match=r'broken\.jpg cannot be read'):
        DevicePoseBatches([*people, broken], {'*': 1.0}, SIZE, 'cpu')


def test_boxes_of_a_proposer_are_used(people):
    def wide(person, rng):
        return jitter_box(person.box, rng, spread=0.3)

    a, b = both(people, propose=wide, augmentation=NO_AUGMENTATION)
    assert torch.equal(a['joints'], b['joints'])
    assert not torch.equal(a['joints'], a['centred'])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_makes_what_the_cpu_makes(people):
    cpu, gpu = (
        DevicePoseBatches(people, {'*': 1.0}, SIZE, device).batch(0, 0, range(64))
        for device in ('cpu', 'cuda')
    )
    assert all(values.is_cuda for values in gpu.values())
    for name in ('joints', 'weights', 'centred', 'centred_weights', 'theta'):
        assert torch.equal(cpu[name], gpu[name].cpu())
    apart = (cpu['crops'].float() - gpu['crops'].cpu().float()).abs()
    assert apart.mean() < 0.1 and apart.amax() < 40
