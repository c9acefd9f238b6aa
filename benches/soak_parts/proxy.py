"""The network between a daemon and AWS: forwards every request, notes what was served, and lets things go wrong.

One listening socket a target, so that what is served to each is told apart, and bad weather can strike one and not the
others.
"""

import asyncio
import collections
import json
import random
import socket
import struct
import time
import urllib.parse

# The simulated fleet is in this region; a target in another one is told about it all the same.
FLEET_REGION = "eu-west-1"
LARGEST_HEAD = 64 * 1024
BODY_PIECES = 5

# A spell of weather: for how long, and how probable each fault is for a request.
Spell = collections.namedtuple("Spell", "name seconds chances")
CALM = Spell("calm", 9, {})
SPELLS = (
    Spell("errors", 10, {"error-500": 0.06, "error-503": 0.04, "throttle-429": 0.06}),
    Spell("network", 10, {"reset": 0.05, "truncated": 0.05, "stall": 0.004}),
    Spell("nonsense", 10, {"html": 0.02, "cut-json": 0.02, "repeated-token": 0.1}),
    Spell("slow", 10, {"delay": 0.1, "trickle": 0.1, "hang": 0.004}),
)
OUTAGES = ("refuse", "error-503", "hang")


class Weather:
    """Spells in an order of chance, each kind as often as the others, with calm between them."""

    def __init__(self, seed, outage_seconds):
        self.dice, self.outage_seconds = random.Random(seed), outage_seconds
        self.coming, self.spell, self.until = [], CALM, time.monotonic() + CALM.seconds
        self.outages = 0

    def now(self):
        while time.monotonic() >= self.until:
            if not self.coming:
                kind = OUTAGES[(self.outages + self.dice.randrange(2)) % len(OUTAGES)]
                spells = [*SPELLS, Spell("outage", self.outage_seconds, {kind: 1.0})]
                self.dice.shuffle(spells)
                self.coming = [spell for bad in spells for spell in (bad, CALM)]
            self.spell = self.coming.pop(0)
            self.until += self.spell.seconds
            self.outages += self.spell.name == "outage"
        return self.spell

    def fault(self):
        """What strikes a request, if anything does."""
        point = self.dice.random()
        for fault, chance in self.now().chances.items():
            if point < chance:
                return fault
            point -= chance
        return None


class Gone(Exception):
    """The connection to the client is of no use any more."""


