#!/usr/bin/env python3
"""Checks a running simulator with boto3, a client that nobody of this project wrote.

boto3 ignores what it does not know, so each raw answer is held against the service model as well: every member must be in
the model, and have the type, the length, the range, the pattern and the enumeration that the model gives it.

Needs boto3. The simulator has to serve an account with a fleet of more than 250 jobs, and a role to assume.
"""

import argparse
import datetime
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from decimal import Decimal

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

MAX_PAGE_SIZE = 250


def strictly(shape, value, path):
    """Fails where a raw JSON `value` is not what the model's `shape` allows."""
    def demand(condition, complaint):
        if not condition:
            raise AssertionError(f"{path}: {complaint}: {value!r:.200}")

    kind = shape.type_name
    if kind == "structure":
        demand(isinstance(value, dict), "not a structure")
        for name in shape.required_members:
            demand(name in value, f"lacks the required {name}")
        for name, member in value.items():
            demand(name in shape.members, f"the model has no member {name}")
            strictly(shape.members[name], member, f"{path}.{name}")
    elif kind == "list":
        demand(isinstance(value, list), "not a list")
        demand(len(value) >= shape.metadata.get("min", 0), "too short a list")
        for index, member in enumerate(value):
            strictly(shape.member, member, f"{path}[{index}]")
    elif kind == "map":
        demand(isinstance(value, dict), "not a map")
        for key, member in value.items():
            strictly(shape.key, key, f"{path} key")
            strictly(shape.value, member, f"{path}.{key}")
    elif kind == "string":
        demand(isinstance(value, str), "not a string")
        demand(not shape.enum or value in shape.enum, f"not one of {shape.enum}")
        demand(len(value) >= shape.metadata.get("min", 0), "too short")
        demand(len(value) <= shape.metadata.get("max", len(value)), "too long")
        pattern = shape.metadata.get("pattern")
        # Python's `re` lacks the Unicode classes that some free texts have.
        if pattern and r"\p" not in pattern:
            demand(re.fullmatch(pattern, value), f"does not match {pattern}")
    elif kind in ("integer", "long"):
        demand(isinstance(value, int) and not isinstance(value, bool), "not a whole number")
        demand(shape.metadata.get("min", value) <= value <= shape.metadata.get("max", value), "out of range")
    elif kind in ("double", "float"):
        demand(isinstance(value, (int, float, Decimal)) and not isinstance(value, bool), "not a number")
        demand(value <= shape.metadata.get("max", value), "out of range")
    elif kind == "timestamp":
        demand(isinstance(value, (int, Decimal)), "not epoch seconds")
        demand(value == round(value, 3), "more precise than a millisecond")
    elif kind == "boolean":
        demand(isinstance(value, bool), "not a boolean")
    else:
        raise AssertionError(f"{path}: no check for a {kind}")


def strictly_xml(shape, element, path):
    """Fails where an XML element has a child that the model's `shape` has not."""
    for child in element:
        name = child.tag.split("}")[1]
        assert name in shape.members, f"{path}: the model has no member {name}"
        if shape.members[name].type_name == "structure":
            strictly_xml(shape.members[name], child, f"{path}.{name}")


def check_raw_answers(client):
    """Holds every raw answer that `client` gets against its service model."""
    def received(response_dict, model_of=client.meta.service_model.operation_model, **kwargs):
        headers = {name.lower(): value for name, value in response_dict["headers"].items()}
        assert headers.get("x-amzn-requestid"), "an answer without x-amzn-RequestId"
        if response_dict["status_code"] != 200:
            return
        name = kwargs["event_name"].split(".")[-1]
        shape = model_of(name).output_shape
        if shape is None:
            assert json.loads(response_dict["body"] or "{}") == {}, f"{name} says nothing in the model"
        elif client.meta.service_model.resolved_protocol == "query":
            result = ElementTree.fromstring(response_dict["body"])[0]
            assert result.tag.endswith(shape.serialization["resultWrapper"]), f"{name}: {result.tag}"
            strictly_xml(shape, result, name)
        else:
            strictly(shape, json.loads(response_dict["body"], parse_float=Decimal), name)

    client.meta.events.register("response-received.*.*", received)
    return client


