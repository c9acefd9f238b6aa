#!/usr/bin/env python3
"""Compares the exporter with other programs that do the same work, and writes the tables of docs/performance.md.

Usage: python3 benches/compare/run.py [--jobs 100000] [--rounds 3] [--write]

A walk: nginx serves the pages of a simulated account. The exporter's worker, a loop with the AWS SDK for Rust, one with boto3,
one with the AWS SDK for JavaScript, and the AWS CLI read all of them. A scrape: wrk reads `/metrics` of the exporter, the same
bytes as a file from nginx, and node_exporter. All runs of a comparison take turns. The tables have ratios, because times depend
on the machine.

It needs Debian's packages nginx-light, nodejs, npm, prometheus-node-exporter, python3-venv, valgrind and wrk. It installs boto3,
the AWS CLI and the SDK for JavaScript into target/compare. Everything listens on loopback.
"""

import argparse
import contextlib
import gzip
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "benches"))
import instructions  # noqa: E402

TOOLS = os.path.join(ROOT, "target", "compare")
DOCUMENT = os.path.join(ROOT, "docs", "performance.md")
PROGRAM = os.path.join(ROOT, "target", "release", "aws-iot-jobs-exporter")
SIMULATOR, PAGES, EXPORTER, NODE_EXPORTER = 24599, 24600, 24601, 24602
KEY = {"AWS_ACCESS_KEY_ID": "AKIADEMODEMODEMODEMO", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_EC2_METADATA_DISABLED": "true"}
REGION = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}
# Enough series for a body of about 200 KB.
SMALL_LIMITS = {"IOT_JOBS_EXPORTER_LIMITS__MAX_JOBS": "25", "IOT_JOBS_EXPORTER_LIMITS__MAX_ENDED_JOBS": "25"}

# STS's answer to GetCallerIdentity.
IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>arn:aws:iam::111122223333:user/demo</Arn><UserId>AIDADEMO</UserId><Account>111122223333</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)

BOTO3 = """
import boto3, collections, sys
pages = boto3.client("iot", endpoint_url=sys.argv[1]).get_paginator("list_jobs").paginate(PaginationConfig={"PageSize": 250})
counts = collections.Counter((job["status"], job["targetSelection"]) for page in pages for job in page["jobs"])
print(sum(counts.values()))
"""

JAVASCRIPT = """
const { IoTClient, paginateListJobs } = require("@aws-sdk/client-iot");
(async () => {
  const client = new IoTClient({ endpoint: process.argv[2] });
  const counts = new Map();
  for await (const page of paginateListJobs({ client, pageSize: 250 }, {})) {
    for (const job of page.jobs) {
      const pair = job.status + " " + job.targetSelection;
      counts.set(pair, (counts.get(pair) ?? 0) + 1);
    }
  }
  console.log([...counts.values()].reduce((a, b) => a + b));
})();
"""


def install():
    missing = [tool for tool in ("nginx", "npm", "node", "prometheus-node-exporter", "valgrind", "wrk") if not shutil.which(tool)]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}. See the packages in benches/compare/run.py --help")
    python = os.path.join(TOOLS, "python", "bin", "python3")
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", os.path.join(TOOLS, "python")], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "boto3", "awscli"], check=True)
    if not os.path.exists(os.path.join(TOOLS, "node_modules", "@aws-sdk", "client-iot")):
        subprocess.run(["npm", "install", "--silent", "--no-save", "--prefix", TOOLS, "@aws-sdk/client-iot"], check=True)
    for name, text in (("walk.py", BOTO3), ("walk.js", JAVASCRIPT)):
        with open(os.path.join(TOOLS, name), "w", encoding="utf-8") as file:
            file.write(text)
    return python


@contextlib.contextmanager
def running(command, environment=None, ready=None):
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(ready).read()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                pass
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended: {process.returncode}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


def read(path, query=""):
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={KEY['AWS_ACCESS_KEY_ID']}/20260101/eu-west-1/iot/aws4_request, SignedHeaders=host, Signature=0"}
    return urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{SIMULATOR}{path}?{query}", headers=headers)).read()


def save_pages(folder):
    """Saves every page. The token of page N is N, so that nginx finds it."""
    for status in ("", "IN_PROGRESS", "SCHEDULED", "DELETION_IN_PROGRESS"):
        token, number = "", 0
        while number == 0 or token:
            query = {"maxResults": 250, "status": status, "nextToken": token}
            page = json.loads(read("/jobs", urllib.parse.urlencode({key: value for key, value in query.items() if value})))
            token = page.get("nextToken")
            if token:
                page["nextToken"] = str(number + 1)
            with open(os.path.join(folder, f"{status}-{number or ''}"), "w", encoding="utf-8") as file:
                json.dump(page, file, separators=(",", ":"))
            number += 1


