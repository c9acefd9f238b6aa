"""Holds the JSON Schema of the configuration against a validator and a YAML reader of another language.

Usage: check_schema.py SCHEMA VALID_FILE...
"""

import json
import sys

import jsonschema
import yaml

# A document, and the paths at which an editor has to underline it.
WRONG = [
    ("collectors: {open_jobs: {intervall: 30s}}", [["collectors", "open_jobs"]]),
    ("collectors: {open_jobs: {interval: 60}}", [["collectors", "open_jobs", "interval"]]),
    ("targets: [{collectors: {details: {enabled: maybe}}}]", [["targets", 0, "collectors", "details", "enabled"]]),
    ("limits: {max_pages: 0}", [["limits", "max_pages"]]),
    ("limits: {requests_per_second: many}", [["limits", "requests_per_second"]]),
    ("log: {level: loud}", [["log", "level"]]),
    ("log: info", [["log"]]),
    ("jobs: {series: 'yes'}", [["jobs", "series"]]),
    ("targets: []", [["targets"]]),
    ("targets: [{regoin: eu-west-1}]", [["targets", 0]]),
    ("targets: [{region: Global}, {region: eu-west-1a}]", [["targets", 0, "region"], ["targets", 1, "region"]]),
    ("targets: [{account_id: '1234'}]", [["targets", 0, "account_id"]]),
    ("targets: [{filter: {status: [QUEUED]}}]", [["targets", 0, "filter", "status", 0]]),
    ("targets: [{jobs: {status: [COMPLETED]}}]", [["targets", 0]]),
    ("web: {listen_addresses: []}", [["web", "listen_addresses"]]),
    ("colour: red\nlog: {format: xml}", [[], ["log", "format"]]),
]

RIGHT = [
    "{}",
    "collectors:\nlog: ~\ntargets:\n",
    "targets: [{region: eu-west-1, account_id: '012345678901', labels: {tier: 1, spare: true}, filter: {status: []}}]",
    "targets: [{account_id: 123456789012}]",
    "limits: {requests_per_second: 0.5, max_jobs: 0}\nweb: {config_file: , probe_address: '127.0.0.1:1'}",
]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    validator = jsonschema.Draft7Validator(schema)
    jsonschema.Draft7Validator.check_schema(schema)
    for path in sys.argv[2:]:
        with open(path, encoding="utf-8") as file:
            errors = list(validator.iter_errors(yaml.safe_load(file)))
        assert not errors, f"{path}: {errors}"
    for text in RIGHT:
        errors = list(validator.iter_errors(yaml.safe_load(text)))
        assert not errors, f"{text}: {errors}"
    for text, paths in WRONG:
        found = sorted((list(error.absolute_path) for error in validator.iter_errors(yaml.safe_load(text))), key=str)
        assert found == sorted(paths, key=str), f"{text}: {found}"
    print(f"{len(sys.argv) - 2} files and {len(RIGHT)} documents are valid, {len(WRONG)} documents are underlined")


if __name__ == "__main__":
    main()
