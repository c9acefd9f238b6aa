//! The checker fails where it should: faults are put into texts that have none, and each is told by the name of its place.

use std::collections::BTreeSet;

use regex_lite::Regex;

use super::known::all_labels;
use super::{
    File, SHIPPED, SHIPPED_RULES, Shipped, check_alerts, check_dashboards, check_texts, check_uses, dashboards, known,
    listed_thresholds, promql, thresholds_of,
};

const DASHBOARD: &str = r#"{
    "uid": "jobs", "schemaVersion": 41, "tags": ["jobs"],
    "links": [{"type": "dashboards", "title": "Others", "tags": ["jobs"]}],
    "annotations": {"list": [{"name": "Alerts", "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "expr": "max by (alertname) (ALERTS{target=~\"$target\"})"}]},
    "templating": {"list": [
        {"type": "datasource", "name": "datasource", "query": "prometheus"},
        {"type": "query", "name": "target", "multi": true, "datasource": {"type": "prometheus", "uid": "${datasource}"},
         "query": {"query": "label_values(aws_iot_jobs_target_info, target)"}},
        {"type": "query", "name": "job", "datasource": {"type": "prometheus", "uid": "${datasource}"},
         "query": "label_values(aws_iot_job_info{target=~\"$target\"}, job_id)"}
    ]},
    "panels": [
        {"id": 1, "type": "row", "title": "Rows", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}, "panels": [
            {"id": 2, "type": "timeseries", "title": "Open jobs", "description": "Those that are open.",
             "gridPos": {"x": 0, "y": 1, "w": 12, "h": 8}, "datasource": {"type": "prometheus", "uid": "${datasource}"},
             "fieldConfig": {"defaults": {"unit": "locale"}, "overrides": [
                 {"matcher": {"id": "byName", "options": "IN_PROGRESS"},
                  "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": "blue"}}]}]},
             "targets": [{"refId": "A", "datasource": {"type": "prometheus", "uid": "${datasource}"}, "legendFormat": "{{status}}",
                          "expr": "sum by (status) (aws_iot_jobs{target=~\"$target\", status=~\"IN_PROGRESS|SCHEDULED\"})"}]},
            {"id": 3, "type": "table", "title": "Requests", "description": "What they cost.",
             "gridPos": {"x": 12, "y": 1, "w": 12, "h": 8}, "datasource": {"type": "prometheus", "uid": "${datasource}"},
             "fieldConfig": {"defaults": {"unit": "reqps", "mappings": [
                 {"type": "value", "options": {"1": {"text": "IN_PROGRESS", "color": "blue"}}}]}, "overrides": [
                 {"matcher": {"id": "byName", "options": "Where"}, "properties": [{"id": "links", "value": [
                     {"title": "There", "url": "/d/jobs?var-datasource=${datasource}&var-target=${__value.raw}&${__url_time_range}"},
                     {"title": "Elsewhere", "url": "https://example.org/${__data.fields.Where}"}]}]}]},
             "transformations": [{"id": "filterByValue", "options": {"filters": [{"fieldName": "Value"}]}},
                 {"id": "organize", "options": {"renameByName": {"target": "Where", "Value": "Rate"}}}],
             "targets": [{"refId": "A", "datasource": {"type": "prometheus", "uid": "${datasource}"}, "format": "table",
                          "expr": "sum by (target) (rate(aws_iot_jobs_exporter_api_requests_total[$__rate_interval]))"}]}
        ]}
    ]
}"#;