class Proxy:
    """The way of one target to its fleet."""

    def __init__(self, watched, fleet_address, weather, longest_timeout, struck):
        self.watched, self.fleet_address, self.weather = watched, fleet_address, weather
        self.struck = struck
        # A little longer than anybody waits.
        self.hang = longest_timeout + 1
        self.requests = self.connections = 0
        self.server = None

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 20)
        host, port = self.server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"

    async def serve(self, reader, writer):
        upstream = None
        self.connections += 1
        try:
            if "refuse" in self.weather.now().chances:
                self.strike("refuse")
                raise Gone
            while True:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    return
                length = content_length(head)
                body = await reader.readexactly(length) if length else b""
                self.requests += 1
                self.watched.waiting[writer] = time.time()
                upstream = await self.answer(head, body, reader, writer, upstream)
                del self.watched.waiting[writer]
        except Gone:
            reset(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            # Whoever it was is gone, or all of it is over.
            pass
        finally:
            self.connections -= 1
            self.watched.waiting.pop(writer, None)
            for end in (writer, upstream and upstream[1]):
                if end:
                    end.close()

    def strike(self, kind):
        self.struck[kind] += 1
        self.watched.trouble(time.time())

    async def answer(self, head, body, reader, writer, upstream):
        note = Note(self, head)
        fault = self.weather.fault()
        if fault in ("refuse", "reset"):
            note.strike(fault)
            raise Gone
        if fault == "hang":
            note.strike(fault)
            await self.silence(reader)
        if fault in ERRORS:
            note.strike(fault)
            writer.write(error(*ERRORS[fault]))
            return upstream
        if fault == "html":
            note.strike(fault)
            writer.write(message("200 OK", "text/html", b"<!doctype html><title>Sign in</title>"))
            return upstream

        head = head.replace(f"/{self.watched.region}/".encode(), f"/{FLEET_REGION}/".encode())
        try:
            if upstream is None:
                upstream = await asyncio.open_connection(*self.fleet_address, limit=1 << 20)
            upstream[1].write(head + body)
            answer_head, answer, is_whole = await asyncio.wait_for(read_answer(upstream[0]), self.hang)
        # Before OSError, which it is one of since Python 3.11.
        except asyncio.TimeoutError:
            note.strike("simulator: hang")
            raise Gone
        except (OSError, asyncio.IncompleteReadError):
            note.strike("simulator: reset")
            raise Gone
        if not is_whole:
            note.strike("simulator: truncated")
            writer.write(answer_head + answer)
            await writer.drain()
            raise Gone
        if fault == "repeated-token" and note.token:
            try:
                page = json.loads(answer)
                page["nextToken"] = note.token
                answer = json.dumps(page).encode()
                answer_head = message("200 OK", "application/json", answer, only_head=True)
                self.struck[fault] += 1
            except (ValueError, TypeError):
                pass
        if fault == "cut-json" and note.operation != "STS":
            note.strike(fault)
            writer.write(message("200 OK", "application/json", answer[: len(answer) // 2]))
            return upstream
        if fault in ("truncated", "stall"):
            note.strike(fault)
            writer.write(answer_head + answer[: len(answer) // 2])
            await writer.drain()
            if fault == "stall":
                await self.silence(reader)
            raise Gone
        if fault == "delay":
            self.struck[fault] += 1
            await asyncio.sleep(self.weather.dice.uniform(0.05, 0.5))
        whole = answer_head + answer
        if fault == "trickle":
            self.struck[fault] += 1
            size = len(whole) // BODY_PIECES + 1
            while len(whole) > size:
                writer.write(whole[:size])
                whole = whole[size:]
                await writer.drain()
                await asyncio.sleep(0.01)
        note.served(answer, answer_head)
        writer.write(whole)
        return upstream

    async def silence(self, reader):
        """Until the client gives up."""
        try:
            await asyncio.wait_for(reader.read(1), self.hang)
        except asyncio.TimeoutError:
            pass
        raise Gone


class Note:
    """What is asked for, and what is served."""

    def __init__(self, proxy, head):
        self.proxy, self.watched = proxy, proxy.watched
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        path = urllib.parse.urlsplit(target)
        self.token = self.listing = self.walk = None
        if method == "POST":
            self.operation = "STS"
        elif path.path == "/jobs":
            self.operation = "ListJobs"
            query = dict(urllib.parse.parse_qsl(path.query))
            self.token = query.get("nextToken")
            asked = self.watched.page_is_asked_for(query.get("status"), self.token, time.time())
            self.listing, self.walk, self.key = asked
        else:
            self.operation = "DescribeJob"
            self.job_id = urllib.parse.unquote(path.path[len("/jobs/") :])

    def strike(self, kind):
        self.proxy.strike(kind)

    def served(self, answer, head):
        """Has to be told before the last byte goes out, so that nothing that follows from it can have an earlier
        time."""
        at = time.time()
        status, code = status_of(head)
        is_gone = self.operation == "DescribeJob" and status == 404 and code == "ResourceNotFoundException"
        if status != 200 and not is_gone:
            self.strike(f"simulator: {status} {code}")
            return
        if self.operation == "STS":
            return
        troubles = len(self.watched.troubles)
        try:
            told = json.loads(answer)
        except ValueError:
            told = None
        if self.operation == "ListJobs":
            self.watched.page_is_served(self.listing, self.walk, self.key, told, at)
        else:
            self.watched.description_is_served(self.job_id, None if is_gone else told or {}, at)
        if len(self.watched.troubles) > troubles:
            self.proxy.struck[f"simulator: unusable {self.operation}"] += 1


ERRORS = {
    "error-500": ("500 Internal Server Error", "InternalFailureException", "An internal error has occurred."),
    "error-503": ("503 Service Unavailable", "ServiceUnavailableException", "The service is temporarily unavailable."),
    "throttle-429": ("429 Too Many Requests", "ThrottlingException", "Rate exceeded"),
}


def error(status, code, text):
    return message(status, "application/json", json.dumps({"message": text}).encode(), f"x-amzn-errortype: {code}\r\n")


def message(status, content_type, body, headers="", only_head=False):
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\n{headers}content-length: {len(body)}\r\n\r\n".encode()
    return head if only_head else head + body


def header(head, name):
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().decode()
    return None


def content_length(head):
    return int(header(head, b"content-length") or 0)


def status_of(head):
    return int(head.split(b" ", 2)[1]), header(head, b"x-amzn-errortype")


async def read_answer(reader):
    """Head and body, and whether the body is whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    try:
        return head, await reader.readexactly(content_length(head)), True
    except asyncio.IncompleteReadError as error:
        return head, error.partial, False
    except OSError:
        return head, b"", False


def reset(writer):
    """RST, as of a connection that nobody knows any more."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        try:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
    writer.transport.abort()
