#!/usr/bin/env python3
"""Measures what the program costs while it does nothing: its size, its start, its memory, and how often it wakes.

Usage: cargo build --release && python3 benches/idle.py [--write]

The size is that of the file. A start ends when the port accepts connections; the median of 15 counts. The memory is the resident set
half a minute after a start without a reachable target. The wake-ups are the voluntary context switches of each thread in two minutes
between runs: one target, all of whose collectors run once an hour.

It needs Linux and Python 3.10. Everything listens on loopback.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "benches", "compare"))
import run as compare  # noqa: E402

URL = f"http://127.0.0.1:{compare.EXPORTER}/-/healthy"
START = [compare.PROGRAM, f"--web.listen-address=127.0.0.1:{compare.EXPORTER}", "--log.level=error"]
# A port that nothing listens on.
UNREACHABLE = {**compare.KEY, **compare.REGION, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
MINUTES = 2


def accepts():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", compare.EXPORTER)) == 0


def start_milliseconds():
    started = time.monotonic()
    process = subprocess.Popen(START, env={**os.environ, **UNREACHABLE}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not accepts():
        if process.poll() is not None or time.monotonic() - started > 10:
            raise SystemExit("the program does not listen")
    milliseconds = (time.monotonic() - started) * 1000
    process.terminate()
    process.wait()
    return milliseconds


def read(path, pattern):
    with open(path, encoding="utf-8") as file:
        return int(re.search(pattern, file.read(), re.MULTILINE).group(1))


def idle_memory():
    """In MiB: the resident set, and its part that is not mapped from files."""
    with compare.running(START, UNREACHABLE, ready=URL) as process:
        time.sleep(30)
        return [read(f"/proc/{process.pid}/status", rf"^{field}:\s+(\d+) kB") / 1024 for field in ("VmRSS", "RssAnon")]


def wakeups():
    """The wake-ups a minute of the main thread, which serves HTTP, and of all others."""
    environment = {**compare.KEY, **compare.REGION, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{compare.SIMULATOR}"}
    for name in ("OPEN_JOBS__INTERVAL", "ALL_JOBS__INTERVAL", "DETAILS__INTERVAL", "DETAILS__MAX_INTERVAL", "EXECUTIONS__INTERVAL"):
        environment[f"IOT_JOBS_EXPORTER_COLLECTORS__{name}"] = "1h"
    simulator = [compare.PROGRAM, "demo", "--simulator-only", "--speed=0", "--jobs=100", f"--simulator-address=127.0.0.1:{compare.SIMULATOR}"]
    with compare.running(simulator, ready=f"http://127.0.0.1:{compare.SIMULATOR}/"), compare.running(START, environment, ready=URL) as process:
        # By then the first runs are over, and threads for files have ended.
        time.sleep(60)
        before = switches(process.pid)
        time.sleep(60 * MINUTES)
        after = switches(process.pid)
    serving = after[process.pid] - before[process.pid]
    others = sum(count - before.get(thread, 0) for thread, count in after.items() if thread != process.pid)
    return serving / MINUTES, others / MINUTES


def switches(pid):
    """The voluntary context switches of each thread, by its id."""
    pattern = r"^voluntary_ctxt_switches:\s+(\d+)"
    return {int(thread): read(f"/proc/{pid}/task/{thread}/status", pattern) for thread in os.listdir(f"/proc/{pid}/task")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="replace the table of docs/performance.md")
    arguments = parser.parse_args()
    start = statistics.median(start_milliseconds() for _ in range(15))
    serving, others = wakeups()
    resident, private = idle_memory()
    rows = [
        ["", "goal", "measured"],
        ["listening after exec, median of 15 starts", "20 ms", f"{start:.1f} ms"],
        ["memory when idle, no target reachable", "12 MiB", f"{resident:.1f} MiB"],
        ["of it, not mapped from files", "", f"{private:.1f} MiB"],
        ["size of the program", "15 MB", f"{os.path.getsize(compare.PROGRAM) / 1e6:.1f} MB"],
        ["wake-ups a minute of the thread that serves HTTP, between runs", "0", f"{serving:g}"],
        ["wake-ups a minute of all other threads, one target, between runs", "one timer a minute", f"{others:g}"],
    ]
    print(compare.table(rows))
    if arguments.write:
        compare.write("idle", compare.table(rows))


if __name__ == "__main__":
    main()
