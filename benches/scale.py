#!/usr/bin/env python3
"""Measures processes with many targets: requests, processor time, memory and samples.

Usage: cargo build --release && python3 benches/scale.py [--targets 500] [--jobs 1000] [--shards 1] [--series]

nginx serves one simulated account to all targets, each with an account id of its own. The shards run one after the other, so that
each has the machine for itself. A shard runs until it has listed, described and checked everything once. The script checks that
each target has the right number of jobs.

It needs Debian's package nginx-light, Linux, and Python 3.10. Everything listens on loopback.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "benches", "compare"))
import run as compare  # noqa: E402

MIB = 1 << 20
RATE = 1000


def save_answers(folder):
    """Saves the pages without ARNs, which would name the simulator's account, and the answers about single jobs."""
    compare.save_pages(folder)
    counts = {"jobs": 0, "open": 0, "running": 0, "recent": 0}
    recent_since = time.time() - 7 * 86400
    described = set()
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with open(path, encoding="utf-8") as file:
            page = json.load(file)
        for job in page["jobs"]:
            del job["jobArn"]
            is_open = job["status"] in ("IN_PROGRESS", "SCHEDULED", "DELETION_IN_PROGRESS")
            is_recent = not is_open and job.get("completedAt", job["lastUpdatedAt"]) >= recent_since
            if name.startswith("-"):
                counts["jobs"] += 1
                counts["open"] += is_open
                counts["running"] += job["status"] == "IN_PROGRESS"
                counts["recent"] += is_recent
            if is_open or is_recent:
                described.add(job["jobId"])
        with open(path, "w", encoding="utf-8") as file:
            json.dump(page, file, separators=(",", ":"))
    for job in described:
        for path, query, name in ((f"/jobs/{job}", "", f"job-{job}"), (f"/jobs/{job}/things", "maxResults=250", f"things-{job}")):
            answer = json.loads(compare.read(path, query))
            answer.get("job", {}).pop("jobArn", None)
            answer.pop("nextToken", None)
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                json.dump(answer, file, separators=(",", ":"))
    return counts


NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/json; root {folder}/pages;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      rewrite ^/t[0-9]+/jobs$ /$arg_status-$arg_nextToken break;
      rewrite ^/t[0-9]+/jobs/([^/]+)$ /job-$1 break;
      rewrite ^/t[0-9]+/jobs/([^/]+)/things$ /things-$1 break;
    }}
  }}
}}
"""


def configuration(targets, series):
    return {
        "jobs": {"series": series},
        "limits": {"requests_per_second": RATE},
        "targets": [
            {
                "name": f"t{number:03}",
                "region": "eu-west-1",
                "account_id": f"{number + 1:012}",
                "endpoint_url": f"http://127.0.0.1:{compare.PAGES}/t{number}",
            }
            for number in range(targets)
        ],
    }


class Exposition:
    """The sums and the numbers of samples of an exposition, by name and collector, and the requests by operation."""

    def __init__(self, body):
        self.bytes, self.samples = len(body), 0
        self.sums, self.numbers, self.requests = collections.Counter(), collections.Counter(), collections.Counter()
        for line in body.decode().splitlines():
            if line.startswith("#"):
                continue
            self.samples += 1
            name, collector = line.partition("{")[0].partition(" ")[0], ""
            if name == "aws_iot_jobs_collector_success":
                collector = re.search(r'collector="(\w+)"', line).group(1)
            elif name == "aws_iot_jobs_exporter_api_requests_total":
                self.requests[re.search(r'operation="(\w+)"', line).group(1)] += int(line.rpartition(" ")[2])
            elif name.startswith("aws_iot_job_"):
                continue
            self.sums[name, collector] += float(line.rpartition(" ")[2])
            self.numbers[name, collector] += 1

    def sum(self, name, collector=""):
        return self.sums[name, collector]

    def is_complete(self):
        """Whether each target has listed all jobs, and described and checked those that it should."""
        targets = self.numbers["aws_iot_jobs_up", ""]
        listed = all(self.sum("aws_iot_jobs_collector_success", name) == targets for name in ("open_jobs", "all_jobs"))
        jobs = ("aws_iot_jobs_undescribed", "aws_iot_jobs_progress_unknown")
        return listed and all(self.numbers[name, ""] >= targets and self.sum(name) == 0 for name in jobs)


def run_shard(folder, index, shards, targets):
    command = [
        compare.PROGRAM,
        f"--config.file={folder}/exporter.yml",
        f"--web.listen-address=127.0.0.1:{compare.EXPORTER}",
        f"--shard.total={shards}",
        f"--shard.index={index}",
        "--log.level=error",
    ]
    url = f"http://127.0.0.1:{compare.EXPORTER}/metrics"
    started = time.monotonic()
    with compare.running(command, {**compare.KEY, **compare.REGION}, ready=url) as process:
        while True:
            time.sleep(2)
            exposition = Exposition(compare.body(url))
            if exposition.is_complete():
                break
            if time.monotonic() - started > 1200:
                raise SystemExit("the first runs did not end within 20 minutes")
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            peak = int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) * 1024
        return {
            "targets": exposition.numbers["aws_iot_jobs_up", ""],
            "jobs": int(exposition.sum("aws_iot_jobs")),
            "requests": exposition.requests.total(),
            "pages": exposition.requests["ListJobs"],
            "cpu": exposition.sum("process_cpu_seconds_total"),
            "peak": peak,
            "samples": exposition.samples,
            "bytes": exposition.bytes,
            "seconds": time.monotonic() - started,
        }


def measure(targets, jobs, shards, series, repeat=1):
    """The number of jobs of each target, and what each shard needed, all shards `repeat` times."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        pages = os.path.join(folder, "pages")
        os.mkdir(pages)
        simulator = [compare.PROGRAM, "demo", "--simulator-only", "--speed=0", f"--jobs={jobs}", f"--simulator-address=127.0.0.1:{compare.SIMULATOR}"]
        with compare.running(simulator, ready=f"http://127.0.0.1:{compare.SIMULATOR}/"):
            counts = save_answers(pages)
        with open(os.path.join(folder, "nginx.conf"), "w", encoding="utf-8") as file:
            file.write(NGINX.format(folder=folder, port=compare.PAGES))
        with open(os.path.join(folder, "exporter.yml"), "w", encoding="utf-8") as file:
            json.dump(configuration(targets, series), file)
        server = ["nginx", "-c", f"{folder}/nginx.conf"]
        with compare.running(server, ready=f"http://127.0.0.1:{compare.PAGES}/t0/jobs"):
            measured = [run_shard(folder, index, shards, targets) for _ in range(repeat) for index in range(shards)]
    is_right = sum(shard["targets"] for shard in measured) == targets * repeat
    if not is_right or any(shard["jobs"] != shard["targets"] * counts["jobs"] for shard in measured):
        raise SystemExit(f"a number of jobs or targets is wrong: {counts} {measured}")
    return counts, measured


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--targets", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1000, help="of each target")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--series", action="store_true", help="with series of single jobs")
    arguments = parser.parse_args()
    counts, shards = measure(arguments.targets, arguments.jobs, arguments.shards, arguments.series)
    print(f"each target: {counts['jobs']} jobs, {counts['open']} open, {counts['recent']} ended within a week")
    print("shard targets       jobs requests  cpu s  peak MiB  samples    MB  seconds")
    for index, shard in enumerate(shards):
        print(
            f"{index:5} {shard['targets']:7} {shard['jobs']:10} {shard['requests']:8} {shard['cpu']:6.1f} {shard['peak'] / MIB:9.1f}"
            f" {shard['samples']:8} {shard['bytes'] / 1e6:5.1f} {shard['seconds']:8.0f}"
        )


if __name__ == "__main__":
    main()
