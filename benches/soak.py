#!/usr/bin/env python3
"""A soak test: ten minutes over sockets at a 200 ms interval, with faults, reloads, scrapers and a changing fleet.

Usage: cargo build --release && python3 benches/soak.py [--minutes 10] [--seed 1]

Starts two simulated AWS endpoints with fast fleets, a proxy for each target, and two daemons on loopback: one only lists
jobs, the other also describes them. The proxies record every answer and inject faults for each target separately:
errors, resets, truncated and invalid answers, delays, and outages longer than `stale_after`; the endpoints also inject
faults. Meanwhile, both daemons are reloaded every few seconds, with valid and invalid configurations, and scraped by
well-behaved and misbehaving clients.

Each complete exposition is parsed strictly, and compared for each target with the recorded answers
(benches/soak_parts/judge.py): the open jobs are those of the walk that the exposition names, and jobs that left it in an
unknown state; the ended ones are those of the full walk that it names; executions and thing groups are those of the
last description; nothing is stale. Memory, threads, connections and descriptors must not rise over the second half. It
exits with 1 on any fault, and then leaves its records in a temporary directory. It needs Linux (/proc) and Python 3.8.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from soak_parts import exposition, judge, oracle, proxy, scrapers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(ROOT, "target", "release", "aws-iot-jobs-exporter")

# Faults of the endpoints, without `oversized` (64 MiB through Python). They are frequent enough that each occurs within
# ten minutes, and rare enough that most walks succeed.
FAULTS = (
    "throttle-400:chance=0.002;throttle-429:chance=0.002;error-500:chance=0.002;error-503:chance=0.002;"
    "reset:chance=0.001;refused:chance=0.0002;truncated:chance=0.001;hang:chance=0.00005;"
    "hang-in-body:chance=0.00005;clock-skew:chance=0.0005;denied:operation=ListJobs,chance=0.001;"
    "expired-credentials:operation=ListJobs,chance=0.001;invalid-credentials:operation=ListJobs,chance=0.001;"
    "html:operation=ListJobs,chance=0.001;wrong-json:chance=0.001;wrong-types:chance=0.001;"
    "repeated-token:chance=0.002;token-cycle:chance=0.002;expired-token:chance=0.002;"
    "missing-jobs:operation=ListJobs,chance=0.001;empty-page:chance=0.01;empty-token:chance=0.02;"
    "duplicate-job:operation=ListJobs,chance=0.02;moved-job:operation=ListJobs,chance=0.02;"
    "unknown-status:chance=0.003;missing-fields:chance=0.003;null-fields:chance=0.003"
)
# An hour of rollouts takes half a minute: most walks find changes.
SPEED = 120
SECONDS_BETWEEN_RELOADS = 3.0
ENDED_WITHIN = 3600
START = judge.Settings(interval=0.2, stale_after=6, requests_per_second=1000, max_jobs=500, guest=None)
# The longest time between two walks over all jobs, and between two descriptions of a job.
FULL_WALK_INTERVAL, MAX_DETAILS_INTERVAL = 1.0, 2.0
# Longer than the longest `stale_after`.
OUTAGE_SECONDS = 14
# With fewer complete walks a minute (of the 300 that the interval allows without faults), almost nothing of a target was
# judged. A short run can consist of faults only.
FEWEST_WALKS = 15
# The minimal events a minute, and those that must have been judged: a tenth to a third of the usual numbers.
FEWEST = {
    "scrapes": 100,
    "with jobs": 200,
    "good reloads": 3,
    "refused reloads": 1,
    "withdrawals": 0.2,
    "returns": 0.2,
}
FEWEST_OF_DESCRIPTIONS = {
    "with descriptions": 50,
    "with the groups of all open jobs": 50,
}
COUNTED_FROM_MINUTES = 2
# In shorter runs, trends are printed but not judged: fault periods recur every 100 s, pools keep idle connections for
# 90 s, and the allocator needs time.
JUDGED_FROM_MINUTES = 8

# The number of kinds of wrong expositions of which the first one is kept.
MOST_KINDS = 20
# The length of a point of a trend: longer than any fault period, so that each point has some time without faults.
POINT_SECONDS = 20
# How much each value may rise over the second half. Memory: the reserve of the allocator varies by some hundred KB with
# large answers and expositions. In five minutes a daemon ends some 3000 walks and answers some 1500 scrapes, so a leak
# of half a KB in either exceeds this. Connections to AWS: a target that describes jobs has up to nine, which stay open
# for 90 s, and one target is repeatedly added and removed. Threads and descriptors are small whole numbers; a leak of
# one a minute gives 5.
ALLOWED_RISE = {"memory": 1024.0, "threads": 1.0, "connections to AWS": 9.0, "other descriptors": 2.0}


class Fleet:
    """A simulated AWS endpoint."""

    def __init__(self, jobs, seed, directory):
        self.log = open(os.path.join(directory, f"endpoint-{seed}.log"), "w")
        arguments = [
            "demo",
            "--simulator-only",
            f"--speed={SPEED}",
            f"--jobs={jobs}",
            f"--seed={seed}",
            f"--faults=seed={seed};{FAULTS}",
        ]
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=self.log, text=True, env={}
        )
        self.environment = {}
        while "AWS_SECRET_ACCESS_KEY" not in self.environment:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the simulated endpoint did not start: see {self.log.name}")
            settings = line.replace("export ", "", 1).split()
            self.environment.update(setting.split("=", 1) for setting in settings if "=" in setting)
        host, _, port = self.environment["AWS_ENDPOINT_URL"].replace("http://", "").partition(":")
        self.address = (host, int(port))

    def a_group(self):
        """The name of a thing group."""
        key = self.environment["AWS_ACCESS_KEY_ID"]
        scope = f"{key}/20260101/{proxy.FLEET_REGION}/iot/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
        url = f"{self.environment['AWS_ENDPOINT_URL']}/thing-groups"
        for _ in range(20):
            # It has faults from the start.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=2) as response:
                    name = json.load(response)["thingGroups"][0]["groupName"]
                    if isinstance(name, str):
                        return name
        raise RuntimeError("the simulated endpoint returned no thing groups")


class Daemon:
    """One exporter, with its configuration, the answers that it got, and its faults."""

    def __init__(self, name, describes, targets, directory, seed):
        self.name, self.describes, self.directory = name, describes, directory
        self.config, self.log = (os.path.join(directory, f"{name}.{end}") for end in ("yml", "log"))
        self.rng = random.Random(f"{seed} {name}")
        self.settings = START
        self.applied_faults, self.counts = collections.Counter(), collections.Counter()
        self.faults, self.first, self.samples = collections.Counter(), [], []
        self.reader = exposition.Reader()
        monitored, self.proxies = [], []
        for target, region, scope, fleet in targets:
            monitored.append(oracle.Target(target, region, scope, describes))
            fault_schedule = proxy.FaultSchedule(f"{seed} {name} {target}", OUTAGE_SECONDS)
            self.proxies.append(proxy.Proxy(monitored[-1], fleet.address, fault_schedule, 4, self.applied_faults))
        self.record = judge.Record(monitored, START, time.time())
        self.judge = judge.Judge(self.record)
        for target in monitored:
            if target.name != "guest":
                self.record.begin(target.name, time.time()).has_begun = time.time() + 5
        self.guests = 0

    async def start(self, environment):
        for way in self.proxies:
            await way.start()
        self.write(self.configuration(self.settings))
        environment = dict(environment, AWS_EC2_METADATA_DISABLED="true")
        del environment["AWS_ENDPOINT_URL"]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([PROGRAM, f"--config.file={self.config}"], env=environment, stderr=log)
        for _ in range(100):
            await asyncio.sleep(0.05)
            found = re.search(r'addresses="?([0-9.]+):(\d+)', open(self.log).read())
            if found:
                self.address = (found.group(1), int(found.group(2)))
                return
        raise RuntimeError(f"{self.name} did not start: {open(self.log).read()}")

    def configuration(self, settings):
        targets = []
        for way in self.proxies:
            target = way.target
            if target.name == "guest" and settings.guest is None:
                continue
            labels = {"visit": settings.guest} if target.name == "guest" else {}
            targets.append(
                {
                    "name": target.name,
                    "region": target.region,
                    "endpoint_url": way.url,
                    "labels": labels,
                    "filter": target.scope.configuration(),
                }
            )
        milliseconds = lambda seconds: f"{round(seconds * 1000)}ms"
        return {
            "targets": targets,
            "collectors": {
                "open_jobs": {
                    "interval": milliseconds(settings.interval),
                    "stale_after": milliseconds(settings.stale_after),
                },
                "all_jobs": {
                    "interval": milliseconds(FULL_WALK_INTERVAL),
                    "stale_after": milliseconds(settings.stale_after),
                },
                "details": {
                    "enabled": self.describes,
                    "interval": milliseconds(settings.interval),
                    "max_interval": milliseconds(MAX_DETAILS_INTERVAL),
                    "stale_after": milliseconds(settings.stale_after),
                },
            },
            "jobs": {"ended_within": f"{ENDED_WITHIN}s"},
            "limits": {
                "requests_per_second": settings.requests_per_second,
                "max_jobs": settings.max_jobs,
                # So that only open jobs can be without series.
                "max_ended_jobs": 10_000,
            },
            "web": {"listen_addresses": ["127.0.0.1:0"], "enable_lifecycle": True},
        }

    def write(self, configuration):
        """Replaces the file in one step. JSON is valid YAML."""
        text = configuration if isinstance(configuration, str) else json.dumps(configuration, indent=1)
        with open(self.config + ".new", "w") as file:
            file.write(text)
        os.replace(self.config + ".new", self.config)

    def has_beginner(self):
        """Whether some target may not have ended its first open walk."""
        return any(
            "open_jobs" not in epoch.lower_bounds or epoch.begins > time.time() - 15
            for epoch in self.record.epochs
            if epoch.ends is None
        )

    def report_fault(self, what, body, faults):
        """Records a fault. The first one of each kind is kept with all details."""
        self.counts["wrong"] += 1
        kind = re.sub(r"[0-9a-f-]*[0-9][0-9a-f.-]*", "#", faults[0] if faults else what)
        self.faults[kind] += 1
        text = "\n".join([f"{time.time():.3f}: {what}", *faults, ""])
        with open(os.path.join(self.directory, f"{self.name}-wrong.txt"), "a") as file:
            file.write(text)
        if self.faults[kind] == 1 and len(self.first) < MOST_KINDS:
            path = os.path.join(self.directory, f"{self.name}-wrong-{len(self.first) + 1}.txt")
            self.first.append((path, text))
            with open(path, "wb") as file:
                file.write("\n".join([text, *self.judge.details, "", ""]).encode() + body)

    def look_at(self, response, since, until, lower_bounds, openmetrics, gzip):
        """Judges one exposition."""
        self.counts["scrapes"] += 1
        body = response.body
        try:
            if response.status != 200 or (response.header("content-encoding") == "gzip") != gzip:
                raise exposition.Malformed(f"the answer is {response.head!r}")
            if len(body) != proxy.content_length(response.head):
                raise exposition.Malformed(f"{len(body)} bytes came of {proxy.content_length(response.head)}")
            content_type = response.header("content-type")
            if content_type != (exposition.OPENMETRICS if openmetrics else exposition.TEXT):
                raise exposition.Malformed(f"the content type is {content_type!r}")
            body = exposition.unpack(body) if gzip else body
            faults = self.judge.faults(self.reader.read(body, content_type), since, until, lower_bounds)
        except exposition.Malformed as error:
            faults = [str(error)]
        if faults:
            self.report_fault(f"an exposition asked for at {since:.3f} and there at {until:.3f}", body, faults)

    # Reloads

    async def reload_now_and_then(self):
        while True:
            await asyncio.sleep(self.rng.uniform(0.5, 1.5) * SECONDS_BETWEEN_RELOADS)
            if self.rng.random() < 0.35:
                await self.reload_faulty()
            else:
                await self.reload_good(self.other_settings())

    def other_settings(self):
        settings, rng = self.settings, self.rng
        if rng.random() < 0.3:
            self.guests += settings.guest is None
            settings = settings._replace(guest=f"visit {self.guests}" if settings.guest is None else None)
        elif settings.guest and rng.random() < 0.2:
            self.guests += 1
            settings = settings._replace(guest=f"visit {self.guests}")
        choices = {
            "interval": [0.2, 0.2, 0.3],
            "stale_after": [6, 7],
            "requests_per_second": [1000, 500],
            "max_jobs": [500, 20],
        }
        for key in rng.sample(sorted(choices), rng.choice([0, 1, 1, 2])):
            settings = settings._replace(**{key: rng.choice(choices[key])})
        return settings

    async def reload_good(self, settings):
        """Changes are recorded before the daemon can apply them."""
        before, record, at = self.settings, self.record, time.time()
        self.write(self.configuration(settings))
        done = [record.turn(record.outcomes, 1, at), record.turn(record.settings, settings, at)]
        old = [epoch for epoch in record.epochs if epoch.ends is None]
        # Other labels make other series of the same target.
        ending = [epoch for epoch in old if epoch.name == "guest" and settings.guest != before.guest]
        names = {"guest"} if settings.guest is not None and settings.guest != before.guest else set()
        for epoch in ending:
            epoch.ends = at
        beginning = [
            record.begin(name, at, [("visit", settings.guest)], before=ending[0] if ending else None) for name in names
        ]
        await self.ask_for_reload(200, at)
        now = time.time()
        for finish in done:
            finish(now)
        for epoch in ending:
            epoch.has_ended = now
        for epoch in beginning:
            epoch.has_begun = now
        self.settings = settings
        self.counts["good reloads"] += 1
        self.counts["targets changed"] += len(set(names) | {epoch.name for epoch in ending})

    async def reload_faulty(self):
        """Only the outcome of the reload may change."""
        good = self.configuration(self.settings)
        key, spoilt = self.rng.choice(sorted(faulty(good).items()))
        if spoilt is None:
            os.rename(self.config, self.config + ".away")
        else:
            self.write(spoilt)
        at = time.time()
        done = self.record.turn(self.record.outcomes, 0, at)
        await self.ask_for_reload(500, at)
        done(time.time())
        self.write(good)
        self.counts["refused reloads"] += 1
        self.counts[f"refused: {key}"] += 1

    async def ask_for_reload(self, expected, at):
        """Reloads over HTTP or by a signal. The metrics show the outcome of a signal: a success by its time, a refusal by
        the first failure."""
        was_refused = self.record.outcomes[-2].value == 0
        if self.rng.random() < 0.6 or expected == 500 and was_refused:
            asked = scrapers.request("/-/reload", {"connection": "close", "content-length": "0"}, "POST")
            response = await scrapers.ask(self.address, asked)
            if response.status != expected:
                self.report_fault(
                    f"a reload that should answer {expected}",
                    response.body,
                    [response.head.decode(), response.body.decode()],
                )
            return
        self.counts["reloads by SIGHUP"] += 1
        self.process.send_signal(signal.SIGHUP)
        for _ in range(250):
            await asyncio.sleep(0.02)
            text = (
                await scrapers.ask(self.address, scrapers.request("/metrics", {"connection": "close"}))
            ).body.decode()
            number = lambda name: float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))
            if expected == 500 and number(judge.RELOADED) == 0:
                return
            if (
                expected == 200
                and number("aws_iot_jobs_exporter_config_last_reload_success_timestamp_seconds") >= at - judge.TICK
            ):
                return
        self.report_fault("a SIGHUP without effect", text.encode(), [f"expected {expected}"])

    # Trends

    async def watch(self):
        while True:
            status = open(f"/proc/{self.process.pid}/status").read()
            number = lambda key: int(re.search(rf"^{key}:\s+(\d+)", status, re.M).group(1))
            descriptors = len(os.listdir(f"/proc/{self.process.pid}/fd"))
            to_aws = sum(way.connections for way in self.proxies)
            values = (number("VmRSS"), number("Threads"), to_aws, descriptors - to_aws)
            self.samples.append({"at": time.monotonic(), **dict(zip(ALLOWED_RISE, values))})
            await asyncio.sleep(1)

    def trends(self):
        """The rise of each value over the second half: the median of the slopes between all pairs of points (Theil-Sen),
        which is robust against outliers. A point is the median of some seconds for memory. For the other values it is
        the minimum, which excludes short-lived resources of fault periods and clients."""
        half = self.samples[len(self.samples) // 2 :]
        width = min(POINT_SECONDS, max(1, len(half) // 3))
        spans = [half[start : start + width] for start in range(0, len(half) - width + 1, width)]
        rises = {}
        for key in ALLOWED_RISE:
            level = statistics.median if key == "memory" else min
            points = [(span[0]["at"], level(sample[key] for sample in span)) for span in spans]
            pairs = [(a, b) for number, a in enumerate(points) for b in points[number + 1 :]]
            slope = statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs)
            rises[key] = slope * (half[-1]["at"] - half[0]["at"])
        return rises

    def around(self, key, share):
        """The median of a tenth of the samples."""
        width = max(1, len(self.samples) // 10)
        start = round((len(self.samples) - width) * share)
        return statistics.median(sample[key] for sample in self.samples[start : start + width])

    # The end

    async def stop(self):
        """Stops the daemon, and checks its exit status and its log."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = await asyncio.get_running_loop().run_in_executor(None, lambda: self.process.wait(10))
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "none within 10 s"
        with open(os.path.join(self.directory, f"{self.name}-samples.json"), "w") as file:
            json.dump(self.samples, file)
        log = open(self.log).read()
        if status != 0:
            self.report_fault("the end", log[-2000:].encode(), [f"exit status {status}"])
        errors = [line for line in log.splitlines() if re.search(r"\bERROR\b|panick", line)]
        unexpected = [line for line in errors if "configuration not reloaded" not in line]
        if unexpected or len(errors) != self.counts["refused reloads"]:
            faults = [f"{len(errors)} errors for {self.counts['refused reloads']} refused reloads", *unexpected[:10]]
            self.report_fault("the log", "\n".join(errors).encode(), faults)


