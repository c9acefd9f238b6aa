"""Creates the CloudFormation stack of the exporter in moto, with few and with many parameters, and prints the results as JSON.

Usage: check_stacks.py TEMPLATE

moto resolves parameters, conditions and functions as CloudFormation does, and makes the resources. Nothing leaves this process. Not
checked: policies of roles, network mode and deployment configuration, which moto leaves out or changes, and AWS::ServiceDiscovery::Service,
which it does not have.
"""

import json
import os
import sys

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="eu-west-1", AWS_EC2_METADATA_DISABLED="true")

import boto3  # noqa: E402  (it reads the environment)
from moto import mock_aws  # noqa: E402


def create(template, parameters):
    """Creates a stack, and returns its container and who may connect to it."""
    with mock_aws():
        ec2, ecs = (boto3.client(name) for name in ("ec2", "ecs"))
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
        group = ec2.create_security_group(GroupName="prometheus", Description="Prometheus", VpcId=vpc)["GroupId"]
        ecs.create_cluster(clusterName="default")
        parameters = {"VpcId": vpc, "SubnetIds": ",".join(subnets), "PrometheusSecurityGroupId": group, **parameters}
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        cloudformation = boto3.client("cloudformation")
        cloudformation.create_stack(
            StackName="exporter", TemplateBody=template, Parameters=given, Capabilities=["CAPABILITY_IAM"]
        )
        stack = cloudformation.describe_stacks(StackName="exporter")["Stacks"][0]
        resources = cloudformation.list_stack_resources(StackName="exporter")["StackResourceSummaries"]
        made = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}
        rules = ec2.describe_security_groups(GroupIds=[made["SecurityGroup"]])["SecurityGroups"][0]
        task = ecs.describe_task_definition(taskDefinition=made["TaskDefinition"])["taskDefinition"]
        return {
            "status": stack["StackStatus"],
            "container": task["containerDefinitions"][0],
            "ingress": rules["IpPermissions"],
            "prometheus": group,
        }


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        template = file.read()
    few = {"Image": "registry.example.com/aws-iot-jobs-exporter:0.1.0"}
    many = {
        **few,
        "LaunchType": "EC2",
        "CpuArchitecture": "ARM64",
        "AssignPublicIp": "ENABLED",
        "RepositoryArn": "arn:aws:ecr:eu-west-1:012345678901:repository/aws-iot-jobs-exporter",
        "LogRetentionDays": "7",
        "TargetsParameterName": "/iot-jobs-exporter/targets",
        "RoleArns": "arn:aws:iam::111122223333:role/iot-jobs,arn:aws:iam::444455556666:role/iot-jobs",
        "TagKeys": "product,team",
    }
    print(json.dumps({"few": create(template, few), "many": create(template, many)}, default=str))


main()
