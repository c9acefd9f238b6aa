//! The fault matrix: every fault of the simulator in every operation, from the start and later. The results are written into
//! `docs/reliability.md`, and compared with it.
//!
//! `UPDATE_DOCS=1 cargo test --test integration matrix` writes the tables anew; read what changed before you believe it.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_iot_jobs_exporter::config::{self, Sources};
use aws_iot_jobs_exporter::http::Request;
use aws_iot_jobs_exporter::jobs::{AccountId, ExecutionStatus, Status};
use aws_iot_jobs_exporter::simulator::{Fault, Fleet, Job, Operation, Position, Role, Rule, Script};

use crate::support::{Exporter, Exposition, NOW, REGION, account, simulator as simulated};

const OPEN: usize = 20;

const ENDED: usize = 20;

/// The jobs in progress have three pages: a first, a middle and a last one.
const PAGE_SIZE: u32 = 8;

const SECOND: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_mins(1);

/// The longest interval of a collector, and time for a run that fails slowly.
const A_RUN: Duration = Duration::from_mins(20);

const COLLECTORS: [&str; 5] = ["open_jobs", "all_jobs", "details", "executions", "tags"];

const REASONS: &str = "aws_iot_jobs_exporter_collector_failures_total";

/// What each fault is, in a few words.
fn meaning(fault: Fault) -> &'static str {
    match fault {
        Fault::Throttle400 => "throttled with status 400, as the service model says",
        Fault::Throttle429 => "throttled with status 429, as some operations do in practice",
        Fault::Error500 => "500: an internal failure",
        Fault::Error503 => "503: the service is unavailable",
        Fault::Denied => "403: the policy lacks the action",
        Fault::ExpiredCredentials => "403: temporary credentials that were not renewed",
        Fault::InvalidCredentials => "403: an access key that was deleted or mistyped",
        Fault::ClockSkew => "the server's clock is an hour ahead",
        Fault::Reset => "the connection is reset without an answer",
        Fault::Refused => "the connection is reset, and new ones too for a moment",
        Fault::Hang => "no answer, on a connection that stays open",
        Fault::Slow => "the right answer after 9 s",
        Fault::HangInBody => "half of an answer, and then nothing",
        Fault::Truncated => "half of an answer, and then the end of the connection",
        Fault::Oversized => "an answer of 64 MiB",
        Fault::Html => "200 with the login page of a proxy",
        Fault::WrongJson => "200 with half of the answer, and a matching `Content-Length`",
        Fault::WrongTypes => "every text is replaced by a number, and every number by a text",
        Fault::RepeatedToken => "a page returns the token that was sent to request it",
        Fault::TokenCycle => "a token leads back to the second page",
        Fault::ExpiredToken => "a page's token is refused",
        Fault::EmptyPage => "empty pages, each with a token for another one",
        Fault::EmptyToken => "the last page's token is an empty text instead of absent",
        Fault::MissingJobs => "a page without its list of jobs",
        Fault::DuplicateJob => "the last job of a page is listed twice on it",
        Fault::MovedJob => "the first job of the walk is repeated on a later page, with another status",
        Fault::UnknownStatus => "a status that AWS does not have",
        Fault::MissingFields => "a field is missing, a different one in each job",
        Fault::NullFields => "a field is null, a different one in each job",
    }
}

fn fleet() -> Vec<Job> {
    let job = |n: usize| {
        // Those that ended did so too long ago to be described.
        let (status, age, executions) =
            if n < OPEN { (Status::InProgress, MINUTE, 3) } else { (Status::Completed, 43_200 * MINUTE, 0) };
        let created = NOW.before(age + Duration::from_secs(n as u64));
        Job::new(format!("job-{n:06}"), status, created)
            .targeting_group("line")
            .with_executions(ExecutionStatus::InProgress, executions)
            .updated(created)
    };
    (0..OPEN + ENDED).map(job).collect()
}

