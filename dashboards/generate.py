#!/usr/bin/env python3
"""Writes the four dashboards of this folder.

`dashboards/generate.py` writes them, `dashboards/generate.py --check` only reports files that are out of date. It needs
nothing but Python 3.

What several panels share is defined once: colours, what counts as a problem, and the parts of queries. Queries use the
exporter's own series, so the dashboards work without the recording rules. `max by` without `instance` keeps a series whole
when the exporter restarts elsewhere.
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent

# Colours. Red: act. Amber: look. Grey: not known. Every status has one colour on all dashboards. A status is written on its
# colour, so that it can be read in both themes (see `contrast`).
RED, AMBER, GREY, TEXT, CLEAR = "#CF2F37", "#E8C547", "#676D79", "text", "transparent"
GREEN, BLUE = "#19805D", "#2F6CD3"
EXECUTIONS = {
    "SUCCEEDED": GREEN,
    "IN_PROGRESS": BLUE,
    "QUEUED": "#8EC3F5",
    "FAILED": RED,
    "TIMED_OUT": "#B33A76",
    "REJECTED": "#A445B0",
    "CANCELED": "#8A6848",
    "REMOVED": "#DDBB99",
}
JOBS = {
    "IN_PROGRESS": BLUE,
    "SCHEDULED": "#8459CC",
    "DELETION_IN_PROGRESS": "#177A8C",
    "COMPLETED": GREEN,
    "CANCELED": "#8A6848",
}


def contrast(color):
    """Contrast of a background with the text that Grafana writes on it: dark on a brightness above 180, else light."""
    channels = [int(color[at:at + 2], 16) for at in (1, 3, 5)]
    bright = sum(weight * channel for weight, channel in zip((0.299, 0.587, 0.114), channels)) > 180
    written = (32, 34, 38) if bright else (247, 248, 250)

    def luminance(rgb):
        linear = [one / 255 / 12.92 if one <= 10 else ((one / 255 + 0.055) / 1.055) ** 2.4 for one in rgb]
        return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear))

    dark, light = sorted((luminance(channels), luminance(written)))
    return (light + 0.05) / (dark + 0.05)


# What WCAG asks of small text.
for COLOR in (RED, AMBER, GREY, GREEN, BLUE, *EXECUTIONS.values(), *JOBS.values()):
    assert contrast(COLOR) >= 4.5, f"text on {COLOR} has a contrast of {contrast(COLOR):.2f} only"

# States of a rollout: text and colour by number. The table of rollouts is sorted by the number. An open rollout has 18 to 20, an
# ended one 4 or 5; 5 more if some executions failed, and 10 more if many did, with the thresholds of the alerts. Above 20, an open
# rollout needs attention.
STATES = {
    **dict.fromkeys((30, 29, 28), ("Failing", RED)),
    27: ("Stuck", RED),
    26: ("Stuck, few", AMBER),
    **dict.fromkeys((25, 24, 23), ("Some fail", AMBER)),
    22: ("Overdue", AMBER),
    21: ("Hanging", AMBER),
    20: ("In progress", BLUE),
    19: ("Scheduled", JOBS["SCHEDULED"]),
    18: ("Deleting", JOBS["DELETION_IN_PROGRESS"]),
    16: ("Aborted by AWS", AMBER),
    15: ("Failed", RED),
    14: ("Canceled, failed", RED),
    **dict.fromkeys((10, 9), ("Some failed", AMBER)),
    5: ("Completed", GREEN),
    4: ("Canceled", JOBS["CANCELED"]),
    3: ("Other", GREY),
    2: ("Gone", GREY),
}
# Open rollouts in a red and in an amber state.
ACT, LOOK = "> 26", "> 20 < 27"
ABOUT_STATES = (
    "Failing: at least 3 executions and 25 % of all failed, timed out or were rejected; Some fail: 5 %. Stuck: no progress for "
    "longer than `jobs.stuck_after`; Stuck, few: the same, but fewer than 3 executions or less than a tenth of all are open. "
    "Hanging: an execution has been in progress for 6 hours. Overdue: not started 5 minutes after its time. Failed and Some "
    "failed: completed, with the same shares. Aborted by AWS: canceled, and it meets its own abort criteria."
)
WEEK = 7 * 86400

# Parts of queries. TARGET, JOB and GROUP are the labels that identify a target, a job, and a thing group of a target.
TARGET = "target, aws_account_id, aws_region"
JOB = f"{TARGET}, job_id"
GROUP = f"{TARGET}, thing_group"
CHOSEN = 'aws_account_id=~"$account", aws_region=~"$region", target=~"$target"'
CHOSEN_TARGETS = 'aws_region=~"$region", target=~"$target"'
OPEN = "QUEUED|IN_PROGRESS"
BAD = "FAILED|TIMED_OUT|REJECTED"
JUDGED = f"SUCCEEDED|{BAD}"
OPEN_JOBS = "IN_PROGRESS|SCHEDULED|DELETION_IN_PROGRESS"


def of_job(name, chosen, by=JOB, more=""):
    return f"max by ({by}) ({name}{{{chosen}{more}}})"


def executions(chosen, status, by=JOB):
    """Executions of open and of ended jobs, which are two families. A job that ends moves from one to the other."""
    names = '__name__=~"aws_iot_job_executions|aws_iot_ended_job_executions"'
    return f"sum by ({by}) (max by ({JOB}, execution_status) ({{{names}, {chosen}, execution_status=~\"{status}\"}}))"


def counted(series):
    """Jobs of which AWS gives the count of every status."""
    return f"max by ({JOB}) (count by ({JOB}, instance) ({series})) >= {len(EXECUTIONS)}"


def all_executions(chosen):
    """All executions of each job; nothing if AWS leaves out the count of a status. So no share is of known counts only."""
    series = f'{{__name__=~"aws_iot_job_executions|aws_iot_ended_job_executions", {chosen}}}'
    return f"(sum by ({JOB}) (max by ({JOB}, execution_status) ({series})) and on ({JOB}) {counted(series)})"


def status_is(chosen, status):
    return of_job("aws_iot_job_status", chosen, more=f', status=~"{status}"')


def start(chosen):
    scheduled = of_job("aws_iot_job_scheduled_start_timestamp_seconds", chosen)
    return f"({scheduled} or {of_job('aws_iot_job_created_timestamp_seconds', chosen)})"


def completed(chosen):
    return of_job("aws_iot_job_completed_timestamp_seconds", chosen)


def state(chosen):
    """The number of each job's state, as in STATES."""
    numbers = {20: "IN_PROGRESS", 19: "SCHEDULED", 18: "DELETION_IN_PROGRESS", 5: "COMPLETED", 4: "CANCELED"}
    plain = " or ".join(f'{number} * aws_iot_job_status{{{chosen}, status="{status}"}}' for number, status in numbers.items())
    plain = f"max by ({JOB}) ({plain} or 3 * aws_iot_job_status{{{chosen}}})"
    bad, everything, still_open = executions(chosen, BAD), all_executions(chosen), executions(chosen, OPEN)
    stuck = f"{of_job('aws_iot_job_stuck', chosen)} == 1"
    since = f'min by ({JOB}) (aws_iot_job_open_execution_since_timestamp_seconds{{{chosen}, execution_status="IN_PROGRESS"}})'
    due = of_job("aws_iot_job_scheduled_start_timestamp_seconds", chosen)
    some, others = (
        of_job("aws_iot_job_thing_group_info", chosen, more=f', thing_group{operator}"<excluded>"') for operator in ("=", "!=")
    )
    problems = {
        "aborted": f"16 * ({of_job('aws_iot_job_abort_criteria_met', chosen)} == 1 and {status_is(chosen, 'CANCELED')})",
        "failed": f"{plain} + on ({JOB}) (5 + 5 * ((({bad} >= 3) / {everything} >= 0.05) >= bool 0.25))",
        "stuck": f"26 * ({stuck})",
        "stuck, many": f"27 * ({stuck} and {still_open} >= 3 and {still_open} / {everything} >= 0.1)",
        "hanging": f"0 * (time() - {since} > 21600) + 21",
        "overdue": f"0 * ({due} < time() - 300 and {status_is(chosen, 'SCHEDULED')} and {of_job('aws_iot_job_windowed', chosen)} == 0) + 22",
    }
    # The highest number counts. The label keeps apart what is about one job.
    joined = "\n  or ".join(f'label_replace({problem}, "problem", "{name}", "", "")' for name, problem in problems.items())
    return f"max by ({JOB}) (\n  ({joined}) unless on ({JOB}) ({some} unless {others})\n  or {plain}\n)"


def filters(at=""):
    """The variables for groups, tags and states. A job without groups or tags passes where All is chosen."""
    info = "aws_iot_job_info|aws_iot_job"
    return (
        f'\nand on ({JOB}) {{__name__=~"{info}_thing_group_info", {CHOSEN}, thing_group=~"$thing_group"}}{at}'
        f'\nand on ({JOB}) {{__name__=~"{info}_tags_info", {CHOSEN}, ${{tag:raw}}}}{at}'
        f'\nand on ({JOB}) aws_iot_job_status{{{CHOSEN}, status=~"$status"}}{at}'
    )


FILTERS = filters()
GROUP_FILTER = FILTERS.splitlines()[1].join(("\n", ""))
THIS_WEEK = f"\nand on ({JOB}) ({completed(CHOSEN)} > time() - {WEEK})"


def targets_by(name, collector):
    """A series of each chosen target. These series have no account, so those of other accounts are left out by name."""
    others = 'last_over_time(aws_iot_jobs_target_info{aws_account_id!~"$account"}[7d])'
    series = f'aws_iot_jobs_collector_{name}{{{CHOSEN_TARGETS}, collector="{collector}"}}'
    return f"(max by (target, aws_region) ({series}) unless on (target, aws_region) {others})"


# Targets of which at most a tenth of the open jobs have unknown progress. Of others it is not known how many are stuck. A few are
# unknown all the time: new ones, until their executions have been listed.
PROGRESS_KNOWN = (
    f"(max by (target, aws_region) (aws_iot_jobs_progress_unknown{{{CHOSEN}}}) <= 0.1 * sum by (target, aws_region) "
    f'(max by (target, aws_region, status, target_selection) (aws_iot_jobs{{{CHOSEN}, status=~"{OPEN_JOBS}"}})))'
)
AND_PROGRESS_KNOWN = f"\nand on (target, aws_region) {PROGRESS_KNOWN}"
# A sum without one of these targets would look like a fall.
UNLESS_PROGRESS_UNKNOWN = (
    f"unless on () (max by (target, aws_region) (aws_iot_jobs_progress_unknown{{{CHOSEN}}}) unless on (target, aws_region) {PROGRESS_KNOWN})"
)


def known_none(collector, value=0, unless=""):
    """`value` where all chosen targets are known to have none, and nothing where that is not known of one."""
    fresh, listed = targets_by("fresh", collector), targets_by("last_success_timestamp_seconds", collector)
    base = f"{value} + " if value else ""
    return f"{base}0 * (min({fresh} * ({listed} > bool 0) or 0 * {fresh}) == 1){unless}"


ENDED_COUNTED = f"({counted(f'aws_iot_ended_job_executions{{{CHOSEN}}}')})"


