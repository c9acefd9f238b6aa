#!/usr/bin/env bash
# Makes the pictures of docs/dashboards.md. `docs/images/make.sh --help` prints how.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: docs/images/make.sh start FOLDER      start everything, with its files in FOLDER
       docs/images/make.sh cut FOLDER        end the AWS endpoint of the stale exporter
       docs/images/make.sh pictures FOLDER   write the pictures into docs/images
       docs/images/make.sh stop FOLDER       end everything that was started

Leave at least 15 minutes between `start` and `cut`, and at least 4 between `cut` and `pictures`: the graphs show what
happened since the start. Three exporters run, each with a Prometheus of its own that scrapes it every 10 seconds:

  demo     demo --jobs 2000 --seed 7 --speed 1
  stale    the same fleet, with stale_after: 3m for each collector
  targets  12 targets, each with a fleet of 52 to 184 jobs; some names have special characters

Needs target/debug/aws-iot-jobs-exporter (`cargo build`), the tools and the Python environment of `tests/run.sh --all`, python3
with Pillow (or another Python in PYTHON), and in RENDER a command that draws a dashboard file as a PNG:

  $RENDER DASHBOARD.json --prometheus URL --out FILE.png --theme dark|light --width PIXELS --full --from now-30m --var NAME=VALUE
USAGE
}

