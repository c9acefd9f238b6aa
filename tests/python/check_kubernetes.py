"""Checks manifests against the schemas of Kubernetes and of the Prometheus Operator. A field that a schema does not know is a
fault: Kubernetes would drop it without a word.
"""

import argparse
import sys

import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator import v1 as operator

# The oldest that the chart allows, and the newest that there are schemas of.
VERSIONS = ["1.28", kubernetes_validate.latest_version()]


def known(given, read):
    """What is in `given` and not in `read`, which drops what it does not know; as paths."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            if key not in read:
                yield f".{key}"
            else:
                yield from (f".{key}{path}" for path in known(value, read[key]))
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for place, (one, other) in enumerate(zip(given, read)):
            yield from (f"[{place}]{path}" for path in known(one, other))
    elif given != read:
        yield f" is {given!r}, and read as {read!r}"


def check(manifest):
    """Says what is wrong with a manifest."""
    if manifest["apiVersion"] == "monitoring.coreos.com/v1":
        model = getattr(operator, manifest["kind"])
        read = model.model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)
        yield from known(manifest, read)
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f".{'.'.join(str(part) for part in error.path)} in {version}: {error.message}"


def selftest():
    """A schema check that lets everything pass would look the same as one that finds nothing."""
    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x"}}
    monitor["spec"] = {"selector": {}, "endpoints": [{"port": "http", "intervall": "30s"}]}
    assert list(check(monitor)) == [".spec.endpoints[0].intervall"], list(check(monitor))
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"prot": 1}]}}
    assert len(list(check(service))) == len(VERSIONS), list(check(service))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    selftest()
    faults = []
    for path in arguments.files:
        with open(path, encoding="utf-8") as file:
            manifests = [manifest for manifest in yaml.safe_load_all(file) if manifest]
        if not manifests:
            faults.append(f"{path}: no manifests")
        for manifest in manifests:
            name = f"{path}: {manifest['kind']} {manifest['metadata']['name']}"
            faults += [f"{name}{fault}" for fault in check(manifest)]
        print(f"{path}: {len(manifests)} manifests, Kubernetes {' and '.join(VERSIONS)}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