def no_results(value=0):
    """How a job ended is not known without its executions. At most a tenth of this week's may lack them."""
    week = f"({completed(CHOSEN)} > time() - {WEEK})"
    unknown = f"count({week} unless on ({JOB}) {ENDED_COUNTED}) > 0.1 * count({week})"
    return f"or {known_none('all_jobs', value, f' unless on () ({unknown})')}"


def no_attention():
    unknown = f"count({targets_by('fresh', 'open_jobs')}) > (count({PROGRESS_KNOWN}) or vector(0))"
    return f"or {known_none('open_jobs', unless=f' unless on () ({unknown})')}"


def freshness(only=""):
    """0 fresh, 1 failing, 2 ended jobs stale, 3 open jobs stale, of each chosen target."""
    by = "job, target, aws_region"
    fresh = f"max by ({by}, collector) (aws_iot_jobs_collector_fresh{{{CHOSEN_TARGETS}, collector=\"%s\"}})"
    worst = (
        f"max by ({by}) (3 * (1 - {fresh % 'open_jobs'}) or 2 * (1 - {fresh % 'all_jobs'}) "
        f"or 1 - max by ({by}) (aws_iot_jobs_up{{{CHOSEN_TARGETS}}}))"
    )
    info = f"max by (job, {TARGET}) (last_over_time(aws_iot_jobs_target_info{{{CHOSEN}}}[7d]))"
    return (
        f"max by ({TARGET}) (\n  {info} * on ({by}) group_left () {worst}\n"
        f"  or {worst} unless on ({by}) last_over_time(aws_iot_jobs_target_info[7d])\n){only}"
    )


def age(only="", collector="open_jobs"):
    info = f"max by (job, {TARGET}) (last_over_time(aws_iot_jobs_target_info{{{CHOSEN}}}[7d]))"
    success = f'max by (job, target, aws_region) (aws_iot_jobs_collector_last_success_timestamp_seconds{{collector="{collector}"}})'
    return f"time() - max by ({TARGET}) ({info} * on (job, target, aws_region) group_left () {success}){only}"


FRESHNESS = {
    0: ("FRESH", GREEN),
    1: ("FAILING", AMBER),
    2: ("ENDED STALE", AMBER),
    3: ("STALE", RED),
    4: ("NOT SCRAPED", RED),
}
ABOUT_FRESHNESS = (
    "The worst of the chosen targets, and the time since its open jobs were last listed. FAILING: the last run of a listing "
    "failed; jobs are shown as they were last listed. ENDED STALE: ended jobs are not shown. STALE: open jobs are not "
    "shown, and sums are without them. NOT SCRAPED: Prometheus has nothing of an exporter. What is not known is grey, and not 0."
)


# Panels.

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def special(match, text, color):
    return {"type": "special", "options": {"match": match, "result": {"text": text, "color": color, "index": 99}}}




def query(expression, ref="A", legend="", kind="instant"):
    """`kind`: instant, range or table."""
    return {
        "datasource": DATA_SOURCE,
        "editorMode": "code",
        "expr": expression,
        "refId": ref,
        "instant": kind in ("instant", "table"),
        "range": kind in ("range", "range table"),
        "format": "table" if "table" in kind else "time_series",
        "legendFormat": legend,
    }


def mapped(values):
    return {
        "type": "value",
        "options": {
            str(number): {"text": text, "color": color, "index": index}
            for index, (number, (text, color)) in enumerate(values.items())
        },
    }


def steps(base, *more):
    all_steps = [{"color": base, "value": None}] + [{"color": color, "value": value} for value, color in more]
    return {"mode": "absolute", "steps": all_steps}


def override(name, **properties):
    """`custom__width=80` is the property custom.width."""
    listed = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


def colored(colors):
    return [override(name, color={"mode": "fixed", "fixedColor": color}) for name, color in colors.items()]


def panel(kind, title, description, size, targets, defaults, overrides=(), options=None, transformations=()):
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATA_SOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "targets": targets,
        "transformations": list(transformations),
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options or {},
        "pluginVersion": "12.0.0",
    }


def tile(title, description, size, targets, unit="none", thresholds=None, mappings=(), links=(), overrides=(), mode="value", decimals=None, size_of_values=None):
    defaults = {
        "unit": unit,
        "noValue": "unknown",
        "color": {"mode": "thresholds"},
        "thresholds": thresholds or steps(CLEAR),
        "mappings": [*mappings, special("null+nan", "unknown", GREY)],
        "links": list(links),
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    if isinstance(targets, str):
        targets = [query(targets)]
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "textMode": mode,
        "wideLayout": False,
        "colorMode": "background_solid",
        "graphMode": "none",
        "justifyMode": "center",
        "showPercentChange": False,
        "text": {"titleSize": 12, "valueSize": size_of_values or (26 if mode == "value" else 20)},
    }
    return panel("stat", title, description, size, targets, defaults, overrides, options)


def to_dashboard(uid, *variables):
    """A link with variables of this dashboard. A variable can have the value of a field: `("job", "Job")`."""
    query_part = "".join(
        f"&${{{one}:queryparam}}" if isinstance(one, str) else f"&var-{one[0]}=${{__data.fields.{one[1]}:percentencode}}"
        for one in variables
    )
    return f"/d/{uid}?var-datasource=${{datasource}}{query_part}&${{__url_time_range}}"


def link(title, url, new_tab=False):
    return {"title": title, "url": url, "targetBlank": new_tab}


def attention_tile(numbered, whose=""):
    """Open rollouts in a red state, and in an amber one."""
    return tile(
        "Need attention", f"Open rollouts{whose}. Act: those in a red state. Look: those in an amber one. Unknown, if there seem to be none, but the "
        "progress of more than a tenth of the open jobs is not known. " + ABOUT_STATES, (4, 4),
        [query(f"count((\n{numbered}\n) {ACT})\n{no_attention()}", "A", "act"), query(f"count((\n{numbered}\n) {LOOK})\n{no_attention()}", "B", "look")],
        mode="value_and_name", size_of_values=16,
        overrides=[override("act", thresholds=steps(GREEN, (1, RED))), override("look", thresholds=steps(GREEN, (1, AMBER)))],
    )


# Rollouts that have ended are judged by the executions that AWS judged, of the same days on every dashboard.
ABOUT_SHARES = (
    "Of the executions of %s that ended within 7 days and that succeeded, failed, timed out or were rejected: those that %s. The same on all dashboards. "
    "Without jobs beyond `limits.max_ended_jobs` and those that ended before `jobs.ended_within`."
)
NONE_ENDED = mapped({-1: ("none ended", CLEAR)})


def ended_executions(status):
    return f'max by ({JOB}, execution_status) (aws_iot_ended_job_executions{{{CHOSEN}, execution_status=~"{status}"}})'


def share_of_ended(status, filters):
    complete = f"\nand on ({JOB}) {ENDED_COUNTED}"
    part, judged = (f"sum({ended_executions(one)}{complete}{filters}{THIS_WEEK})" for one in (status, JUDGED))
    return f"{part}\n/ ({judged} > 0)"


def success_tile(filters, whose):
    return tile(
        "Success share, 7 days", ABOUT_SHARES % (whose, "succeeded"), (4, 4), f"{share_of_ended('SUCCEEDED', filters)}\n{no_results(-1)}", unit="percentunit", decimals=1,
        mappings=[NONE_ENDED], thresholds=steps(RED, (0.75, AMBER), (0.95, GREEN)),
    )


def data_tile(only="", width=4):
    return tile(
        "Data", ABOUT_FRESHNESS, (width, 4),
        [query(f"max({freshness(only)}) or vector(4)", "A", "state"), query(f"max({age(only)})", "B", "since open jobs were listed")],
        unit="s",
        mode="value_and_name",
        links=[link("Exporter", to_dashboard("aws-iot-jobs-exporter", "region", "target"))],
        overrides=[
            override("state", mappings=[mapped(FRESHNESS)], unit="none", displayName=" ", thresholds=steps(GREEN, (1, AMBER), (3, RED))),
            override("since open jobs were listed", decimals=0, thresholds=steps(CLEAR)),
        ],
    )


# The least that an axis shows, so that a line near 0 does not fill the panel.
SOFT_MAXIMUM = {"none": 4, "locale": 4, "reqps": 1, "percentunit": 0.05, "s": 1}


def graph(title, description, size, targets, unit="none", colors=None, stack=None, overrides=(), maximum=None, transformations=(), points="never", decimals=None, fill=None, label=""):
    """`stack`: none, normal or percent."""
    custom = {
        "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1 if stack else 2,
        "fillOpacity": fill if fill is not None else (70 if stack else 0),
        "showPoints": points, "pointSize": 5, "spanNulls": False, "insertNulls": False, "axisPlacement": "auto",
        "axisLabel": label, "scaleDistribution": {"type": "linear"},
        "stacking": {"group": "A", "mode": stack or "none"},
        "thresholdsStyle": {"mode": "off"}, "hideFrom": {"legend": False, "tooltip": False, "viz": False},
    }
    if maximum is None and stack != "percent" and unit in SOFT_MAXIMUM:
        custom["axisSoftMax"] = SOFT_MAXIMUM[unit]
    defaults = {"unit": unit, "noValue": "No data for this time", "color": {"mode": "palette-classic"}, "custom": custom, "min": 0}
    if maximum is not None:
        defaults["max"] = maximum
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": True},
    }
    return panel("timeseries", title, description, size, targets, defaults, [*colored(colors or {}), *overrides], options, transformations)


def bars(title, description, size, targets, unit="none", colors=None, maximum=None, no_value="unknown", order=None, decimals=0):
    defaults = {"unit": unit, "noValue": no_value, "color": {"mode": "fixed", "fixedColor": GREY}, "min": 0, "decimals": decimals, "thresholds": steps(TEXT), "mappings": []}
    if maximum is not None:
        defaults["max"] = maximum
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal", "displayMode": "basic", "valueMode": "text", "namePlacement": "left", "showUnfilled": True,
        "sizing": "auto", "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 34, "text": {"valueSize": 16},
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
    }
    return panel("bargauge", title, description, size, targets, defaults, colored(colors or {}), options, order or ())


def in_order(names):
    """Series in this order, and not in that of the alphabet."""
    order = {"Time": 0, **{name: index + 1 for index, name in enumerate(names)}}
    return [
        {"id": "joinByField", "options": {"byField": "Time", "mode": "outer"}},
        {"id": "organize", "options": {"excludeByName": {}, "includeByName": {}, "renameByName": {}, "indexByName": order}},
    ]


class Column:
    """A column of a table: the field that it is made of, and how it looks."""

    def __init__(self, field, title, width=None, unit=None, **properties):
        self.field, self.title = field, title
        self.properties = {}
        if width:
            self.properties["custom__width"] = width
        if unit:
            self.properties["unit"] = unit
            if unit not in ("string", "time:YYYY-MM-DD"):
                self.properties["custom__align"] = "right"
        self.properties.update(properties)