/// What was seen of a collector while a fault lasted.
#[derive(Clone, PartialEq)]
struct Seen {
    shown: String,
    success: Option<f64>,
    reasons: String,
}

/// Looks at the exposition until it is as wanted.
async fn until(exporter: &Exporter, within: Duration, is_wanted: impl Fn(&Exposition) -> bool) -> Option<Exposition> {
    let start = tokio::time::Instant::now();
    while start.elapsed() <= within {
        let shown = exporter.scrape().await;
        if is_wanted(&shown) {
            return Some(shown);
        }
        tokio::time::sleep(10 * SECOND).await;
    }
    None
}

/// The jobs that a listing shows; `None` if it shows none of its rows.
fn jobs(shown: &Exposition, listing: &str) -> Option<f64> {
    let is_open = |status: &str| matches!(status, "IN_PROGRESS" | "SCHEDULED" | "DELETION_IN_PROGRESS");
    let rows = shown.family("aws_iot_jobs");
    let rows = rows.filter(|(labels, _)| is_open(&labels["status"]) == (listing == "open_jobs"));
    rows.map(|(_, jobs)| jobs).reduce(|sum, jobs| sum + jobs)
}

fn success(shown: &Exposition, listing: &str) -> Option<f64> {
    shown.value("aws_iot_jobs_collector_success", &[("collector", listing)])
}

fn runs(shown: &Exposition, collector: &str) -> f64 {
    shown.runs(collector).unwrap_or_default()
}

/// Why runs of a collector have failed since `before`.
fn reasons(shown: &Exposition, before: Option<&Exposition>, collector: &str) -> String {
    let rows = shown.family(REASONS).filter(|(labels, _)| labels["collector"] == collector);
    let is_new = |(labels, count): &(&_, f64)| {
        let labels: &crate::support::Labels = labels;
        let known = before.and_then(|before| before.failures(collector, &labels["reason"]));
        *count > known.unwrap_or_default()
    };
    rows.filter(is_new).map(|(labels, _)| format!("`{}`", labels["reason"])).collect::<Vec<_>>().join(" ")
}

/// Jobs by the state of what a collector knows of them, as the table shows them.
fn states(shown: &Exposition, collector: &str) -> String {
    let rows = shown.family("aws_iot_jobs_collector_jobs").filter(|(_, jobs)| *jobs > 0.0);
    let rows = rows.filter(|(labels, _)| labels["collector"] == collector);
    rows.map(|(labels, jobs)| format!("{} {jobs}", labels["state"])).collect::<Vec<_>>().join(", ")
}

fn all_known(shown: &Exposition, collector: &str) -> bool {
    [OPEN, OPEN + 1].iter().any(|jobs| states(shown, collector) == format!("fresh {jobs}"))
}

/// What was odd in the last walk of a listing.
fn notes(shown: &Exposition, listing: &str) -> Vec<String> {
    let counted = ["duplicates", "malformed"].into_iter().filter_map(|what| {
        let family = format!("aws_iot_jobs_walk_{what}");
        let count = shown.value(&family, &[("collector", listing)]).filter(|count| *count > 0.0)?;
        Some(format!("{what} {count}"))
    });
    counted.collect()
}

/// The other collectors run as if there were no fault.
fn assert_others_notice_nothing(shown: &Exposition, affected: &str, what: &str) {
    for collector in COLLECTORS.into_iter().filter(|collector| *collector != affected) {
        assert_eq!(reasons(shown, None, collector), "", "{what}: {collector} fails too");
    }
    for (listing, expected) in [("open_jobs", OPEN), ("all_jobs", ENDED)] {
        if listing != affected {
            assert_eq!(success(shown, listing), Some(1.0), "{what}: {listing}");
            assert_eq!(jobs(shown, listing), Some(expected as f64), "{what}: jobs of {listing}");
        }
    }
}

fn is_of(request: &Request, listing: &str) -> bool {
    let has_status = request.uri().query().unwrap_or_default().contains("status=");
    request.uri().path() == "/jobs" && has_status == (listing == "open_jobs")
}

