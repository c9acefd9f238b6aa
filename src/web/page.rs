//! The status page at `/`, for people: the targets, how fresh their data is, and what went wrong last.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::build_info::{REVISION, VERSION};
use crate::jobs::{CacheState, JobSeries, Part, Timepoint, Timestamp};
use crate::metrics::{
    Collector, Failure, Identity, ListingState, Published, RunOutcome, ShownTarget, TargetState, WalkState,
    by_collector,
};

/// How many of a target's oldest open jobs are listed.
const OLDEST: usize = 10;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c1e21;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}table{border-collapse:collapse;margin:.5rem 0}\
th,td{text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid #e4e6e9;vertical-align:top}th{font-weight:600}\
td.n{text-align:right;font-variant-numeric:tabular-nums}.good{color:#176f2c}.bad{color:#b3261e;font-weight:600}.muted{color:#5f6368}\
code{font-size:.95em}@media(prefers-color-scheme:dark){body{color:#e3e3e3;background:#1b1c1e}th,td{border-color:#3a3c40}\
.good{color:#7bc88c}.bad{color:#ff8a80}.muted{color:#9aa0a6}a{color:#8ab4f8}}";

/// Renders the page.
#[must_use]
pub(super) fn render(targets: &[Arc<ShownTarget>], now: Timepoint, telemetry_path: &str) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut page, targets, now, telemetry_path);
    page
}

fn write_page(page: &mut String, targets: &[Arc<ShownTarget>], now: Timepoint, telemetry_path: &str) -> fmt::Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>AWS IoT Jobs exporter</title><style>{STYLE}</style></head><body>\n<h1>AWS IoT Jobs exporter</h1>\n\
         <p><a href=\"{path}\">Metrics</a> · version {VERSION} ({REVISION}) · <span class=\"muted\">{now} UTC</span></p>\n",
        path = Escaped(telemetry_path),
        now = Utc(now.wall),
    )?;
    for target in targets {
        write_target(page, &target.identity, &target.state, now)?;
    }
    page.push_str("</body></html>\n");
    Ok(())
}

fn write_target(page: &mut String, identity: &Identity, state: &TargetState, now: Timepoint) -> fmt::Result {
    write!(page, "<h2>{} <span class=\"muted\">{}", Escaped(&identity.name), Escaped(&identity.region))?;
    if let Some(account) = &state.account {
        write!(page, " · account {account}")?;
    }
    page.push_str("</span></h2>\n<table><tr><th>collector</th><th>last run</th><th>last complete walk</th></tr>\n");
    write_listing(page, Collector::OpenJobs, &state.open_jobs, state.open.as_ref(), now)?;
    if let Some(listing) = &state.all_jobs {
        write_listing(page, Collector::AllJobs, listing, state.ended.as_ref(), now)?;
    }
    for (collector, states) in by_collector(&state.states) {
        if let Some(states) = states {
            write_states(page, collector, states)?;
        }
    }
    page.push_str("</table>\n");
    for part in state.open.iter().chain(&state.ended).map(|published| &published.part) {
        write_counts(page, part)?;
    }
    state.open.as_ref().map_or(Ok(()), |published| write_oldest(page, &published.part, now))
}

fn write_listing(
    page: &mut String,
    collector: Collector,
    listing: &ListingState,
    shown: Option<&Published>,
    now: Timepoint,
) -> fmt::Result {
    write!(page, "<tr><th>{}</th><td>", collector.as_str())?;
    match &listing.last_run {
        None => page.push_str("the first one is under way"),
        Some(RunOutcome { at, duration, failure }) => {
            let (ago, took) = (Age(now.wall.since(*at)), Age(*duration));
            match failure {
                None => write!(page, "<span class=\"good\">succeeded</span> {ago} ago, after {took}")?,
                Some(Failure { reason, message }) => write!(
                    page,
                    "<span class=\"bad\">failed: {reason}</span> {ago} ago, after {took}<p>{}</p><p>{}</p>",
                    Escaped(message),
                    Escaped(reason.advice())
                )?,
            }
        }
    }
    page.push_str("</td><td>");
    match listing.last_success.zip(listing.last_walk) {
        None => page.push_str("none yet"),
        Some((at, WalkState { pages, stats })) => {
            let (jobs, pages) = (counted(stats.jobs as u64, "job"), counted(pages, "page"));
            write!(page, "{jobs} on {pages}, {} ago", Age(now.wall.since(at)))?;
            if shown.is_none() {
                page.push_str("<p><span class=\"bad\">stale: these jobs are not shown</span></p>");
            }
        }
    }
    page.push_str("</td></tr>\n");
    Ok(())
}

fn write_states(page: &mut String, collector: Collector, states: &BTreeMap<CacheState, u64>) -> fmt::Result {
    write!(page, "<tr><th>{}</th><td>", collector.as_str())?;
    for (position, (state, jobs)) in states.iter().enumerate() {
        let is_bad = matches!(state, CacheState::Failing | CacheState::Denied) && *jobs > 0;
        let separator = if position == 0 { "" } else { ", " };
        let text = format!("{} {}", counted(*jobs, "job"), state.as_str());
        if is_bad {
            write!(page, "{separator}<span class=\"bad\">{text}</span>")?;
        } else {
            write!(page, "{separator}{text}")?;
        }
    }
    if states.get(&CacheState::Denied).is_some_and(|jobs| *jobs > 0) {
        write!(page, "<p>Allow iot:{}: see config/iam.</p>", collector.operation())?;
    }
    page.push_str("</td><td></td></tr>\n");
    Ok(())
}

fn write_counts(page: &mut String, part: &Part) -> fmt::Result {
    page.push_str("<table><tr><th>status</th><th>target selection</th><th>jobs</th></tr>\n");
    for ((status, selection), jobs) in &part.jobs {
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{jobs}</td></tr>",
            Escaped(status.as_str()),
            Escaped(selection.as_str())
        )?;
    }
    page.push_str("</table>\n");
    Ok(())
}

