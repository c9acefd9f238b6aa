#!/usr/bin/env python3
"""Runs the commands of all runbooks that call AWS against the simulator, with the AWS CLI, as somebody on call would.

Usage: run_runbooks.py PROGRAM FOLDER

Starts PROGRAM's simulated endpoint and reads the shell blocks of each runbook in FOLDER. The example names (fw-1, device-1,
line-1) are replaced by a job, a thing and a group that are in the state the runbook is about. What diagnoses is run as one
script; what mitigates is run block by block, each for another job, since the blocks are alternatives.

Services that are not simulated (CloudTrail, Service Quotas, IAM) are named here, and their commands do nothing.
"""

import os
import pathlib
import re
import subprocess
import sys

import boto3

NOT_SIMULATED = "cloudtrail|iam|service-quotas"

# The tools of this environment come first, and a stand-in for the CLI skips the services that are not simulated.
PRELUDE = f"""set -euo pipefail
aws() {{ case "$1" in {NOT_SIMULATED}) ;; *) command aws "$@" ;; esac; }}
"""

# What each runbook is about: the status of its job, and of the executions that have to be there, with how many.
SUBJECTS = {
    "AwsIotJobDeletionsNearLimit": ("DELETION_IN_PROGRESS", "SUCCEEDED", 1),
    "AwsIotJobExecutionLong": ("IN_PROGRESS", "IN_PROGRESS", 1),
    "AwsIotJobStartOverdue": ("SCHEDULED", None, 0),
    "AwsIotRolloutAborted": ("CANCELED", "FAILED", 1),
    "AwsIotRolloutEndedWithFailures": ("COMPLETED", "FAILED", 1),
    "AwsIotRolloutFailing": ("IN_PROGRESS", "FAILED", 1),
}
OTHER_SUBJECTS = ("IN_PROGRESS", "QUEUED", 1)


class Fleet:
    """What the simulator has, each job of it for one script."""

    def __init__(self):
        self.iot = boto3.client("iot")
        self.used = set()

    def subject(self, runbook):
        """A job, a thing of it and a group, as the runbook needs them."""
        status, execution_status, least = SUBJECTS.get(runbook, OTHER_SUBJECTS)
        for page in self.iot.get_paginator("list_jobs").paginate(status=status):
            for job in page["jobs"]:
                if job["jobId"] in self.used or job["targetSelection"] != "SNAPSHOT":
                    continue
                things = self.things(job["jobId"], execution_status) if execution_status else ["device-1"] * least
                group = self.group(job["jobId"])
                if len(things) >= least and group:
                    self.used.add(job["jobId"])
                    return job["jobId"], things[0] if things else "device-1", group
        raise AssertionError(f"no {status} job with {least} {execution_status} executions is left for {runbook}")

    def things(self, job_id, status):
        found = self.iot.list_job_executions_for_job(jobId=job_id, status=status)["executionSummaries"]
        return [execution["thingArn"].rsplit("/", 1)[1] for execution in found]

    def group(self, job_id):
        targets = self.iot.describe_job(jobId=job_id)["job"]["targets"]
        return next((target.rsplit("/", 1)[1] for target in targets if ":thinggroup/" in target), None)


def blocks(text):
    """The shell blocks of a page that call AWS, and whether each is part of a list of alternatives."""
    for indent, block in re.findall(r"^( *)```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        lines = [line.removeprefix(indent) for line in block.splitlines()]
        if any(re.search(r"\baws ", line) for line in lines):
            yield bool(indent), "\n".join(lines) + "\n"


def scripts(text):
    """What is run together: the diagnosis, and each alternative after what the diagnosis exports."""
    found = list(blocks(text))
    diagnosis = "".join(block for is_alternative, block in found if not is_alternative)
    exports = "".join(line + "\n" for line in diagnosis.splitlines() if line.startswith("export "))
    return [script for script in [diagnosis, *(exports + block for is_alternative, block in found if is_alternative)] if script]


def run(fleet, path):
    """Runs the commands of one runbook; returns how many calls of the CLI it has."""
    runbook, calls = path.stem, 0
    for script in scripts(path.read_text()):
        job, thing, group = fleet.subject(runbook)
        for example, real in (("fw-1", job), ("device-1", thing), ("line-1", group)):
            script = re.sub(rf"\b{example}\b(?!-)", lambda _: real, script)
        done = subprocess.run(["bash", "-c", PRELUDE + script], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and not done.stderr, f"{runbook}: exit status {done.returncode}\n{script}\n{done.stderr}"
        simulated = [call for call in re.findall(r"\baws ([a-z-]+) ([a-z-]+)", script) if not re.fullmatch(NOT_SIMULATED, call[0])]
        changes = [call for _, call in simulated if call.startswith(("cancel", "update", "delete"))]
        assert done.stdout.strip() or len(changes) == len(simulated), f"{runbook}: nothing was printed by\n{script}"
        calls += len(simulated)
    return calls


def main():
    program, folder = sys.argv[1:]
    command = [program, "demo", "--simulator-only", "--speed=0", "--jobs=1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        try:
            for line in demo.stdout:
                if line.startswith("export "):
                    os.environ.update(assignment.split("=", 1) for assignment in line.split()[1:])
                if "AWS_SECRET_ACCESS_KEY" in line:
                    break
            os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
            # No file of this machine is to have a say.
            os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_PAGER="")
            fleet = Fleet()
            calls = {path.stem: run(fleet, path) for path in sorted(pathlib.Path(folder).glob("*.md"))}
        finally:
            demo.terminate()
    for runbook, count in calls.items():
        print(f"{count:3} calls  {runbook}")
    print(f"{sum(calls.values())} calls in all")


if __name__ == "__main__":
    main()
