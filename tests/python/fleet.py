"""Does one thing to the jobs of an AWS lookalike with boto3, then counts them with boto3 and prints the counts as JSON.

Usage: fleet.py ENDPOINT_URL [--account ACCOUNT] COMMAND [ARGUMENT ...]

  things NAME ...            creates things, all of them in the thing group `line`
  join NAME                  creates one more thing in it
  create JOB SELECTION TARGET ...
                             creates a job; a TARGET is a thing's name, or `group:NAME`
  many PREFIX COUNT THING    creates COUNT jobs for a thing
  finish JOB THING STATUS    plays a device: takes its next job execution and ends it, through the jobs data plane
  cancel JOB, delete JOB
  count
  described                  counts by thing group and status, and executions by job and state, as DescribeJob tells of them;
                             in place of the counts of jobs
  executions JOB             when each execution was last updated, by thing and status, in place of the counts of jobs
"""

import collections
import json
import os
import sys

import boto3


def client(service, url, account):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=os.environ.get("AWS_REGION", "eu-west-1"),
        # What lookalikes take an account's id for: the access key of its root.
        aws_access_key_id=account,
        aws_secret_access_key="test",
    )


STATES = ["Queued", "InProgress", "Succeeded", "Failed", "Rejected", "Canceled", "Removed", "TimedOut"]


def described(iot):
    rows = collections.Counter()
    for summary in iot.list_jobs(maxResults=250)["jobs"]:
        job = iot.describe_job(jobId=summary["jobId"])["job"]
        resources = {target.rsplit(":", 1)[1] for target in job["targets"]}
        groups = {resource.removeprefix("thinggroup/") for resource in resources if resource.startswith("thinggroup/")}
        for group in groups or {"<none>"}:
            rows[f"{group} {job['status']}"] += 1
        if job["status"] == "IN_PROGRESS":
            for state in STATES:
                rows[f"{job['jobId']} {state}"] += job["jobProcessDetails"][f"numberOf{state}Things"]
    return {row: number for row, number in rows.items() if number}


def main():
    url, *arguments = sys.argv[1:]
    account = "test"
    if arguments[0] == "--account":
        _, account, *arguments = arguments
    command, *arguments = arguments
    iot = client("iot", url, account)

    def arn(target):
        if target.startswith("group:"):
            return iot.describe_thing_group(thingGroupName=target.removeprefix("group:"))["thingGroupArn"]
        return iot.describe_thing(thingName=target)["thingArn"]

    if command == "things":
        iot.create_thing_group(thingGroupName="line")
        for name in arguments:
            iot.create_thing(thingName=name)
            iot.add_thing_to_thing_group(thingGroupName="line", thingName=name)
    elif command == "join":
        iot.create_thing(thingName=arguments[0])
        iot.add_thing_to_thing_group(thingGroupName="line", thingName=arguments[0])
    elif command == "create":
        job, selection, *targets = arguments
        targets = [arn(target) for target in targets]
        iot.create_job(jobId=job, targets=targets, document="{}", targetSelection=selection)
    elif command == "many":
        prefix, count, thing = arguments
        targets = [arn(thing)]
        for number in range(int(count)):
            iot.create_job(jobId=f"{prefix}-{number}", targets=targets, document="{}", targetSelection="SNAPSHOT")
    elif command == "finish":
        job, thing, status = arguments
        data = client("iot-jobs-data", url, account)
        started = data.start_next_pending_job_execution(thingName=thing)["execution"]
        assert started["jobId"] == job, f"{thing} has {started['jobId']} to do, not {job}"
        data.update_job_execution(jobId=job, thingName=thing, status=status)
    elif command == "cancel":
        iot.cancel_job(jobId=arguments[0], force=True)
    elif command == "delete":
        iot.delete_job(jobId=arguments[0], force=True)
    elif command == "executions":
        rows = iot.list_job_executions_for_job(jobId=arguments[0], maxResults=250)["executionSummaries"]
        summaries = [(row["thingArn"].rsplit("/", 1)[1], row["jobExecutionSummary"]) for row in rows]
        print(json.dumps({f"{thing} {row['status']}": row["lastUpdatedAt"].timestamp() for thing, row in summaries}))
        return
    elif command == "described":
        print(json.dumps(described(iot)))
        return
    else:
        assert command == "count", f"there is no command {command}"

    counts = collections.Counter()
    for job in iot.list_jobs(maxResults=250)["jobs"]:
        counts[f"{job['status']} {job['targetSelection']}"] += 1
    print(json.dumps(counts))


main()