fn write_oldest(page: &mut String, part: &Part, now: Timepoint) -> fmt::Result {
    let mut jobs: Vec<&JobSeries> = part.series.iter().collect();
    if jobs.is_empty() {
        return Ok(());
    }
    jobs.sort_by_key(|job| job.created_at);
    let which = match (part.omitted_jobs, counted(jobs.len() as u64, "open job")) {
        (0, all) if jobs.len() > OLDEST => format!("{all}, the {OLDEST} oldest"),
        (0, all) => all,
        (omitted, shown) => format!("the oldest of {shown} with series; {omitted} without series are not listed"),
    };
    writeln!(
        page,
        "<table><tr><th>{which}</th><th>status</th><th>target selection</th><th>thing groups</th><th>open executions</th>\
         <th>created</th></tr>"
    )?;
    for job in jobs.into_iter().take(OLDEST) {
        let created = job.created_at.map_or_else(
            || "unknown".to_owned(),
            |at| format!("{} UTC <span class=\"muted\">({} ago)</span>", Utc(at), Age(now.wall.since(at))),
        );
        let executions = job.executions.and_then(|executions| executions.open());
        let (status, selection) = &job.pair;
        writeln!(
            page,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td>{created}</td></tr>",
            Escaped(&job.id),
            Escaped(status.as_str()),
            Escaped(selection.as_str()),
            Escaped(&groups(job)),
            executions.map_or_else(|| "unknown".to_owned(), |open| open.to_string()),
        )?;
    }
    page.push_str("</table>\n");
    Ok(())
}

/// How many groups of a job are listed.
const GROUPS: usize = 3;

fn groups(job: &JobSeries) -> String {
    let names: Vec<&str> = job.thing_groups.iter().take(GROUPS).map(AsRef::as_ref).collect();
    let more = job.thing_groups.len().saturating_sub(GROUPS);
    match (names.is_empty(), more) {
        (true, _) => "unknown".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// A number of things: `1 page`, `2 pages`.
fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Text made safe to stand in HTML, in an attribute too.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// A time as `2026-11-23 02:15:00`.
struct Utc(Timestamp);

impl Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.as_millis()) {
            Ok(time) => write!(f, "{}", time.strftime("%Y-%m-%d %H:%M:%S")),
            Err(_) => f.write_str("unknown"),
        }
    }
}

/// A duration in its two largest units, as `3d 4h`, `2m 5s` or `340ms`.
struct Age(Duration);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        match secs {
            0 => write!(f, "{}ms", self.0.as_millis()),
            1..60 => write!(f, "{secs}s"),
            60..3600 => write!(f, "{}m {}s", secs / 60, secs % 60),
            3600..86400 => write!(f, "{}h {}m", secs / 3600, secs / 60 % 60),
            _ => write!(f, "{}d {}h", secs / 86400, secs / 3600 % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::metrics::{Reason, Source, TargetStates};

    #[test]
    fn what_aws_or_an_operator_wrote_never_becomes_markup() {
        let now = Timepoint { instant: Instant::now(), wall: Timestamp::from_secs(1_700_000_000) };
        let identity = Identity { name: "<script>\"'&".to_owned(), region: "eu-west-1".to_owned(), labels: Vec::new() };
        let failure = Failure { reason: Reason::Network, message: "<img src=x>".to_owned() };
        let mut state = TargetState::default();
        state.open_jobs.last_run =
            Some(RunOutcome { at: now.wall, duration: Duration::from_secs(1), failure: Some(failure) });
        let states = Arc::new(TargetStates::default());
        states.arrange([&states.slot(identity, Source::default(), state)]);
        let page = render(&states.read(now), now, "/metrics\"><script>");
        assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;&quot;&#39;&amp;") && page.contains("&lt;img"), "{page}");
    }

    #[test]
    fn durations_have_their_two_largest_units() {
        let age = |millis| Age(Duration::from_millis(millis)).to_string();
        assert_eq!(
            [age(340), age(59_999), age(125_000), age(3_720_000), age(273_600_000)],
            ["340ms", "59s", "2m 5s", "1h 2m", "3d 4h"]
        );
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(Utc(Timestamp::from_millis(1_560_787_022_733)).to_string(), "2019-06-17 15:57:02");
        assert_eq!(Utc(Timestamp::from_millis(i64::MAX)).to_string(), "unknown");
    }
}