async fn started(script: Option<Script>, affected: &'static str) -> Exporter {
    let exporter = Exporter::start(simulated(fleet()), |config| {
        config.limits.max_pages = 50;
        let collectors = &mut config.targets[0].collectors;
        collectors.executions.interval = MINUTE;
        collectors.executions.stale_after = Some(60 * MINUTE);
        collectors.tags.keys = vec!["team".to_owned()];
    })
    .await;
    // Every job has two pages of executions in progress.
    exporter.wire.set_page_size(|request| Some(if request.uri().path() == "/jobs" { PAGE_SIZE } else { 2 }));
    if ["open_jobs", "all_jobs"].contains(&affected) {
        exporter.wire.spare(move |request| !is_of(request, affected));
    }
    if let Some(script) = script {
        exporter.simulator.set_script(script);
    }
    exporter
}

async fn started_and_described(affected: &'static str) -> (Exporter, Exposition) {
    let exporter = started(None, affected).await;
    let is_complete = |shown: &Exposition| {
        runs(shown, "all_jobs") >= 1.0
            && ["details", "executions", "tags"].iter().all(|collector| all_known(shown, collector))
    };
    let shown = until(&exporter, A_RUN, is_complete).await.expect("a good start");
    (exporter, shown)
}

/// A fault affects the walks of a listing, from the start or later, until it is lifted. Returns what was seen; nothing if there is
/// nothing that the fault could affect.
async fn listing_with_fault(fault: Fault, listing: &'static str, position: Position, later: bool) -> Option<Seen> {
    let what = format!("{fault} in {listing}, later: {later}");
    let script = Script::new([Rule::new(fault).on(Operation::ListJobs).at(position)]);
    let expected = if listing == "open_jobs" { OPEN } else { ENDED } as f64;
    let (exporter, shown, before) = if later {
        let (exporter, before) = started_and_described(listing).await;
        // One more, so that the next walk differs from the one before.
        let mut another = fleet().remove(if listing == "open_jobs" { 0 } else { OPEN });
        "another".clone_into(&mut another.id);
        exporter.simulator.with_fleet(&account(), REGION, |fleet| drop(fleet.add_job(another)));
        exporter.simulator.set_script(script);
        let has_run = |shown: &Exposition| runs(shown, listing) > runs(&before, listing);
        let shown = until(&exporter, A_RUN, has_run).await.expect("a run");
        (exporter, shown, Some(before))
    } else {
        let exporter = started(Some(script), listing).await;
        until(&exporter, A_RUN, |shown| runs(shown, listing) >= 1.0).await.expect("a run");
        // Time for the first run of the other listing, and for descriptions.
        tokio::time::sleep(20 * SECOND).await;
        let shown = exporter.scrape().await;
        (exporter, shown, None)
    };
    if exporter.simulator.fault_counts().is_empty() {
        return None;
    }
    assert_others_notice_nothing(&shown, listing, &what);
    let success_seen = success(&shown, listing);
    let of_this_walk = expected + f64::from(u8::from(later));
    let seen = match jobs(&shown, listing) {
        None => "nothing".to_owned(),
        Some(jobs) if success_seen == Some(0.0) => {
            assert_eq!(Some(jobs), before.as_ref().map(|_| expected), "{what}: a failed run changed what is shown");
            "the walk before".to_owned()
        }
        Some(jobs) => {
            let mut notes = notes(&shown, listing);
            if jobs < of_this_walk {
                notes.push(format!("jobs missing {}", of_this_walk - jobs));
            }
            assert!(jobs <= of_this_walk, "{what}: a job was counted twice");
            format!("this walk{}", if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) })
        }
    };
    let reasons = reasons(&shown, before.as_ref(), listing);

    exporter.simulator.clear_script();
    let is_good = |shown: &Exposition| {
        let is_whole = jobs(shown, listing) == Some(of_this_walk) && notes(shown, listing).is_empty();
        is_whole && success(shown, listing) == Some(1.0) && shown.up() == Some(1.0)
    };
    let healed = until(&exporter, A_RUN, is_good).await.unwrap_or_else(|| panic!("{what}: no recovery"));
    // A run that was under way when the fault was lifted can still fail.
    assert!(runs(&healed, listing) <= runs(&shown, listing) + 2.0, "{what}: a late recovery");
    Some(Seen { shown: seen, success: success_seen, reasons })
}

