#!/usr/bin/env bash
# Signs each file in dist/ with cosign. `release/sign.sh --help` prints how.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --help ]; then
  cat <<'USAGE'
Usage: release/sign.sh [--key FILE]

Writes dist/FILE.sigstore.json for each FILE in dist/. In a workflow with the permission `id-token: write` the signature is by the
identity of the workflow, and the public log of Sigstore has it. Needs cosign 3.

  --key FILE  Sign with this private key instead, offline: for tests.
USAGE
  exit 0
fi

options=(--yes)
if [ "${1:-}" = --key ]; then
  # Without a service of Sigstore: no certificate, no log, no time stamp.
  options+=(--key "${2:?--key needs a file}" --use-signing-config=false --tlog-upload=false)
fi
for file in dist/*; do
  case "$file" in *.sigstore.json) continue ;; esac
  cosign sign-blob "${options[@]}" --bundle "$file.sigstore.json" "$file" >/dev/null
  printf 'signed %s\n' "$file"
done
