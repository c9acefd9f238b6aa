#!/usr/bin/env python3
"""Measures the cost of a large account: requests, memory, and the time of a scrape during a walk.

Usage: cargo build --release && python3 benches/large_account.py [--jobs 100000] [--rate 1000]

Starts the simulated AWS endpoint in one process and the exporter in another, both on loopback. The exporter walks and describes
every job that ended in the last week. It is scraped until its next full walk has ended. Then the script counts the jobs itself,
and prints the results. It exits with 1 if a count is wrong. It needs Linux (peak memory is read from /proc) and Python 3.9.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(ROOT, "target", "release", "aws-iot-jobs-exporter")


def start_simulator(jobs):
    process = subprocess.Popen(
        [PROGRAM, "demo", "--simulator-only", "--speed=0", f"--jobs={jobs}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    environment = {}
    while "AWS_SECRET_ACCESS_KEY" not in environment:
        settings = process.stdout.readline().removeprefix("export ").split()
        environment.update(setting.split("=", 1) for setting in settings if "=" in setting)
    return process, environment


def start_daemon(environment, rate):
    environment = dict(
        environment,
        AWS_EC2_METADATA_DISABLED="true",
        IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL="1s",
        # Ten times the duration of the last full walk is longer.
        IOT_JOBS_EXPORTER_COLLECTORS__ALL_JOBS__INTERVAL="1s",
        IOT_JOBS_EXPORTER_LIMITS__REQUESTS_PER_SECOND=str(rate),
    )
    process = subprocess.Popen(
        [PROGRAM, "--web.listen-address=127.0.0.1:0"], env=environment, stderr=subprocess.PIPE, text=True
    )
    first = process.stderr.readline()
    address = re.search(r"addresses=\"?([^ \"]+)", first)
    if not address:
        raise SystemExit(f"the exporter did not start: {first}")
    # A full pipe would stop the exporter.
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return process, f"http://{address.group(1)}/metrics"


def count_independently(environment):
    """Walks over the simulator's pages with the standard library; the simulator requires an access key, but no valid signature."""
    key, region = environment["AWS_ACCESS_KEY_ID"], environment["AWS_REGION"]
    authorization = f"AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/iot/aws4_request, SignedHeaders=host, Signature=0"
    last, token = {}, None
    while True:
        query = {"maxResults": 250, **({"nextToken": token} if token else {})}
        url = f"{environment['AWS_ENDPOINT_URL']}/jobs?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": authorization})) as response:
            page = json.load(response)
        for job in page["jobs"]:
            last[job["jobId"]] = (job["status"], job["targetSelection"])
        token = page.get("nextToken")
        if not token:
            return collections.Counter(last.values())


def scrape(url):
    before = time.perf_counter()
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    return time.perf_counter() - before, text


def value(text, name, collector=None):
    """The value of a series of the only target."""
    label = f'[^}}]*collector="{collector}"' if collector else ""
    match = re.search(rf"^{name}\{{{label}[^}}]*\}} (\S+)$", text, re.M)
    return float(match.group(1)) if match else None


def full_walks(text):
    return value(text, "aws_iot_jobs_exporter_collector_runs_total", "all_jobs") or 0


def requests(text, operation):
    return float(re.search(rf'^aws_iot_jobs_exporter_api_requests_total\{{[^}}]*operation="{operation}"\}} (\S+)$', text, re.M).group(1))


def shown_jobs(text):
    rows = re.findall(r'^aws_iot_jobs\{.*?status="([^"]*)",target_selection="([^"]*)"\} (\S+)$', text, re.M)
    return collections.Counter({(status, selection): int(count) for status, selection, count in rows if int(count)})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=1000)
    arguments = parser.parse_args()

    processes = []
    try:
        simulator, environment = start_simulator(arguments.jobs)
        processes.append(simulator)
        daemon, url = start_daemon(environment, arguments.rate)
        processes.append(daemon)
        text, to_describe, started = "", 0, time.monotonic()
        while full_walks(text) < 1 or value(text, "aws_iot_jobs_undescribed") != 0:
            time.sleep(0.1)
            text = scrape(url)[1]
            to_describe = max(to_describe, value(text, "aws_iot_jobs_undescribed") or 0)
        described_after = time.monotonic() - started
        # A walk must not delay scrapes.
        times, until = [], full_walks(text) + 1
        while full_walks(text) < until:
            elapsed, text = scrape(url)
            times.append(elapsed)
            time.sleep(0.005)
        status = open(f"/proc/{daemon.pid}/status").read()
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024
        expected, shown = count_independently(environment), shown_jobs(text)
        times.sort()
        print(f"machine: {os.cpu_count()} cores")
        print(f"jobs: {arguments.jobs}, at {arguments.rate:g} requests a second")
        for listing in ("open_jobs", "all_jobs"):
            pages, seconds = (value(text, f"aws_iot_jobs_{what}", listing) for what in ("walk_pages", "collector_duration_seconds"))
            print(f"a walk of {listing}: {pages:.0f} pages, {seconds:.2f} s")
        print(f"described at the start: {to_describe:.0f} jobs at most at a time, all after {described_after:.1f} s")
        print(f"requests: {requests(text, 'ListJobs'):.0f} ListJobs, {requests(text, 'DescribeJob'):.0f} DescribeJob")
        print(f"counts: {'exact' if expected == shown else f'WRONG: {shown} instead of {expected}'}")
        print(f"the exporter's peak memory: {peak:.1f} MiB")
        print(
            f"scrapes until the next full walk had ended: {len(times)}, median {times[len(times) // 2] * 1000:.2f} ms, "
            f"99th percentile {times[len(times) * 99 // 100] * 1000:.2f} ms, slowest {times[-1] * 1000:.2f} ms"
        )
        return expected != shown
    finally:
        for process in processes:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