/// A collector that sends requests about single jobs.
#[derive(Clone, Copy)]
struct OfJobs {
    collector: &'static str,
    operation: Operation,
    /// A family that comes from it, and how many samples each job has.
    family: &'static str,
    samples: usize,
}

const DETAILS: OfJobs =
    OfJobs { collector: "details", operation: Operation::DescribeJob, family: "aws_iot_job_executions", samples: 8 };
const EXECUTIONS: OfJobs = OfJobs {
    collector: "executions",
    operation: Operation::ListJobExecutionsForJob,
    family: "aws_iot_job_stuck",
    samples: 1,
};
const TAGS: OfJobs = OfJobs {
    collector: "tags",
    operation: Operation::ListTagsForResource,
    family: "aws_iot_job_tags_info",
    samples: 1,
};

/// A fault affects all requests of a collector, from the start or later. Returns what was seen and how long it took to recover.
async fn requests_with_fault(of: OfJobs, fault: Fault, later: bool) -> Option<(Seen, Duration)> {
    let OfJobs { collector, operation, family, samples } = of;
    let what = format!("{fault} in {}, later: {later}", operation.as_str());
    let script = Script::new([Rule::new(fault).on(operation)]);
    let known = |shown: &Exposition| shown.family(family).count();
    let (exporter, before) = if later {
        let (exporter, shown) = started_and_described(collector).await;
        exporter.simulator.set_script(script);
        // Until each job has been asked for at least once.
        tokio::time::sleep(15 * MINUTE).await;
        (exporter, Some(shown))
    } else {
        let exporter = started(Some(script), collector).await;
        tokio::time::sleep(MINUTE).await;
        (exporter, None)
    };
    if exporter.simulator.fault_counts().is_empty() {
        return None;
    }
    let shown = exporter.scrape().await;
    assert_others_notice_nothing(&shown, collector, &what);
    assert_eq!(shown.up(), Some(1.0), "{what}");
    if let Some(before) = &before {
        assert_eq!(known(&shown), known(before), "{what}: what is known is not shown");
    }
    let reasons = reasons(&shown, before.as_ref(), collector);
    let seen = Seen { shown: states(&shown, collector), success: None, reasons };
    exporter.simulator.clear_script();
    let lifted = tokio::time::Instant::now();
    let are_known = |shown: &Exposition| all_known(shown, collector);
    let healed = until(&exporter, A_RUN, are_known).await.unwrap_or_else(|| panic!("{what}: no recovery"));
    assert_eq!(known(&healed), OPEN * samples, "{what}");
    Some((seen, lifted.elapsed()))
}