def table(title, description, size, targets, columns, sort=(), hide=(), keep=(), no_value="No data", needs=None, rename=()):
    """`keep` are labels that links need and no column shows. Rows without the field `needs` are left out."""
    shown = {column.field: column.title for column in columns}
    hidden = {name: True for name in ("Time", *hide)}
    kept = {field: title for field, title in keep}
    order = {field: index for index, field in enumerate([*shown, *kept])}
    transformations = [{"id": "merge", "options": {}}]
    if needs:
        condition = {"fieldName": needs, "config": {"id": "isNotNull", "options": {}}}
        transformations.append({"id": "filterByValue", "options": {"filters": [condition], "type": "include", "match": "all"}})
    transformations += [{"id": "sortBy", "options": {"fields": {}, "sort": [{"field": field, "desc": desc}]}} for field, desc in sort]
    organize = {"excludeByName": hidden, "includeByName": {}, "indexByName": order, "renameByName": {**shown, **kept}}
    transformations.append({"id": "organize", "options": organize})
    transformations += list(rename)
    overrides = [override(column.title, **column.properties) for column in columns if column.properties]
    overrides += [override(title, custom__hidden=True, custom__hideFrom={"viz": True, "legend": False, "tooltip": True}) for _, title in keep]
    defaults = {
        "unit": "string", "noValue": no_value, "color": {"mode": "thresholds"}, "thresholds": steps(TEXT),
        "mappings": [special("null", "–", GREY), special("nan", "–", CLEAR)],
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False},
    }
    options = {"showHeader": True, "cellHeight": "sm", "sortBy": []}
    return panel("table", title, description, size, targets, defaults, overrides, options, transformations)


# A long id or name takes two lines. Grafana 11 reads the first property, later versions the second.
WRAPPED = {"custom__cellOptions": {"type": "auto", "wrapText": True}, "custom__wrapText": True}
ON_COLOR = {"type": "color-background", "mode": "basic"}
STATUS_ON_COLOR = {"custom__align": "center", "custom__cellOptions": ON_COLOR, "thresholds": steps(CLEAR)}
SHARE_OF_FAILURES = {"thresholds": steps(CLEAR, (0.05, AMBER), (0.25, RED)), "custom__cellOptions": ON_COLOR}
RED_FROM_1 = {"thresholds": steps(CLEAR, (1, RED)), "custom__cellOptions": ON_COLOR}
AMBER_FROM_1 = {"thresholds": steps(CLEAR, (1, AMBER)), "custom__cellOptions": ON_COLOR}


def state_column(field, width=124):
    return Column(
        field, "State", width, "none", mappings=[mapped(STATES)], custom__align="center",
        custom__cellOptions=ON_COLOR,
    )


def text(title, content, size):
    return {"type": "text", "title": title, "gridPos": {"w": size[0], "h": size[1]}, "options": {"mode": "markdown", "content": content}}


ROW = "row"


def row(title, panels=None):
    """A row. With panels it is collapsed."""
    return {"type": ROW, "title": title, "collapsed": panels is not None, "gridPos": {"w": 24, "h": 1}, "panels": panels or []}


def placed(panels, top=0, ids=None):
    """Gives panels their places, from left to right and from top to bottom, and their ids. A list of panels is a column."""
    ids = ids if ids is not None else iter(range(1, 1000))
    result, x, y, height = [], 0, top, 0
    for one in panels:
        stack = one if isinstance(one, list) else [one]
        width = stack[0]["gridPos"]["w"]
        if x + width > 24:
            x, y, height = 0, y + height, 0
        below = y
        for item in stack:
            item = {"id": next(ids), **item}
            item["gridPos"] = {"x": x, "y": below, "w": item["gridPos"]["w"], "h": item["gridPos"]["h"]}
            below += item["gridPos"]["h"]
            if item["type"] == ROW:
                item["panels"] = placed(item["panels"], y + 1, ids)
            result.append(item)
        height, x = max(height, below - y), x + width
    return result


# Variables.