class Checks:
    """The checks, in the order in which they are written; each one's name says what it found."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.iot = self.client("iot", arguments.access_key_id)
        self.sts = self.client("sts", arguments.access_key_id)

    def client(self, service, access_key_id, session_token=None):
        return check_raw_answers(boto3.client(
            service,
            endpoint_url=self.arguments.endpoint_url,
            region_name=self.arguments.region,
            aws_access_key_id=access_key_id,
            aws_secret_access_key="not verified",
            aws_session_token=session_token,
            config=Config(retries={"total_max_attempts": 1}, ignore_configured_endpoint_urls=True),
        ))

    def pages(self, operation, size, **parameters):
        paginator = self.iot.get_paginator(operation)
        return paginator.paginate(PaginationConfig={"PageSize": size}, **parameters)

    def walk(self, operation, member, size=MAX_PAGE_SIZE, **parameters):
        return [item for page in self.pages(operation, size, **parameters) for item in page[member]]

    def refused(self, exception, message_part, call, **parameters):
        try:
            call(**parameters)
        except exception as error:
            message = error.response["Error"]["Message"]
            assert message_part in message, f"{message_part!r} is not in {message!r}"
        else:
            raise AssertionError(f"{parameters} was not refused")

    def check_list_jobs_shows_every_job_once_at_every_page_size(self):
        jobs = self.walk("list_jobs", "jobs")
        ids = [job["jobId"] for job in jobs]
        assert len(ids) > MAX_PAGE_SIZE, "the fleet is too small for this check"
        assert len(set(ids)) == len(ids), "a job was seen twice"
        for size in (*range(1, 12), 49, 50, 51, 100, 125, 249, 250):
            pages = list(self.pages("list_jobs", size))
            assert [job["jobId"] for page in pages for job in page["jobs"]] == ids, f"page size {size}"
            assert len(pages) == -(-len(ids) // size), f"{len(pages)} pages of size {size}"
            assert all(len(page["jobs"]) == size for page in pages[:-1]), f"a short page at size {size}"

    def check_list_jobs_by_status_and_selection_adds_up(self):
        total = len(self.walk("list_jobs", "jobs"))
        members = self.iot.meta.service_model.shape_for("ListJobsRequest").members
        for parameter in ("status", "targetSelection"):
            parts = {value: self.walk("list_jobs", "jobs", **{parameter: value}) for value in members[parameter].enum}
            for value, jobs in parts.items():
                assert {job[parameter] for job in jobs} <= {value}, f"{parameter}={value}"
            assert sum(map(len, parts.values())) == total, f"the parts by {parameter} are not the whole"

    def check_job_summaries_have_documented_types(self):
        for job in self.walk("list_jobs", "jobs"):
            for name in ("createdAt", "lastUpdatedAt"):
                assert isinstance(job[name], datetime.datetime), f"{name} of {job}"
            assert ("completedAt" in job) == (job["status"] in ("COMPLETED", "CANCELED")), job
            assert job["jobArn"].endswith(f":job/{job['jobId']}"), job

    def check_a_group_filter_agrees_with_the_descriptions_but_for_scheduled_jobs(self):
        name = self.walk("list_thing_groups", "thingGroups")[0]["groupName"]
        group = self.iot.describe_thing_group(thingGroupName=name)
        expected = set()
        for summary in self.walk("list_jobs", "jobs"):
            job = self.iot.describe_job(jobId=summary["jobId"])["job"]
            if group["thingGroupArn"] in job["targets"] and job["status"] != "SCHEDULED":
                expected.add(job["jobId"])
        by_name = self.walk("list_jobs", "jobs", 3, thingGroupName=name)
        by_id = self.walk("list_jobs", "jobs", 250, thingGroupId=group["thingGroupId"])
        assert expected and {job["jobId"] for job in by_name} == expected, "by name"
        assert by_id == by_name, "by id"
        assert {job["thingGroupId"] for job in by_name} == {group["thingGroupId"]}

    def check_describe_job_parses_for_jobs_of_every_status(self):
        seen = set()
        for summary in self.walk("list_jobs", "jobs"):
            if (summary["status"], summary["targetSelection"]) in seen:
                continue
            seen.add((summary["status"], summary["targetSelection"]))
            job = self.iot.describe_job(jobId=summary["jobId"])["job"]
            for name in ("jobId", "jobArn", "status", "targetSelection", "createdAt", "lastUpdatedAt", "isConcurrent"):
                assert job[name] == summary[name], f"{name} of {job}"
            assert job["targets"] and all(re.search(r":thing(group)?/", arn) for arn in job["targets"]), job
            counts = [count for name, count in job["jobProcessDetails"].items() if name.startswith("numberOf")]
            assert len(counts) == 8 and all(isinstance(count, int) for count in counts), job
            assert isinstance(job["createdAt"], datetime.datetime), job
        assert len({status for status, _ in seen}) == 5, f"the fleet lacks a status: {seen}"

    def check_schedules_are_told_as_documented(self):
        jobs = [self.iot.describe_job(jobId=job["jobId"])["job"] for job in self.walk("list_jobs", "jobs", status="SCHEDULED")]
        for job in jobs:
            assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", job["schedulingConfig"]["startTime"]), job
        windows = [window for job in jobs for window in job["schedulingConfig"].get("maintenanceWindows", [])]
        assert windows and all(window["startTime"].startswith("cron(") for window in windows)

    def check_list_thing_groups_shows_every_group_once(self):
        names = [group["groupName"] for group in self.walk("list_thing_groups", "thingGroups")]
        assert names and len(set(names)) == len(names)
        for size in range(1, len(names) + 2):
            groups = self.walk("list_thing_groups", "thingGroups", size)
            assert [group["groupName"] for group in groups] == names, f"page size {size}"
        prefix = names[-1][:4]
        found = self.walk("list_thing_groups", "thingGroups", namePrefixFilter=prefix)
        assert [group["groupName"] for group in found] == [name for name in names if name.startswith(prefix)]

    def check_thing_groups_form_a_tree(self):
        tops = self.walk("list_thing_groups", "thingGroups", recursive=False)
        every = self.walk("list_thing_groups", "thingGroups")
        below = [self.walk("list_thing_groups", "thingGroups", parentGroup=top["groupName"], recursive=True) for top in tops]
        assert len(every) == len(tops) + sum(map(len, below)), "groups are lost or doubled"
        assert any(below), "no group has a child"

    def check_describe_thing_group_parses(self):
        for listed in self.walk("list_thing_groups", "thingGroups"):
            group = self.iot.describe_thing_group(thingGroupName=listed["groupName"])
            assert group["thingGroupArn"] == listed["groupArn"], group
            assert isinstance(group["thingGroupMetadata"]["creationDate"], datetime.datetime), group
            parents = group["thingGroupMetadata"].get("rootToParentThingGroups", [])
            last = parents[-1]["groupName"] if parents else None
            assert group["thingGroupMetadata"].get("parentGroupName") == last, group

    def check_list_job_executions_shows_every_execution_once(self):
        job = max(
            (self.iot.describe_job(jobId=job["jobId"])["job"] for job in self.walk("list_jobs", "jobs", status="IN_PROGRESS")),
            key=lambda job: sum(count for name, count in job["jobProcessDetails"].items() if name.startswith("numberOf")),
        )
        details = job["jobProcessDetails"]
        member = "executionSummaries"
        things = [item["thingArn"] for item in self.walk("list_job_executions_for_job", member, jobId=job["jobId"])]
        assert len(set(things)) == len(things) == sum(n for name, n in details.items() if name.startswith("numberOf"))
        assert things != sorted(things), "a client could come to depend on this order"
        for size in (49, 50, 249):
            items = self.walk("list_job_executions_for_job", member, size, jobId=job["jobId"])
            assert [item["thingArn"] for item in items] == things, f"page size {size}"
        statuses = self.iot.meta.service_model.shape_for("JobExecutionStatus").enum
        for status in statuses:
            items = self.walk("list_job_executions_for_job", member, jobId=job["jobId"], status=status)
            word = "".join(part.capitalize() for part in status.split("_"))
            assert len(items) == details[f"numberOf{word}Things"], status
            for item in items:
                assert item["jobExecutionSummary"]["status"] == status, item
                assert isinstance(item["jobExecutionSummary"]["queuedAt"], datetime.datetime), item

    def executions(self, **parameters):
        """Some executions, of open jobs first: each as its job's id, its thing's name, and its summary."""
        for status in ("IN_PROGRESS", "CANCELED", "COMPLETED"):
            for job in self.walk("list_jobs", "jobs", status=status)[:30]:
                items = self.iot.list_job_executions_for_job(jobId=job["jobId"], **parameters)["executionSummaries"]
                for item in items:
                    yield job["jobId"], item["thingArn"].rsplit("/", 1)[1], item["jobExecutionSummary"]

    def check_the_times_of_an_execution_fit_its_status(self):
        seen = set()
        for job, _, execution in self.executions():
            seen.add(execution["status"])
            queued, updated = execution["queuedAt"], execution["lastUpdatedAt"]
            started = execution.get("startedAt", queued)
            assert queued <= started <= updated, (job, execution)
            assert execution["status"] != "QUEUED" or ("startedAt" not in execution and queued == updated), execution
            assert execution["status"] not in ("IN_PROGRESS", "SUCCEEDED", "FAILED") or "startedAt" in execution, execution
            assert execution["executionNumber"] > execution["retryAttempt"] >= 0, execution
        assert len(seen) == 8, f"the fleet lacks an execution status: {seen}"

    def check_an_execution_is_the_same_by_job_by_thing_and_alone(self):
        described = set()
        for job, thing, summary in self.executions():
            if summary["status"] in described:
                continue
            described.add(summary["status"])
            execution = self.iot.describe_job_execution(jobId=job, thingName=thing)["execution"]
            for name in ("status", "queuedAt", "startedAt", "lastUpdatedAt", "executionNumber"):
                assert execution.get(name) == summary.get(name), f"{name} of {execution}"
            assert execution["jobId"] == job and execution["thingArn"].endswith(f":thing/{thing}"), execution
            assert execution["status"] != "FAILED" or execution["statusDetails"]["detailsMap"]["reason"], execution
            of_thing = self.walk("list_job_executions_for_thing", "executionSummaries", 3, thingName=thing)
            assert {"jobId": job, "jobExecutionSummary": summary} in of_thing, (thing, job)
            alone = self.iot.list_job_executions_for_thing(thingName=thing, jobId=job, status=summary["status"])
            assert alone["executionSummaries"] == [{"jobId": job, "jobExecutionSummary": summary}], alone
        assert len(described) == 8, described

    def check_tags_documents_and_connectivity_parse(self):
        job, thing, _ = next(self.executions(status="QUEUED"))
        arn = self.iot.describe_job(jobId=job)["job"]["jobArn"]
        tags = self.walk_tags(arn)
        assert tags and all(tag["Key"] and tag["Value"] for tag in tags), tags
        assert json.loads(self.iot.get_job_document(jobId=job)["document"])["operation"], job
        found = self.iot.search_index(queryString=f"thingName:{thing}")["things"]
        assert [found[0]["thingName"], type(found[0]["connectivity"]["connected"])] == [thing, bool], found

    def walk_tags(self, arn):
        pages = self.iot.get_paginator("list_tags_for_resource").paginate(resourceArn=arn)
        return [tag for page in pages for tag in page["tags"]]

    def check_errors_arrive_as_the_modelled_exceptions(self):
        exceptions = self.iot.exceptions
        not_found, invalid = exceptions.ResourceNotFoundException, exceptions.InvalidRequestException
        self.refused(not_found, "none", self.iot.describe_job, jobId="none")
        self.refused(not_found, "none", self.iot.describe_thing_group, thingGroupName="none")
        self.refused(not_found, "none", self.iot.list_job_executions_for_job, jobId="none")
        self.refused(not_found, "none", self.iot.list_jobs, thingGroupName="none")
        self.refused(invalid, "enum value set", self.iot.list_jobs, status="QUEUED")
        self.refused(invalid, "nextToken", self.iot.list_jobs, nextToken="nonsense")
        self.refused(invalid, "Only one of", self.iot.list_jobs, thingGroupName="a", thingGroupId="a")
        self.refused(invalid, "regular expression", self.iot.describe_job, jobId="a.b")
        token = self.iot.list_jobs(maxResults=1)["nextToken"]
        self.refused(invalid, "nextToken", self.iot.list_jobs, nextToken=token, status="COMPLETED")
        self.refused(not_found, "none", self.iot.get_job_document, jobId="none")
        self.refused(not_found, "none", self.iot.describe_job_execution, jobId="none", thingName="a")
        self.refused(invalid, "ARN", self.iot.list_tags_for_resource, resourceArn="none")
        self.refused(exceptions.InvalidQueryException, "*", self.iot.search_index, queryString="*")

    def check_page_sizes_past_the_bounds_are_refused_by_the_simulator_itself(self):
        # boto3 knows the lower bound of the model and would refuse by itself.
        unchecked = boto3.client(
            "iot", endpoint_url=self.arguments.endpoint_url, region_name=self.arguments.region,
            aws_access_key_id=self.arguments.access_key_id, aws_secret_access_key="not verified",
            config=Config(parameter_validation=False),
        )
        for size in (0, 251, -1):
            self.refused(unchecked.exceptions.InvalidRequestException, "maxResults", unchecked.list_jobs, maxResults=size)
            self.refused(unchecked.exceptions.InvalidRequestException, "maxResults", unchecked.list_thing_groups, maxResults=size)

    def check_an_execution_is_canceled_by_its_rules(self):
        exceptions = self.iot.exceptions
        job, thing, _ = next(self.executions(status="IN_PROGRESS"))
        one = {"jobId": job, "thingName": thing}
        self.refused(exceptions.InvalidStateTransitionException, "force", self.iot.cancel_job_execution, **one)
        conflict = exceptions.VersionConflictException
        self.refused(conflict, "version", self.iot.cancel_job_execution, force=True, expectedVersion=99, **one)
        version = self.iot.describe_job_execution(**one)["execution"]["versionNumber"]
        self.iot.cancel_job_execution(force=True, expectedVersion=version, statusDetails={"who": "check"}, **one)
        execution = self.iot.describe_job_execution(**one)["execution"]
        assert execution["status"] == "CANCELED" and execution["forceCanceled"], execution
        assert execution["statusDetails"]["detailsMap"] == {"who": "check"}, execution

    def check_a_job_is_updated_canceled_and_deleted_by_its_rules(self):
        exceptions = self.iot.exceptions
        job = next(self.executions(status="QUEUED"))[0]
        timeout = {"inProgressTimeoutInMinutes": 77}
        self.iot.update_job(jobId=job, description="checked", timeoutConfig=timeout)
        self.refused(exceptions.InvalidStateTransitionException, "force", self.iot.delete_job, jobId=job)
        answer = self.iot.cancel_job(jobId=job, comment="a check", reasonCode="CHECK", force=True)
        assert answer["jobId"] == job and answer["description"] == "checked", answer
        described = self.iot.describe_job(jobId=job)["job"]
        assert (described["status"], described["comment"], described["timeoutConfig"]) == ("CANCELED", "a check", timeout)
        assert described["jobProcessDetails"]["numberOfQueuedThings"] == 0, described
        self.refused(exceptions.InvalidRequestException, "CANCELED", self.iot.cancel_job, jobId=job)
        deleting = len(self.walk("list_jobs", "jobs", status="DELETION_IN_PROGRESS"))
        ended = [job] + [other["jobId"] for other in self.walk("list_jobs", "jobs", status="COMPLETED")]
        for job in ended[:10 - deleting]:
            self.iot.delete_job(jobId=job)
            assert self.iot.describe_job(jobId=job)["job"]["status"] == "DELETION_IN_PROGRESS", job
        self.refused(exceptions.LimitExceededException, "10", self.iot.delete_job, jobId=ended[10])

    def check_an_unknown_key_is_refused(self):
        for service, call, code in (
            ("iot", "list_jobs", "UnrecognizedClientException"),
            ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ):
            try:
                getattr(self.client(service, "AKIASTRANGER"), call)()
            except ClientError as error:
                assert error.response["Error"]["Code"] == code, error
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403, error
            else:
                raise AssertionError(f"{service} let a stranger in")

    def check_get_caller_identity_parses(self):
        identity = self.sts.get_caller_identity()
        assert re.fullmatch(r"\d{12}", identity["Account"]), identity
        assert identity["Account"] in identity["Arn"] and identity["UserId"], identity

    def check_assume_role_gives_credentials_that_work(self):
        role = {"RoleArn": self.arguments.role_arn, "RoleSessionName": "check"}
        self.refused(ClientError, "not authorized", self.sts.assume_role, **role)
        self.refused(ClientError, "not authorized", self.sts.assume_role, ExternalId="wrong", **role)
        answer = self.sts.assume_role(ExternalId=self.arguments.external_id, DurationSeconds=900, **role)
        credentials = answer["Credentials"]
        left = credentials["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
        assert 0 < left.total_seconds() <= 900, credentials
        assumed = (credentials["AccessKeyId"], credentials["SessionToken"])
        identity = self.client("sts", *assumed).get_caller_identity()
        assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"], identity
        assert f":{identity['Account']}:" in self.arguments.role_arn, identity
        jobs = self.client("iot", *assumed).list_jobs(maxResults=250)["jobs"]
        assert all(f":{identity['Account']}:" in job["jobArn"] for job in jobs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint_url", help="where the simulator listens, as http://127.0.0.1:8080")
    parser.add_argument("--region", default="eu-west-1")
    parser.add_argument("--access-key-id", default="AKIASIMULATED0000001")
    parser.add_argument("--role-arn", default="arn:aws:iam::222222222222:role/exporter")
    parser.add_argument("--external-id", default="simulated", help="what the role demands")
    checks = Checks(parser.parse_args())
    for name in [name for name in vars(Checks) if name.startswith("check_")]:
        title = name.removeprefix("check_").replace("_", " ")
        try:
            getattr(checks, name)()
        except Exception as error:  # Whatever it is, the check has failed.
            print(f"FAILED  {title}\n        {type(error).__name__}: {error}")
            return 1
        print(f"ok      {title}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