@contextlib.contextmanager
def nginx(folder):
    with open(os.path.join(folder, "nginx.conf"), "w", encoding="utf-8") as file:
        file.write(f"""
            worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error;
            events {{ worker_connections 1024; }}
            http {{
              access_log off; sendfile on; tcp_nopush on; gzip_static on; keepalive_requests 1000000;
              server {{
                listen 127.0.0.1:{PAGES};
                location = /jobs {{ default_type application/json; root {folder}/pages; rewrite ^ /$arg_status-$arg_nextToken break; }}
                location = / {{ default_type text/xml; return 200 '{IDENTITY}'; }}
                location / {{ default_type "text/plain; version=0.0.4"; root {folder}/files; }}
              }}
            }}""")
    with running(["nginx", "-c", f"{folder}/nginx.conf"], ready=f"http://127.0.0.1:{PAGES}/jobs"):
        yield


def cpu_seconds(command, environment):
    """The processor time of a command, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ran.stdout


def compare_walks(walk, python, jobs, rounds):
    """The instructions and the processor time of one walk."""
    url = f"http://127.0.0.1:{PAGES}"
    environment = {**KEY, **REGION}
    counted = {}
    for program in ("sdk", "exporter"):
        ran = {walks: instructions.instructions([walk, program, url, str(walks)]) for walks in (1, 3)}
        if any(int(printed) != jobs for _, printed in ran.values()):
            raise SystemExit(f"{program} did not count {jobs} jobs: {ran}")
        counted[program] = (ran[3][0] - ran[1][0]) / 2
    aws = os.path.join(os.path.dirname(python), "aws")
    commands = {
        "sdk": [walk, "sdk", url, "1"],
        "exporter": [walk, "exporter", url, "1"],
        "javascript": ["node", os.path.join(TOOLS, "walk.js"), url],
        "boto3": [python, os.path.join(TOOLS, "walk.py"), url],
        "cli": [aws, "iot", "list-jobs", "--endpoint-url", url, "--page-size", "250", "--query", "length(jobs)"],
    }
    taken = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds, printed = cpu_seconds(command, environment)
            # The AWS CLI applies a query to each page, and prints the sum or a number for each.
            if sum(map(int, printed.split())) != jobs:
                raise SystemExit(f"{name} did not count {jobs} jobs")
            taken[name].append(seconds)
    return counted, {name: statistics.median(seconds) for name, seconds in taken.items()}


def wrk(url, seconds=4, connections=4, encoding="identity"):
    """Requests a second, and the 99th percentile of the latency in milliseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-H", f"Accept-Encoding: {encoding}", url]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    if "Non-2xx" in printed:
        raise SystemExit(f"{url} failed: {printed}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", printed).group(1))
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", printed).groups()
    return rate, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def body(url, encoding="identity"):
    response = urllib.request.urlopen(urllib.request.Request(url, headers={"Accept-Encoding": encoding}))
    return response.read()


def wait_for_walks(url):
    for _ in range(600):
        with contextlib.suppress(OSError):
            text = body(url).decode()
            if re.search(r'collector_success\{[^}]*collector="all_jobs"[^}]*\} 1', text) and re.search(r"aws_iot_jobs_undescribed\{[^}]*\} 0", text):
                return
        time.sleep(0.5)
    raise SystemExit("the exporter did not list and describe all jobs")


