#!/usr/bin/env bash
# Writes the table of docs/compatibility.md from tests that ran. `tests/compatibility.sh --help` lists the modes.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
Usage: tests/compatibility.sh [--check FILE]

Runs the tests of scrapes, rules, alerts and queries of the dashboards against Prometheus 2, Prometheus 3 and VictoriaMetrics, and writes the
table of docs/compatibility.md from their results. It needs the tools that `tests/run.sh --all` installs.

  --check FILE  Run no tests: compare the table with the results in FILE, to which the tests append where the variable
                COMPATIBILITY_RESULTS names it. Other versions of a system are no difference.
  --help        Print this text.
USAGE
}

page=docs/compatibility.md

# The table from lines of system, check and detail, with tabs between them.
table() {
  LC_ALL=C sort -u "$1" | awk -F '\t' '
    !($1 in has_system) { has_system[$1]; systems[++system_count] = $1 }
    !($2 in has_check) { has_check[$2]; checks[++check_count] = $2 }
    { detail[$1, $2] = $3 }
    END {
      # A few rows: the simplest sort will do.
      for (i = 1; i < check_count; i++)
        for (j = i + 1; j <= check_count; j++)
          if (checks[j] < checks[i]) { other = checks[i]; checks[i] = checks[j]; checks[j] = other }
      row = "| |"; line = "| --- |"
      for (i = 1; i <= system_count; i++) { row = row " " systems[i] " |"; line = line " --- |" }
      print row; print line
      for (j = 1; j <= check_count; j++) {
        row = "| " checks[j] " |"
        for (i = 1; i <= system_count; i++)
          row = row " " ((systems[i], checks[j]) in detail ? detail[systems[i], checks[j]] : "—") " |"
        print row
      }
    }'
}

# The page with the table of these results in place of its own.
page_with() {
  awk -v results="$1" '
    /^<!-- end of the table -->$/ { inside = 0 }
    !inside
    /^<!-- the table -->$/ { inside = 1; while ((getline line < results) > 0) print line }' "$page"
}

without_versions() { sed -E '/^\| \|/s/ [0-9][0-9.]*//g'; }

results="" check=""
case "${1:-}" in
  "") ;;
  --check) check=yes results="${2:?--check needs the file of results}" ;;
  --help | -h) usage; exit 0 ;;
  *)
    printf 'tests/compatibility.sh: unknown argument %s\n\n' "$1" >&2
    usage >&2
    exit 64
    ;;
esac

scratch="$(mktemp -d)"
trap 'rm -r "$scratch"' EXIT
if [ -z "$check" ]; then
  results="$scratch/results"
  COMPATIBILITY_RESULTS="$results" cargo test --locked --test integration -- foreign::compatibility foreign::end_to_end foreign::prometheus
fi
table "$results" >"$scratch/table"
page_with "$scratch/table" >"$scratch/page"
if [ -n "$check" ]; then
  if ! diff <(without_versions <"$page") <(without_versions <"$scratch/page"); then
    printf '%s has other results than these tests: run tests/compatibility.sh, which writes it.\n' "$page" >&2
    exit 1
  fi
else
  cp "$scratch/page" "$page"
  cat "$scratch/table"
fi