const RULES: &str = r#"
groups:
  - name: jobs
    rules:
      - record: aws_iot_jobs:status:max
        expr: max without (instance, pod, target_selection) (aws_iot_jobs)
      - alert: AwsIotJobsOpen
        expr: aws_iot_jobs:status:max{status="IN_PROGRESS"} and ignoring (status) aws_iot_jobs:undescribed:max > 0
        labels: {severity: info}
        annotations:
          summary: '{{ $labels.target }} has open jobs'
          description: >-
            {{- range query (printf "max by (job_id) (aws_iot_job_info{target=%q})" $labels.target) }}
            {{ .Labels.job_id }}{{ end }}
          runbook_url: https://example.org/docs/runbooks/AwsIotJobsOpen.md
          dashboard: /d/jobs?var-target={{ urlquery $labels.target }}
      - record: aws_iot_jobs:undescribed:max
        expr: max without (instance) (aws_iot_jobs_undescribed)
"#;

const RUNBOOK: &str = "# AwsIotJobsOpen\n\nSeverity `info`.\n\n## Meaning\n\n`aws_iot_jobs_up` is 1.\n\n## What to check\n\n\
    ```promql\nsum by (status) (aws_iot_jobs)  # all\ntime() - aws_iot_jobs_collector_last_success_timestamp_seconds\n```\n\n## What to do\n";

const TESTS: &str =
    "tests: [{input_series: [{series: 'aws_iot_jobs{instance=\"a\", team=\"x\", status=\"SCHEDULED\"}'}]}]";

fn faultless() -> Shipped {
    Shipped {
        dashboards: vec![File::new("dashboards/jobs.json", DASHBOARD)],
        rules: vec![File::new("rules/jobs.yml", RULES)],
        tests: vec![File::new("tests/AwsIotJobsOpen.yml", TESTS)],
        runbooks: vec![File::new("docs/runbooks/AwsIotJobsOpen.md", RUNBOOK)],
        readme: Some(File::new("README.md", "- job_name: aws-iot-jobs\n")),
        texts: vec![File::new("docs/architecture.md", "`aws_iot_jobs_up`")],
    }
}

/// Everything that is wrong, but for what small texts can't have: every family, and what the exceptions are for.
fn complaints(shipped: &Shipped) -> Vec<String> {
    let rules = known(shipped);
    let found = check_dashboards(shipped, &rules);
    let mut complaints = rules.complaints.clone();
    complaints.extend(check_alerts(shipped, &rules));
    complaints.extend(check_texts(shipped, &rules));
    complaints.extend(check_uses(&rules, &found).into_iter().filter(|complaint| {
        !complaint.contains("dashboards/exporter.json") && !complaint.contains("is on no dashboard")
    }));
    complaints.extend(found.complaints);
    complaints
}

/// The complaints where one text of all files is replaced by another.
#[track_caller]
fn complaints_with(from: &str, to: &str) -> Vec<String> {
    let mut shipped = faultless();
    let files = shipped.dashboards.iter_mut().chain(&mut shipped.rules).chain(&mut shipped.tests);
    let files = files.chain(&mut shipped.runbooks).chain(&mut shipped.readme).chain(&mut shipped.texts);
    let mut replaced = 0;
    for file in files {
        replaced += file.text.matches(from).count();
        file.text = file.text.replace(from, to);
    }
    assert_eq!(replaced, 1, "{from} has to be in one place");
    complaints(&shipped)
}

#[track_caller]
fn assert_each_is_told(faults: &[(&str, &str, &str)]) {
    assert_eq!(complaints(&faultless()), <[&str; 0]>::default());
    for (from, to, told) in faults {
        let complaints = complaints_with(from, to);
        assert!(
            complaints.iter().any(|complaint| complaint == told),
            "{told}\nis not among\n{}",
            complaints.join("\n")
        );
    }
}

#[test]
fn a_misspelt_annotation_filter_or_field_of_a_link_is_told() {
    let requests = |complaint: &str| format!("dashboards/jobs.json: panel \"Requests\": {complaint}");
    assert_each_is_told(&[
        (
            "by (alertname) (ALERTS",
            "by (alertnaem) (ALERTS",
            "dashboards/jobs.json: annotation \"Alerts\": `by`: ALERTS has no label \"alertnaem\" there (did you mean \"alertname\"?)",
        ),
        (
            "\"fieldName\": \"Value\"",
            "\"fieldName\": \"Valeu\"",
            &requests("filterByValue: no field is called \"Valeu\" (did you mean \"Value\"?)"),
        ),
        ("fields.Where}", "fields.Were}", &requests("a link asks for the field \"Were\", which there is not")),
    ]);
}

