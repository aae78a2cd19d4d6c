# SPDX-License-Identifier: Apache-2.0
"""What training validates, and shows of it in TensorBoard."""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('tensorboard')

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rmpe_ros.networks.person_detector import DetectorNetwork
from rmpe_ros.networks.sstn_sppe import SstnSppe
from rmpe_ros.training.datasets import LabelledScene, evenly
from rmpe_ros.training.detector_validation import DetectorValidation
from rmpe_ros.training.pictures import people_pictures, photo_pictures
from rmpe_ros.training.scalars import Scalars

SIZE = (64, 96)
EMPTY = np.zeros((0, 4), np.float32)


class Knowing(DetectorNetwork):
    """Finds what it is told to: in each photo, by the brightness of its top left corner."""

    def __init__(self, answers):
        super().__init__(width=4, channels=8)
        self.answers = answers

    def forward(self, image):
        brightness = [round(float(v) * 58.395 + 123.675) for v in image[:, 0, 0, 0]]
        logits = torch.full((len(image), 126), -9.0)
        boxes = torch.zeros(len(image), 126, 4)
        for i, level in enumerate(brightness):
            for j, (box, score) in enumerate(self.answers.get(level, [])):
                boxes[i, j] = torch.tensor(box)
                logits[i, j] = float(np.log(score / (1 - score)))
        return logits, boxes


def scene(level, boxes, *, ignore=EMPTY, complete=True):
    """A photo of one brightness, twice the detector's size."""
    return LabelledScene(level, np.float32(boxes).reshape(-1, 4), ignore, complete, 'all')


def photo(level):
    return np.full((2 * SIZE[0], 2 * SIZE[1], 3), level, np.uint8)


def test_detector_validation_counts_as_coco_does():
    scenes = [
        scene(10, [[20, 20, 60, 100], [100, 20, 140, 100]]),
        scene(50, [[20, 20, 60, 100]], ignore=np.float32([[100, 20, 140, 100]])),
        scene(90, []),
        scene(130, [[0, 0, 9, 9]], complete=False),
    ]
    left, right = [10.0, 10, 30, 50], [50.0, 10, 70, 50]  # in the letterboxed photo
    validation = DetectorValidation(scenes, SIZE, read=photo)
    assert len(validation.canvases) == 3  # all but the one where others may be about
    assert validation.boxes[0].tolist() == [left, right]
    everything = {10: [(left, 0.9), (right, 0.8)], 50: [(left, 0.9), (right, 0.8)]}
    assert validation(Knowing(everything)) == {'ap50': pytest.approx(1), 'recall': 1}
    # The same box twice is one person, what was doubtful is no mistake, a third is missed.
    twice = {10: [(left, 0.9), (left, 0.8)], 50: [(left, 0.9), (right, 0.95)]}
    found = validation(Knowing(twice))
    assert found['recall'] == pytest.approx(2 / 3)
    assert found['ap50'] == pytest.approx(67 / 101)  # precision 1 at recall 0 to 0.66
    wrong = {90: [(left, 0.95)], **everything}
    assert validation(Knowing(wrong))['ap50'] == pytest.approx(3 / 4)
    assert validation(Knowing({})) == {'ap50': 0, 'recall': 0}


def test_incomplete_photos_are_better_than_none():
    validation = DetectorValidation(
        [scene(10, [[0, 0, 20, 40]], complete=False)] * 700, SIZE, read=photo
    )
    assert len(validation.canvases) == 500
    with pytest.raises(ValueError, match='no photo'):
        DetectorValidation([], SIZE, read=photo)


