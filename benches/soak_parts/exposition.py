"""A strict parser of expositions: what a lenient parser would accept is a fault here."""

import collections
import re
import zlib

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
VALUE = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|Inf|NaN)\Z")
ESCAPE = re.compile(r"\\(.)")

Family = collections.namedtuple("Family", "name help type unit samples")


class Malformed(Exception):
    """An invalid exposition."""


def unpack(body):
    """The content of exactly one gzip member."""
    member = zlib.decompressobj(wbits=31)
    try:
        plain = member.decompress(body) + member.flush()
    except zlib.error as error:
        raise Malformed(f"gzip: {error}")
    if not member.eof:
        raise Malformed("the gzip member has no end")
    if member.unused_data:
        raise Malformed(f"{len(member.unused_data)} bytes follow the gzip member")
    return plain


class Reader:
    """Parses expositions. The same series occur repeatedly, so their labels are parsed once."""

    def __init__(self):
        self.known = {}

    def series(self, text):
        """The name and the labels of `name{label="value"}`."""
        known = self.known.get(text)
        if known is None:
            if len(self.known) > 100_000:
                self.known.clear()
            known = self.known[text] = parse_series(text)
        return known

    def read(self, body, content_type):
        """The families by name. Samples are a dictionary from sorted label pairs to values."""
        openmetrics = content_type == OPENMETRICS
        if not openmetrics and content_type != TEXT:
            raise Malformed(f"the content type is {content_type!r}")
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise Malformed(str(error))
        if not text.endswith("\n"):
            raise Malformed(f"the last line has no end: {text[-80:]!r}")
        lines = text[:-1].split("\n")
        if openmetrics:
            if lines.pop() != "# EOF":
                raise Malformed("the last line is not # EOF")
        families, family, samples = {}, None, {}
        for number, line in enumerate(lines, 1):
            try:
                if line.startswith("#"):
                    name, keyword, rest = parse_header(line)
                    if family is None or name != family.name:
                        if name in families:
                            raise Malformed(f"the family {name} is repeated")
                        family = families[name] = Family(name, [], [], [], {})
                    if family.samples:
                        raise Malformed("a header after samples")
                    header = {"HELP": family.help, "TYPE": family.type, "UNIT": family.unit}[keyword]
                    if header:
                        raise Malformed(f"a second {keyword}")
                    if keyword == "UNIT" and not (openmetrics and name.endswith("_" + rest)):
                        raise Malformed("a unit that is not allowed")
                    header.append(rest)
                    if keyword == "TYPE":
                        if rest not in ("counter", "gauge", "histogram"):
                            raise Malformed(f"the type {rest!r}")
                        ends = ("",) if rest == "gauge" or not openmetrics else ("_total",)
                        ends = ("_bucket", "_count", "_sum") if rest == "histogram" else ends
                        samples = {name + end: end for end in ends}
                    continue
                series, _, value = line.rpartition(" ")
                name, labels = self.series(series)
                if family is None or not family.type or name not in samples:
                    raise Malformed("a sample that is not under its own TYPE")
                if family.type[0] == "histogram":
                    labels = (("", samples[name]), *labels)
                if labels in family.samples:
                    raise Malformed("a series that is there twice")
                if not VALUE.match(value):
                    raise Malformed(f"the value {value!r}")
                family.samples[labels] = float(value)
            except Malformed as error:
                raise Malformed(f"line {number}, {line[:300]!r}: {error}")
        for family in families.values():
            if not family.samples:
                raise Malformed(f"the family {family.name} has no samples")
            if not family.type:
                raise Malformed(f"the family {family.name} has no TYPE")
        # The two formats name counters differently. The result is independent of the format.
        return {name[:-6] if name.endswith("_total") else name: family for name, family in families.items()}


def parse_header(line):
    parts = line.split(" ", 3)
    if len(parts) != 4 or parts[0] != "#" or parts[1] not in ("HELP", "TYPE", "UNIT") or not NAME.match(parts[2]):
        raise Malformed("no header, and no comment either")
    return parts[2], parts[1], parts[3]


def parse_series(text):
    name, brace, rest = text.partition("{")
    if not NAME.match(name):
        raise Malformed("no metric name")
    labels, place = {}, 0
    if brace:
        while True:
            found = LABEL.match(rest, place)
            if not found:
                raise Malformed("no label")
            label, value = found.groups()
            if label in labels:
                raise Malformed(f"the label {label} is there twice")
            labels[label] = ESCAPE.sub(lambda escape: {"n": "\n"}.get(escape[1], escape[1]), value)
            place = found.end()
            if rest[place:] == "}":
                break
            if rest[place : place + 1] != ",":
                raise Malformed("no comma between labels")
            place += 1
    return name, tuple(sorted(labels.items()))