#[test]
fn a_misspelt_name_label_or_value_in_a_panel_is_told_by_the_panels_name() {
    let open = |complaint: &str| format!("dashboards/jobs.json: panel \"Open jobs\": {complaint}");
    assert_each_is_told(&[
        ("status=~\\\"IN", "statsu=~\\\"IN", &open("aws_iot_jobs has no label \"statsu\" (did you mean \"status\"?)")),
        (
            "sum by (status) (aws_iot_jobs{target",
            "sum by (statsu) (aws_iot_jobs{target",
            &open("`by`: aws_iot_jobs has no label \"statsu\" there (did you mean \"status\"?)"),
        ),
        (
            "aws_iot_jobs{target",
            "aws_iot_jbos{target",
            &open(
                "aws_iot_jbos is no family of the catalogue, and no rule records it (did you mean \"aws_iot_jobs\"?)",
            ),
        ),
        (
            "IN_PROGRESS|SCHEDULED",
            "INPROGRESS|SCHEDULED",
            &open("\"INPROGRESS\" is no value of status (did you mean \"IN_PROGRESS\"?)"),
        ),
        ("sum by (status) (aws_iot_jobs{target", "sum by (status) aws_iot_jobs{target", &{
            let left_open = "sum by (status) aws_iot_jobs{target=~\".*\", status=~\"IN_PROGRESS|SCHEDULED\"})";
            open(&format!("is no PromQL: {}: {left_open}", promql_parser::parser::parse(left_open).unwrap_err()))
        }),
        ("\"{{status}}\"", "\"{{target}}\"", &open("its legend names the label \"target\", which its result has not")),
        (
            "\"options\": \"IN_PROGRESS\"",
            "\"options\": \"INPROGRESS\"",
            &open("an override is for \"INPROGRESS\", which no field is called (did you mean \"IN_PROGRESS\"?)"),
        ),
        (
            "aws_iot_jobs{target=~",
            "aws_iot_jobs{target=",
            &open("target=\".*\" compares texts: a variable of several values takes =~"),
        ),
    ]);
}

#[test]
fn a_function_that_does_not_fit_the_type_is_told_by_the_panels_name() {
    let requests = |complaint: &str| format!("dashboards/jobs.json: panel \"Requests\": {complaint}");
    let counter = "aws_iot_jobs_exporter_api_requests_total";
    let rate = "rate(aws_iot_jobs_exporter_api_requests_total[$__rate_interval])";
    assert_each_is_told(&[
        (rate, "rate(aws_iot_jobs_up[$__rate_interval])", &requests("rate of aws_iot_jobs_up, which is a gauge")),
        (
            rate,
            "rate(aws_iot_jobs:status:max[$__rate_interval])",
            &requests("rate of aws_iot_jobs:status:max, which is recorded by a rule and no counter"),
        ),
        (rate, "rate(aws_iot_jobs_up[1h:1m])", &requests("rate of a subquery, which is no counter")),
        (
            rate,
            &format!("delta({counter}[$__rate_interval])"),
            &requests(&format!("delta of {counter}, which is a counter")),
        ),
        (rate, counter, &requests(&format!("{counter} is a counter, and used without rate or increase"))),
        ("[$__rate_interval]", "[5m]", &requests("rate over another window than $__rate_interval")),
        (rate, "histogram_avg(aws_iot_jobs_up)", &requests("histogram_avg: no family is a native histogram")),
    ]);
}