def faulty(good):
    """Configurations that are refused, by their fault; None removes the file."""
    changed = lambda **sections: {**good, **sections}
    with_open_jobs = lambda **keys: changed(
        collectors={**good["collectors"], "open_jobs": {**good["collectors"]["open_jobs"], **keys}}
    )
    return {
        "an unknown key": with_open_jobs(intervall="1s"),
        "an interval that is too short": with_open_jobs(interval="1ms"),
        "stale before it can be renewed": with_open_jobs(interval="4s"),
        "no YAML": "targets: [",
        "two targets of one name": changed(
            targets=good["targets"] + [{"region": "sa-east-1", "name": good["targets"][0]["name"]}]
        ),
        "another address": changed(web={**good["web"], "listen_addresses": ["127.0.0.1:1"]}),
        "another log": changed(log={"level": "debug"}),
        "no file": None,
    }


async def soak(daemons, environment, minutes):
    """Runs everything for this time. Returns what ended early."""
    for daemon in daemons:
        await daemon.start(environment)
    work = []
    for daemon in daemons:
        judged = [
            scrapers.Scraper(daemon, openmetrics, gzip, keep_alive, pause)
            for openmetrics, gzip, keep_alive, pause in (
                (True, True, True, 0.35),
                (True, False, True, 0.8),
                (False, False, False, 0.9),
                (False, True, False, 1.1),
            )
        ]
        work += [scraper.run() for scraper in judged]
        work += [
            scrapers.read_slowly(daemon, 2),
            scrapers.hang_up(daemon, 0.5),
            scrapers.send_garbage(daemon, 0.7),
            scrapers.visit(daemon, 1),
        ]
        work += [daemon.reload_now_and_then(), daemon.watch()]
    tasks = [asyncio.ensure_future(job) for job in work]
    ended, _ = await asyncio.wait(tasks, timeout=minutes * 60, return_when=asyncio.FIRST_EXCEPTION)
    early_ends = [repr(task.exception()) for task in ended]
    left = set(tasks) - ended
    while left:
        # More than once: `wait_for` can swallow a cancellation before Python 3.12.
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)
    for daemon in daemons:
        await daemon.stop()
    return early_ends


