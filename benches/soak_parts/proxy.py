"""The network between a daemon and AWS: forwards every request, records the answers, and injects faults.

Each target has its own listening socket, so that its answers are recorded separately, and faults can affect one target only.
"""

import asyncio
import collections
import json
import random
import socket
import struct
import time
import urllib.parse

# The region of the simulated fleet. Targets in other regions get the same fleet.
FLEET_REGION = "eu-west-1"
LARGEST_HEAD = 64 * 1024
BODY_PIECES = 5

# A period of a fault schedule: its duration, and the probability of each fault for a request.
Spell = collections.namedtuple("Spell", "name seconds chances")
CALM = Spell("calm", 9, {})
SPELLS = (
    Spell("errors", 10, {"error-500": 0.06, "error-503": 0.04, "throttle-429": 0.06}),
    Spell("network", 10, {"reset": 0.05, "truncated": 0.05, "stall": 0.004}),
    Spell("nonsense", 10, {"html": 0.02, "cut-json": 0.02, "repeated-token": 0.1}),
    Spell("slow", 10, {"delay": 0.1, "trickle": 0.1, "hang": 0.004}),
)
OUTAGES = ("refuse", "error-503", "hang")


class FaultSchedule:
    """Fault periods in random order, each kind equally often, with periods without faults between them."""

    def __init__(self, seed, outage_seconds):
        self.rng, self.outage_seconds = random.Random(seed), outage_seconds
        self.coming, self.spell, self.until = [], CALM, time.monotonic() + CALM.seconds
        self.outages = 0

    def now(self):
        while time.monotonic() >= self.until:
            if not self.coming:
                kind = OUTAGES[(self.outages + self.rng.randrange(2)) % len(OUTAGES)]
                spells = [*SPELLS, Spell("outage", self.outage_seconds, {kind: 1.0})]
                self.rng.shuffle(spells)
                self.coming = [spell for bad in spells for spell in (bad, CALM)]
            self.spell = self.coming.pop(0)
            self.until += self.spell.seconds
            self.outages += self.spell.name == "outage"
        return self.spell

    def fault(self):
        """The fault of a request, if any."""
        point = self.rng.random()
        for fault, chance in self.now().chances.items():
            if point < chance:
                return fault
            point -= chance
        return None


class Gone(Exception):
    """The connection to the client is closed."""