def variable(name, label, description, source, several=True, choose_all=None, regex="", all_value=".*", hide=0):
    choose_all = several if choose_all is None else choose_all
    declared = {
        "type": "query", "name": name, "label": label, "description": description, "datasource": DATA_SOURCE,
        "definition": source, "query": {"qryType": 1, "query": source, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "regex": regex, "sort": 1, "refresh": 2, "multi": several, "includeAll": choose_all, "hide": hide, "skipUrlSync": False,
        "options": [],
    }
    if choose_all:
        value = (["All"], ["$__all"]) if several else ("All", "$__all")
        declared["current"] = {"selected": True, "text": value[0], "value": value[1]}
        declared["allValue"] = all_value
    return declared


SOURCE = {
    "type": "datasource", "name": "datasource", "label": "Data source", "description": "The Prometheus that scrapes the exporter",
    "query": "prometheus", "regex": "", "multi": False, "includeAll": False, "hide": 0, "refresh": 1, "skipUrlSync": False,
    "options": [],
}
PLACES = [
    variable("account", "Account", "AWS account", "label_values(aws_iot_jobs_target_info, aws_account_id)"),
    variable("region", "Region", "AWS region", 'label_values(aws_iot_jobs_target_info{aws_account_id=~"$account"}, aws_region)'),
    variable("target", "Target", "What the exporter's configuration calls this account and region, or this part of it",
             'label_values(aws_iot_jobs_target_info{aws_account_id=~"$account", aws_region=~"$region"}, target)'),
]


def alerts(more="", names="AwsIot.+"):
    return {
        "name": "Alerts", "enable": True, "hide": False, "iconColor": RED, "datasource": DATA_SOURCE, "step": "60s",
        "expr": f'max by (alertname, severity) (ALERTS{{alertname=~"{names}", alertstate="firing"{more}}})',
        "titleFormat": "{{alertname}}", "textFormat": "{{severity}}", "tagKeys": "",
    }


STALE = {
    **alerts(), "name": "Stale data", "iconColor": GREY, "titleFormat": "Not shown: {{collector}}", "textFormat": "{{target}}",
    "expr": f"max by (target, aws_region, collector) (1 - aws_iot_jobs_collector_fresh{{{CHOSEN_TARGETS}}}) > 0",
}


def moment(name, color, expression):
    """An annotation at the time that a series has as its value."""
    return {
        "name": name, "enable": True, "hide": False, "iconColor": color, "datasource": DATA_SOURCE, "step": "60s",
        "expr": f"1000 * max by (job_id) ({expression})", "titleFormat": name, "textFormat": "{{job_id}}", "tagKeys": "",
        "useValueForTime": "on",
    }


def dashboard(uid, title, description, variables, panels, annotations=(), since="now-24h"):
    return {
        "id": None, "uid": uid, "title": f"AWS IoT Jobs / {title}", "description": description, "tags": ["aws-iot-jobs"],
        "schemaVersion": 41, "version": 1, "editable": True, "graphTooltip": 1, "fiscalYearStartMonth": 0, "liveNow": False,
        "weekStart": "", "timezone": "browser", "time": {"from": since, "to": "now"}, "refresh": "1m",
        "timepicker": {"refresh_intervals": ["30s", "1m", "5m", "15m", "30m", "1h"]},
        "links": [{
            "type": "dashboards", "title": "AWS IoT Jobs", "tags": ["aws-iot-jobs"], "asDropdown": False, "icon": "external link",
            "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": "",
        }],
        "annotations": {"list": [*annotations, STALE]},
        "templating": {"list": [SOURCE, *variables]},
        "panels": placed(panels),
    }


# What several dashboards have.

def console(expression):
    """Adds the host of the AWS console, which depends on the partition, as the label `console`."""
    for host, regions in (
        ("$1.console.aws.amazon.com", "(.+)"),
        ("$1.console.amazonaws.cn", "(cn-.+)"),
        ("console.amazonaws-us-gov.com", "us-gov-.+"),
    ):
        expression = f'label_replace({expression}, "console", "{host}", "aws_region", "{regions}")'
    return expression


CONSOLE = "https://${__data.fields.Console}/iot/home?region=${__data.fields.Region}#/jobhub/"
PLACE_FIELDS = [("target", "Target"), ("aws_account_id", "Account"), ("aws_region", "Region")]
PLACE_OF_ROW = [("account", "Account"), ("region", "Region"), ("target", "Target")]


def with_count(first, count, label):
    """Puts the values of two expressions into one label, as `12 of 34`."""
    return (
        f'label_join(count_values by ({JOB}) ("done", {first}) * on ({JOB}) group_left (total) '
        f'count_values by ({JOB}) ("total", {count}), "{label}", " of ", "done", "total")'
    )


def grouped(chosen):
    """One thing group of each job, and how many more there are, as the label `groups`: `ring:early +2`."""
    groups = f"max by ({GROUP}, job_id) (aws_iot_job_thing_group_info{{{chosen}}})"
    joined = (
        f"label_join(topk by ({JOB}) (1, {groups}) * on ({JOB}) group_left (more) "
        f'count_values by ({JOB}) ("more", count by ({JOB}) ({groups}) - 1), "groups", " +", "thing_group", "more")'
    )
    return f'max by ({GROUP}, job_id, groups) (label_replace({joined}, "groups", "$1", "groups", "(.*) [+]0"))'


def place_of_several(chosen):
    """The target of each job as the label `place`, with its region if there are several regions; nothing if there is one target."""
    info = f"max by ({TARGET}) (aws_iot_jobs_target_info{{{chosen}}})"
    jobs, regions = f"max by ({JOB}) (aws_iot_job_info{{{chosen}}})", f"count(count by (aws_region) ({info}))"
    return (
        f'max by ({JOB}, place) (label_replace({jobs} and on () (count({info}) > 1 and {regions} == 1), "place", "$1", "target", "(.*)"))\n'
        f'or max by ({JOB}, place) (label_join({jobs} and on () ({regions} > 1), "place", " ", "target", "aws_region"))'
    )


def line_of_job(chosen):
    """The name of a job's line as the label `line`: its id, and its target if there are several. Two targets can have a job of one id."""
    one = f"max by ({JOB}) (aws_iot_job_info{{{chosen}}}) and on () (count(max by ({TARGET}) (aws_iot_jobs_target_info{{{chosen}}})) == 1)"
    return (
        f'(label_replace({one}, "line", "$1", "job_id", "(.*)")\n'
        f'or max by ({JOB}, line) (label_join(({place_of_several(chosen)}), "line", ", ", "job_id", "place")))'
    )


def progress_bar(cells=8):
    """Draws a share as boxes. Grafana draws the gauge of a cell as wide as the column with its padding, so in a narrow column it looks
    full from 80 % on. Only what has ended altogether is full; the numbers stand beside it."""
    mappings = [{"type": "value", "options": {"1": {"text": "▮" * cells, "color": BLUE, "index": 0}}}]
    for filled in range(cells):
        ends = {"from": (filled - 0.5) / cells, "to": 1 if filled == cells - 1 else (filled + 0.5) / cells}
        result = {"text": ("▮" * filled).ljust(cells, "▯"), "color": BLUE, "index": filled + 1}
        mappings.append({"type": "range", "options": {**ends, "result": result}})
    return [*mappings, special("null+nan", "–", GREY)]


PROGRESS_BAR = progress_bar()


def rollouts(title, filters, height):
    """A table with one row for each open or recently ended rollout."""
    chosen = CHOSEN
    everything = all_executions(chosen)
    done = f"{everything} - {executions(chosen, OPEN)}"
    finished = f', execution_status!~"{OPEN}"'
    hourly = (
        f"sum by ({JOB}) (max by ({JOB}, execution_status) (aws_iot_job_executions{{{chosen}{finished}}}) "
        f"- max by ({JOB}, execution_status) (min_over_time(aws_iot_job_executions{{{chosen}{finished}}}[1h])))"
    )
    age = f"({completed(chosen)} or 0 * {start(chosen)} + time()) - {start(chosen)}"
    targets = [
        query(state(chosen) + filters, "A", kind="table"),
        query(f"({done}) / {everything}", "B", kind="table"),
        query(f"max by ({JOB}, done_of_total) ({with_count(f'({done})', everything, 'done_of_total')})", "C", kind="table"),
        query(f"{executions(chosen, 'SUCCEEDED')} / {everything}", "D", kind="table"),
        query(f"{executions(chosen, BAD)} / {everything}", "E", kind="table"),
        query(place_of_several(chosen), "F", kind="table"),
        query(hourly, "G", kind="table"),
        query(f"time() - {of_job('aws_iot_job_last_progress_timestamp_seconds', chosen)}", "H", kind="table"),
        query(grouped(chosen), "I", kind="table"),
        query(executions(chosen, OPEN), "J", kind="table"),
        query(f"1000 * {start(chosen)}", "K", kind="table"),
        query(f"{age} > 0", "L", kind="table"),
        query(console(f"max by ({JOB}) (aws_iot_job_info{{{chosen}}})"), "M", kind="table"),
    ]
    # The column Target is not always there, and links need the target's name.
    place = [("account", "Account"), ("region", "Region"), ("target", "TargetName")]
    # State has the rest of the width: more if the column Target is not there.
    columns = [
        state_column("Value #A", None),
        Column("place", "Target", 88, **WRAPPED),
        Column("job_id", "Job", 196, **WRAPPED, links=[
            link("Rollout", to_dashboard("aws-iot-jobs-rollout", *place, ("job", "Job"))),
            link("AWS console", CONSOLE + "${__data.fields.Job}", True),
        ]),
        Column("Value #B", "Progress", 78, "percentunit", mappings=PROGRESS_BAR, custom__align="left", custom__cellOptions={"type": "color-text"}),
        Column("done_of_total", "Ended", 108, custom__align="right"),
        Column("Value #J", "Open", 48, "locale"),
        Column("Value #D", "Success", 64, "percentunit", decimals=0),
        Column("Value #E", "Failed", 54, "percentunit", decimals=0, **SHARE_OF_FAILURES),
        Column("Value #G", "Per h", 48, "locale"),
        Column("Value #H", "No progress", 108, "dtdhms"),
        Column("groups", "Groups", 118, **WRAPPED, links=[link("Thing group", to_dashboard("aws-iot-jobs-thing-group", *place, ("thing_group", "Group")))]),
        Column("Value #K", "Started", 92, "time:YYYY-MM-DD"),
        Column("Value #L", "Duration", 108, "dtdhms"),
    ]
    description = (
        "Open and recently ended rollouts, those that need attention first. A job's id leads to its page and to the AWS console. " + ABOUT_STATES +
        " Ended, Success and Failed are of all executions, not of devices. Ended: also those that were canceled or removed. Per h: executions that ended within the last hour. No "
        "progress: since an execution last started, reported or ended. Jobs beyond `limits.max_jobs` and `limits.max_ended_jobs` are missing. –: not known. Target is "
        "shown if there are several."
    )
    return table(
        title, description, (24, height), targets, columns, sort=[("Value #K", True), ("Value #A", True)], needs="Value #A",
        hide=["Value #C", "Value #F", "Value #I", "Value #M"], keep=[("target", "TargetName"), *PLACE_FIELDS[1:], ("thing_group", "Group"), ("console", "Console")],
        no_value="No rollout is known. Look at Data, top left.",
    )


def by_state(chosen):
    """Executions by state, of states that occur within the time range."""
    families = ("aws_iot_job_executions", "aws_iot_ended_job_executions")
    occurs = " or ".join(f"max by (execution_status) (max_over_time({name}{{{chosen}}}[$__range] @ end())) > 0" for name in families)
    return f"{executions(chosen, '.+', 'execution_status')}\nand on (execution_status) ({occurs})"


def home():
    chosen, no_open = CHOSEN, f"or {known_none('open_jobs')}"
    numbered = state(chosen) + FILTERS
    ended = f"(\n{numbered}{THIS_WEEK}\n)"
    result = {"Completed": "== 5", "Some failed": ">= 9 <= 10", "Failed": ">= 14 <= 15", "Aborted": "== 16", "Canceled": "== 4"}
    jobs = f"max by ({TARGET}, status, target_selection) (aws_iot_jobs{{{chosen}%s}})"
    opened = f', status=~"{OPEN_JOBS}"'
    # The time that the counts are of, since a job can have ended when it is still shown with older ones.
    read = of_job("aws_iot_job_described_timestamp_seconds", chosen)
    hours = f"(({completed(chosen)} or {read}) - {start(chosen)}) / 3600 > 0"
    names = '__name__=~"aws_iot_job_executions|aws_iot_ended_job_executions"'
    created = f"aws_iot_job_created_timestamp_seconds{{{chosen}}}"
    # Chosen once, at the end of the time range.
    largest = (
        f"\nand on ({JOB}) topk(6, sum by ({JOB}) (max by ({JOB}, execution_status) ({{{names}, {chosen}}} @ end())) "
        f"and on ({JOB}) ({created} @ end() > $__from / 1000){filters(' @ end()')})"
    )
    # An id can be used again, so an older job of the same id is left out.
    largest += f"\nand on ({JOB}) max by ({JOB}) ({created}) == max by ({JOB}) ({created} @ end())"
    named = lambda share: f"({share}) * on ({JOB}) group_left (line) {line_of_job(chosen)}"
    comparison = panel(
        "xychart", "Comparison: share that succeeded, by hours since the start",
        "A line for each of the 6 largest rollouts that were created within the time range and pass the filters. A line ends where its rollout ended. Of all executions. A "
        "line that stays below the others is slow; one that stays flat early has failures.",
        (12, 12),
        [query(named(hours + largest), "A", kind="range table"),
         query(named(f"{executions(chosen, 'SUCCEEDED')} / {all_executions(chosen)}" + largest), "B", kind="range table")],
        {
            "unit": "percentunit", "noValue": "No rollout was created within the time range, or it is not known", "min": 0, "max": 1, "color": {"mode": "palette-classic"},
            "custom": {
                "show": "points+lines", "pointSize": {"fixed": 3}, "pointShape": "circle", "pointStrokeWidth": 1, "fillOpacity": 50,
                "lineWidth": 2, "lineStyle": {"fill": "solid"}, "axisPlacement": "auto", "axisLabel": "", "scaleDistribution": {"type": "linear"},
                "hideFrom": {"legend": False, "tooltip": False, "viz": False},
            },
        },
        [override("Hours since the start", unit="suffix: h", decimals=1, custom__axisLabel="hours since the start")],
        {
            "mapping": "auto",
            "series": [{"x": {"matcher": {"id": "byName", "options": "Hours since the start"}}}],
            "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {
                "excludeByName": {"Time": True, "target": True, "aws_account_id": True, "aws_region": True, "job_id": True}, "includeByName": {},
                "indexByName": {"Value #A": 0, "Value #B": 1, "line": 2},
                "renameByName": {"Value #A": "Hours since the start", "Value #B": "Succeeded", "line": "Job"},
            }},
            {"id": "partitionByValues", "options": {"fields": ["Job"], "keepFields": False, "naming": {"asLabels": False}}},
        ],
    )
    # Enough for a line, and few enough to be fast in a large fleet.
    comparison["maxDataPoints"] = 30
    results = bars(
        "How the rollouts of the last 7 days ended", "Ended rollouts that pass the filters, each once. Some failed: from 5 % of the "
        "executions and 3 on; Failed: from 25 %. Aborted: it was canceled, and meets its own abort criteria. Not shown: ended jobs of the "
        "chosen targets that are older than the newest `limits.max_ended_jobs`; their results are not known.",
        (12, 7),
        [*(query(f"count({ended} {condition})\n{no_results()}", chr(65 + index), name) for index, (name, condition) in enumerate(result.items())),
         query(f"sum(max by (target, aws_region) (aws_iot_jobs_omitted_jobs{{{CHOSEN_TARGETS}, collector=\"all_jobs\"}})) > 0", "F", "Not shown")],
        colors={name: STATES[number][1] for name, number in zip(result, (5, 9, 15, 16, 4))},
    )
    over_time = graph(
        "Open jobs by status, all groups", "All open jobs of the chosen targets, also those without series of their own. Group, tag and state do not matter. Stacked.", (12, 5),
        [query("sum by (status) (" + jobs % opened + ")", legend="{{status}}", kind="range")],
        colors={name: color for name, color in JOBS.items() if name in OPEN_JOBS}, stack="normal",
    )
    per_target = f"max by ({TARGET})"
    # A column without any number would not be shown.
    or_unknown = f"\nor -1 * max by ({TARGET}) (last_over_time(aws_iot_jobs_target_info{{{chosen}}}[7d]))"
    unknown = mapped({-1: ("–", GREY)})
    targets = table(
        "Targets: can these numbers be trusted?",
        "Each target, the worst first. Stale: its jobs are not shown. Left out: open and ended jobs without rows because of "
        "`limits.max_jobs` and `limits.max_ended_jobs`. Stuck: also those with few executions open. Not known: open jobs of which it is not known whether they are stuck. No details: jobs whose "
        "executions and groups are not known. Twice: other targets of the same jobs, which sums count again. –: not known.",
        (24, 9),
        [
            query(freshness(), "A", kind="table"),
            query(age(), "B", kind="table"),
            query(age(collector="all_jobs"), "C", kind="table"),
            query(f"sum by ({TARGET}) ({jobs % opened})" + or_unknown, "D", kind="table"),
            query(f"{per_target} (aws_iot_jobs_stuck{{{chosen}, target_selection=\"SNAPSHOT\"}}) + {per_target} (aws_iot_jobs_stuck{{{chosen}, target_selection=\"CONTINUOUS\"}})" + AND_PROGRESS_KNOWN + or_unknown, "E", kind="table"),
            query(f"{per_target} (aws_iot_jobs_progress_unknown{{{chosen}}})" + or_unknown, "F", kind="table"),
            query(f"{per_target} (aws_iot_jobs_undescribed{{{chosen}}})" + or_unknown, "G", kind="table"),
            query(f"{per_target} (aws_iot_jobs_target_info{{{chosen}}}) * on (target, aws_region) group_left () sum by (target, aws_region) (max by (target, aws_region, collector) (aws_iot_jobs_omitted_jobs{{{CHOSEN_TARGETS}}}))" + or_unknown, "H", kind="table"),
            query(f"{per_target} (aws_iot_jobs_target_info{{{chosen}}}) * on (target, aws_region) group_left () max by (target, aws_region) (aws_iot_jobs_overlapping_targets{{{CHOSEN_TARGETS}}})" + or_unknown, "I", kind="table"),
        ],
        [
            Column("target", "Target", 248, links=[link("Exporter", to_dashboard("aws-iot-jobs-exporter", ("region", "Region"), ("target", "Target")))]),
            Column("aws_account_id", "Account", 118),
            Column("aws_region", "Region", 105),
            Column("Value #A", "Data", 116, "none", mappings=[mapped(FRESHNESS)], custom__align="center", custom__cellOptions=ON_COLOR),
            Column("Value #B", "Open listed", 96, "dtdhms"),
            Column("Value #C", "All listed", 96, "dtdhms"),
            Column("Value #D", "Open jobs", 82, "locale", mappings=[unknown], custom__cellOptions=ON_COLOR, thresholds=steps(CLEAR)),
            Column("Value #E", "Stuck", 58, "locale", mappings=[unknown], **AMBER_FROM_1),
            Column("Value #F", "Not known", 84, "locale", mappings=[unknown], **AMBER_FROM_1),
            Column("Value #G", "No details", 84, "locale", mappings=[unknown], custom__cellOptions=ON_COLOR, thresholds=steps(CLEAR)),
            Column("Value #H", "Left out", 72, "locale", mappings=[unknown], **AMBER_FROM_1),
            Column("Value #I", "Twice", 58, "locale", mappings=[unknown], **AMBER_FROM_1),
        ],
        sort=[("target", False), ("Value #A", True)], no_value="Prometheus has nothing of an exporter",
    )
    more = [
        graph("Open jobs by selection", "SNAPSHOT jobs end; CONTINUOUS ones stay open for devices that join later.", (8, 8),
              [query("sum by (target_selection) (" + jobs % opened + ")", legend="{{target_selection}}", kind="range")], stack="normal",
              colors={"SNAPSHOT": BLUE, "CONTINUOUS": "#F28C6A"}),
        graph("Rolling out or canceling right now", "What AWS's quota on concurrent jobs counts.", (8, 8),
              [query(f"sum by (target_selection) (max by ({TARGET}, target_selection) (aws_iot_jobs_concurrent{{{chosen}}}))", legend="{{target_selection}}", kind="range")],
              colors={"SNAPSHOT": BLUE, "CONTINUOUS": "#F28C6A"}),
        graph("Age of the oldest open job, in days", "SNAPSHOT jobs only: a CONTINUOUS job stays open by design.", (8, 8),
              [query(f"(time() - min by (status) (aws_iot_jobs_oldest_created_timestamp_seconds{{{chosen}, target_selection=\"SNAPSHOT\", status=~\"{OPEN_JOBS}\"}})) / 86400", legend="{{status}}", kind="range")],
              unit="suffix: d", colors={name: color for name, color in JOBS.items() if name in OPEN_JOBS}),
        graph("Jobs that AWS still keeps, by result", "AWS purges ended jobs after two years at most, so these fall as well as rise.", (8, 8),
              [query("sum by (status) (" + jobs % ', status=~"COMPLETED|CANCELED"' + ")", legend="{{status}}", kind="range")], unit="locale",
              colors={name: JOBS[name] for name in ("COMPLETED", "CANCELED")}),
        graph("Overdue and stuck jobs", "Overdue: SCHEDULED, and not started 5 minutes after the time. Stuck: no progress for longer than `jobs.stuck_after`. Not known: open jobs of which "
              "it is not known whether they are stuck. Stuck has a gap while they are more than a tenth of a target's.", (8, 8),
              [query(f"sum(max by ({TARGET}, target_selection) (aws_iot_jobs_start_overdue{{{chosen}}}))", "A", "overdue", "range"),
               query(f"sum(max by ({TARGET}, target_selection) (aws_iot_jobs_stuck{{{chosen}}}))\n{UNLESS_PROGRESS_UNKNOWN}", "B", "stuck", "range"),
               query(f"sum(max by ({TARGET}) (aws_iot_jobs_progress_unknown{{{chosen}}}))", "C", "not known", "range")],
              colors={"overdue": AMBER, "stuck": RED, "not known": GREY}),
        graph("Deletions in progress", "AWS allows ten at a time in an account and region. The highest of the chosen ones.", (8, 8),
              [query(f"max(sum by ({TARGET}) (" + jobs % ', status="DELETION_IN_PROGRESS"' + "))", legend="deletions", kind="range")],
              colors={"deletions": JOBS["DELETION_IN_PROGRESS"]}),
    ]
    tiles = [
        data_tile(),
        tile("Active rollouts", "IN_PROGRESS and SCHEDULED jobs that pass the filters; the same as in the table.", (4, 4),
             [query(f"count({status_is(chosen, 'IN_PROGRESS')}{FILTERS})\n{no_open}", "A", "in progress"),
              query(f"count({status_is(chosen, 'SCHEDULED')}{FILTERS})\n{no_open}", "B", "scheduled")], mode="value_and_name"),
        attention_tile(numbered),
        success_tile(FILTERS, "rollouts"),
        tile("With failures, 7 days", "Rollouts that ended within 7 days with at least 3 executions and 5 % of all failed, timed out or rejected. Only the newest `limits.max_ended_jobs` ended jobs of a target are known one by one.", (4, 4),
             f"count({ended} >= 9 < 16)\n{no_results()}", thresholds=steps(GREEN, (1, AMBER))),
        tile("Aborted by AWS, 7 days", "Rollouts that were canceled within 7 days and meet their own abort criteria. Only the newest `limits.max_ended_jobs` ended jobs of a target are known one by one.", (4, 4),
             f"count({ended} == 16)\n{no_results()}", thresholds=steps(GREEN, (1, AMBER))),
    ]
    variables = [
        *PLACES,
        variable("thing_group", "Group", "A thing group that a job targets",
                 f"label_values(aws_iot_job_thing_group_info{{{CHOSEN}}}, thing_group)"),
        variable("tag", "Tag", "A tag of jobs; needs collectors.tags.keys", f"query_result(aws_iot_job_tags_info{{{CHOSEN}}})", several=False,
                 choose_all=True, regex='/(tag_\\w+="[^"]+")/g', all_value='job_id!=""'),
        variable("status", "State", "The status of a job", f"label_values(aws_iot_job_status{{{CHOSEN}}}, status)"),
    ]
    return dashboard(
        "aws-iot-jobs-fleet", "Rollouts", "How each rollout is going, how the last ones ended, and which need a person.", variables,
        [*tiles, rollouts("Rollouts", FILTERS, 15), comparison, [results, over_time], targets, row("All jobs of the chosen targets over time, whatever the group, tag and state", more)],
        [alerts(', target=~"$target|"')],
    )