#[test]
fn a_variable_field_or_dashboard_that_there_is_not_is_told() {
    let requests = |complaint: &str| format!("dashboards/jobs.json: panel \"Requests\": {complaint}");
    assert_each_is_told(&[
        (
            "&var-target=",
            "&var-traget=",
            &requests(
                "a link hands dashboards/jobs.json the variable \"traget\", which it has not (did you mean \"target\"?)",
            ),
        ),
        ("&var-target=", "&var-job=", &requests("a link hands target as \"job\", which is of job_id")),
        (
            "\"/d/jobs?",
            "\"/d/job?",
            &requests("a link leads to the dashboard \"job\", which there is not (did you mean \"jobs\"?)"),
        ),
        (
            "${__value.raw}",
            "${__data.fields.Were}",
            &requests("a link asks for the field \"Were\", which there is not"),
        ),
        (
            "aws_iot_jobs{target=~\\\"$target",
            "aws_iot_jobs{target=~\\\"${tagret:regex}",
            "dashboards/jobs.json: panel \"Open jobs\": there is no variable \"tagret\" (did you mean \"target\"?)",
        ),
        (
            "\"renameByName\": {\"target\"",
            "\"renameByName\": {\"tagret\"",
            &requests("organize: renameByName: no field is called \"tagret\" (did you mean \"target\"?)"),
        ),
        (
            "aws_iot_jobs_target_info, target)",
            "aws_iot_jobs_target_info, tagret)",
            "dashboards/jobs.json: variable \"target\": aws_iot_jobs_target_info has no label \"tagret\" (did you mean \"target\"?)",
        ),
        (
            "aws_iot_job_info{target=~",
            "aws_iot_job_info{thing_group=~",
            "dashboards/jobs.json: variable \"job\": aws_iot_job_info has no label \"thing_group\"",
        ),
        (
            "\"tags\": [\"jobs\"]}",
            "\"tags\": [\"job\"]}",
            "dashboards/jobs.json: link \"Others\": no dashboard has the tags [\"job\"]",
        ),
    ]);
}

#[test]
fn a_dashboard_that_is_built_wrongly_is_told() {
    let open = |complaint: &str| format!("dashboards/jobs.json: panel \"Open jobs\": {complaint}");
    let requests = |complaint: &str| format!("dashboards/jobs.json: panel \"Requests\": {complaint}");
    assert_each_is_told(&[
        ("\"id\": 3", "\"id\": 2", &requests("id 2 is not its own")),
        ("\"x\": 12", "\"x\": 11", &requests("lies over \"Open jobs\"")),
        ("\"unit\": \"locale\"", "\"unit\": \"\"", &open("has no unit")),
        ("Those that are open.", "", &open("has no description")),
        ("\"uid\": \"jobs\"", "\"uid\": \"\"", "dashboards/jobs.json: uid \"\" is not its own"),
        ("41,", "38,", "dashboards/jobs.json: schemaVersion 38 is not one of 39 to 42"),
        (
            "\"query\": \"prometheus\"",
            "\"query\": \"loki\"",
            "dashboards/jobs.json: there is no variable \"datasource\" of Prometheus data sources",
        ),
        (
            "\"uid\": \"${datasource}\"}, \"legendFormat\"",
            "\"uid\": \"abc\"}, \"legendFormat\"",
            &open("its data source is {\"type\":\"prometheus\",\"uid\":\"abc\"} and not the variable"),
        ),
        (
            "\"fixedColor\": \"blue\"",
            "\"fixedColor\": \"red\"",
            "\"IN_PROGRESS\" has several colours: blue in dashboards/jobs.json: panel \"Requests\", red in dashboards/jobs.json: panel \"Open jobs\"",
        ),
        (
            "\"uid\": \"jobs\",",
            "\"uid\": \"jobs\", \"__inputs\": [],",
            "dashboards/jobs.json: __inputs is for exports that ask for a data source on import",
        ),
        ("\"id\": \"organize\"", "\"id\": \"limit\"", &requests("this test does not know the transformation limit")),
    ]);
}

