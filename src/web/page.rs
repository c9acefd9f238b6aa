//! The pages for people, at `/` and at `/jobs/TARGET/JOB_ID`. The browser runs no code, and asks AWS nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use maud::{DOCTYPE, Markup, html};
use percent_encoding::utf8_percent_encode;

use super::NO_JOB;
use super::links::{describe, list_executions};
use super::report::{
    AttentionReport, CollectorReport, FailureReport, FirstWalk, JobReport, JobsReport, StatusReport, Summary,
    TargetHealth, TargetReport,
};
use super::route::SEGMENT;
use crate::clock::{Age, Time};
use crate::jobs::{Attention, ExecutionStatus, Outcome, Timestamp};

/// The style sheet of all pages, at `/style.css`.
pub(super) const STYLE: &str = include_str!("style.css");

/// How many jobs that need attention are listed.
const MAX_ATTENTION: usize = 50;

/// How many ended rollouts are listed.
const MAX_ENDED: usize = 10;

/// How many things are named in the list of jobs. A job's own page names all that are known.
const MAX_THINGS: usize = 3;

/// A page. `root` is the relative path to `/`, so that pages work below a sub-path of a reverse proxy.
fn page(root: &str, title: &str, main: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href={ (root) "style.css" };
            }
            body { main { (main) } }
        }
    }
    .into_string()
}

/// The status page.
pub(super) fn status(status: &StatusReport, jobs: &JobsReport, telemetry_path: &str) -> String {
    let metrics = telemetry_path.trim_start_matches('/');
    let (attention, ended) = attention_and_ended(&jobs.jobs);
    let now = status.time.0;
    let main = html! {
        h1 { "AWS IoT Jobs exporter" }
        p.summary role="status" { (sentence(&status.summary)) }
        p.muted {
            "version " (status.version) " · up " (Age::from_secs(status.uptime_seconds)) " · " (utc(now)) " · "
            a href=(metrics) { "metrics" } " · " a href="api/v1/status" { "JSON" }
        }
        (targets(&status.targets))
        (jobs_that_need_attention(&attention, now))
        (ended_rollouts(&ended, now))
        (jobs_by_status(&status.targets))
        (requests(&status.targets))
    };
    page("", "AWS IoT Jobs exporter", &main)
}