if [ $# -ne 2 ] || [ "$1" = --help ]; then
  usage
  exit 64
fi
here="$(cd "$(dirname "$0")/../.." && pwd)"
exporter="$here/target/debug/aws-iot-jobs-exporter"
mkdir -p "$2"
cd "$2"

# The simulated endpoint does not check signatures.
export AWS_ACCESS_KEY_ID=AKIADEMODEMODEMODEMO AWS_SECRET_ACCESS_KEY=demo AWS_EC2_METADATA_DISABLED=true

run() {
  local name="$1"
  shift
  nohup "$@" >"$name.log" 2>&1 &
  echo $! >"$name.pid"
}

end() {
  local file
  for file in "$@"; do
    kill "$(cat "$file")" 2>/dev/null || true
    rm "$file"
  done
}

collectors() {
  local stale="${1:-}"
  cat <<YAML
collectors:
  open_jobs: {interval: 15s$stale}
  all_jobs: {interval: 1m$stale}
  details: {interval: 15s, max_interval: 1m$stale}
  executions: {interval: 1m$stale}
  tags: {keys: [product, team]}
limits: {requests_per_second: 25}
YAML
}

targets() {
  local number=0 name
  echo "targets:"
  for name in fleet-a fleet-b fleet-c fleet-d 'plants/*' 'a|b' "winner''s" 'C:\plants' emea-lab apac-lab amer-lab long-name-of-a-target-in-a-region; do
    number=$((number + 1))
    echo "  - {name: '$name', region: eu-west-1, endpoint_url: 'http://127.0.0.1:$((19200 + number))'}"
  done
}

start() {
  local number name port
  for number in $(seq 1 12); do
    run "endpoint-$number" "$exporter" demo --simulator-only --simulator-address "127.0.0.1:$((19200 + number))" --jobs $((40 + 12 * number)) --seed $((100 + number)) --speed 1
  done
  run endpoint-stale "$exporter" demo --simulator-only --simulator-address 127.0.0.1:19220 --jobs 2000 --seed 7 --speed 1
  sleep 3
  { targets; collectors; } >targets.yml
  { echo "targets: [{name: demo, region: eu-west-1, endpoint_url: 'http://127.0.0.1:19220'}]"; collectors ", stale_after: 3m"; } >stale.yml
  run exporter-demo "$exporter" demo --jobs 2000 --seed 7 --speed 1 --web.listen-address=127.0.0.1:19114
  run exporter-targets "$exporter" --config.file=targets.yml --web.listen-address=127.0.0.1:19115
  run exporter-stale "$exporter" --config.file=stale.yml --web.listen-address=127.0.0.1:19116
  port=19114
  for name in demo targets stale; do
    cat >"prometheus-$name.yml" <<YAML
global: {scrape_interval: 10s, scrape_timeout: 10s, evaluation_interval: 15s}
rule_files: ["$here/config/prometheus/rules/*.yml"]
scrape_configs:
  - {job_name: aws-iot-jobs, static_configs: [{targets: ["127.0.0.1:$port"]}]}
YAML
    run "prometheus-$name" prometheus --config.file="prometheus-$name.yml" --storage.tsdb.path="data-$name" --web.listen-address="127.0.0.1:$((port + 76))"
    port=$((port + 1))
  done
}

# The value of a label in the first result of a query about the demo.
ask() {
  curl -s http://127.0.0.1:19190/api/v1/query --data-urlencode "query=$1" |
    python3 -c 'import json, sys; print(sorted(one["metric"][sys.argv[1]] for one in json.load(sys.stdin)["data"]["result"])[0])' "$2"
}

# Few colours make a small file: the most frequent ones, so that statuses keep theirs.
shrink() {
  "${PYTHON:-python3}" -c '
import sys
from PIL import Image
picture = Image.open(sys.argv[1]).convert("RGB")
colors = [color for _, color in sorted(picture.getcolors(1 << 24), reverse=True)[:256]]
palette = Image.new("P", (1, 1))
palette.putpalette([channel for color in colors for channel in color])
picture.quantize(palette=palette, dither=Image.Dither.NONE).save(sys.argv[1], optimize=True)' "$1"
}

picture() {
  local dashboard="$1" case="$2" port="$3" theme file
  shift 3
  for theme in light dark; do
    file="$here/docs/images/$dashboard-$case-$theme.png"
    # shellcheck disable=SC2086  # a command with arguments
    $RENDER "$here/dashboards/$dashboard.json" --prometheus "http://127.0.0.1:$port" --out "$file" \
      --theme "$theme" --width 1280 --full --from now-30m --scrape-interval 10s "$@" >/dev/null
    shrink "$file"
  done
}

pictures() {
  local job stuck aborted done group
  # Failing for the longest time.
  job="$(ask 'bottomk(1, aws_iot_job_created_timestamp_seconds and on (job_id) aws_iot_job_status{status="IN_PROGRESS"} and on (job_id) count by (job_id) (aws_iot_job_thing_group_info)
    and on (job_id) sum by (job_id) (aws_iot_job_executions{execution_status=~"FAILED|TIMED_OUT|REJECTED"}) / sum by (job_id) (aws_iot_job_executions) >= 0.25)' job_id)"
  stuck="$(ask 'aws_iot_job_stuck{target="demo"} == 1 and on (job_id) aws_iot_job_open_execution_since_timestamp_seconds and on (job_id) sum by (job_id) (aws_iot_job_executions{execution_status=~"QUEUED|IN_PROGRESS"}) >= 3 and on (job_id) sum by (job_id) (aws_iot_job_executions{execution_status=~"QUEUED|IN_PROGRESS"}) / on (job_id) sum by (job_id) (aws_iot_job_executions) >= 0.1' job_id)"
  aborted="$(ask 'topk(1, aws_iot_job_completed_timestamp_seconds and on (job_id) aws_iot_job_abort_criteria_met == 1 and on (job_id) aws_iot_job_status{status="CANCELED"})' job_id)"
  done="$(ask 'topk(1, sum by (job_id) (max_over_time(aws_iot_job_executions{execution_status="QUEUED"}[20m])) and on (job_id) aws_iot_job_status{status="COMPLETED"} unless on (job_id) aws_iot_ended_job_executions{execution_status=~"FAILED|TIMED_OUT"} > 20 and on (job_id) min_over_time(aws_iot_job_created_timestamp_seconds[30m]) == on (job_id) group_left () aws_iot_job_created_timestamp_seconds)' job_id)"
  # A group with open jobs of which none needs attention.
  group="$(ask 'topk(1, sum by (thing_group) (aws_iot_thing_group_jobs{status="IN_PROGRESS"}) unless on (thing_group) (aws_iot_job_thing_group_info and on (job_id) (
    aws_iot_job_stuck == 1
    or sum by (job_id) (aws_iot_job_executions{execution_status=~"FAILED|TIMED_OUT|REJECTED"}) / sum by (job_id) (aws_iot_job_executions) >= 0.05
    or time() - aws_iot_job_open_execution_since_timestamp_seconds{execution_status="IN_PROGRESS"} > 21600
    or aws_iot_job_scheduled_start_timestamp_seconds < time() - 300 and on (job_id) aws_iot_job_status{status="SCHEDULED"}
  )))' thing_group)"
  picture fleet problems 19190
  picture fleet healthy 19190 --var "thing_group=$group"
  picture fleet stale 19192
  picture fleet targets 19191
  picture rollout problems 19190 --var "job=$job"
  picture rollout stuck 19190 --var "job=$stuck"
  picture rollout healthy 19190 --var "job=$done"
  picture rollout aborted 19190 --var "job=$aborted"
  picture rollout stale 19192 --var "job=$stuck"
  picture thing-group problems 19190
  picture thing-group healthy 19190 --var "thing_group=$group"
  picture thing-group stale 19192
  picture thing-group targets 19191
  picture exporter healthy 19190
  picture exporter stale 19192
  picture exporter targets 19191
  pages
}

# The pages of the exporter itself, after two of the twelve endpoints have gone.
pages() {
  end endpoint-5.pid endpoint-9.pid
  sleep 90
  "$here/target/python/bin/python3" "$here/tests/python/check_pages.py" http://127.0.0.1:19115 --pictures "$here/docs/images"
  for file in "$here"/docs/images/page-*.png; do
    shrink "$file"
  done
}

case "$1" in
  start) start ;;
  cut) end endpoint-stale.pid ;;
  pictures) pictures ;;
  stop) end ./*.pid ;;
  *) usage; exit 64 ;;
esac