/// A fault affects an operation of STS, from the start or when the session of a role is renewed. Returns what was seen of the open
/// jobs.
async fn sts_with_fault(fault: Fault, operation: Operation, later: bool) -> Option<Seen> {
    let what = format!("{fault} in {}, later: {later}", operation.as_str());
    let script = Script::new([Rule::new(fault).on(operation)]);
    let account = AccountId::parse("210987654321").expect("an account id");
    let role = Role::new(account.clone(), "reader");
    let target = format!("{{region: {REGION}, endpoint_url: 'http://simulator.test', role_arn: '{}'}}", role.arn());
    let simulator = simulated([]);
    simulator.set_fleet(&account, REGION, Fleet::new(fleet(), []));
    simulator.add_role(role);
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), format!("targets: [{target}]")).expect("a written file");
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    let targets = config::load(&sources).expect("a valid configuration").targets;
    if !later {
        simulator.set_script(script.clone());
    }
    let exporter = Exporter::start(simulator, |config| config.targets = targets).await;
    let mut shown = until(&exporter, A_RUN, |shown| runs(shown, "open_jobs") >= 1.0).await.expect("a run");
    let mut before = None;
    if later {
        // A session of an hour is renewed a few minutes before it ends.
        tokio::time::sleep(50 * MINUTE).await;
        exporter.simulator.set_script(script);
        let renewed = tokio::time::Instant::now();
        loop {
            let next = exporter.scrape().await;
            let is_affected = !exporter.simulator.fault_counts().is_empty();
            let has_run = runs(&next, "open_jobs") > runs(&shown, "open_jobs");
            if is_affected && has_run {
                before = Some(std::mem::replace(&mut shown, next));
                break;
            }
            if !is_affected {
                shown = next;
            }
            if renewed.elapsed() > A_RUN {
                return None;
            }
            tokio::time::sleep(2 * SECOND).await;
        }
    } else if exporter.simulator.fault_counts().is_empty() {
        return None;
    }
    let success_seen = success(&shown, "open_jobs");
    let seen = match jobs(&shown, "open_jobs") {
        None => "nothing",
        Some(jobs) => {
            assert_eq!(jobs, OPEN as f64, "{what}: a job was lost or counted twice");
            if success_seen == Some(1.0) { "this walk" } else { "the walk before" }
        }
    };
    let reasons = reasons(&shown, before.as_ref(), "open_jobs");
    exporter.simulator.clear_script();
    let is_good = |shown: &Exposition| shown.up() == Some(1.0) && all_known(shown, "details");
    until(&exporter, A_RUN, is_good).await.unwrap_or_else(|| panic!("{what}: no recovery"));
    Some(Seen { shown: seen.to_owned(), success: success_seen, reasons })
}

fn cells(seen: Option<&Seen>) -> String {
    let Some(Seen { shown, success, reasons }) = seen else { return "– | | |".to_owned() };
    match success {
        Some(success) => format!("{shown} | {success} | {reasons} |"),
        None => format!("{shown} | {reasons} |"),
    }
}

fn add_nowhere(table: &mut String, nowhere: &[String]) {
    if !nowhere.is_empty() {
        let _ = writeln!(table, "\nNot applicable: {}.", nowhere.join(", "));
    }
}

