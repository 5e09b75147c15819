from __future__ import annotations

import pytest
from sink_results import sink_result

from edgedet.runtime.sinks import SINKS
from edgedet.runtime.sinks.callback import CallbackSink


@pytest.mark.parametrize(("answer", "goes_on"), [(None, True), (True, True), (0, True), ("", True), (False, False)])
def test_only_false_ends_the_run(answer, goes_on):
    given = []
    sink = CallbackSink(lambda result: (given.append(result), answer)[1])
    result = sink_result()
    assert sink.write(result) is goes_on and given == [result]
    sink.close()


def test_what_it_wants_is_the_callers_choice():
    assert (CallbackSink(print).delivery, CallbackSink(print).pixels, CallbackSink(print).wrote) == (
        "newest",
        True,
        None,
    )
    chosen = CallbackSink(print, delivery="caller", pixels=False)
    assert (chosen.delivery, chosen.pixels) == ("caller", False)
    assert SINKS["callback"] is CallbackSink


def test_what_the_function_raises_is_the_runners_business():
    def explode(result: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        CallbackSink(explode).write(sink_result())