def test_photo_pictures_show_labels_above_and_finds_below():
    scenes = [scene(90, []), scene(10, [[20, 20, 60, 100]])]
    validation = DetectorValidation(scenes, SIZE, read=photo)
    network = Knowing({10: [([50.0, 10, 70, 50], 0.9), ([0.0, 0, 9, 9], 0.2)]})
    picture = photo_pictures(validation, network)['photos']
    assert picture.shape == (2 * SIZE[0], 2 * SIZE[1], 3)  # the one with people comes first
    above, below = picture[: SIZE[0], : SIZE[1]], picture[SIZE[0] :, : SIZE[1]]
    assert (above[30, 8:12] != 10).any() and (above[30, 48:72] == 10).all()
    assert (below[30, 48:52] != 10).any() and (below[30, :45] == 10).all()
    assert (picture[:, SIZE[1] :] == 90).all()


class FewPeople:
    """What `people_pictures` needs of a PoseValidation."""

    def __init__(self, count, size):
        rng = np.random.default_rng(0)
        noise = [cv2.resize(rng.integers(0, 90, (8, 6, 3), np.uint8), size[::-1])] * count
        self.crops = np.stack(noise)
        self.crop_joints = rng.uniform(5, min(size) - 5, (count, 19, 2))
        self.labelled = np.ones((count, 19), bool)


class Peaks(torch.nn.Module):
    """Heatmaps with one sharp peak for all joints."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        logits = torch.zeros(len(x), 19, x.shape[2] // 4, x.shape[3] // 4)
        logits[:, :, 4, 6] = 20
        return [logits + self.weight]


@pytest.mark.parametrize(('sstn', 'rows'), [(False, 3), (True, 4)])
def test_people_pictures_have_a_row_for_each_thing(sstn, rows):
    size = (64, 48)
    validation = FewPeople(20, size)
    network = SstnSppe(Peaks(), size, sstn=sstn).eval()
    picture = people_pictures(validation, network)['people']
    assert picture.dtype == np.uint8 and picture.shape == (rows * 64, 8 * 48, 3)
    labels, found = picture[:64, :48], picture[64:128, :48]
    assert (labels != validation.crops[0]).any() and (found != labels).any()
    if sstn:  # untrained, the spatial transformer is the identity
        assert np.abs(picture[128:192, :48].astype(int) - validation.crops[0]).max() <= 1
    glow = picture[-64:, :48].astype(int).sum(axis=2)
    y, x = np.unravel_index(glow.argmax(), glow.shape)
    assert abs(y - 17.5) <= 2 and abs(x - 25.5) <= 2


def test_evenly_takes_first_and_last():
    assert evenly(100, 3).tolist() == [0, 50, 99]
    assert evenly(2, 8).tolist() == [0, 1]


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={'images': 0, 'scalars': 0})
    return accumulator.Reload()


def test_after_a_resume_tensorboard_shows_every_step_once(tmp_path):
    first = Scalars(tmp_path, 0)
    for step in (10, 20, 30):
        first.add(step, {'loss': float(step)}, group='train')
    first.add_pictures(20, {'people': np.full((8, 9, 3), 7, np.uint8)})
    first.close()
    second = Scalars(tmp_path, 20)  # the checkpoint was of step 20: what came after it is lost
    for step in (30, 40):
        second.add(step, {'loss': step + 0.5}, group='train')
    second.close()
    events = read(tmp_path)
    loss = [(event.step, event.value) for event in events.Scalars('train/loss')]
    assert loss == [(10, 10), (20, 20), (30, 30.5), (40, 40.5)]
    (picture,) = events.Images('pictures/people')
    pixels = cv2.imdecode(np.frombuffer(picture.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (8, 9, 3) and (pixels == 7).all()


def test_without_tensorboard_training_goes_on_and_says_so_once(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'torch.utils.tensorboard', None)
    lines = []
    scalars = Scalars(tmp_path / 'tensorboard', 0, log=lines.append)
    scalars.add(1, {'loss': 1.0}, group='train')
    scalars.add_pictures(1, {'people': np.zeros((4, 4, 3), np.uint8)})
    scalars.close()
    assert not scalars.active
    assert len(lines) == 1 and 'pip install tensorboard' in lines[0]
    assert not (tmp_path / 'tensorboard').exists()
