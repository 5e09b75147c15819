from __future__ import annotations

import pytest

from edgedet.errors import SourceError, SpecError
from edgedet.runtime.stream.recovery import Recovery, SourceEvent

GONE = SourceError("a camera", "none", "Plug it in")


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (SourceEvent(0, "gate", "failed", GONE), "Source 'gate' failed: Expected a camera, got none. Plug it in"),
        (
            SourceEvent(0, "gate", "failed", GONE, 0.5),
            "Source 'gate' failed: Expected a camera, got none. Plug it in. It is opened again in 0.5 s",
        ),
        (SourceEvent(0, "gate", "hung", None, 0), "Source 'gate' hangs. It is opened again in 0 s"),
        (SourceEvent(0, "gate", "recovered"), "Source 'gate' delivers again"),
        (SourceEvent(0, "gate", "unreadable"), "Source 'gate' sent a frame that cannot be read"),
    ],
)
def test_an_event_is_a_sentence(event, text):
    assert str(event) == text


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"backoff_s": ()}, "backoff_s to be one or more waits of 0 seconds or more, got ()"),
        ({"backoff_s": (1, -1)}, "got (1, -1)"),
        ({"watchdog_s": 0}, "watchdog_s to be more than 0 seconds, or None, got 0"),
        ({"close_timeout_s": -1}, "close_timeout_s to be 0 seconds or more, got -1"),
    ],
)
def test_settings_that_make_no_sense(setting, message):
    with pytest.raises(SpecError) as caught:
        Recovery(**setting)
    assert message in str(caught.value)


def test_the_defaults_never_give_up_and_never_wait_long():
    recovery = Recovery()
    assert recovery.restart and max(recovery.backoff_s) <= 60 and list(recovery.backoff_s) == sorted(recovery.backoff_s)
    assert recovery.watchdog_s is not None