#[test]
fn a_rule_or_an_alert_that_names_what_there_is_not_is_told_by_its_name() {
    let alert = |complaint: &str| format!("rules/jobs.yml: alert AwsIotJobsOpen: {complaint}");
    assert_each_is_told(&[
        (
            "(instance, pod, target_selection)",
            "(instance, pod, selection)",
            "rules/jobs.yml: rule aws_iot_jobs:status:max: `without`: aws_iot_jobs has no label \"selection\" there",
        ),
        // What the aggregation took away is gone.
        (
            "{status=\"IN_PROGRESS\"} and",
            "{target_selection=\"SNAPSHOT\"} and",
            &alert("aws_iot_jobs:status:max has no label \"target_selection\""),
        ),
        (
            "and ignoring (status) ",
            "and ",
            &alert(
                "`and` finds no partners: its left side has (aws_account_id, aws_region, job, status, target), \
                 its right side (aws_account_id, aws_region, job, target)",
            ),
        ),
        (
            "and ignoring (status) aws_iot",
            "and on (status) aws_iot",
            &alert("`and on`: aws_iot_jobs:undescribed:max has no label \"status\" there"),
        ),
        (
            "'{{ $labels.target }}",
            "'{{ $labels.taget }}",
            &alert("summary: the alert has no label \"taget\" (did you mean \"target\"?)"),
        ),
        ("{{ .Labels.job_id", "{{ .Labels.target", &alert("description: no query in it gives a label \"target\"")),
        ("target=%q", "aws_region=%q", &alert("description: fills the labels [\"aws_region\"] with [\"target\"]")),
        (
            "max by (job_id) (aws_iot_job_info",
            "max by (job_id) (aws_iot_job_inf",
            &alert(
                "description: aws_iot_job_inf is no family of the catalogue, and no rule records it (did you mean \"aws_iot_job_info\"?)",
            ),
        ),
        ("/d/jobs?var-target={{", "/d/jobs?var-job={{", &alert("dashboard: \"job\" is of job_id, and not of target")),
        (
            "?var-target={{ urlquery $labels.target }}",
            "",
            &alert("dashboard: the alert has target, and does not hand over \"target\""),
        ),
        ("has open jobs", "has <open> jobs", &alert("summary: has an angle bracket, which receivers of HTML refuse")),
        ("severity: info", "severity: page", &alert("\"page\" is no severity")),
        (
            "/AwsIotJobsOpen.md\n",
            "/AwsIotJobsClosed.md\n",
            &alert("its runbook_url does not lead to docs/runbooks/AwsIotJobsOpen.md"),
        ),
        (
            "alert: AwsIotJobsOpen",
            "alert: AwsIotJobsClosed",
            "docs/runbooks/AwsIotJobsOpen.md: there is no alert of this name",
        ),
        (
            "and ignoring (status) aws_iot_jobs:undescribed:max > 0",
            "",
            "aws_iot_jobs:undescribed:max is recorded, and neither a rule nor a dashboard uses it",
        ),
        (
            "status=\"SCHEDULED\"}'",
            "state=\"SCHEDULED\"}'",
            "tests/AwsIotJobsOpen.yml: aws_iot_jobs has no label \"state\"",
        ),
    ]);
}

#[test]
fn a_threshold_is_read_from_the_table_and_from_the_expression() {
    let (table, is_state) = ("#   AwsIotJobsOpen  share  0.5  of all\n", "max > 0");
    let listed = listed_thresholds(&File::new("rules/jobs.yml", table));
    let used = |comparison: &str| {
        let mut shipped = faultless();
        let (before, after) = ("expr: aws_iot_jobs:status", "expr: |\n          aws_iot_jobs:status");
        shipped.rules[0].text = shipped.rules[0].text.replace(before, after).replace(is_state, comparison);
        thresholds_of(&known(&shipped).alerts)
    };
    assert_eq!(used("max > 0.5 # share"), listed);
    assert_ne!(used("max > 0.6 # share"), listed);
    assert_ne!(used("max > 0.5 # part"), listed);
    assert_ne!(used("max > 0.5"), listed);
    assert!(used(is_state).is_empty(), "a state is no threshold");
}

