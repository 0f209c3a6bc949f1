"""Frames on a stream: whole ones arrive, half ones do not, and none is longer than agreed."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplane.wire.link import PeerGone, PeerStalled, ProtocolError
from mmplane.wire.stream import HEADER, header, receive_frames, send_frame, stream_pair

LIMIT_S = 60.0
FRAME_BYTES_MAX = 1000

Frames = list[tuple[int, bool, bytes]]


def received(sent: bytes) -> Frames:
    """The frames in these bytes, after which the stream ends."""
    ours, theirs = stream_pair()
    frames: Frames = []
    with ours, theirs:
        sender = threading.Thread(target=lambda: (ours.sendall(sent), ours.shutdown(socket.SHUT_WR)))
        sender.start()
        try:
            receive_frames(
                theirs,
                lambda request_id, relayed, content: frames.append((request_id, relayed, bytes(content))),
                frame_bytes_max=FRAME_BYTES_MAX,
            )
        finally:
            theirs.shutdown(socket.SHUT_RDWR)
            sender.join(LIMIT_S)
    return frames


def written(frames: Frames) -> bytes:
    return b"".join(header(number, len(content), relayed=relayed) + content for number, relayed, content in frames)


frames = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.booleans(), st.binary(max_size=FRAME_BYTES_MAX)), max_size=5)


@given(frames, st.data())
def test_frames_that_are_whole_arrive_wherever_the_stream_is_cut(sent: Frames, data: st.DataObject) -> None:
    raw = written(sent)
    cut = data.draw(st.integers(0, len(raw)))
    whole = [each for index, each in enumerate(sent) if len(written(sent[: index + 1])) <= cut]
    assert received(raw[:cut]) == whole


def test_a_frame_that_is_too_long_is_refused_before_its_bytes_are_read() -> None:
    with pytest.raises(ProtocolError):
        received(header(1, FRAME_BYTES_MAX + 1, relayed=False))


@given(st.binary(max_size=300))
def test_junk_is_frames_or_a_protocol_error(junk: bytes) -> None:
    try:
        found = received(junk)
    except ProtocolError:
        return
    assert sum(HEADER.size + len(content) for _, _, content in found) <= len(junk)


def test_send_frame_is_what_receive_frames_takes() -> None:
    ours, theirs = stream_pair()
    frames: Frames = []
    with ours, theirs:
        send_frame(ours, 7, bytearray(b"content"), limit_s=LIMIT_S)
        send_frame(ours, 8, memoryview(b""), limit_s=LIMIT_S)
        ours.shutdown(socket.SHUT_WR)
        receive_frames(theirs, lambda *frame: frames.append(frame), frame_bytes_max=FRAME_BYTES_MAX)
    assert frames == [(7, False, b"content"), (8, False, b"")]


def test_a_peer_that_does_not_read_is_stalled() -> None:
    ours, theirs = stream_pair()
    with ours, theirs, pytest.raises(PeerStalled):
        send_frame(ours, 1, bytearray(50_000_000), limit_s=0.05)


def test_a_peer_that_is_gone_is_said_to_be() -> None:
    ours, theirs = stream_pair()
    theirs.close()
    with ours, pytest.raises(PeerGone):
        send_frame(ours, 1, bytearray(10), limit_s=LIMIT_S)