def compare_scrapes(folder, rounds):
    """Requests a second of each server and encoding, and the latency during walks."""
    exporter, static = f"http://127.0.0.1:{EXPORTER}/metrics", f"http://127.0.0.1:{PAGES}/metrics"
    environment = {**KEY, **REGION, **SMALL_LIMITS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{SIMULATOR}", "IOT_JOBS_EXPORTER_LIMITS__REQUESTS_PER_SECOND": "200"}
    start = [PROGRAM, f"--web.listen-address=127.0.0.1:{EXPORTER}"]
    rates = {}
    with running(start, environment, ready=exporter):
        wait_for_walks(exporter)
        text = body(exporter)
        with open(os.path.join(folder, "files", "metrics"), "wb") as file:
            file.write(text)
        with gzip.open(os.path.join(folder, "files", "metrics.gz"), "wb", compresslevel=1) as file:
            file.write(text)
        node = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{NODE_EXPORTER}"]
        node_url = f"http://127.0.0.1:{NODE_EXPORTER}/metrics"
        with running(node, ready=node_url):
            sizes = {"exporter": len(text), "exporter, gzip": len(body(exporter, "gzip")), "node_exporter": len(body(node_url))}
            for _ in range(rounds):
                for name, url, encoding in (
                    ("nginx", static, "identity"),
                    ("exporter", exporter, "identity"),
                    ("nginx, gzip", static, "gzip"),
                    ("exporter, gzip", exporter, "gzip"),
                    ("node_exporter", node_url, "identity"),
                ):
                    rates.setdefault(name, []).append(wrk(url, encoding=encoding)[0])
    # nginx answers the walks, because the simulator would take processor time from the exporter. It has no descriptions.
    walking = {
        **KEY,
        **REGION,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PAGES}",
        "IOT_JOBS_EXPORTER_COLLECTORS__ALL_JOBS__INTERVAL": "1s",
        "IOT_JOBS_EXPORTER_COLLECTORS__DETAILS__ENABLED": "false",
        "IOT_JOBS_EXPORTER_COLLECTORS__EXECUTIONS__ENABLED": "false",
        "IOT_JOBS_EXPORTER_LIMITS__REQUESTS_PER_SECOND": "50",
    }
    with running(start, walking, ready=exporter):
        # The first walk over all pages takes as many seconds as it has pages, divided by 50.
        time.sleep(1)
        during = wrk(exporter, seconds=5, connections=1)[1]
        if len(body(exporter)) < 150_000:
            raise SystemExit(f"during the walks, the body has only {len(body(exporter))} bytes")
    return {name: statistics.median(values) for name, values in rates.items()}, sizes, during


def table(rows):
    head, *rest = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rest])


def write(name, text):
    """Replaces what stands between the markers of `name` in the document."""
    with open(DOCUMENT, encoding="utf-8") as file:
        document = file.read()
    start, end = document.index("-->", document.index(f"<!-- {name}: ")) + len("-->"), document.index(f"<!-- end of {name} -->")
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(f"{document[:start]}\n\n{text}\n\n{document[end:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="replace the tables of docs/performance.md")
    arguments = parser.parse_args()
    walk = instructions.build("walk")
    # Afterwards: both builds write the program to the same place.
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    python = install()
    with tempfile.TemporaryDirectory() as folder:
        # nginx's worker may be another user.
        os.chmod(folder, 0o755)
        for name in ("pages", "files"):
            os.mkdir(os.path.join(folder, name))
        simulator = [PROGRAM, "demo", "--simulator-only", "--speed=0", f"--jobs={arguments.jobs}", f"--simulator-address=127.0.0.1:{SIMULATOR}"]
        with running(simulator, ready=f"http://127.0.0.1:{SIMULATOR}/"):
            save_pages(os.path.join(folder, "pages"))
            with nginx(folder):
                counted, seconds = compare_walks(walk, python, arguments.jobs, arguments.rounds)
                rates, sizes, during = compare_scrapes(folder, arguments.rounds)
    walks = [[f"a walk over {arguments.jobs:,} jobs", "instructions", "processor time"]]
    for name, title in (
        ("sdk", "AWS SDK for Rust, a loop that counts"),
        ("exporter", "**exporter**, up to the published samples"),
        ("javascript", "AWS SDK for JavaScript"),
        ("boto3", "boto3"),
        ("cli", "AWS CLI"),
    ):
        ratio = f"{counted[name] / counted['sdk']:.2f}" if name in counted else ""
        walks.append([title, ratio, f"{seconds[name] / seconds['sdk']:.2f}"])
    scrapes = [["a scrape", "size", "requests a second"]]
    for name, title, peer, size in (
        ("nginx", "nginx, the same bytes from a file", "nginx", "exporter"),
        ("exporter", "**exporter**", "nginx", "exporter"),
        ("nginx, gzip", "nginx, a compressed file", "nginx, gzip", "exporter, gzip"),
        ("exporter, gzip", "**exporter**, gzip", "nginx, gzip", "exporter, gzip"),
        ("node_exporter", "node_exporter", "nginx", "node_exporter"),
    ):
        scrapes.append([title, f"{sizes[size] / 1000:.0f} kB", f"{rates[name] / rates[peer]:.2f}"])
    latency = f"99 % of the scrapes during a walk took less than {during:.2f} ms."
    print(table(walks), table(scrapes), latency, sep="\n\n")
    if arguments.write:
        write("walks", table(walks))
        write("scrapes", f"{table(scrapes)}\n\n{latency}")


if __name__ == "__main__":
    main()
