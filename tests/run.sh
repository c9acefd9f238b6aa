#!/usr/bin/env bash
# Runs every test on a fresh Debian or Ubuntu that has the Rust toolchain. It installs what is missing: Debian packages
# (as root, or with sudo), and a Python environment under target/. Debian starts the Prometheus and the Alertmanager that
# it installs where there is systemd; the tests start their own and need neither those services nor their ports.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "tools"
# Command and the Debian package that has it.
tools="curl:curl promtool:prometheus amtool:prometheus-alertmanager unshare:util-linux kill:procps systemd-analyze:systemd"
missing=""
for tool in $tools; do
  # Not command -v: it takes a builtin for the program.
  type -P "${tool%%:*}" >/dev/null || missing="$missing ${tool##*:}"
done
# venv is there without ensurepip on a Debian that lacks python3-venv.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ]; then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo="sudo"
  export DEBIAN_FRONTEND=noninteractive
  $sudo apt-get update -qq
  # shellcheck disable=SC2086  # a list of packages
  $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
promtool --version 2>&1 | head -n 1

step "Python environment"
[ -x target/python/bin/python3 ] || python3 -m venv target/python
target/python/bin/python3 -m pip install --quiet --disable-pip-version-check --requirement tests/python/requirements.txt
target/python/bin/python3 -c 'import boto3; print("boto3", boto3.__version__)'

step "format"
cargo fmt --check

step "lints"
cargo clippy --locked --all-targets -- --deny warnings

step "documentation of the code"
RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps --document-private-items --quiet

step "tests"
cargo test --locked
