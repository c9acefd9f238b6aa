"""Makes an IAM user with one policy in an AWS lookalike that enforces IAM, and prints the user's access key as JSON.

Usage: iam.py ENDPOINT_URL POLICY_FILE [--without ACTION]

With --without, the policy is attached without this action, which it has to name: so a test can take away one permission
of a policy as it is shipped.
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("policy")
    parser.add_argument("--without", metavar="ACTION")
    arguments = parser.parse_args()
    with open(arguments.policy, encoding="utf-8") as file:
        policy = json.load(file)
    if arguments.without is not None:
        policy = take_away(policy, arguments.without)

    iam = boto3.client(
        "iam",
        endpoint_url=arguments.url,
        region_name=os.environ.get("AWS_REGION", "eu-west-1"),
        # The account's root: it may do everything, and is there before any user is.
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    user = f"exporter-{uuid.uuid4().hex}"
    iam.create_user(UserName=user)
    # IAM refuses a policy without statements; a user without any policy may do as little.
    if policy["Statement"]:
        iam.put_user_policy(UserName=user, PolicyName="exporter", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    print(json.dumps({name: key[name] for name in ("AccessKeyId", "SecretAccessKey")}))


main()