#[test]
fn a_page_that_names_what_there_is_not_is_told_with_the_line() {
    let runbook = |complaint: &str| format!("docs/runbooks/AwsIotJobsOpen.md: {complaint}");
    assert_each_is_told(&[
        (
            "(aws_iot_jobs)  # all",
            "(aws_iot_jobs{statsu=\"COMPLETED\"})  # all",
            &runbook("line 11: aws_iot_jobs has no label \"statsu\" (did you mean \"status\"?)"),
        ),
        (
            "`aws_iot_jobs_up` is 1",
            "`aws_iot_jobs_up{target=\"x\", job_id=\"y\"}` is 1",
            &runbook("line 7: aws_iot_jobs_up has no label \"job_id\""),
        ),
        ("```promql", "```", &runbook("line 11: the block does not say that it is promql")),
        ("## What to check\n\n", "", &{
            let headings = ["# AwsIotJobsOpen", "## Meaning", "## What to do"];
            runbook(&format!("its headings are {headings:?}"))
        }),
        (
            "Severity `info`.",
            "Severity `page`.",
            "rules/jobs.yml: alert AwsIotJobsOpen: docs/runbooks/AwsIotJobsOpen.md does not have the severity `info`",
        ),
        (
            "- job_name: aws-iot-jobs\n",
            "- job_name: aws-iot-jobs\nSee AwsIotJobsOpn.",
            "README.md: line 2: AwsIotJobsOpn is no alert (did you mean \"AwsIotJobsOpen\"?)",
        ),
    ]);
}

#[test]
fn a_family_that_no_dashboard_asks_for_is_told_by_its_name() {
    let shipped = Shipped { dashboards: Vec::new(), ..faultless() };
    let rules = known(&shipped);
    let complaints = check_uses(&rules, &check_dashboards(&shipped, &rules));
    assert!(complaints.contains(&"aws_iot_jobs_concurrent is on no dashboard".to_owned()), "{complaints:?}");
    assert!(!complaints.iter().any(|complaint| complaint.contains("process_virtual_memory_bytes")), "{complaints:?}");
}

#[test]
fn no_name_or_label_of_any_query_on_a_shipped_dashboard_can_be_misspelt_unseen() {
    let rules = &*SHIPPED_RULES;
    let labels = all_labels(&rules.known.series.values().filter_map(|series| series.shape.clone()).flatten().collect());
    // A text in quotes, which is no name, or a word.
    let word = Regex::new(r#""[^"]*"|[a-z_][a-z0-9_:]*"#).expect("a regular expression");
    // Where the same words stand before it, one misspelling is as good as the other.
    let (mut misspelt, mut unseen) = (BTreeSet::new(), Vec::new());
    for dashboard in dashboards::read(&SHIPPED.dashboards, &mut dashboards::Found::default()) {
        for query in dashboards::queries(&dashboard, &[]).into_iter().map(|query| query.expression) {
            for found in word.find_iter(&query) {
                let is_name = labels.contains(found.as_str()) || rules.known.series.contains_key(found.as_str());
                let before = &query.as_bytes()[found.end().saturating_sub(32)..found.end()];
                if is_name && misspelt.insert(before.to_vec()) {
                    let wrong = format!("{}x{}", &query[..found.end()], &query[found.end()..]);
                    if promql::check(&wrong, &rules.known).complaints.is_empty() {
                        unseen.push(wrong);
                    }
                }
            }
        }
    }
    assert!(misspelt.len() > 500, "only {} words were misspelt", misspelt.len());
    assert!(unseen.is_empty(), "{}", unseen.join("\n\n"));
}