def rollout():
    chosen = f'{CHOSEN}, job_id="$job"'
    seen = f"and on ({TARGET}) last_over_time(aws_iot_job_info{{{chosen}}}[$__range])"
    gone = (
        f"max(last_over_time(aws_iot_job_info{{{chosen}}}[$__range]) and on (target, aws_region) "
        f"max by (target, aws_region) (aws_iot_jobs_collector_fresh{{{CHOSEN_TARGETS}, collector=\"open_jobs\"}}) == 1 "
        f"unless on ({TARGET}) aws_iot_job_info{{{chosen}}})"
    )
    everything, still_open = all_executions(chosen), executions(chosen, OPEN)
    done = f"({everything} - {still_open})"
    is_open = f"and on ({JOB}) {status_is(chosen, OPEN_JOBS)}"
    # The share of no executions is not a number, which a tile takes for unknown.
    of_all = lambda part: f"{part} / {everything} >= 0 or ({everything} == 0) - 1"
    none_yet = mapped({-1: ("none yet", CLEAR)})
    state_tile = tile(
        "State", ABOUT_STATES + " Gone: AWS does not have it any more, or it ended too long ago to be shown.", (4, 4),
        f"max({state(chosen)})\nor 2 * {gone}", mappings=[mapped(STATES)], thresholds=steps(CLEAR),
    )
    tiles = [
        data_tile(f"\n  {seen}\n"),
        state_tile,
        tile("Progress", "Executions that have ended, of all. Executions, not devices: one that is tried again counts each time.", (4, 4),
             [query(of_all(done), "A", "progress"),
              query(f"max by (done_of_total) ({with_count(done, everything, 'done_of_total')})", "B", "{{done_of_total}}")],
             unit="percentunit", mode="value_and_name", decimals=1, mappings=[none_yet],
             overrides=[{"matcher": {"id": "byFrameRefID", "options": "B"}, "properties": [{"id": "mappings", "value": [mapped({1: (" ", CLEAR)})]}]},
                        override("progress", displayName=" ")]),
        tile("Succeeded", "Of all executions.", (4, 4), of_all(executions(chosen, "SUCCEEDED")), unit="percentunit", decimals=1, mappings=[none_yet]),
        tile("Failed", "FAILED, TIMED_OUT and REJECTED, of all executions. Amber from 5 %, red from 25 %, as the alerts.", (4, 4),
             of_all(executions(chosen, BAD)), unit="percentunit", decimals=1, mappings=[none_yet], thresholds=steps(CLEAR, (0.05, AMBER), (0.25, RED))),
        tile("No progress for", "Since an execution last started, reported, ended or was retried, or since the start. AWS's own timestamps. Unknown until the executions were looked at once.", (4, 4),
             f"max(time() - {of_job('aws_iot_job_last_progress_timestamp_seconds', chosen)} {is_open})\nor -1 * max({status_is(chosen, 'COMPLETED|CANCELED')})\n"
             f"or -2 * max({status_is(chosen, OPEN_JOBS)} unless on ({JOB}) ({still_open} > 0))",
             unit="dtdhms", mappings=[mapped({-1: ("ended", CLEAR), -2: ("none open", CLEAR)})], size_of_values=20),
    ]
    shares = bars(
        "Executions by state", "The share of each state now; of an ended job, when it ended. States without executions are left out.", (8, 9),
        [query(f"(sum by (execution_status) (max by ({JOB}, execution_status) ({{__name__=~\"aws_iot_job_executions|aws_iot_ended_job_executions\", {chosen}}})) > 0)\n"
               f"/ on () group_left () sum({everything})", legend="{{execution_status}}")],
        unit="percentunit", decimals=1, colors=EXECUTIONS, maximum=1, order=in_order(EXECUTIONS), no_value="None yet, or not known",
    )
    # A bar that is alone would have no name.
    shares["fieldConfig"]["defaults"]["displayName"] = "${__field.labels.execution_status}"
    over_time = graph(
        "Executions by state over time", "Shares of all executions. It goes on for as long as the ended job is shown, and ends where data is stale.", (16, 9),
        [query(f"{by_state(chosen)}\nand on () {everything}", legend="{{execution_status}}", kind="range")], unit="locale", colors=EXECUTIONS, stack="percent", transformations=in_order(EXECUTIONS),
    )
    ended_states = f', execution_status!~"{OPEN}"'
    rate = graph(
        "Executions ended per hour", "How fast the rollout goes, by result. It needs two descriptions of the job.", (8, 8),
        [query(f"clamp_min(3600 * sum by (execution_status) (max by ({JOB}, execution_status) (deriv(aws_iot_job_executions{{{chosen}{ended_states}}}[$__rate_interval]))), 0)\n"
               f"and on (execution_status) (max by (execution_status) (max_over_time(aws_iot_job_executions{{{chosen}{ended_states}}}[$__range] @ end())) > 0)",
               legend="{{execution_status}}", kind="range")],
        unit="locale", colors=EXECUTIONS, decimals=0,
    )
    kinds = graph(
        "Failures by kind", "Of all executions, stacked. A kind that never occurs is left out.", (7, 8),
        [query(f"{by_state(chosen + f', execution_status=~{json.dumps(BAD)}')}\n/ on () group_left () (sum({everything}) > 0)".replace(
            "sum by (execution_status)", "(sum by (execution_status)", 1).replace("> 0)\n/", "> 0))\n/", 1), legend="{{execution_status}}", kind="range"),
        ],
        unit="percentunit", colors={name: EXECUTIONS[name] for name in BAD.split("|")}, stack="normal",
    )
    remaining = graph(
        "Open executions", "What remains.", (8, 8),
        [query(by_state(f'{chosen}, execution_status=~"{OPEN}"'), legend="{{execution_status}}", kind="range")],
        unit="locale", colors={name: EXECUTIONS[name] for name in OPEN.split("|")}, stack="normal",
    )
    named = f"aws_iot_job_open_execution_since_timestamp_seconds{{{chosen}}}"
    oldest = f"max by (execution_status) (aws_iot_job_oldest_open_execution_timestamp_seconds{{{chosen}}})"
    holding = table(
        "Oldest open executions",
        "Things that hold the job open, the longest first. The exporter names those of a stuck job, and those in progress for more than an hour: "
        "`limits.things_per_job` of each state. Not named: the oldest execution of a state, where its thing is not named.",
        (9, 8),
        [query(f"time() - max by (thing, execution_status) ({named})\n"
               f'or label_replace(time() - ({oldest} unless on (execution_status) (min by (execution_status) ({named}) <= {oldest})), "thing", "not named", "", "")', kind="table")],
        [Column("thing", "Thing"), Column("execution_status", "State", 110, mappings=[text_colors(EXECUTIONS)], **STATUS_ON_COLOR),
         Column("Value", "For", 112, "dtdhms")],
        sort=[("Value", True)], no_value="No execution has been open for long, or it is not known",
    )
    command = "aws iot list-job-executions-for-job --region $1 --job-id $job --status"
    rows = []
    for status in [*BAD.split("|"), "IN_PROGRESS", "QUEUED"]:
        labeled = f'label_replace(max by (aws_region) (aws_iot_job_info{{{chosen}}}), "command", "{command} {status}", "aws_region", "(.+)")'
        count = executions(chosen, status, by=f"aws_region")
        rows.append(f'label_replace({labeled}, "of", "{status}", "", "") * on (aws_region) group_left () ({count} > 0)')
    describe = f'label_replace(label_replace(0 * max by (aws_region) (aws_iot_job_info{{{chosen}}}), "command", "aws iot describe-job --region $1 --job-id $job", "aws_region", "(.+)"), "of", "the job itself", "", "")'
    commands = table(
        "Commands to copy", "List the devices of each kind with the AWS CLI. Point at a cell and open it to copy the command.", (24, 8),
        [query("\nor ".join([*rows, describe]), kind="table")],
        [Column("of", "Executions", 125, mappings=[text_colors(EXECUTIONS)], **STATUS_ON_COLOR),
         Column("Value", "Count", 75, "locale", mappings=[mapped({0: (" ", CLEAR)})]), Column("command", "Command", custom__inspect=True)],
        hide=["aws_region"], no_value="Not known",
    )
    clock = "time:YYYY-MM-DD HH:mm"
    times = {
        "B": ("created", "Created"), "C": ("scheduled_start", "Starts"), "I": ("scheduled_end", "Ends"), "K": ("completed", "Ended"),
        "D": ("last_updated", "Updated"), "E": ("described", "Described"),
    }
    facts = table(
        "The job", "Its schedule and times. Starts and Ends are those of its schedule. Described: when its executions were last read. Its AWS page is in the AWS console.", (24, 4),
        [query(console(f"max by ({JOB}, target_selection) (aws_iot_job_info{{{chosen}}})"), "F", kind="table"),
         query(f"max by ({JOB}, status) (aws_iot_job_status{{{chosen}}})", "A", kind="table"),
         *(query(f"1000 * {of_job(f'aws_iot_job_{name}_timestamp_seconds', chosen)}", ref, kind="table") for ref, (name, _) in times.items()),
         query(of_job("aws_iot_job_windowed", chosen), "H", kind="table")],
        [Column("status", "Status", 130, mappings=[text_colors(JOBS)], **STATUS_ON_COLOR), Column("target_selection", "Selection", 110),
         *(Column(f"Value #{ref}", title, 138, clock, custom__align="left") for ref, (_, title) in times.items()),
         Column("Value #H", "Windows", 85, "none", mappings=[mapped({1: ("yes", TEXT), 0: ("no", TEXT)})], custom__align="left"),
         Column("Value #F", "AWS", 60, "none", mappings=[mapped({1: ("view", TEXT)})], links=[link("AWS console", CONSOLE + "$job", True)]),
         Column("target", "Target")],
        hide=["Value #A"], keep=[("job_id", "Job"), ("aws_account_id", "Account"), ("aws_region", "Region"), ("console", "Console")], no_value="Not shown any more, or not known",
    )
    groups = table(
        "Its thing groups, with all their jobs", "Ten groups at most. The numbers are of all jobs of the group, not of this one. Stuck: also those with few executions open.", (10, 8),
        [query(f"max by ({GROUP}) (aws_iot_job_thing_group_info{{{chosen}}})", "A", kind="table"),
         query(f"sum by ({GROUP}) (max by ({GROUP}, target_selection) (aws_iot_thing_group_jobs{{{CHOSEN}, status=\"IN_PROGRESS\"}}))", "D", kind="table"),
         query(f"max by ({GROUP}) (aws_iot_thing_group_jobs_stuck{{{CHOSEN}}}){AND_PROGRESS_KNOWN}", "E", kind="table")],
        [Column("thing_group", "Thing group", links=[link("Thing group", to_dashboard("aws-iot-jobs-thing-group", *PLACE_OF_ROW, ("thing_group", "Thing group")))]),
         Column("Value #D", "Jobs in progress", 130, "locale"), Column("Value #E", "Jobs stuck", 95, "locale", **AMBER_FROM_1)],
        hide=["Value #A"], keep=PLACE_FIELDS, needs="Value #A", no_value="It targets things only, or its groups are not known",
    )
    tags = table(
        "Its tags", "Those that `collectors.tags.keys` names.", (6, 8),
        [query(f"max without (job, instance, pod, container, endpoint, node, {JOB}) (aws_iot_job_tags_info{{{chosen}}})", kind="table")],
        [], hide=["Value"], no_value="None, or not collected",
        rename=[{"id": "renameByRegex", "options": {"regex": "tag_(.*)", "renamePattern": "$1"}}],
    )
    variables = [
        *PLACES,
        variable("thing_group", "Group", "Lists only the jobs of these thing groups", f"label_values(aws_iot_job_thing_group_info{{{CHOSEN}}}, thing_group)"),
        variable("job", "Job", "Its id", f'label_values({{__name__=~"aws_iot_job_info|aws_iot_job_thing_group_info", {CHOSEN}, thing_group=~"$thing_group"}}, job_id)', several=False),
    ]
    for one in (over_time, rate, kinds, remaining):
        one["fieldConfig"]["defaults"]["noValue"] = "No executions to show, or they are not known"
    kinds["fieldConfig"]["defaults"]["noValue"] = "No failures, or they are not known"
    of = lambda name: f"max by ({JOB}) (aws_iot_job_{name}_timestamp_seconds{{{chosen}}})"
    annotations = [
        moment("Created", GREY, of("created")),
        moment("Started", JOBS["SCHEDULED"], of("scheduled_start")),
        moment("Completed", GREEN, f"{of('completed')} and on ({JOB}) {status_is(chosen, 'COMPLETED')}"),
        moment("Canceled", JOBS["CANCELED"], f"{of('completed')} and on ({JOB}) {status_is(chosen, 'CANCELED')}"),
        alerts(', job_id="$job"'),
    ]
    return dashboard(
        "aws-iot-jobs-rollout", "Rollout", "One job, also after it has ended: how far it is, what failed, and what holds it open.", variables,
        [*tiles, over_time, shares, holding, kinds, rate, commands, facts, remaining, groups, tags], annotations,
    )


