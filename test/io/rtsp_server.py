# SPDX-License-Identifier: Apache-2.0
"""A small RTSP server (RFC 2326): plays a transport stream as RTP inside of its connection."""

from __future__ import annotations

import base64
import socketserver
import struct

_PACKET = 7 * 188  # bytes of a transport stream in an RTP packet (RFC 2250)
_DESCRIPTION = 'v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=front\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\n'


class RtspServer(socketserver.ThreadingTCPServer):
    """Gives `data` to the first `answers` clients that log in as user:secret, and breaks off
    behind it; others are told that there is nothing. plays: how often it was played.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, data: bytes, *, answers: int) -> None:
        super().__init__(('127.0.0.1', 0), _Client)
        self.data, self.answers, self.plays = data, answers, 0

    @property
    def address(self) -> str:
        return f'rtsp://user:secret@127.0.0.1:{self.server_address[1]}/front'


class _Client(socketserver.StreamRequestHandler):
    server: RtspServer

    def handle(self) -> None:
        while request := self._request():
            method, headers = request
            sequence = headers.get('cseq', '0')
            login = base64.b64encode(b'user:secret').decode()
            if method != 'OPTIONS' and headers.get('authorization') != f'Basic {login}':
                realm = 'WWW-Authenticate: Basic realm="camera"\r\n'
                self._answer(sequence, '401 Unauthorized', realm)
            elif self.server.plays >= self.server.answers:
                self._answer(sequence, '404 Not Found')
            elif method == 'OPTIONS':
                self._answer(sequence, '200 OK', 'Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n')
            elif method == 'DESCRIBE':
                self._answer(sequence, '200 OK', 'Content-Type: application/sdp\r\n', _DESCRIPTION)
            elif method == 'SETUP':
                transport = 'Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n'
                self._answer(sequence, '200 OK', transport)
            elif method == 'PLAY':
                self.server.plays += 1
                self._answer(sequence, '200 OK', 'Session: 1\r\n')
                self._play()
                return
            else:
                self._answer(sequence, '200 OK', 'Session: 1\r\n')

    def _request(self) -> tuple[str, dict[str, str]] | None:
        method = self.rfile.readline().decode().partition(' ')[0]
        headers = {}
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(':')
            headers[name.lower()] = value.strip()
        return (method, headers) if method else None

    def _answer(self, sequence: str, status: str, headers: str = '', body: str = '') -> None:
        length = f'Content-Length: {len(body)}\r\n' if body else ''
        text = f'RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{headers}{length}\r\n{body}'
        self.wfile.write(text.encode())

    def _play(self) -> None:
        data = self.server.data
        for number, start in enumerate(range(0, len(data), _PACKET)):
            payload = data[start : start + _PACKET]
            packet = struct.pack('>BBHII', 0x80, 33, number, number * 3000, 7) + payload
            self.wfile.write(struct.pack('>cBH', b'$', 0, len(packet)) + packet)