fn sentence(summary: &Summary) -> String {
    let Summary { targets, targets_with_problems, targets_starting, .. } = summary;
    let all = counted(*targets, "target");
    let health = match targets_with_problems {
        0 if *targets == 0 => all,
        0 if targets == targets_starting => "the first walk is under way".to_owned(),
        0 => format!("{all} without problems"),
        problems => format!("{problems} of {all} with problems"),
    };
    let is_mixed = *targets_starting > 0 && targets_starting < targets;
    let starting = is_mixed.then(|| format!("{targets_starting} starting"));
    let least = if summary.jobs_need_attention_is_minimum { "at least " } else { "" };
    let attention = match summary.jobs_need_attention {
        // None of those that are known.
        Some(0) if summary.jobs_need_attention_is_minimum => "not known whether jobs need attention".to_owned(),
        None => "not known whether jobs need attention".to_owned(),
        Some(1) => format!("{least}1 job needs attention"),
        Some(jobs) => format!("{least}{} need attention", counted(jobs, "job")),
    };
    let age = summary.open_jobs_age_seconds.map(|age| format!("open jobs {} old", Age::from_secs(age)));
    [Some(health), starting, Some(attention), age].into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// The jobs that need attention, and those that ended.
fn attention_and_ended(jobs: &[JobReport]) -> (Vec<&JobReport>, Vec<&JobReport>) {
    let attention = jobs.iter().filter(|job| job.attention.is_some()).collect();
    (attention, jobs.iter().filter(|job| job.result.is_some()).collect())
}

fn targets(targets: &[TargetReport]) -> Markup {
    html! {
        section aria-labelledby="targets" {
            h2 id="targets" { "Targets" }
            @if targets.is_empty() {
                p { "No targets are configured for this process." }
            } @else {
                table.cards {
                    thead { tr {
                        th scope="col" { "Target" } th scope="col" { "State" } th.number scope="col" { "Open jobs" }
                        th scope="col" { "Open jobs listed" } th scope="col" { "All jobs listed" }
                        th scope="col" { "Account" } th scope="col" { "Region" }
                    } }
                    tbody { @for target in targets { (target_rows(target)) } }
                }
            }
        }
    }
}

fn target_rows(target: &TargetReport) -> Markup {
    let listing = |name: &str| target.collectors.iter().find(|collector| collector.collector == name);
    let failures = distinct(target.failures());
    let compact = (target.health == TargetHealth::Healthy && failures.is_empty()).then_some("compact");
    html! {
        tr class=[compact] {
            th scope="row" data-label="Target" { (target.target) }
            td data-label="State" { span class=(class_of(target.health)) { (target.health.words()) } }
            td.number data-label="Open jobs" { (or_unknown(target.open_jobs)) }
            td data-label="Open jobs listed" { (listed(listing("open_jobs"))) }
            td data-label="All jobs listed" { (listed(listing("all_jobs"))) }
            td data-label="Account" { (or_unknown(target.aws_account_id.as_deref())) }
            td data-label="Region" { (target.aws_region) }
        }
        @for (collectors, failure) in failures {
            tr.detail { td colspan="7" { (failed(&collectors, failure, collectors.first().and_then(|collector| listing(collector)))) } }
        }
    }
}

/// When a listing last succeeded, or how far its first walk is.
fn listed(collector: Option<&CollectorReport>) -> Markup {
    let Some(collector) = collector else { return html! { span.muted { "off" } } };
    html! {
        @match (&collector.first_walk, collector.age_seconds) {
            (Some(FirstWalk { pages, jobs, seconds }), _) => {
                "first walk: page " (pages + 1) ", " (counted(*jobs, "job")) ", " (Age::from_secs(*seconds))
            }
            (None, Some(age)) => {
                (Age::from_secs(age)) " ago"
                @if collector.fresh == Some(false) { " " span.bad { "stale, not shown" } }
            }
            (None, None) => span.muted { "not yet" },
        }
    }
}

/// Failures with the same cause, together.
fn distinct<'a>(
    failures: impl Iterator<Item = (&'static str, &'a FailureReport)>,
) -> Vec<(Vec<&'static str>, &'a FailureReport)> {
    let mut distinct: Vec<(Vec<&'static str>, &FailureReport)> = Vec::new();
    for (collector, failure) in failures {
        match distinct.iter_mut().find(|(_, known)| known.message == failure.message) {
            Some((collectors, _)) => collectors.push(collector),
            None => distinct.push((vec![collector], failure)),
        }
    }
    distinct
}

fn failed(collectors: &[&str], failure: &FailureReport, collector: Option<&CollectorReport>) -> Markup {
    let FailureReport { reason, message, advice, since, runs } = failure;
    let count = |state| collector.and_then(|collector| collector.jobs.get(state)).copied().unwrap_or_default();
    let affected: u64 = ["failing", "denied"].map(count).iter().sum();
    html! {
        p {
            span.bad { (collectors.join(" and ")) " failed (" (reason) ")" } ": " (message)
        }
        p.muted {
            "What to do: " (advice) ". "
            @if let Some(since) = since {
                "Failing since " (utc(since.0)) ", " (counted(*runs, "run")) ". "
            }
            @if affected > 0 {
                (counted(affected, "job")) " affected. Each is asked for again by itself."
            } @else if let Some(next) = collector.and_then(|collector| collector.next_run_seconds) {
                "Next try in " (Age::from_secs(next)) "."
            } @else { "The next try is under way." }
        }
    }
}

fn jobs_that_need_attention(jobs: &[&JobReport], now: Timestamp) -> Markup {
    html! {
        section aria-labelledby="attention" {
            h2 id="attention" { "Jobs that need attention" }
            @if jobs.is_empty() {
                p.muted { "None of the jobs that are known." }
            } @else {
                table.cards {
                    thead { tr {
                        th scope="col" { "Job" } th scope="col" { "Reason" } th scope="col" { "Ended executions" }
                        th.number scope="col" { "Open" } th.number scope="col" { "Failed" }
                        th scope="col" { "No progress for" } th scope="col" { "Groups" } th scope="col" { "Held open by" }
                    } }
                    tbody { @for job in jobs.iter().take(MAX_ATTENTION) {
                        tr {
                            th scope="row" data-label="Job" { (job_link(job)) br; span.muted { (job.target) } }
                            td data-label="Reason" { (reason(job)) }
                            td data-label="Ended executions" { (progress(job)) }
                            td.number data-label="Open" { (or_unknown(job.open_executions)) }
                            td.number data-label="Failed" { (share(job.failed_share)) }
                            td data-label="No progress for" { (since(job.last_progress_at, now)) }
                            td data-label="Groups" { (groups(job)) }
                            td data-label="Held open by" { (things(job, now)) }
                        }
                        @if let Some(command) = command(job) {
                            tr.detail { td colspan="8" {
                                a href=(job.console_url) { "AWS console" } " · " code { (command) }
                            } }
                        }
                    } }
                }
                @if jobs.len() > MAX_ATTENTION {
                    p { (jobs.len() - MAX_ATTENTION) " more: " a href="api/v1/jobs?attention=true" { "all as JSON" } }
                }
            }
        }
    }
}

fn reason(job: &JobReport) -> Markup {
    let Some(AttentionReport { reason, .. }) = job.attention else { return html! {} };
    let words = match reason {
        Attention::Failing => "failing",
        Attention::Stuck => "stuck",
        Attention::StuckFewOpen => "stuck, few open",
        Attention::SomeFail => "some executions fail",
        Attention::StartOverdue => "start overdue",
        Attention::ExecutionLong => "an execution takes long",
    };
    let class = if reason.is_critical() { "bad" } else { "warn" };
    html! { span class=(class) { (words) } }
}

/// The command that shows most about the reason for attention.
fn command(job: &JobReport) -> Option<String> {
    let statuses: &[ExecutionStatus] = match job.attention?.reason {
        Attention::Failing | Attention::SomeFail => {
            &[ExecutionStatus::Failed, ExecutionStatus::TimedOut, ExecutionStatus::Rejected]
        }
        Attention::ExecutionLong => &[ExecutionStatus::InProgress],
        Attention::Stuck | Attention::StuckFewOpen => &[ExecutionStatus::Queued, ExecutionStatus::InProgress],
        Attention::StartOverdue => &[],
    };
    let executions = job.executions.as_ref();
    let occurs = |status: &&ExecutionStatus| executions.is_some_and(|counts| counts.get(status.as_str()) > Some(&0));
    match statuses.iter().find(occurs) {
        Some(status) => list_executions(&job.aws_region, &job.job_id, *status),
        None => describe(&job.aws_region, &job.job_id),
    }
}

fn progress(job: &JobReport) -> Markup {
    let Some(ended) = job.ended_share else { return html! { span.muted { "unknown" } } };
    let label = format!("{} of the executions of {} have ended", percent(ended), job.job_id);
    html! { span.whole { progress max="1" value=(ended) aria-label=(label) {} " " (percent(ended)) } }
}

fn things(job: &JobReport, now: Timestamp) -> Markup {
    html! {
        @for thing in job.things.iter().take(MAX_THINGS) {
            div { (thing.thing) " " span.muted.whole { (thing.status) " for " (Age(now.since(thing.since.0))) } }
        }
        @if job.things.len() > MAX_THINGS { div.muted { "and " (job.things.len() - MAX_THINGS) " more" } }
    }
}

fn ended_rollouts(jobs: &[&JobReport], now: Timestamp) -> Markup {
    html! {
        section aria-labelledby="ended" {
            h2 id="ended" { "Rollouts that ended last" }
            @if jobs.is_empty() {
                p.muted { "None is known." }
            } @else {
                table.cards {
                    thead { tr {
                        th scope="col" { "Job" } th scope="col" { "Target" } th scope="col" { "Result" }
                        th.number scope="col" { "Succeeded" } th.number scope="col" { "Failed" }
                        th scope="col" { "Ended" } th scope="col" { "Duration" }
                    } }
                    tbody { @for job in jobs.iter().take(MAX_ENDED) {
                        tr {
                            th scope="row" data-label="Job" { (job_link(job)) }
                            td data-label="Target" { (job.target) }
                            td data-label="Result" { (result(job)) }
                            td.number data-label="Succeeded" { (share(job.succeeded_share)) }
                            td.number data-label="Failed" { (share(job.failed_share)) }
                            td data-label="Ended" { (or_unknown(job.completed_at.map(|Time(at)| format!("{} ago", Age(now.since(at)))))) }
                            td data-label="Duration" { (or_unknown(job.duration_seconds.map(Age::from_secs))) }
                        }
                    } }
                }
            }
        }
    }
}

fn result(job: &JobReport) -> Markup {
    let (class, words) = match job.result {
        Some(Outcome::Completed) => ("good", "completed"),
        Some(Outcome::SomeFailed) => ("warn", "some failed"),
        Some(Outcome::Failed) => ("bad", "failed"),
        Some(Outcome::Aborted) => ("warn", "aborted by AWS"),
        Some(Outcome::Canceled) => ("muted", "canceled"),
        Some(Outcome::Unknown) => ("muted", "completed, results unknown"),
        Some(Outcome::Other) | None => ("muted", job.status.as_str()),
    };
    html! { span class=(class) { (words) } }
}

fn jobs_by_status(targets: &[TargetReport]) -> Markup {
    let statuses: BTreeSet<&str> =
        targets.iter().flat_map(|target| &target.jobs).map(|count| count.status.as_str()).collect();
    let sum = |target: &TargetReport, status: &str| -> Option<u64> {
        let of_status = target.jobs.iter().filter(|count| count.status == status);
        of_status.map(|count| count.jobs).reduce(|a, b| a + b)
    };
    html! {
        section aria-labelledby="jobs" {
            h2 id="jobs" { "Jobs by status" }
            @if statuses.is_empty() {
                p.muted { "Not known yet." }
            } @else {
                table.cards {
                    thead { tr {
                        th scope="col" { "Target" }
                        @for status in &statuses { th.number scope="col" { (status) } }
                    } }
                    tbody { @for target in targets {
                        tr {
                            th scope="row" data-label="Target" { (target.target) }
                            @for status in &statuses { td.number data-label=(status) { (or_unknown(sum(target, status))) } }
                        }
                    } }
                }
            }
        }
    }
}

/// How often an operation was called in the last hour, for all targets together.
#[derive(Default)]
struct Calls {
    requests: u64,
    throttled: u64,
    /// Of the account and region that uses most of its rate.
    used: Option<f64>,
}

fn calls(targets: &[TargetReport]) -> BTreeMap<&str, Calls> {
    let (mut calls, mut by_quota) = (BTreeMap::<&str, Calls>::new(), BTreeMap::new());
    for target in targets {
        for request in &target.requests_last_hour {
            let sum = calls.entry(&request.operation).or_default();
            sum.requests += request.requests;
            sum.throttled += request.throttled;
            let Some(limit) = request.limit_per_second else { continue };
            let quota = (target.aws_account_id.as_deref(), target.aws_region.as_str(), request.operation.as_str());
            let (requests, _) = by_quota.entry(quota).or_insert((0, limit));
            *requests += request.requests;
        }
    }
    for ((_, _, operation), (requests, limit)) in by_quota {
        #[expect(clippy::cast_precision_loss, reason = "requests of an hour are far below 2^53")]
        let used = requests as f64 / (3600.0 * limit);
        if let Some(sum) = calls.get_mut(operation) {
            sum.used = Some(sum.used.map_or(used, |most| most.max(used)));
        }
    }
    calls
}

fn requests(targets: &[TargetReport]) -> Markup {
    let calls = calls(targets);
    html! {
        section aria-labelledby="requests" {
            h2 id="requests" { "Requests to AWS within the last hour" }
            @if calls.is_empty() {
                p.muted { "None." }
            } @else {
                table.cards {
                    thead { tr {
                        th scope="col" { "Operation" } th.number scope="col" { "Requests" }
                        th.number scope="col" { "Share of the rate" } th.number scope="col" { "Throttled" }
                    } }
                    tbody { @for (operation, Calls { requests, throttled, used }) in &calls {
                        tr {
                            th scope="row" data-label="Operation" { (operation) }
                            td.number data-label="Requests" { (requests) }
                            td.number data-label="Share of the rate" { (share(*used)) }
                            td.number data-label="Throttled" {
                                @if *throttled > 0 { span.warn { (throttled) } } @else { "0" }
                            }
                        }
                    } }
                }
            }
        }
    }
}

/// The page of a job.
pub(super) fn job(job: &JobReport, now: Timestamp) -> String {
    let fact = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    let time = |at: Option<Time>| at.map_or_else(|| html! { span.muted { "–" } }, |at| html! { (utc(at.0)) });
    let main = html! {
        p { a href="../../" { "All targets" } }
        h1 { (job.job_id) }
        p.summary role="status" {
            @if job.attention.is_some() { (reason(job)) " · " }
            @if job.result.is_some() { (result(job)) " · " }
            (job.status) " · " (progress(job)) " ended · failed " (share(job.failed_share))
        }
        dl.facts {
            (fact("Target", html! { (job.target) }))
            (fact("Account", html! { (or_unknown(job.aws_account_id.as_deref())) }))
            (fact("Region", html! { (job.aws_region) }))
            (fact("Selection", html! { (job.target_selection) }))
            (fact("Created", time(job.created_at)))
            (fact("Scheduled start", time(job.scheduled_start_at)))
            (fact("Scheduled end", time(job.scheduled_end_at)))
            (fact("Ended", time(job.completed_at)))
            (fact("Duration", html! { (or_unknown(job.duration_seconds.map(Age::from_secs))) }))
            (fact("Last progress", time(job.last_progress_at)))
            (fact("Described", time(job.described_at)))
            (fact("Maintenance windows", html! { (match job.windowed { Some(true) => "yes", Some(false) => "no", None => "unknown" }) }))
            (fact("Thing groups", html! { (groups(job)) }))
            @for (key, value) in &job.tags { (fact(&format!("Tag {key}"), html! { (value) })) }
        }
        section aria-labelledby="executions" {
            h2 id="executions" { "Executions" }
            @if let Some(executions) = &job.executions {
                table {
                    thead { tr { th scope="col" { "Status" } th.number scope="col" { "Executions" } } }
                    tbody { @for (status, count) in executions.iter().filter(|(_, count)| **count > 0) {
                        tr { th scope="row" { (status) } td.number { (count) } }
                    } }
                }
                p.muted { "Executions, not devices: one that is tried again counts each time." }
            } @else { p { "Not known: the job was not described, or too long ago." } }
        }
        section aria-labelledby="things" {
            h2 id="things" { "Things that hold it open" }
            @if job.things.is_empty() {
                p.muted { "No things are listed. They are listed only if the job is stuck, or an execution has run for over an hour." }
            } @else {
                table {
                    thead { tr { th scope="col" { "Thing" } th scope="col" { "Status" } th scope="col" { "For" } } }
                    tbody { @for thing in &job.things {
                        tr { th scope="row" { (thing.thing) } td { (thing.status) } td { (Age(now.since(thing.since.0))) } }
                    } }
                }
            }
        }
        section aria-labelledby="commands" {
            h2 id="commands" { "Commands" }
            p { a href=(job.console_url) { "Open in the AWS console" } }
            @for command in &job.commands { pre tabindex="0" { code { (command) } } }
        }
    };
    page("../../", &format!("{} – AWS IoT Jobs exporter", job.job_id), &main)
}

/// The answer for a job that is not shown.
pub(super) fn no_job() -> String {
    let main = html! {
        p { a href="../../" { "All targets" } }
        h1 { "No such job" }
        p { (NO_JOB) "." }
    };
    page("../../", "No such job – AWS IoT Jobs exporter", &main)
}

fn job_link(job: &JobReport) -> Markup {
    let segment = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
    html! { a href={ "jobs/" (segment(&job.target)) "/" (segment(&job.job_id)) } { (job.job_id) } }
}

fn groups(job: &JobReport) -> String {
    /// The number of a job's groups on the page.
    const MAX_GROUPS: usize = 3;
    let shown: Vec<&str> = job.thing_groups.iter().take(MAX_GROUPS).map(String::as_str).collect();
    match job.thing_groups.len().saturating_sub(MAX_GROUPS) {
        0 if shown.is_empty() => "unknown".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn since(at: Option<Time>, now: Timestamp) -> String {
    or_unknown(at.map(|Time(at)| Age(now.since(at))))
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "unknown".to_owned(), percent)
}

fn percent(share: f64) -> String {
    // Rounding must not hide that something is there, or missing.
    match share * 100.0 {
        percent if percent > 0.0 && percent < 0.1 => "< 0.1 %".to_owned(),
        percent if percent > 99.9 && percent < 100.0 => "> 99.9 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

fn or_unknown<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

/// A number and a noun: `1 page`, `2 pages`.
fn counted(number: impl TryInto<u64>, thing: &str) -> String {
    let number: u64 = number.try_into().unwrap_or(u64::MAX);
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(number))
}

/// A number with its thousands apart: `9,250`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const fn class_of(health: TargetHealth) -> &'static str {
    match health {
        TargetHealth::Stale | TargetHealth::Failing => "bad",
        TargetHealth::EndedJobsStale | TargetHealth::Denied | TargetHealth::RequestsFailing => "warn",
        TargetHealth::Starting => "muted",
        TargetHealth::Healthy => "good",
    }
}

fn utc(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::report::{JobFilter, find_job};
    use super::*;
    use crate::jobs::Timepoint;
    use crate::metrics::{Failing, Failure, Identity, JobSource, Reason, RunOutcome, TargetState, TargetStates};
    use crate::proptests::page::fault;

    const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn shown(states: Vec<(&str, TargetState)>) -> (Arc<TargetStates>, Timepoint) {
        let now = Timepoint { instant: Instant::now(), wall: NOW };
        let targets = Arc::new(TargetStates::default());
        let identity =
            |name: &str| Identity { name: name.to_owned(), region: "eu-west-1".to_owned(), labels: Vec::new() };
        let slots: Vec<_> =
            states.into_iter().map(|(name, state)| targets.slot(identity(name), JobSource::default(), state)).collect();
        targets.arrange(&slots);
        (targets, now)
    }

    fn rendered(states: Vec<(&str, TargetState)>) -> String {
        let (targets, now) = shown(states);
        let shown = targets.read_with_requests(now);
        let report = StatusReport::new(&shown, &[], now, now);
        status(&report, &JobsReport::new(&shown, &JobFilter::default(), now), "/metrics")
    }

    fn healthy() -> TargetState {
        let mut state = TargetState::default();
        state.open_jobs.is_fresh = true;
        state.open_jobs.last_run = Some(RunOutcome { at: NOW, duration: Duration::from_secs(1), failure: None });
        state
    }

    fn failing(message: &str) -> TargetState {
        let failure = Failure { reason: Reason::Denied, message: message.to_owned() };
        let mut state = healthy();
        state.open_jobs.last_run =
            Some(RunOutcome { failure: Some(failure), ..state.open_jobs.last_run.clone().expect("a run") });
        state.open_jobs.failing = Some(Failing { since: NOW.before(Duration::from_mins(5)), runs: 5 });
        state
    }

    #[test]
    fn text_of_aws_and_of_the_configuration_never_becomes_markup() {
        let page = rendered(vec![("<script>\"'&", failing("<img src=x>"))]);
        assert_eq!(fault(&page), None);
        assert!(page.contains("&lt;script&gt;&quot;'&amp;") && page.contains("&lt;img"), "{page}");
    }

    #[test]
    fn targets_with_problems_come_first_with_cause_and_advice() {
        let page = rendered(vec![("fine", healthy()), ("broken", failing("ListJobs on iot.example: AccessDenied"))]);
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text:?} is not in {page}"));
        assert!(at("1 of 2 targets with problems") < at("broken") && at("broken") < at("AccessDenied"));
        assert!(at("AccessDenied") < at(Reason::Denied.advice()));
        assert!(at("Failing since 2026-09-21 14:08:20 UTC, 5 runs.") < at("fine"));
    }

    #[test]
    fn a_job_that_is_not_shown_has_no_report() {
        let (targets, now) = shown(vec![("a", healthy())]);
        let shown = targets.read_with_requests(now);
        assert!(find_job(&shown, "a", "fw-1", now).is_none() && find_job(&shown, "b", "fw-1", now).is_none());
        assert_eq!(fault(&no_job()), None);
    }

    #[test]
    fn shares_that_are_not_whole_never_look_whole() {
        assert_eq!(
            [0.0, 0.000_4, 0.5, 0.999_6, 1.0].map(percent),
            ["0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %"]
        );
    }

    #[test]
    fn numbers_of_things_are_readable() {
        assert_eq!(counted(1_u64, "page"), "1 page");
        assert_eq!(
            [counted(0_u64, "job"), counted(9_250_u64, "job"), counted(1_000_000_u64, "job")],
            ["0 jobs", "9,250 jobs", "1,000,000 jobs"]
        );
    }
}