class Proxy:
    """The proxy of one target."""

    def __init__(self, target, fleet_address, fault_schedule, longest_timeout, applied_faults):
        self.target, self.fleet_address, self.fault_schedule = target, fleet_address, fault_schedule
        self.applied_faults = applied_faults
        # A little longer than any client waits.
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
            if "refuse" in self.fault_schedule.now().chances:
                self.apply("refuse")
                raise Gone
            while True:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    return
                length = content_length(head)
                body = await reader.readexactly(length) if length else b""
                self.requests += 1
                self.target.waiting[writer] = time.time()
                upstream = await self.answer(head, body, reader, writer, upstream)
                del self.target.waiting[writer]
        except Gone:
            reset(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            # The client has disconnected, or the test is over.
            pass
        finally:
            self.connections -= 1
            self.target.waiting.pop(writer, None)
            for end in (writer, upstream and upstream[1]):
                if end:
                    end.close()

    def apply(self, kind):
        self.applied_faults[kind] += 1
        self.target.record_fault(time.time())

    async def answer(self, head, body, reader, writer, upstream):
        note = Note(self, head)
        fault = self.fault_schedule.fault()
        if fault in ("refuse", "reset"):
            note.apply(fault)
            raise Gone
        if fault == "hang":
            note.apply(fault)
            await self.silence(reader)
        if fault in ERRORS:
            note.apply(fault)
            writer.write(error(*ERRORS[fault]))
            return upstream
        if fault == "html":
            note.apply(fault)
            writer.write(message("200 OK", "text/html", b"<!doctype html><title>Sign in</title>"))
            return upstream

        head = head.replace(f"/{self.target.region}/".encode(), f"/{FLEET_REGION}/".encode())
        try:
            if upstream is None:
                upstream = await asyncio.open_connection(*self.fleet_address, limit=1 << 20)
            upstream[1].write(head + body)
            answer_head, answer, is_whole = await asyncio.wait_for(read_answer(upstream[0]), self.hang)
        # Before OSError, its base class since Python 3.11.
        except asyncio.TimeoutError:
            note.apply("simulator: hang")
            raise Gone
        except (OSError, asyncio.IncompleteReadError):
            note.apply("simulator: reset")
            raise Gone
        if not is_whole:
            note.apply("simulator: truncated")
            writer.write(answer_head + answer)
            await writer.drain()
            raise Gone
        if fault == "repeated-token" and note.token:
            try:
                page = json.loads(answer)
                page["nextToken"] = note.token
                answer = json.dumps(page).encode()
                answer_head = message("200 OK", "application/json", answer, only_head=True)
                self.applied_faults[fault] += 1
            except (ValueError, TypeError):
                pass
        if fault == "cut-json" and note.operation != "STS":
            note.apply(fault)
            writer.write(message("200 OK", "application/json", answer[: len(answer) // 2]))
            return upstream
        if fault in ("truncated", "stall"):
            note.apply(fault)
            writer.write(answer_head + answer[: len(answer) // 2])
            await writer.drain()
            if fault == "stall":
                await self.silence(reader)
            raise Gone
        if fault == "delay":
            self.applied_faults[fault] += 1
            await asyncio.sleep(self.fault_schedule.rng.uniform(0.05, 0.5))
        whole = answer_head + answer
        if fault == "trickle":
            self.applied_faults[fault] += 1
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
        """Sends nothing until the client disconnects."""
        try:
            await asyncio.wait_for(reader.read(1), self.hang)
        except asyncio.TimeoutError:
            pass
        raise Gone


class Note:
    """A request and its answer."""

    def __init__(self, proxy, head):
        self.proxy, self.target = proxy, proxy.target
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        path = urllib.parse.urlsplit(target)
        self.token = self.listing = self.walk = None
        if method == "POST":
            self.operation = "STS"
        elif path.path == "/jobs":
            self.operation = "ListJobs"
            query = dict(urllib.parse.parse_qsl(path.query))
            self.token = query.get("nextToken")
            asked = self.target.page_is_asked_for(query.get("status"), self.token, time.time())
            self.listing, self.walk, self.key = asked
        else:
            self.operation = "DescribeJob"
            self.job_id = urllib.parse.unquote(path.path[len("/jobs/") :])

    def apply(self, kind):
        self.proxy.apply(kind)

    def served(self, answer, head):
        """Call this before the last byte is sent, so that the recorded time precedes all effects."""
        at = time.time()
        status, code = status_of(head)
        is_gone = self.operation == "DescribeJob" and status == 404 and code == "ResourceNotFoundException"
        if status != 200 and not is_gone:
            self.apply(f"simulator: {status} {code}")
            return
        if self.operation == "STS":
            return
        fault_times = len(self.target.fault_times)
        try:
            content = json.loads(answer)
        except ValueError:
            content = None
        if self.operation == "ListJobs":
            self.target.page_is_served(self.listing, self.walk, self.key, content, at)
        else:
            self.target.description_is_served(self.job_id, None if is_gone else content or {}, at)
        if len(self.target.fault_times) > fault_times:
            self.proxy.applied_faults[f"simulator: unusable {self.operation}"] += 1


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
    """Head and body, and whether the body is complete."""
    head = await reader.readuntil(b"\r\n\r\n")
    try:
        return head, await reader.readexactly(content_length(head)), True
    except asyncio.IncompleteReadError as error:
        return head, error.partial, False
    except OSError:
        return head, b"", False


def reset(writer):
    """Resets the connection (RST), as for an unknown connection."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        try:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
    writer.transport.abort()
