#!/usr/bin/env python3
"""Checks results of the dashboards' queries on series that are written here: `check_dashboard_queries.py PROMTOOL`.

The demo has neither jobs without some of their counts nor targets that are stale beside fresh ones. What is not known must be absent,
and never 0.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

DASHBOARDS = Path(__file__).resolve().parents[2] / "dashboards"
sys.path.insert(0, str(DASHBOARDS))
import generate  # noqa: E402

CHOSEN = {"account": ".*", "region": ".*", "target": ".*", "thing_group": ".*", "status": ".*", "job": ".*", "__range": "30m"}


def filled(expression):
    """A query with All in each variable."""
    expression = expression.replace("${tag:raw}", 'job_id!=""')
    for name, value in CHOSEN.items():
        expression = expression.replace(f"${name}", value)
    return expression


def query(title, reference="A"):
    """A query of the dashboard Rollouts."""
    document = json.loads((DASHBOARDS / "fleet.json").read_text(encoding="utf-8"))
    panels = [inner for panel in document["panels"] for inner in (panel, *panel.get("panels", []))]
    targets = next(panel for panel in panels if panel["title"] == title)["targets"]
    return filled(next(target for target in targets if target["refId"] == reference)["expr"])


STATE, EXECUTIONS = filled(generate.state(generate.CHOSEN)), filled(generate.all_executions(generate.CHOSEN))
ACT, LOOK, ACTIVE = query("Need attention"), query("Need attention", "B"), query("Active rollouts")
SUCCESS, FAILURES = query("Success share, 7 days"), query("With failures, 7 days")
STUCK = query("Overdue and stuck jobs", "B")


def series(name, value, **labels):
    inner = ", ".join(f'{key}="{one}"' for key, one in labels.items())
    return f"{name}{{{inner}}}", f"{value}x10"


def counts(without=(), **given):
    return {status: given.get(status, 0) for status in generate.EXECUTIONS if status not in without}


def job(job_id, status, executions, stuck=None, aborted=None, instance="one"):
    """The series of a job of the target `a`."""
    labels = {"target": "a", "aws_account_id": "1", "aws_region": "r", "job_id": job_id, "instance": instance}
    is_open = status not in ("COMPLETED", "CANCELED")
    family = "aws_iot_job_executions" if is_open else "aws_iot_ended_job_executions"
    made = [
        series("aws_iot_job_info", 1, target_selection="SNAPSHOT", **labels), series("aws_iot_job_status", 1, status=status, **labels),
        series("aws_iot_job_thing_group_info", 1, thing_group="g", **labels), series("aws_iot_job_tags_info", 1, **labels),
        series("aws_iot_job_created_timestamp_seconds", 0, **labels), series("aws_iot_job_windowed", 0, **labels),
        *(series(family, count, execution_status=one, **labels) for one, count in executions.items()),
    ]
    if not is_open:
        made.append(series("aws_iot_job_completed_timestamp_seconds", 60, **labels))
    for name, value in (("aws_iot_job_stuck", stuck), ("aws_iot_job_abort_criteria_met", aborted)):
        if value is not None:
            made.append(series(name, value, **labels))
    return made


def target(name="a", open_jobs=10, stuck=0, unknown=0, is_fresh=True, instance="one"):
    place = {"target": name, "aws_region": "r", "instance": instance}
    full = {**place, "aws_account_id": "1"}
    made = [series("aws_iot_jobs_target_info", 1, **full)]
    for collector in ("open_jobs", "all_jobs"):
        made.append(series("aws_iot_jobs_collector_fresh", int(is_fresh), collector=collector, **place))
        made.append(series("aws_iot_jobs_collector_last_success_timestamp_seconds", 1, collector=collector, **place))
    if is_fresh:
        made.append(series("aws_iot_jobs", open_jobs, status="IN_PROGRESS", target_selection="SNAPSHOT", **full))
        made.append(series("aws_iot_jobs_stuck", stuck, target_selection="SNAPSHOT", **full))
        made.append(series("aws_iot_jobs_progress_unknown", unknown, **full))
    return made


NOTHING, HALF = {}, counts(SUCCEEDED=10, FAILED=10)

# What there is, and the result of queries: a number, nothing, or a number for each job.
CASES = [
    (
        "states; an exporter that runs twice changes nothing, and neither state nor share is made of known counts only",
        [
            target(), job("half-failed", "IN_PROGRESS", HALF), job("half-failed", "IN_PROGRESS", HALF, instance="two"),
            job("a-count-is-missing", "IN_PROGRESS", counts(without=["REMOVED"], SUCCEEDED=10, FAILED=10)),
            job("a-tenth-failed", "IN_PROGRESS", counts(SUCCEEDED=90, FAILED=10)),
            job("stuck", "IN_PROGRESS", counts(SUCCEEDED=80, QUEUED=20), stuck=1),
            job("stuck-few", "IN_PROGRESS", counts(SUCCEEDED=99, QUEUED=1), stuck=1), job("stuck-and-failed", "IN_PROGRESS", HALF, stuck=1),
            job("ended", "COMPLETED", HALF), job("aborted", "CANCELED", HALF, aborted=1),
        ],
        [
            (STATE, {"half-failed": 30, "a-count-is-missing": 20, "a-tenth-failed": 25, "stuck": 27, "stuck-few": 26, "stuck-and-failed": 30, "ended": 15, "aborted": 16}),
            (EXECUTIONS, {"half-failed": 20, "a-tenth-failed": 100, "stuck": 100, "stuck-few": 100, "stuck-and-failed": 20, "ended": 20, "aborted": 20}),
            (ACT, 3), (LOOK, 2),
        ],
    ),
    ("no jobs at two fresh targets", [target(), target("b")], [(ACT, 0), (LOOK, 0), (ACTIVE, 0), (FAILURES, 0), (SUCCESS, -1), (STUCK, 0)]),
    ("one target is stale", [target(), target("b", is_fresh=False)], [(ACT, NOTHING), (ACTIVE, NOTHING), (FAILURES, NOTHING), (SUCCESS, NOTHING), (STUCK, 0)]),
    ("one of two exporters is stale", [target(), target(is_fresh=False, instance="two")], [(ACT, 0), (ACTIVE, 0), (FAILURES, 0)]),
    ("all targets are stale", [target(is_fresh=False)], [(ACT, NOTHING), (ACTIVE, NOTHING), (STUCK, NOTHING)]),
    ("the progress of half the jobs is not known", [target(unknown=5)], [(ACT, NOTHING), (ACTIVE, 0), (STUCK, NOTHING)]),
    ("the same at one of two targets", [target(stuck=1), target("b", unknown=5)], [(ACT, NOTHING), (STUCK, NOTHING)]),
    ("the progress of one job is not known", [target(unknown=1, stuck=3)], [(ACT, 0), (STUCK, 3)]),
    ("an ended job without a count", [target(), job("f", "COMPLETED", counts(without=["FAILED"], SUCCEEDED=10))], [(FAILURES, NOTHING), (SUCCESS, NOTHING)]),
    ("an ended job with counts", [target(), job("f", "COMPLETED", counts(SUCCEEDED=9, FAILED=1))], [(FAILURES, 0), (SUCCESS, 0.9)]),
    ("an open job is not part of the success share", [target(), job("f", "IN_PROGRESS", HALF)], [(SUCCESS, -1)]),
]


def samples(result):
    if not isinstance(result, dict):
        return [{"labels": "{}", "value": result}]
    place = 'target="a", aws_account_id="1", aws_region="r"'
    return [{"labels": f'{{{place}, job_id="{job_id}"}}', "value": value} for job_id, value in result.items()]


def main():
    tests = []
    for name, parts, expected in CASES:
        listed = [{"series": one, "values": values} for part in parts for one, values in part]
        wanted = [{"expr": expression, "eval_time": "5m", "exp_samples": samples(result)} for expression, result in expected]
        tests.append({"name": name, "interval": "1m", "input_series": listed, "promql_expr_test": wanted})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "queries.yml"
        # JSON is YAML, too.
        file.write_text(json.dumps({"tests": tests}), encoding="utf-8")
        subprocess.run([sys.argv[1], "test", "rules", str(file)], check=True)
    print(f"{sum(len(expected) for _, _, expected in CASES)} results are right")


if __name__ == "__main__":
    main()
