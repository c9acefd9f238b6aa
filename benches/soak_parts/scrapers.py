"""Clients of a daemon: well-behaved ones, whose expositions are judged, slow ones, and misbehaving ones."""

import asyncio
import random
import socket
import time

from . import exposition, proxy

PATIENCE = 30.0
# The headers of Prometheus.
PREFERS_OPENMETRICS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
GARBAGE = (
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)), "a TLS handshake"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
    (b"GET /metrics HTTP/9.9\r\n\r\n", "another version"),
    (b"GET /metrics HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", "a large header"),
    (b"GET /metrics HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", "a header that is none"),
    (b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", "POST"),
    (b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\nhello", "a large body"),
    (b"GET /metrics HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "chunks that are none"),
    (b"GET /../../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n", "another path"),
    (b"\r\n" * 300 + b"\0" * 300, "nothing"),
)


class Response:
    def __init__(self, head, body):
        self.status = int(head.split(b" ", 2)[1])
        self.head, self.body = head, body

    def header(self, name):
        return proxy.header(self.head, name.encode())


def request(path, headers=(), method="GET"):
    lines = [f"{method} {path} HTTP/1.1", "host: soak", *(f"{name}: {value}" for name, value in dict(headers).items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def exchange(reader, writer, asked):
    writer.write(asked)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    has_body = not asked.startswith(b"HEAD")
    return Response(head, await reader.readexactly(proxy.content_length(head)) if has_body else b"")


async def ask(address, asked):
    """One request on a new connection."""
    reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
    try:
        return await asyncio.wait_for(exchange(reader, writer, asked), PATIENCE)
    finally:
        writer.close()


class Scraper:
    """Scrapes forever, and passes the expositions to `look_at` of the daemon."""

    def __init__(self, daemon, openmetrics, gzip, keep_alive, pause):
        self.daemon, self.openmetrics, self.gzip, self.keep_alive, self.pause = (
            daemon,
            openmetrics,
            gzip,
            keep_alive,
            pause,
        )
        self.rng = random.Random(f"{openmetrics}{gzip}{keep_alive}")

    async def run(self):
        headers = {"accept": PREFERS_OPENMETRICS if self.openmetrics else "text/plain"}
        if self.gzip:
            headers["accept-encoding"] = "gzip"
        if not self.keep_alive:
            headers["connection"] = "close"
        asked, connection = request("/metrics", headers), None
        while True:
            if connection is None:
                connection = await asyncio.open_connection(*self.daemon.address, limit=1 << 20)
            lower_bounds, since = self.daemon.judge.lower_bounds(), time.time()
            response = await asyncio.wait_for(exchange(*connection, asked), PATIENCE)
            self.daemon.look_at(response, since, time.time(), lower_bounds, self.openmetrics, self.gzip)
            if not self.keep_alive:
                connection[1].close()
                connection = None
            await asyncio.sleep(self.rng.uniform(0.5, 1.5) * self.pause)


async def read_slowly(daemon, pause):
    """Reads a few KB at a time, over a connection with small buffers, so that the daemon has to wait."""
    asked = request("/metrics", {"connection": "close"})
    while True:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, daemon.address)
        reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
        lower_bounds, since = daemon.judge.lower_bounds(), time.time()
        writer.write(asked)
        head, body = await reader.readuntil(b"\r\n\r\n"), b""
        while True:
            piece = await asyncio.wait_for(reader.read(4096), PATIENCE)
            if not piece:
                break
            body += piece
            await asyncio.sleep(0.04)
        writer.close()
        daemon.counts["slow reads"] += 1
        daemon.look_at(Response(head, body), since, time.time(), lower_bounds, False, False)
        await asyncio.sleep(pause)


async def hang_up(daemon, pause):
    """Disconnects before or during the answer."""
    rng = random.Random(1)
    while True:
        reader, writer = await asyncio.open_connection(*daemon.address)
        writer.write(request("/metrics", {"accept-encoding": rng.choice(["gzip", "identity"])}))
        await asyncio.sleep(rng.choice([0, 0.001, 0.01]))
        if rng.random() < 0.5:
            await asyncio.wait_for(reader.read(rng.choice([1, 1000])), PATIENCE)
        if rng.random() < 0.5:
            proxy.reset(writer)
        else:
            writer.close()
        daemon.counts["hung up"] += 1
        await asyncio.sleep(rng.uniform(0.5, 1.5) * pause)


async def send_garbage(daemon, pause):
    """Sends invalid requests, which must not succeed."""
    rng = random.Random(2)
    while True:
        sent, what = rng.choice(GARBAGE)
        reader, writer = await asyncio.open_connection(*daemon.address)
        try:
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(4096), 1.0)
            if answer and not answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 505")):
                daemon.report_fault(f"{what} was answered", answer, [answer[:200].decode("latin-1")])
        except (OSError, asyncio.TimeoutError):
            pass
        writer.close()
        daemon.counts["garbage"] += 1
        await asyncio.sleep(rng.uniform(0.5, 1.5) * pause)


async def visit(daemon, pause):
    """Requests the status page and the probes, and sends HEAD requests."""
    while True:
        for path in ("/", "/-/healthy", "/-/ready"):
            response = await ask(daemon.address, request(path, {"connection": "close"}))
            # A new target delays readiness until its first open walk has ended.
            if response.status != 200 and not (path == "/-/ready" and response.status == 503 and daemon.has_beginner()):
                daemon.report_fault(f"{path} answers {response.status}", response.body, [response.body[:200].decode()])
        head = await ask(daemon.address, request("/metrics", {"connection": "close"}, "HEAD"))
        if head.status != 200 or head.header("content-type") != exposition.TEXT:
            daemon.report_fault("HEAD /metrics", head.head, [head.head.decode()])
        daemon.counts["visits"] += 1
        await asyncio.sleep(pause)
