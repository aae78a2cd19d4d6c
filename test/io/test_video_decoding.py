# SPDX-License-Identifier: Apache-2.0
"""Videos as people have them, through PyAV: rotation, times, containers, damage, streams."""

import http.server
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip('av', reason='needs PyAV, the extra video')

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.io import video_decoding
from rmpe_ros.io.drawn_files import DrawnFiles, names_of_drawn_files
from rmpe_ros.io.images import SourceImage, iter_images, stream_name

from .rtsp_server import RtspServer

TIMES = (0.0, 0.1, 0.5, 0.6, 1.5)  # seconds: a variable frame rate


def picture(number: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Brighter from frame to frame; the top-left corner is red."""
    image = np.full((size[1], size[0], 3), 40 + 30 * (number % 7), np.uint8)
    image[:16, :16] = (250, 20, 20)
    return image


def make_video(path: Path, codec: str, *, times: tuple[float, ...] = TIMES) -> Path:
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        formats = {'mjpeg': 'yuvj420p', 'gif': 'rgb8'}
        stream.pix_fmt = formats.get(codec, 'yuv420p')
        base = Fraction(1, 10 if codec in formats else 1000)
        stream.codec_context.time_base = base
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number), format='rgb24')
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ('name', 'codec'),
    [('a.mp4', 'libx264'), ('a.ts', 'libx264'), ('a.flv', 'libx264'), ('a.mkv', 'libx264'),
     ('a.mjpeg', 'mjpeg'), ('a.gif', 'gif')],
)  # fmt: skip
def test_containers(tmp_path: Path, name: str, codec: str) -> None:
    steady = name in ('a.mjpeg', 'a.gif')
    times = tuple(n / 10 for n in range(5)) if steady else TIMES
    items = list(iter_images([make_video(tmp_path / name, codec, times=times)]))
    assert [item.error for item in items] == [None] * 5
    assert [item.name for item in items] == [f'{name}#{n:06d}' for n in range(5)]
    if name != 'a.mjpeg':  # which is pictures alone, without times
        assert [item.time for item in items] == pytest.approx(times, abs=0.011)
    for number, item in enumerate(items):
        assert item.image is not None and item.image.shape == (48, 64, 3)
        assert abs(int(item.image[40, 40, 1]) - (40 + 30 * number)) < 25
        assert item.image[5, 5, 0] > 150 > item.image[5, 5, 1]


def test_threads_of_a_decoder_never_wait_for_python(tmp_path: Path) -> None:
    """Or who leaves a video before its end may wait for them for ever."""
    av.logging.set_level(av.logging.PANIC)
    path = make_video(tmp_path / 'a.mp4', 'libx264')
    for _ in range(20):
        assert next(iter_images([path])).image is not None
    assert av.logging.get_level() is None


def test_turned_videos_are_upright(tmp_path: Path) -> None:
    path = make_video(tmp_path / 'a.mp4', 'libx264')
    data = bytearray(path.read_bytes())
    # The matrix of the track (tkhd), as phones write it that are held upright.
    start = data.index(b'tkhd') + 4 + 40
    matrix = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]
    data[start : start + 36] = b''.join(v.to_bytes(4, 'big', signed=True) for v in matrix)
    path.write_bytes(data)
    item = next(iter_images([path]))
    assert item.image is not None and item.image.shape == (64, 48, 3)
    # Turned by 90 degrees clockwise, the top-left corner is at the top right.
    assert item.image[5, 43, 0] > 150 > item.image[5, 43, 1]


def test_a_video_that_is_cut_short_or_none(tmp_path: Path) -> None:
    path = make_video(tmp_path / 'a.avi', 'mjpeg', times=tuple(n / 10 for n in range(40)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    items = list(iter_images([path]))
    assert 5 < len(items) < 40
    assert items[-1].image is None and 'of 40 frames: cut short' in (items[-1].error or '')
    (tmp_path / 'b.mp4').write_text('no video')
    (item,) = iter_images([tmp_path / 'b.mp4'])
    assert item.image is None and 'not a video that can be decoded' in (item.error or '')


def test_written_videos_are_what_browsers_play(tmp_path: Path) -> None:
    files = DrawnFiles(tmp_path, color_by='person', boxes=False)
    for number, time in enumerate(TIMES):
        item = SourceImage(
            f'clip.avi#{number:06d}', None, picture(number, (65, 47)), frame=number, rate=10,
            time=time + 7,
        )  # fmt: skip
        files.add(item, Poses.empty(BODY19))
    files.close()
    with av.open(str(tmp_path / 'clip.mp4')) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ('h264', 'yuv420p')
        assert (stream.width, stream.height) == (66, 48)
    data = (tmp_path / 'clip.mp4').read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')
    items = list(iter_images([tmp_path / 'clip.mp4']))
    assert [item.time for item in items] == pytest.approx(TIMES, abs=0.001)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """A stream without an end of its own that breaks off twice, and is gone then."""
    data = make_video(tmp_path / 's.ts', 'libx264').read_bytes()
    calls: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            calls.append(len(calls))
            if len(calls) > 2:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header('Content-Type', 'video/mp2t')
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f'http://user:secret@127.0.0.1:{made.server_port}/live', calls
        made.shutdown()
        thread.join()


def test_a_stream_is_reached_again(
    server: tuple[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_decoding, 'RECONNECT_AFTER', (0.01, 0.01))
    address, calls = server
    items = list(iter_images([address]))
    assert len(calls) == 4
    assert [item.image is None for item in items] == [False] * 10 + [True]
    assert [item.frame for item in items[:10]] == list(range(10))
    times = [item.time or 0 for item in items[:10]]
    assert times == sorted(times)
    warnings = [number for number, item in enumerate(items) if item.warning]
    assert warnings == [5]
    assert 'the stream is back' in (items[5].warning or '')
    assert 'no stream any more' in (items[-1].error or '')
    assert not any('secret' in f'{item.name} {item.warning} {item.error}' for item in items)


def test_a_camera_of_rtsp_is_reached_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_decoding, 'RECONNECT_AFTER', (0.01, 0.01))
    data = make_video(tmp_path / 's.ts', 'libx264', times=tuple(n / 10 for n in range(30)))
    with RtspServer(data.read_bytes(), answers=2) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        items = list(iter_images([server.address]))
        server.shutdown()
        thread.join()
    assert server.plays == 2
    frames = [item for item in items if item.image is not None]
    assert len(items) == len(frames) + 1 and len(frames) > 40
    assert [item.frame for item in frames] == list(range(len(frames)))
    assert all(item.image.shape == (48, 64, 3) for item in frames)
    assert sum(item.warning is not None for item in frames) == 1
    assert 'no stream any more' in (items[-1].error or '')
    assert not any('secret' in f'{item.name} {item.warning} {item.error}' for item in items)


def test_names_of_streams() -> None:
    drawn = names_of_drawn_files(['rtsp://me:word@cam.local:554/front', 'a.ts', 'webcam:1'])
    assert drawn == ['a.mp4', 'rtsp-cam.local-554-front.mp4', 'webcam-1.mp4']
    assert stream_name('rtsp://me:word@cam.local:554/front?x=1') == 'rtsp-cam.local-554-front-x-1'