async fn table_of_listing(listing: &'static str) -> String {
    let mut table = String::from(
        "| fault | page | first run: shown | success | reason | a later run: shown | success | reason |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut nowhere = Vec::new();
    for &fault in Fault::ALL {
        let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
        for (page, position) in [("first", Position::FIRST), ("middle", Position::Middle), ("last", Position::Last)] {
            let first = listing_with_fault(fault, listing, position, false).await;
            let later = listing_with_fault(fault, listing, position, true).await;
            if first.is_none() && later.is_none() {
                continue;
            }
            let row = format!("{} {}", cells(first.as_ref()), cells(later.as_ref()));
            match rows.iter_mut().find(|(known, _)| *known == row) {
                Some((_, pages)) => pages.push(page),
                None => rows.push((row, vec![page])),
            }
        }
        if rows.is_empty() {
            nowhere.push(format!("`{fault}`"));
        }
        for (row, pages) in rows {
            let pages = if pages.len() == 3 { "any".to_owned() } else { pages.join(", ") };
            let _ = writeln!(table, "| `{fault}` | {pages} | {row}");
        }
    }
    add_nowhere(&mut table, &nowhere);
    table
}

async fn table_of_requests(of: OfJobs, occurs_later: bool) -> String {
    let mut table = String::from(
        "| fault | from the start: jobs by state | reason | later: jobs by state | reason | recovers within |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut nowhere = Vec::new();
    for &fault in Fault::ALL {
        let first = requests_with_fault(of, fault, false).await;
        let later = if occurs_later { requests_with_fault(of, fault, true).await } else { None };
        let recovery = [&first, &later].into_iter().flatten().map(|(_, took)| *took).max();
        let Some(recovery) = recovery else {
            nowhere.push(format!("`{fault}`"));
            continue;
        };
        // The answer takes a moment.
        let minutes = if recovery <= MINUTE + 10 * SECOND { 1 } else { 10 };
        assert!(recovery <= minutes * (MINUTE + 10 * SECOND), "{fault}: good again after {recovery:?}");
        let (first, later) = [first, later].map(|seen| cells(seen.map(|(seen, _)| seen).as_ref())).into();
        let _ = writeln!(table, "| `{fault}` | {first} {later} {minutes} min |");
    }
    add_nowhere(&mut table, &nowhere);
    table
}

async fn table_of_sts(operation: Operation) -> String {
    let mut table = String::from(
        "| fault | first run: shown | success | reason | a later run: shown | success | reason |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut nowhere = Vec::new();
    for &fault in Fault::ALL {
        let first = sts_with_fault(fault, operation, false).await;
        let later = sts_with_fault(fault, operation, true).await;
        if first.is_none() && later.is_none() {
            nowhere.push(format!("`{fault}`"));
            continue;
        }
        let _ = writeln!(table, "| `{fault}` | {} {}", cells(first.as_ref()), cells(later.as_ref()));
    }
    add_nowhere(&mut table, &nowhere);
    table
}

fn meanings() -> String {
    let mut text = String::from("| fault | effect |\n| --- | --- |\n");
    for &fault in Fault::ALL {
        let _ = writeln!(text, "| `{fault}` | {} |", meaning(fault));
    }
    text
}

/// Compares a section of the document with what was found, or writes it anew.
fn check(section: &str, found: &str) {
    static DOCUMENT: Mutex<&str> = Mutex::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md"));
    let path = DOCUMENT.lock().unwrap_or_else(PoisonError::into_inner);
    let written = std::fs::read_to_string(*path).expect("docs/reliability.md");
    let (begin, end) = (format!("<!-- {section}: generated -->\n\n"), "\n<!-- end -->\n");
    let (head, rest) = written.split_once(&begin).unwrap_or_else(|| panic!("no mark {begin}"));
    let (known, tail) = rest.split_once(end).unwrap_or_else(|| panic!("no end of {section}"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(*path, format!("{head}{begin}{found}{end}{tail}")).expect("docs/reliability.md");
        return;
    }
    let advice = "docs/reliability.md is stale: if it should change, run `UPDATE_DOCS=1 cargo test --test integration -- matrix`";
    for (line, known) in found.lines().zip(known.lines()) {
        assert_eq!(line, known, "{section}: {advice}");
    }
    assert_eq!(found, known, "{section}: {advice}");
}

#[test]
fn every_fault_is_explained() {
    check("faults", &meanings());
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_open_walks_does_what_the_document_says() {
    check("open_jobs", &table_of_listing("open_jobs").await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_full_walks_does_what_the_document_says() {
    check("all_jobs", &table_of_listing("all_jobs").await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_describejob_does_what_the_document_says() {
    check("describejob", &table_of_requests(DETAILS, true).await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_listjobexecutionsforjob_does_what_the_document_says() {
    check("listjobexecutionsforjob", &table_of_requests(EXECUTIONS, true).await);
}

/// Tags that are known are not read again within a day.
#[tokio::test(start_paused = true)]
async fn every_fault_of_listtagsforresource_does_what_the_document_says() {
    check("listtagsforresource", &table_of_requests(TAGS, false).await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_getcalleridentity_does_what_the_document_says() {
    check("getcalleridentity", &table_of_sts(Operation::GetCallerIdentity).await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_assumerole_does_what_the_document_says() {
    check("assumerole", &table_of_sts(Operation::AssumeRole).await);
}