def report(daemons, minutes, early_ends):
    """Prints the results. Returns whether all of them are good."""
    good = not early_ends
    for end in early_ends:
        print(f"ENDED EARLY: {end}")
    for daemon in daemons:
        counts, seen = daemon.counts, daemon.judge.seen
        print(f"\n{daemon.name}")
        for way in daemon.proxies:
            target = way.target
            print(f"  {target.name}: {way.requests} requests")
            for name, listing in target.listings().items():
                shown = len(daemon.judge.walks_seen[target.name, name])
                print(
                    f"    {name}: {listing.begun} walks begun, {listing.completed} completed, "
                    f"{listing.begun - listing.completed} not, {shown} seen in expositions"
                )
                if listing.orphans:
                    print(f"      {listing.orphans} pages were requested by walks that a reload had ended")
            has_few = minutes >= COUNTED_FROM_MINUTES and target.open.completed < FEWEST_WALKS * minutes
            if has_few and target.name != "guest":
                print(f"    TOO FEW: {target.open.completed} walks in {minutes:g} minutes")
                good = False
        print(f"  expositions judged: {counts['scrapes']}, wrong: {counts['wrong']}")
        print("  of their targets: " + ", ".join(f"{count} {what}" for what, count in sorted(seen.items())))
        others = {key: counts[key] for key in ("slow reads", "hung up", "garbage", "visits")}
        print("  other clients: " + ", ".join(f"{key} {count}" for key, count in others.items()))
        fewest = {**FEWEST, **(FEWEST_OF_DESCRIPTIONS if daemon.describes else {})}
        for what, least in fewest.items():
            count = counts[what] + seen.get(what, 0)
            if minutes >= JUDGED_FROM_MINUTES and count < least * minutes:
                print(f"  TOO FEW: {count} {what}, and {least * minutes:g} is the least")
                good = False
        how_many = ("good reloads", "refused reloads", "reloads by SIGHUP", "targets changed")
        good_ones, refused, by_signal, changed = (counts[key] for key in how_many)
        print(
            f"  reloads: {good_ones} good, {refused} refused, {by_signal} of all by SIGHUP; "
            f"{changed} times a target was added, removed or restarted"
        )
        print("  faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(daemon.applied_faults.items())))
        if len(daemon.samples) > 10:
            for key, rise in daemon.trends().items():
                begin, middle, end = (daemon.around(key, share) for share in (0, 0.5, 1))
                unit = " KiB" if key == "memory" else ""
                verdict = (
                    "not judged" if minutes < JUDGED_FROM_MINUTES else "RISES" if rise > ALLOWED_RISE[key] else "good"
                )
                good = good and verdict != "RISES"
                print(
                    f"  {key}: {begin:g}{unit}, {middle:g}{unit}, {end:g}{unit}; "
                    f"over the second half {rise:+.1f}{unit}, allowed {ALLOWED_RISE[key]:g}{unit}: {verdict}"
                )
        for kind, count in daemon.faults.most_common(MOST_KINDS):
            print(f"  WRONG, {count} times: {kind[:200]}")
        for path, text in daemon.first[:3]:
            print(f"\n  {path}")
            for line in text.splitlines()[:20]:
                print(f"    {line[:600]}")
        good = good and not counts["wrong"]
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    directory = tempfile.mkdtemp(prefix="soak-")
    fleets, daemons, good = [], [], False
    try:
        large, small = fleets = [Fleet(1000, arguments.seed, directory), Fleet(300, arguments.seed + 1, directory)]
        whole = oracle.Scope()
        are_open = oracle.Scope(status=oracle.OPEN)
        of_group = oracle.Scope(thing_group_name=large.a_group())
        snapshots, continuous = (oracle.Scope(target_selection=selection) for selection in oracle.KNOWN_SELECTIONS)
        walking = [
            ("whole", "eu-west-1", whole, large),
            ("open", "eu-west-1", are_open, large),
            ("snapshots", "us-east-1", snapshots, small),
            ("guest", "eu-central-1", of_group, large),
        ]
        describing = [
            ("whole", "eu-west-1", whole, large),
            ("open", "us-east-1", are_open, small),
            ("guest", "eu-central-1", continuous, small),
        ]
        daemons = [
            Daemon("walks", False, walking, directory, arguments.seed),
            Daemon("descriptions", True, describing, directory, arguments.seed),
        ]
        print(
            f"{arguments.minutes:g} minutes, seed {arguments.seed}; what there is meanwhile is in {directory}",
            flush=True,
        )
        early_ends = asyncio.run(soak(daemons, large.environment, arguments.minutes))
        good = report(daemons, arguments.minutes, early_ends)
        print("\nAll is well." if good else f"\nNOT WELL: see above, and {directory}")
        return not good
    finally:
        for process in [fleet.process for fleet in fleets] + [
            daemon.process for daemon in daemons if hasattr(daemon, "process")
        ]:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if good:
            shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
