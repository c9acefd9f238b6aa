#!/usr/bin/env python3
"""Measures what targets, jobs and requests cost, and how well these costs predict whole processes.

Usage: cargo build --release && python3 benches/cost_model.py [--write] [--measured target/cost_model.json]

Lets processes collect fleets of different shapes as benches/scale.py does, and finds the costs that fit all of them best. It
compares each process with a prediction from the costs that fit the other processes best, and exits with 1 if one differs by more than
15 %. Takes about 10 minutes on two cores, and leaves what it measured in target/cost_model.json.

It needs Debian's package nginx-light, Linux, and Python 3.10. Everything listens on loopback.
"""

import argparse
import json
import math
import os

import scale

MEASURED = os.path.join(scale.ROOT, "target", "cost_model.json")
TOLERANCE = 0.15

# Targets, jobs of each, and whether single jobs have series.
FLEETS = [
    (10, 1_000, True),
    (50, 1_000, False),
    (100, 1_000, False),
    (100, 1_000, True),
    (250, 1_000, True),
    (500, 1_000, False),
    (2, 100_000, True),
    (20, 100_000, False),
    (40, 20_000, True),
    (5, 500_000, False),
]

# How many jobs of a target have series by default: limits.max_jobs and limits.max_ended_jobs.
MAX_OPEN, MAX_ENDED = 500, 100


class Process:
    """A process that has collected a fleet, and what its costs depend on."""

    def __init__(self, targets, jobs, series, counts, shard):
        self.name = f"{targets} × {jobs:,} jobs{', with series of jobs' if series else ''}"
        self.running, self.open, self.recent = (targets * counts[name] for name in ("running", "open", "recent"))
        self.other = targets * counts["jobs"] - self.open - self.recent
        self.open_series = targets * min(counts["open"], MAX_OPEN) * series
        self.ended_series = targets * min(counts["recent"], MAX_ENDED) * series
        self.targets, self.jobs, self.shard = targets, counts["jobs"], shard


class Model:
    """A quantity as a sum of costs. Each cost is a name, a unit, and how often a process has it."""

    def __init__(self, quantity, unit, measured, costs, known=lambda process: 0):
        self.quantity, self.unit, self.measured, self.costs, self.known = quantity, unit, measured, costs, known

    def fit(self, processes):
        """The costs with the least sum of squares of the relative differences."""
        rows = []
        for process in processes:
            measured = self.measured(process)
            rows.append([number(process) / measured for _, _, number in self.costs] + [1 - self.known(process) / measured])
        return solve([[sum(row[a] * row[b] for row in rows) for b in range(len(self.costs) + 1)] for a in range(len(self.costs))])

    def predict(self, fitted, process):
        return self.known(process) + sum(cost * number(process) for cost, (_, _, number) in zip(fitted, self.costs))


def solve(equations):
    """Gauss-Jordan elimination. Each equation ends with its right side."""
    for index in range(len(equations)):
        best = max(range(index, len(equations)), key=lambda row: abs(equations[row][index]))
        equations[index], equations[best] = equations[best], equations[index]
        pivot = equations[index] = [value / equations[index][index] for value in equations[index]]
        for row, equation in enumerate(equations):
            if row != index:
                equations[row] = [value - equation[index] * other for value, other in zip(equation, pivot)]
    return [equation[-1] for equation in equations]


MODELS = [
    Model(
        "requests",
        "",
        lambda process: process.shard["requests"],
        [],
        # One for each open status and for each page of all jobs, one to describe a job, one for the executions of a job that runs.
        known=lambda process: process.targets * (3 + math.ceil(process.jobs / 250)) + process.open + process.recent + process.running,
    ),
    Model(
        "samples",
        "",
        lambda process: process.shard["samples"],
        [
            ("a target", "", lambda process: process.targets),
            ("an open job with series", "", lambda process: process.open_series),
            ("an ended job with series", "", lambda process: process.ended_series),
        ],
    ),
    Model(
        "peak memory",
        "MB",
        lambda process: process.shard["peak"] / 1e6,
        [
            ("the program", "MB", lambda process: 1),
            ("a target", "MB", lambda process: process.targets),
            ("a job that is open or ended within a week", "kB", lambda process: (process.open + process.recent) / 1e3),
            ("a sample", "B", lambda process: process.shard["samples"] / 1e6),
        ],
        # The store has these 8 bytes for each job that ended earlier (`EndedJobs`).
        known=lambda process: process.other * 8 / 1e6,
    ),
    Model(
        "processor time",
        "s",
        lambda process: process.shard["cpu"],
        [
            # A page of a large account costs more: the job ids do not fit into the processor's caches.
            ("a page of ListJobs, times log2 of the jobs of a target", "ms", lambda process: process.shard["pages"] * math.log2(process.jobs) / 1e3),
            ("another request", "ms", lambda process: (process.shard["requests"] - process.shard["pages"]) / 1e3),
        ],
    ),
]


def measure():
    """Each fleet, with the process whose processor time is the median of three."""
    for targets, jobs, series in FLEETS:
        counts, shards = scale.measure(targets, jobs, 1, series, repeat=3)
        shard = sorted(shards, key=lambda shard: shard["cpu"])[1]
        print(f"{targets} targets with {jobs} jobs: {[shard['cpu'] for shard in shards]} {shard}", flush=True)
        yield {"targets": targets, "jobs": jobs, "series": series, "counts": counts, "shard": shard}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="replace the tables of docs/performance.md")
    parser.add_argument("--measured", help="use the measurements in this file")
    arguments = parser.parse_args()
    if arguments.measured:
        with open(arguments.measured, encoding="utf-8") as file:
            measured = json.load(file)
    else:
        measured = list(measure())
        with open(MEASURED, "w", encoding="utf-8") as file:
            json.dump(measured, file)
    processes = [Process(**values) for values in measured]
    costs = [["of", "costs", "each"]]
    compared = [["targets and their jobs", *(model.quantity for model in MODELS)], *([process.name] for process in processes)]
    worst = 0
    for model in MODELS:
        fitted = model.fit(processes)
        costs += [[model.quantity, name, f"{cost:.3g} {unit}".strip()] for cost, (name, unit, _) in zip(fitted, model.costs)]
        for index, process in enumerate(processes):
            predicted = model.predict(model.fit(processes[:index] + processes[index + 1 :]), process)
            value = model.measured(process)
            difference = predicted / value - 1
            worst = max(worst, abs(difference))
            compared[index + 1].append(f"{value:,.{0 if value >= 100 else 1}f} {model.unit}".strip() + f" ({difference:+.0%})".replace("%", " %"))
    text = f"{scale.compare.table(costs)}\n\n{scale.compare.table(compared)}"
    print(text)
    if arguments.write:
        scale.compare.write("cost model", text)
    if worst > TOLERANCE:
        raise SystemExit(f"a prediction differs by {worst:.0%}")


if __name__ == "__main__":
    main()
