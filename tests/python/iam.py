"""Makes an IAM user with one policy in an AWS lookalike that enforces IAM, and prints the user's access key as JSON.

Usage: iam.py ENDPOINT_URL POLICY_FILE [--without ACTION] [--role-in ACCOUNT --external-id ID]

With --without, the policy is attached without this action, which it has to name: so a test can take away one permission
of a policy as it is shipped.

With --role-in, a role of another account has the policy as well. The user may assume it, and only with the external id; the
role's ARN is printed too.
"""

import argparse
import json
import os
import uuid

import boto3


def take_away(policy, action):
    """Removes `action` from the statements of `policy`, and the statements that are left without one."""
    kept = []
    found = False
    for statement in policy["Statement"]:
        actions = statement.get("Action", [])
        actions = [actions] if isinstance(actions, str) else actions
        if action in actions:
            found = True
            actions = [other for other in actions if other != action]
            if not actions:
                continue
            statement = {**statement, "Action": actions}
        kept.append(statement)
    if not found:
        # Otherwise a test of a missing permission would go on with the whole policy.
        raise SystemExit(f"the policy does not name the action {action}")
    return {**policy, "Statement": kept}


def client(url, access_key_id):
    """For IAM, as an account's root: it may do everything, and is there before any user is."""
    return boto3.client(
        "iam",
        endpoint_url=url,
        region_name=os.environ.get("AWS_REGION", "eu-west-1"),
        aws_access_key_id=access_key_id,
        aws_secret_access_key="test",
    )


def make_role(iam, policy, external_id, trusted):
    """A role that whoever is `trusted` may assume with the external id. Returns its ARN."""
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": trusted},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    trust = {"Version": "2012-10-17", "Statement": [trust]}
    role = iam.create_role(RoleName="exporter", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    iam.put_role_policy(RoleName="exporter", PolicyName="exporter", PolicyDocument=json.dumps(policy))
    return role["Arn"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("policy")
    parser.add_argument("--without", metavar="ACTION")
    parser.add_argument("--role-in", metavar="ACCOUNT")
    parser.add_argument("--external-id", metavar="ID")
    arguments = parser.parse_args()
    with open(arguments.policy, encoding="utf-8") as file:
        policy = json.load(file)
    if arguments.without is not None:
        policy = take_away(policy, arguments.without)

    iam = client(arguments.url, "test")
    user = f"exporter-{uuid.uuid4().hex}"
    user_arn = iam.create_user(UserName=user)["User"]["Arn"]
    printed = {}
    if arguments.role_in is not None:
        # There the account's id is its root's access key.
        role = make_role(client(arguments.url, arguments.role_in), policy, arguments.external_id, user_arn)
        printed["RoleArn"] = role
        may_assume = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}
        policy = {**policy, "Statement": [*policy["Statement"], may_assume]}
    # IAM refuses a policy without statements; a user without any policy may do as little.
    if policy["Statement"]:
        iam.put_user_policy(UserName=user, PolicyName="exporter", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    printed.update({name: key[name] for name in ("AccessKeyId", "SecretAccessKey")})
    print(json.dumps(printed))


main()
