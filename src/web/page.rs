//! The status page at `/`, for people: what is watched, how fresh it is, and what went wrong last.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use crate::exposition::board::{State, Target};
use crate::jobs::{Timepoint, Timestamp};
use crate::snapshot::{Describing, OpenJob, Permission};
use crate::telemetry::{REVISION, VERSION};

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
pub(super) fn render(targets: &[Target], now: Timepoint, telemetry_path: &str) -> String {
    let mut page = String::new();
    // Writing to a string can't fail.
    let _ = write_page(&mut page, targets, now, telemetry_path);
    page
}

fn write_page(page: &mut String, targets: &[Target], now: Timepoint, telemetry_path: &str) -> fmt::Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>AWS IoT Jobs exporter</title><style>{STYLE}</style></head><body>\n<h1>AWS IoT Jobs exporter</h1>\n\
         <p><a href=\"{path}\">Metrics</a> · version {VERSION} ({REVISION}) · <span class=\"muted\">{now} UTC</span></p>\n",
        path = Escaped(telemetry_path),
        now = Utc(now.wall),
    )?;
    for target in targets {
        write_target(page, target, now)?;
    }
    page.push_str("</body></html>\n");
    Ok(())
}

fn write_target(page: &mut String, target: &Target, now: Timepoint) -> fmt::Result {
    let (identity, state) = (&target.identity, &target.state);
    write!(page, "<h2>{} <span class=\"muted\">{}", Escaped(&identity.name), Escaped(&identity.region))?;
    if let Some(good) = &state.good {
        write!(page, " · account {}", good.snapshot.account)?;
    }
    page.push_str("</span></h2>\n<table>\n");
    write_state(page, state, now)?;
    page.push_str("</table>\n");

    let Some(good) = state.fresh(now) else { return Ok(()) };
    let counts = &good.snapshot.counts;
    page.push_str("<table><tr><th>status</th><th>target selection</th><th>jobs</th></tr>\n");
    for ((status, selection), jobs) in &counts.jobs {
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{jobs}</td></tr>",
            Escaped(status.as_str()),
            Escaped(selection.as_str())
        )?;
    }
    page.push_str("</table>\n");

    if !counts.open.is_empty() {
        let shown = counts.open.len().min(OLDEST);
        let open = counted(counts.open.len() as u64, "open job");
        let which = if shown < counts.open.len() { format!("{open}, the {shown} oldest") } else { open };
        writeln!(
            page,
            "<table><tr><th>{which}</th><th>status</th><th>target selection</th><th>thing groups</th><th>open executions</th>\
             <th>created</th></tr>"
        )?;
        for job in &counts.open[..shown] {
            let created = job.created_at.map_or_else(
                || "unknown".to_owned(),
                |at| format!("{} UTC <span class=\"muted\">({} ago)</span>", Utc(at), Age(now.wall.since(at))),
            );
            let executions = job.executions.and_then(|executions| executions.open());
            writeln!(
                page,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td>{created}</td></tr>",
                Escaped(&job.job_id),
                Escaped(job.status.as_str()),
                Escaped(job.target_selection.as_str()),
                Escaped(&groups(job)),
                executions.map_or_else(|| "unknown".to_owned(), |open| open.to_string()),
            )?;
        }
        page.push_str("</table>\n");
    }
    Ok(())
}

fn write_state(page: &mut String, state: &State, now: Timepoint) -> fmt::Result {
    let mut row = |name: &str, value: fmt::Arguments| writeln!(page, "<tr><th>{name}</th><td>{value}</td></tr>");
    match &state.last {
        None => row("last refresh", format_args!("the first one is under way"))?,
        Some(ended) => {
            let outcome = match &ended.failure {
                None => "<span class=\"good\">succeeded</span>".to_owned(),
                Some(failure) => format!("<span class=\"bad\">failed: {}</span>", failure.reason),
            };
            let (ago, took) = (Age(now.wall.since(ended.at)), Age(ended.took));
            row("last refresh", format_args!("{outcome} {ago} ago, after {took}"))?;
            if let Some(failure) = &ended.failure {
                row("error", format_args!("{}", Escaped(&failure.message)))?;
                row("what to do", format_args!("{}", Escaped(failure.reason.advice())))?;
            }
        }
    }
    match &state.good {
        None => row("last complete walk", format_args!("none yet: nothing is known of this target's jobs"))?,
        Some(good) => {
            let walk = &good.snapshot.walk;
            let verdict = if state.fresh(now).is_some() {
                String::new()
            } else {
                format!(
                    " <span class=\"bad\">stale: older than {}, its jobs are not shown</span>",
                    Age(good.stale_after)
                )
            };
            row(
                "last complete walk",
                format_args!(
                    "{} ago, {} on {} in {}{verdict}",
                    Age(now.wall.since(good.published.wall)),
                    counted(good.snapshot.counts.total, "job"),
                    counted(walk.pages, "page"),
                    Age(walk.duration)
                ),
            )?;
            if let Some(describing) = &good.snapshot.describing {
                row("described", format_args!("{}", described(describing)))?;
            }
        }
    }
    Ok(())
}

/// How many groups of a job are listed.
const GROUPS: usize = 3;

fn groups(job: &OpenJob) -> String {
    let Some(groups) = &job.groups else { return "not looked at".to_owned() };
    let names: Vec<&str> = groups.labels().take(GROUPS).map(AsRef::as_ref).collect();
    let more = groups.labels().len().saturating_sub(GROUPS);
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

/// What came of describing jobs, in a sentence.
fn described(describing: &Describing) -> String {
    let mut text = format!("{} in {}", counted(describing.described, "job"), Age(describing.duration));
    if describing.permission != Permission::Granted {
        let _ = write!(text, "; <span class=\"bad\">iot:DescribeJob is denied</span>, see config/iam");
    }
    if describing.failures > 0 {
        let failed = counted(describing.failures, "open job");
        let _ = write!(text, "; <span class=\"bad\">{failed} could not be described</span>");
    }
    if describing.undescribed > 0 {
        let waiting = counted(describing.undescribed, "ended job");
        let _ = write!(text, "; {waiting} still to be described");
    }
    text
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
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::exposition::board::{Ended, Failure, Identity};
    use crate::telemetry::Reason;

    fn moment() -> Timepoint {
        Timepoint { instant: Instant::now(), wall: Timestamp::from_secs(1_700_000_000) }
    }

    #[test]
    fn what_aws_or_an_operator_wrote_never_becomes_markup() {
        let identity = Identity { name: "<script>\"'&".to_owned(), region: "eu-west-1".to_owned(), labels: Vec::new() };
        let failure = Failure { reason: Reason::Network, message: "<img src=x>".to_owned() };
        let last = Some(Ended { at: moment().wall, took: Duration::from_secs(1), failure: Some(failure) });
        let target = Target { identity: Arc::new(identity), source: Arc::default(), state: State { good: None, last } };
        let page = render(&[target], moment(), "/metrics\"><script>");
        assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;&quot;&#39;&amp;"), "{page}");
    }

    #[test]
    fn durations_are_told_in_their_two_largest_units() {
        let age = |millis| Age(Duration::from_millis(millis)).to_string();
        assert_eq!(
            [age(340), age(59_999), age(125_000), age(3_720_000), age(273_600_000)],
            ["340ms", "59s", "2m 5s", "1h 2m", "3d 4h"]
        );
    }

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(Utc(Timestamp::from_millis(1_560_787_022_733)).to_string(), "2019-06-17 15:57:02");
        assert_eq!(Utc(Timestamp::from_millis(i64::MAX)).to_string(), "unknown");
    }
}
