#!/usr/bin/env python3
"""Counts the instructions of each part in benches/parts.rs, and compares them with benches/instructions.json.

Usage: python3 benches/instructions.py [--write]

Callgrind runs each part with two numbers of repetitions. The difference is the cost of a repetition, without the start of the
program. The script exits with 1 if a part takes over 5 % more or less than the file says: more is a regression, less is a gain
to keep. --write replaces the file. The numbers depend on the compiler, so the file names it. The script needs Linux, valgrind,
and Python 3.9.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STORED = os.path.join(ROOT, "benches", "instructions.json")
TOLERANCE = 0.05

# The repetitions that are counted of each part: enough for the library's own work to vanish.
PARTS = {"decode": 100, "store": 2, "aggregate": 20, "render": 20, "scrape/identity": 500, "scrape/gzip": 500}


def rustc():
    return subprocess.run(["rustc", "--version"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[1]


def build(bench):
    """Builds a benchmark and returns its path."""
    command = ["cargo", "bench", "--locked", "--bench", bench, "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    messages = map(json.loads, lines)
    # The program is built, too.
    return next(message["executable"] for message in messages if message.get("executable") and message["target"]["name"] == bench)


def instructions(command):
    """The instructions that a command takes, and what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        ran = subprocess.run(valgrind + command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    collected = re.search(r"Collected : (\d+)", ran.stderr)
    if ran.returncode or not collected:
        raise SystemExit(f"{' '.join(command)} failed: {ran.stderr[-2000:]}")
    return int(collected.group(1)), ran.stdout


def count(program, part, repetitions):
    def run(size):
        name, _, argument = part.partition("/")
        pattern = f"^parts::{name}{'::' + argument if argument else ''}$"
        return instructions([program, "--bench", "--sample-count=1", f"--sample-size={size}", pattern])[0]

    return (run(1 + repetitions) - run(1)) // repetitions


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="replace the stored numbers")
    arguments = parser.parse_args()
    program = build("parts")
    counted = {part: count(program, part, repetitions) for part, repetitions in PARTS.items()}
    if arguments.write:
        with open(STORED, "w", encoding="utf-8") as file:
            json.dump({"rustc": rustc(), "instructions": counted}, file, indent=2)
            file.write("\n")
    with open(STORED, encoding="utf-8") as file:
        stored = json.load(file)
    is_same = True
    for part, number in counted.items():
        before = stored["instructions"][part]
        change = number / before - 1
        differs = abs(change) > TOLERANCE
        is_same &= not differs
        print(f"{part:16} {number:14,} {change:+8.1%}{'  over 5 %' if differs else ''}")
    if not is_same:
        print(f"stored with rustc {stored['rustc']}, counted with {rustc()}; python3 benches/instructions.py --write replaces the numbers")
        sys.exit(1)


if __name__ == "__main__":
    main()
