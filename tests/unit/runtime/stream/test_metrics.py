"""The text is read back with Prometheus' own parser."""

from __future__ import annotations

import http.client
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import edgedet
from edgedet.errors import SinkError
from edgedet.runtime.stream import Ages, Drops, Latencies, SourceStatistics, Statistics
from edgedet.runtime.stream.metrics import CONTENT_TYPE, MetricsServer, metrics_text
from edgedet.runtime.stream.statistics import AGE_BUCKETS_MS

ODD_NAME = 'a "quoted" \\ back\\nslash\nand a new line, é, {x="y"}'


def of_source(name: str, ages: tuple[int, ...] = (), frames: int = 3, state: str = "up") -> SourceStatistics:
    counts = [0] * (len(AGE_BUCKETS_MS) + 1)
    for age in ages:
        counts[int(np.searchsorted(AGE_BUCKETS_MS, age))] += 1
    age = Ages(np.array(ages, float), len(ages), float(sum(ages)), tuple(counts))
    return SourceStatistics(name, frames, 2.0, Drops(1, 2, 3, 4), age, state, 5)


def whole(*sources: SourceStatistics) -> Statistics:
    frames = sum(source.frames for source in sources)
    return Statistics(frames, 10, 2.0, Latencies(1, 2, 3.5, 4), Drops(), Ages(), sources)


def read(statistics: Statistics) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Sample name -> labels -> value; nothing may come twice."""
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(metrics_text(statistics)):
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in samples.setdefault(sample.name, {})
            samples[sample.name][labels] = sample.value
    return samples


def labels(**pairs: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pairs.items()))


def test_everything_is_there():
    samples = read(whole(of_source("gate", (1, 40, 40, 20000)), of_source("gate", state="down", frames=7)))
    first, second = ({"source": "gate", "index": index} for index in "01")
    assert samples["edgedet_results_total"] == {labels(**first): 3, labels(**second): 7}
    assert samples["edgedet_dropped_frames_total"][labels(**first, cause="queue")] == 3
    assert samples["edgedet_source_up"] == {labels(**first): 1, labels(**second): 0}
    assert samples["edgedet_source_restarts_total"][labels(**second)] == 5
    assert samples["edgedet_stage_seconds_total"] == {
        labels(stage=stage): pytest.approx(each * 10 / 1e3)
        for stage, each in [("capture", 1), ("preprocess", 2), ("infer", 3.5), ("postprocess", 4)]
    }
    assert samples["edgedet_info"] == {labels(version=edgedet.__version__): 1}


def test_ages_are_a_histogram_in_seconds():
    samples = read(whole(of_source("gate", (1, 40, 40, 20000)), of_source("file")))
    mine = {"source": "gate", "index": "0"}
    buckets = {dict(each)["le"]: value for each, value in samples["edgedet_result_age_seconds_bucket"].items()}
    assert {float(bound): value for bound, value in buckets.items()} == {
        **{bound / 1e3: 1 + 2 * (bound >= 50) for bound in AGE_BUCKETS_MS},
        float("inf"): 4,
    }
    assert samples["edgedet_result_age_seconds_count"] == {labels(**mine): 4}
    assert samples["edgedet_result_age_seconds_sum"] == {labels(**mine): pytest.approx(20.081)}


def test_names_are_escaped():
    samples = read(whole(of_source(ODD_NAME)))
    assert samples["edgedet_results_total"] == {labels(source=ODD_NAME, index="0"): 3}


def test_lines_are_as_the_format_wants_them():
    text = metrics_text(whole(of_source("gate", (40,))))
    assert text.endswith("\n") and "\n\n" not in text and "\r" not in text
    assert "# HELP edgedet_results_total Results delivered.\n# TYPE edgedet_results_total counter\n" in text
    assert 'edgedet_results_total{source="gate",index="0"} 3\n' in text
    assert '_bucket{source="gate",index="0",le="+Inf"} 1\n' in text


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_server(host):
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    readings = iter([whole(of_source("gate", frames=frames)) for frames in (1, 2)])
    with MetricsServer(lambda: next(readings), host) as server:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{server.port}/metrics"
        for frames in (1, 2):
            with urllib.request.urlopen(address, timeout=20) as answer:
                assert answer.headers["Content-Type"] == CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
                assert f'edgedet_results_total{{source="gate",index="0"}} {frames}\n' in answer.read().decode()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=20)


def test_other_requests():
    with MetricsServer(lambda: whole(of_source("gate"))) as server:
        for method, path, status, empty in [
            ("HEAD", "/metrics", 200, True),
            ("GET", "/metrics?format=text", 200, False),
            ("GET", "/", 404, False),
            ("GET", "/metrics/../etc", 404, False),
            ("POST", "/metrics", 501, False),
        ]:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            connection.request(method, path)
            answer = connection.getresponse()
            assert (answer.status, answer.read() == b"") == (status, empty), (method, path)
            connection.close()


def test_it_listens_to_this_machine_only():
    with MetricsServer(whole) as server:
        assert server._server.server_address[0] == "127.0.0.1"


def test_a_client_that_says_nothing_holds_nobody_back():
    with MetricsServer(lambda: whole(of_source("gate"))) as server:
        silent = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        with silent, urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as answer:
            assert answer.status == 200


def test_an_address_that_is_taken():
    with MetricsServer(whole) as server, pytest.raises(SinkError, match="to serve metrics at"):
        MetricsServer(whole, port=server.port)


def test_closing_again_does_nothing():
    server = MetricsServer(whole)
    server.close()
    server.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
