from __future__ import annotations

import threading
import time

import pytest

from edgedet.runtime.channel import Channel, ChannelClosedError


def test_order_is_kept():
    channel: Channel[int] = Channel(3)
    for item in range(3):
        channel.put(item)
    assert [channel.get() for _ in range(3)] == [0, 1, 2]


def test_full_channel_holds_the_sender_back():
    channel: Channel[int] = Channel(1)
    channel.put(0)
    sender = threading.Thread(target=channel.put, args=(1,))
    sender.start()
    sender.join(0.05)
    assert sender.is_alive()
    assert channel.get() == 0
    sender.join(5)
    assert not sender.is_alive() and channel.get() == 1


def test_replace_never_waits_and_shows_both():
    channel: Channel[str] = Channel(1)
    seen = []
    for item in ("old", "newer", "newest"):
        channel.replace(item, lambda old, new: seen.append((old, new)))
    assert seen == [("old", "newer"), ("newer", "newest")]
    assert channel.get() == "newest"


@pytest.mark.parametrize("waiting", ["get", "put"])
def test_close_wakes_who_waits(waiting):
    channel: Channel[int] = Channel(1)
    if waiting == "put":
        channel.put(0)
    caught = []

    def wait() -> None:
        try:
            channel.get() if waiting == "get" else channel.put(1)
        except ChannelClosedError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.02)
    channel.close()
    thread.join(5)
    assert len(caught) == 1
    for call in (channel.get, lambda: channel.put(2), lambda: channel.replace(2, lambda old, new: None)):
        with pytest.raises(ChannelClosedError):
            call()
