#!/usr/bin/env python3
"""Measures how held connections slow down a scrape.

Usage: cargo build --release && python3 benches/held_connections.py [--idle 2000] [--slow 50] [--scrapes 200]

Starts the demo. Opens connections that stay idle after a first answer, and others that send one byte of their header per second.
Then scrapes on new connections, one after the other. Prints the durations of the scrapes without and with the held connections, and
how many of those are still open at the end: the exporter keeps at most 512, and a new connection replaces an idle one. Exits with 1
if a scrape fails or takes longer than 100 ms. It needs Python 3.8+, and as many open files as connections (`ulimit -n`).
"""

import argparse
import asyncio
import os
import re
import resource
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(ROOT, "target", "release", "aws-iot-jobs-exporter")
MAX_SCRAPE_SECONDS = 0.1


def start_demo():
    process = subprocess.Popen(
        [PROGRAM, "demo", "--web.listen-address=127.0.0.1:0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    port = None
    for line in process.stderr:
        port = port or re.search(r'addresses="?127\.0\.0\.1:(\d+)', line)
        if "run complete" in line:
            return process, int(port.group(1))
    raise SystemExit("the demo ended unexpectedly")


async def scrape(port):
    """The duration of one scrape on a new connection, to the last byte, in seconds."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: exporter\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    while chunk := await reader.read():
        answer += chunk
    took = time.perf_counter() - started
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200 OK") or b"\naws_iot_jobs{" not in answer:
        raise SystemExit(f"a scrape failed: {answer[:200]!r}")
    return took


async def trickle(writer):
    """Sends a header that never ends, until the exporter closes the connection."""
    for byte in b"GET /metrics HTTP/1.1\r\nHost: exporter\r\nX-Slow: " + b"x" * 4000:
        try:
            writer.write(bytes([byte]))
            await writer.drain()
        except OSError:
            return
        await asyncio.sleep(1)


async def hold(port, count, first=b""):
    """Opens connections that stay open; with a `first` request, after its answer."""
    held = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if first:
            writer.write(first)
            await reader.readuntil(b"\r\n\r\n")
        held.append((reader, writer))
    return held


def print_times(name, times):
    print(f"{name}: median {statistics.median(times) * 1000:.1f} ms, slowest {max(times) * 1000:.1f} ms")


async def measure(port, arguments):
    print_times("scrapes alone", [await scrape(port) for _ in range(arguments.scrapes)])
    idle = await hold(port, arguments.idle, b"HEAD /-/healthy HTTP/1.1\r\nHost: exporter\r\n\r\n")
    slow = await hold(port, arguments.slow)
    trickles = [asyncio.create_task(trickle(writer)) for _, writer in slow]
    times = []
    for _ in range(arguments.scrapes):
        times.append(await scrape(port))
        await asyncio.sleep(0.02)
    print_times(f"with {arguments.idle} idle and {arguments.slow} slow connections", times)
    still_open = sum(not reader.at_eof() for reader, _ in idle + slow)
    print(f"held connections that are still open: {still_open} of {arguments.idle + arguments.slow}")
    for task in trickles:
        task.cancel()
    return max(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--slow", type=int, default=50)
    parser.add_argument("--scrapes", type=int, default=200)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    process, port = start_demo()
    try:
        slowest = asyncio.run(measure(port, arguments))
    finally:
        process.terminate()
        process.wait()
    if slowest > MAX_SCRAPE_SECONDS:
        sys.exit(f"a scrape took longer than {MAX_SCRAPE_SECONDS * 1000:.0f} ms")


if __name__ == "__main__":
    main()
