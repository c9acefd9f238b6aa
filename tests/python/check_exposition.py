"""Reads an exporter's /metrics in both formats with Prometheus' official Python parsers, and compares what they find.

Usage: check_exposition.py URL
"""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

# They differ between two scrapes by themselves.
RESTLESS = ("process_", "aws_iot_jobs_exporter_http_requests_total")


def fetch(url, accept):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["Content-Type"], response.read().decode("utf-8")


def samples(families):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.startswith(RESTLESS)
    }


def main():
    url = sys.argv[1]
    content_type, body = fetch(url, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0"), content_type
    openmetrics = list(parse_openmetrics(body))
    print(f"OpenMetrics: {len(openmetrics)} families")

    content_type, body = fetch(url, "text/plain")
    assert content_type.startswith("text/plain; version=0.0.4"), content_type
    text = list(parse_text(body))
    print(f"text: {len(text)} families")

    types = ("counter", "gauge", "histogram")
    for family in openmetrics + text:
        assert family.documentation, f"{family.name} has no help"
        assert family.type in types, f"{family.name} is a {family.type}"
        assert family.samples, f"{family.name} has a header and no samples"
    with_unit = [family for family in openmetrics if family.name.endswith(("_seconds", "_bytes"))]
    assert with_unit, "no family has a unit"
    for family in with_unit:
        assert family.unit in ("seconds", "bytes"), f"{family.name} has the unit {family.unit!r}"

    first, second = samples(openmetrics), samples(text)
    assert first == second, sorted(set(first.items()) ^ set(second.items()))
    assert any(name == "aws_iot_jobs" for name, _ in first), "no jobs"
    print(f"{len(first)} samples are the same in both formats")


main()