def text_colors(colors):
    return {"type": "value", "options": {name: {"text": name, "color": color, "index": index} for index, (name, color) in enumerate(colors.items())}}


def thing_groups():
    chosen = CHOSEN
    of_group = f"max by ({GROUP}, job_id) (aws_iot_job_thing_group_info{{{chosen}}}) * on ({JOB}) group_left () "
    ended = f"\nand on ({JOB}) {ENDED_COUNTED}{THIS_WEEK}"
    of_ended = lambda status: f"sum by ({GROUP}) ({of_group}(sum by ({JOB}) ({ended_executions(status)}){ended}))"
    share = lambda status: f"{of_ended(status)} / ({of_ended(JUDGED)} > 0)"
    group = f'{chosen}, thing_group=~"$thing_group"'
    jobs = lambda status: f"sum by ({GROUP}) (max by ({GROUP}, status, target_selection) (aws_iot_thing_group_jobs{{{chosen}, status=~\"{status}\"}}))"
    attention = lambda which: f"count by ({GROUP}) (max by ({GROUP}, job_id) (aws_iot_job_thing_group_info{{{chosen}}}) and on ({JOB}) ({state(chosen)} {which}))\nor 0 * {jobs(OPEN_JOBS)}{AND_PROGRESS_KNOWN}\nor 0 * {jobs(OPEN_JOBS)} - 1"
    # A row without a value would spoil the order.
    unknown = {"mappings": [mapped({-1: ("–", GREY)})]}
    matrix = table(
        "Thing groups",
        "Each thing group that jobs target, those with rollouts that need attention first. Act and Look: rollouts in a red and in an amber state. Stuck: also those with few executions open. A job that targets three groups counts in each. Shares are of "
        "executions that succeeded, failed, timed out or were rejected, of jobs that ended within 7 days. Oldest SNAPSHOT: the age of the "
        "oldest open SNAPSHOT job; a CONTINUOUS one stays open by design. <none>: jobs that target things only; <other>: groups without rows of their own.",
        (24, 13),
        [query(jobs("IN_PROGRESS"), "A", kind="table"), query(attention(ACT), "B", kind="table"), query(attention(LOOK), "I", kind="table"),
         query(jobs("SCHEDULED"), "C", kind="table"), query(share("SUCCEEDED"), "D", kind="table"), query(share(BAD), "E", kind="table"),
         query(f"max by ({GROUP}) (aws_iot_thing_group_jobs_stuck{{{chosen}}}){AND_PROGRESS_KNOWN}", "F", kind="table"),
         query(f"time() - min by ({GROUP}) (aws_iot_thing_group_jobs_oldest_created_timestamp_seconds{{{chosen}, target_selection=\"SNAPSHOT\"}})", "G", kind="table"),
         query(jobs("COMPLETED|CANCELED"), "H", kind="table")],
        [Column("thing_group", "Thing group", links=[link("This group", to_dashboard("aws-iot-jobs-thing-group", *PLACE_OF_ROW, ("thing_group", "Thing group")))]),
         Column("target", "Target", 160, **WRAPPED),
         Column("Value #B", "Act", 65, "locale", **RED_FROM_1, **unknown), Column("Value #I", "Look", 65, "locale", **AMBER_FROM_1, **unknown), Column("Value #F", "Stuck", 70, "locale"),
         Column("Value #A", "In progress", 100, "locale"), Column("Value #C", "Scheduled", 95, "locale"),
         Column("Value #D", "Success, 7 days", 124, "percentunit", decimals=1), Column("Value #E", "Failed, 7 days", 112, "percentunit", decimals=1, **SHARE_OF_FAILURES),
         Column("Value #G", "Oldest SNAPSHOT", 140, "dtdhms"), Column("Value #H", "Ended", 80, "locale")],
        sort=[("Value #A", True), ("Value #I", True), ("Value #B", True)], keep=[("aws_account_id", "Account"), ("aws_region", "Region")],
        no_value="No thing group is known. Look at Data, top left.",
    )
    no_open = f"or {known_none('open_jobs')}"
    seen = f"and on ({TARGET}) last_over_time(aws_iot_thing_group_jobs{{{group}}}[$__range])"
    numbered = state(chosen) + GROUP_FILTER
    opened = f"max by ({GROUP}, status, target_selection) (aws_iot_thing_group_jobs{{{group}, status=~\"%s\"}})"
    tiles = [
        data_tile(width=4),
        tile("Groups with open jobs", "Thing groups that open jobs target.", (4, 4), f"count(sum by ({GROUP}) (aws_iot_thing_group_jobs{{{chosen}, status=~\"{OPEN_JOBS}\"}}) > 0)\n{no_open}"),
        attention_tile(numbered, " of the chosen groups"),
        success_tile(GROUP_FILTER, "rollouts of the chosen groups"),
        tile("Failed share, 7 days", ABOUT_SHARES % ("rollouts of the chosen groups", "did not succeed") + " Amber from 5 %, red from 25 %.", (4, 4),
             f"{share_of_ended(BAD, GROUP_FILTER)}\n{no_results(-1)}", unit="percentunit", decimals=1, mappings=[NONE_ENDED], thresholds=steps(CLEAR, (0.05, AMBER), (0.25, RED))),
        tile("Active rollouts", "IN_PROGRESS and SCHEDULED jobs of the chosen groups.", (4, 4),
             [query(f"count({status_is(chosen, 'IN_PROGRESS')}{GROUP_FILTER})\n{no_open}", "A", "in progress"),
              query(f"count({status_is(chosen, 'SCHEDULED')}{GROUP_FILTER})\n{no_open}", "B", "scheduled")], mode="value_and_name"),
    ]
    history = [
        graph("Jobs of the chosen groups by status", "A job that targets several of the groups counts in each. Stacked.", (12, 8),
              [query(f"sum by (status) ({opened % OPEN_JOBS})", legend="{{status}}", kind="range")],
              colors={name: color for name, color in JOBS.items() if name in OPEN_JOBS}, stack="normal"),
        graph("Success and failed share, 7 days, over time", "Of executions that succeeded, failed, timed out or were rejected, of the rollouts that had ended within the 7 days before each time.", (12, 8),
              [query(share_of_ended("SUCCEEDED", GROUP_FILTER), "A", "succeeded", "range"), query(share_of_ended(BAD, GROUP_FILTER), "B", "failed", "range")],
              unit="percentunit", maximum=1, colors={"succeeded": GREEN, "failed": RED}),
    ]
    variables = [
        *PLACES,
        variable("thing_group", "Group", "For the part below the matrix", f"label_values(aws_iot_thing_group_jobs{{{CHOSEN}}}, thing_group)"),
    ]
    return dashboard(
        "aws-iot-jobs-thing-group", "Thing groups", "Which thing groups need attention, and the rollouts and history of one of them.", variables,
        [*tiles, matrix, row("Chosen groups: $thing_group"), rollouts("Rollouts of the chosen groups", GROUP_FILTER, 11), *history], [alerts(', target=~"$target|"')],
    )


ABOUT_THE_EXPORTER = [
    "AwsIotJobsExporterDown", "AwsIotJobsTargetMissing", "AwsIotJobsDataStale", "AwsIotJobsCollectorFailing", "AwsIotJobsThrottled",
    "AwsIotJobsPermissionMissing",
]
COLLECTORS = {"open_jobs": "#5AA9E6", "all_jobs": "#9B8ACB", "details": "#D9A679", "executions": "#6FB7A8", "tags": "#B7B7B7"}


def exporter():
    here = 'instance=~"$instance"'
    chosen = f'{here}, {CHOSEN_TARGETS}'
    throttling = 'code=~".*Throttl.*|TooManyRequestsException|RequestLimitExceeded|LimitExceededException|SlowDown|PriorRequestNotComplete|BandwidthLimitExceeded"'
    by = "instance, target, aws_region"
    api, errors = "aws_iot_jobs_exporter_api_requests_total", "aws_iot_jobs_exporter_api_errors_total"
    failures = "aws_iot_jobs_exporter_collector_failures_total"
    worst = (
        f"max by ({by}) (3 * (1 - max by ({by}, collector) (aws_iot_jobs_collector_fresh{{{chosen}, collector=\"open_jobs\"}})) "
        f"or 2 * (1 - max by ({by}, collector) (aws_iot_jobs_collector_fresh{{{chosen}, collector=\"all_jobs\"}})) or 1 - max by ({by}) (aws_iot_jobs_up{{{chosen}}}))"
    )
    last = lambda collector: f"aws_iot_jobs_collector_last_success_timestamp_seconds{{{chosen}, collector=\"{collector}\"}}"
    tiles = [
        tile("Data", ABOUT_FRESHNESS, (4, 4), [query(f"max({worst}) or vector(4)", "A", "state"), query(f"time() - min({last('open_jobs')})", "B", "since open jobs were listed")],
             unit="s", mode="value_and_name", overrides=[
                 override("state", mappings=[mapped(FRESHNESS)], unit="none", displayName=" ", thresholds=steps(GREEN, (1, AMBER), (3, RED))),
                 override("since open jobs were listed", decimals=0, thresholds=steps(CLEAR))]),
        tile("Targets", "Targets of the chosen exporters, and exporters that Prometheus scrapes.", (4, 4),
             [query(f"count(count by (target, aws_region) (aws_iot_jobs_up{{{chosen}}})) or vector(0)", "A", "targets"),
              query(f"count(aws_iot_jobs_exporter_build_info{{{here}}}) or vector(0)", "B", "exporters")], mode="value_and_name"),
        tile("Failed listings", "Runs of the listings that failed within the time range. A failed run changes nothing of what is shown; the next may succeed.", (4, 4),
             f"sum(increase({failures}{{{chosen}, collector=~\"open_jobs|all_jobs\"}}[$__range]))", unit="locale", decimals=0, thresholds=steps(CLEAR, (0.5, AMBER))),
        tile("Throttled requests", "Requests within the time range that AWS refused because the exporter or somebody else has used up the account's rate.", (4, 4),
             f"sum(increase({errors}{{{chosen}, {throttling}}}[$__range]))\nor 0 * sum({api}{{{chosen}}})", unit="locale", decimals=0, thresholds=steps(CLEAR, (0.5, AMBER))),
        tile("Denied jobs", "Jobs about which AWS refuses requests of `details`, `executions` or `tags`. What these would show is not known.", (4, 4),
             f"sum(max by (target, aws_region, collector) (aws_iot_jobs_collector_jobs{{{chosen}, state=\"denied\"}}))", unit="locale", thresholds=steps(CLEAR, (1, RED))),
        tile("Alert rules", "Whether Prometheus evaluates the recording rules that come with the exporter. Without them no alert fires. The dashboards do not need them.", (4, 4),
             "0 * max(aws_iot_jobs:up:max) + 1 or vector(0)", mappings=[mapped({1: ("LOADED", GREEN), 0: ("NOT LOADED", AMBER)})], thresholds=steps(AMBER, (1, GREEN))),
    ]
    listings = table(
        "Listings", "The last run of each listing. Interval: how far apart runs start as planned now. Duplicates: a job that changes during a walk is seen twice and counts "
        "once. Malformed: summaries without a job id, a status or a target selection.", (24, 8),
        [query(f"max by ({by}, collector) (3 * (1 - aws_iot_jobs_collector_fresh{{{chosen}}}) > 0 or 1 - aws_iot_jobs_collector_success{{{chosen}}})", "A", kind="table"),
         query(f"time() - max by ({by}, collector) (aws_iot_jobs_collector_last_success_timestamp_seconds{{{chosen}}})", "B", kind="table"),
         *(query(f"max by ({by}, collector) (aws_iot_jobs_{name}{{{chosen}}})", ref, kind="table") for ref, name in (
             ("C", "collector_duration_seconds"), ("D", "collector_interval_seconds"), ("E", "walk_pages"), ("F", "walk_jobs"), ("H", "walk_duplicates"), ("K", "walk_malformed")))],
        [Column("target", "Target"), Column("aws_region", "Region", 100), Column("collector", "Listing", 85),
         Column("Value #A", "Last run", 90, "none", mappings=[mapped({0: FRESHNESS[0], 1: FRESHNESS[1], 3: FRESHNESS[3]})], custom__align="center", custom__cellOptions=ON_COLOR),
         Column("Value #B", "Age of data", 92, "dtdhms"), Column("Value #C", "Duration", 80, "s", decimals=1), Column("Value #D", "Interval", 72, "s"),
         Column("Value #E", "Pages", 60, "locale"), Column("Value #F", "Jobs", 65, "locale"), Column("Value #H", "Duplicates", 88, "locale"),
         Column("Value #K", "Malformed", 88, "locale", **AMBER_FROM_1), Column("instance", "Exporter", 124)],
        sort=[("target", False), ("Value #A", True)], no_value="Prometheus has nothing of an exporter",
    )
    states = table(
        "Jobs by state of their data", "Jobs of the collectors that send a request for each job. Overdue: no answer yet, or too long ago. Failing: the last request failed. Denied: AWS refuses it.", (12, 8),
        [query(f"max by (target, aws_region, collector) (aws_iot_jobs_collector_jobs{{{chosen}, state=\"{name}\"}})", ref, kind="table")
         for ref, name in (("A", "fresh"), ("B", "overdue"), ("C", "failing"), ("D", "denied"))],
        [Column("target", "Target", 220, **WRAPPED), Column("collector", "Collector"), Column("Value #A", "Fresh", 64, "locale"), Column("Value #B", "Overdue", 72, "locale", **AMBER_FROM_1),
         Column("Value #C", "Failing", 66, "locale", **AMBER_FROM_1), Column("Value #D", "Denied", 66, "locale", **RED_FROM_1)],
        sort=[("target", False), ("Value #B", True), ("Value #C", True), ("Value #D", True)], keep=[("aws_region", "Region")], no_value="Not known: no walk over the open jobs has ended",
    )
    # A column without any number would not be shown.
    or_unknown = f"\nor 0 * max by (target, aws_region) (aws_iot_jobs_up{{{chosen}}}) - 1"
    unknown = {"mappings": [mapped({-1: ("–", GREY)})]}
    plain = {**unknown, "thresholds": steps(CLEAR), "custom__cellOptions": ON_COLOR}
    limits = table(
        "What limits leave out", "Folded: thing groups without rows of their own because of `limits.max_thing_groups`. Open and ended: jobs without series of their own because of `limits.max_jobs` and "
        "`limits.max_ended_jobs`; sums have them. Not described: jobs without a description. Twice: other targets of the same jobs. –: not known.", (12, 8),
        [query(f"max by (target, aws_region) (aws_iot_jobs_folded_thing_groups{{{chosen}}})" + or_unknown, "A", kind="table"),
         query(f"max by (target, aws_region) (aws_iot_jobs_omitted_jobs{{{chosen}, collector=\"open_jobs\"}})" + or_unknown, "B", kind="table"),
         query(f"max by (target, aws_region) (aws_iot_jobs_omitted_jobs{{{chosen}, collector=\"all_jobs\"}})" + or_unknown, "C", kind="table"),
         query(f"max by (target, aws_region) (aws_iot_jobs_undescribed{{{chosen}}})" + or_unknown, "D", kind="table"),
         query(f"max by (target, aws_region) (aws_iot_jobs_overlapping_targets{{{chosen}}})" + or_unknown, "E", kind="table")],
        [Column("target", "Target", 220, **WRAPPED), Column("Value #A", "Folded", 68, "locale", **AMBER_FROM_1, **unknown), Column("Value #B", "Open", 60, "locale", **AMBER_FROM_1, **unknown), Column("Value #C", "Ended", 66, "locale", **plain),
         Column("Value #D", "Not described", None, "locale", **plain), Column("Value #E", "Twice", 60, "locale", **AMBER_FROM_1, **unknown)],
        sort=[("target", False), ("Value #B", True)], keep=[("aws_region", "Region")], no_value="Nothing is known",
    )
    rate = lambda name, more="": f"rate({name}{{{chosen}{more}}}[$__rate_interval])"
    collectors = [
        graph("Age of data", "Since the last successful run of each listing, of the target with the oldest. A saw-tooth as high as the interval is right; a ramp is a listing that fails or hangs.", (8, 8),
              [query(f"max by (collector) (time() - max by (target, aws_region, collector) (aws_iot_jobs_collector_last_success_timestamp_seconds{{{chosen}}}))", legend="{{collector}}", kind="range")], unit="s", colors=COLLECTORS),
        graph("Duration against the interval", "Duration of the last run as a share of the interval, of the slowest target. At 50 % (`open_jobs`) or 10 % (`all_jobs`) runs take so long that the interval grows.", (8, 8),
              [query(f"max by (collector) (aws_iot_jobs_collector_duration_seconds{{{chosen}}} / aws_iot_jobs_collector_interval_seconds{{{chosen}}})", legend="{{collector}}", kind="range")],
              unit="percentunit", colors=COLLECTORS),
        graph("Failed runs per hour, by reason", "`denied` and `credentials` need a change of a policy or a configuration; the others mostly pass. Reasons that never occur are left out.", (8, 8),
              [query(f"3600 * sum by (collector, reason) ({rate(failures)}) > 0\nor 0 * sum by (collector) ({rate(failures)})", legend="{{collector}} {{reason}}", kind="range")], unit="none"),
        graph("Runs per hour", "Runs that ended, successfully or not. One of `details`, `executions` and `tags` is about one job.", (8, 8),
              [query(f"3600 * sum by (collector) ({rate('aws_iot_jobs_exporter_collector_runs_total')})", legend="{{collector}}", kind="range")], unit="locale", decimals=0, colors=COLLECTORS),
        graph("Jobs by state of their description", "Of all chosen targets.", (8, 8),
              [query(f"sum by (state) (max by (target, aws_region, state) (aws_iot_jobs_collector_jobs{{{chosen}, collector=\"details\"}}))", legend="{{state}}", kind="range")],
              unit="locale", stack="normal", colors={"fresh": GREEN, "overdue": AMBER, "failing": "#F28C6A", "denied": RED}),
        graph("Jobs of a walk", "Distinct jobs of the last complete walk of each listing, of all chosen targets. A walk takes a request for each 250.", (8, 8),
              [query(f"sum by (collector) (max by (target, aws_region, collector) (aws_iot_jobs_walk_jobs{{{chosen}}}))", legend="{{collector}}", kind="range")], unit="locale", colors=COLLECTORS),
    ]
    requests = [
        graph("Requests and the current rate limit", "Requests to AWS a second by operation, retries included, of the target with the most. The limit holds for each account, region and operation; throttling lowers it.", (8, 8),
              [query(f"max by (operation) ({rate(api)}) > 0", "A", "{{operation}}", "range"),
               query(f"min(aws_iot_jobs_exporter_api_rate_limit_requests_per_second{{{here}, aws_region=~\"$region\"}})", "B", "rate limit", "range")],
              unit="reqps", colors={"rate limit": TEXT}, overrides=[override("rate limit", custom__lineStyle={"fill": "dash", "dash": [8, 6]})]),
        graph("Errors by code", "Failed requests a second, retries included. A code appears once it has occurred; all is the sum.", (8, 8),
              [query(f"sum({rate(errors)}) or 0 * sum({rate(api)})", "A", "all", "range"), query(f"sum by (code) ({rate(errors)})", "B", "{{code}}", "range")], unit="reqps", colors={"all": TEXT}),
        graph("Throttled share of requests", "A few are normal in a shared account. From 5 % on an alert fires.", (8, 8),
              [query(f"sum by (operation) ({rate(errors, ', ' + throttling)}) / (sum by (operation) ({rate(api)}) > 0)\nor 0 * sum by (operation) ({rate(api)})", legend="{{operation}}", kind="range")], unit="percentunit"),
        graph("AWS latency, 90th percentile", "How long AWS takes to answer, without the wait for the budget. An attempt is given up after 10 s.", (8, 8),
              [query(f"histogram_quantile(0.9, sum by (le, operation) ({rate('aws_iot_jobs_exporter_api_request_duration_seconds_bucket')}))", legend="{{operation}}", kind="range")], unit="s"),
        graph("Wait for the budget", "How long a request waits for its permit, on average. Minutes mean that `limits.requests_per_second` is too low, or that AWS throttles.", (8, 8),
              [query(f"sum by (operation) ({rate('aws_iot_jobs_exporter_api_rate_limit_wait_seconds_total')}) / (sum by (operation) ({rate(api)}) > 0)", legend="{{operation}}", kind="range")], unit="s"),
        graph("Requests to the exporter", "By path and status. Scrapes are /metrics.", (8, 8),
              [query(f"sum by (handler, code) (rate(aws_iot_jobs_exporter_http_requests_total{{{here}}}[$__rate_interval]))", legend="{{handler}} {{code}}", kind="range")], unit="reqps"),
    ]
    ours = "and on (job, instance) aws_iot_jobs_exporter_build_info"
    process = [
        graph("Memory", "Resident memory of each exporter.", (8, 7), [query(f"process_resident_memory_bytes{{{here}}} {ours}", legend="{{instance}}", kind="range")], unit="bytes"),
        graph("CPU", "Of each exporter; 100 % is one core.", (8, 7), [query(f"rate(process_cpu_seconds_total{{{here}}}[$__rate_interval]) {ours}", legend="{{instance}}", kind="range")], unit="percentunit"),
        graph("File descriptors and threads", "Open file descriptors and threads of each exporter.", (8, 7),
              [query(f"process_open_fds{{{here}}} {ours}", "A", "{{instance}} descriptors", "range"), query(f"process_threads{{{here}}} {ours}", "B", "{{instance}} threads", "range")], unit="locale"),
        table("Processes", "What each exporter was built from, its shard, its configuration, and for how long it has run. INVALID and NOT APPLIED: the previous configuration stays in use.", (24, 5),
              [query(f"max by (instance, version, revision, rustc) (aws_iot_jobs_exporter_build_info{{{here}}})", "A", kind="table"),
               query(f"time() - max by (instance) (process_start_time_seconds{{{here}}} {ours})", "B", kind="table"),
               query(f"max by (instance) (process_max_fds{{{here}}} {ours})", "C", kind="table"),
               query(f"max by (instance) (aws_iot_jobs_exporter_config_last_reload_successful{{{here}}})", "D", kind="table"),
               query(f"time() - max by (instance) (aws_iot_jobs_exporter_config_last_reload_success_timestamp_seconds{{{here}}})", "E", kind="table"),
               query(f"max by (instance) (aws_iot_jobs_exporter_web_config_last_reload_successful{{{here}}})", "F", kind="table"),
               query(f"max by (instance) (aws_iot_jobs_exporter_shard_index{{{here}}})", "H", kind="table"),
               query(f"max by (instance) (aws_iot_jobs_exporter_shard_total{{{here}}})", "I", kind="table")],
              [Column("instance", "Exporter"), Column("version", "Version", 80), Column("revision", "Revision", 115), Column("rustc", "Rust", 80), Column("Value #B", "Running for", 115, "dtdhms"),
               Column("Value #D", "Configuration", 115, "none", mappings=[mapped({1: ("valid", GREEN), 0: ("INVALID", RED)})], custom__align="center", custom__cellOptions=ON_COLOR),
               Column("Value #E", "Applied before", 120, "dtdhms"), Column("Value #F", "Web configuration", 140, "none", mappings=[mapped({1: ("in use", GREEN), 0: ("NOT APPLIED", AMBER)})], custom__align="center", custom__cellOptions=ON_COLOR),
               Column("Value #H", "Shard", 65, "none"), Column("Value #I", "of", 50, "none"), Column("Value #C", "Most descriptors", 125, "locale")],
              hide=["Value #A"], no_value="Prometheus has nothing of an exporter"),
    ]
    variables = [
        variable("instance", "Exporter", "A process that Prometheus scrapes", "label_values(aws_iot_jobs_exporter_build_info, instance)"),
        variable("region", "Region", "AWS region", 'label_values(aws_iot_jobs_up{instance=~"$instance"}, aws_region)'),
        variable("target", "Target", "What the exporter's configuration calls an account and region, or a part of it", 'label_values(aws_iot_jobs_up{instance=~"$instance", aws_region=~"$region"}, target)'),
    ]
    return dashboard(
        "aws-iot-jobs-exporter", "Exporter", "Whether the exporter has fresh data of every target, and what it costs.", variables,
        [*tiles, listings, states, limits, row("Collectors"), *collectors, row("Requests"), *requests, row("Process"), *process],
        [alerts(', target=~"$target|"', "|".join(ABOUT_THE_EXPORTER))],
    )


DASHBOARDS = {"fleet": home, "rollout": rollout, "thing-group": thing_groups, "exporter": exporter}


def main():
    stale = []
    for name, make in DASHBOARDS.items():
        path = FOLDER / f"{name}.json"
        new = json.dumps(make(), indent=2, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            path.write_text(new, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != new:
            stale.append(str(path))
    if stale:
        sys.exit(f"out of date, run dashboards/generate.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
