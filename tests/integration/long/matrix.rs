//! The fault matrix: every fault of the simulator at every place where it can strike, at the first refresh ever and at a later
//! one. What it finds is written into `docs/reliability.md`, and held against it.
//!
//! `UPDATE_DOCS=1 cargo test --test integration matrix` writes the tables anew; read what changed before you believe it.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_iot_jobs_exporter::config::{self, Sources};
use aws_iot_jobs_exporter::jobs::{AccountId, ExecutionStatus, Status};
use aws_iot_jobs_exporter::simulator::{Fault, Fleet, Job, Operation, Position, Role, Rule, Script, Simulator};

use crate::support::{Exporter, Exposition, NOW, REGION, account, simulator as simulated};

/// Three pages: a first, a middle and a last one.
const JOBS: usize = 600;

/// Of them, those that are open, and described in each refresh.
const OPEN: usize = 5;

/// Refreshes after the fault in which a target has to have found back.
const PATIENCE: u32 = 30;

/// Where a fault strikes.
#[derive(Clone, Copy)]
struct Place {
    operation: Operation,
    position: Position,
}

impl Place {
    fn is_of_sts(self) -> bool {
        matches!(self.operation, Operation::GetCallerIdentity | Operation::AssumeRole)
    }
}

const FIRST_PAGE: Place = Place { operation: Operation::ListJobs, position: Position::FIRST };
const MIDDLE_PAGE: Place = Place { operation: Operation::ListJobs, position: Position::Middle };
const LAST_PAGE: Place = Place { operation: Operation::ListJobs, position: Position::Last };
const DESCRIBE_JOB: Place = Place { operation: Operation::DescribeJob, position: Position::Any };
const GET_CALLER_IDENTITY: Place = Place { operation: Operation::GetCallerIdentity, position: Position::Any };
const ASSUME_ROLE: Place = Place { operation: Operation::AssumeRole, position: Position::Any };

/// What each fault is, in a few words.
fn meaning(fault: Fault) -> &'static str {
    match fault {
        Fault::Throttle400 => "throttled, with status 400 as the service model says",
        Fault::Throttle429 => "throttled, with status 429 as some calls answer in practice",
        Fault::Error500 => "500, an internal failure",
        Fault::Error503 => "503, the service is unavailable",
        Fault::Denied => "403, a policy lacks the action",
        Fault::ExpiredCredentials => "403, temporary credentials that nobody renewed",
        Fault::InvalidCredentials => "403, an access key that was deleted or mistyped",
        Fault::ClockSkew => "a server's clock that is an hour ahead",
        Fault::Reset => "the connection is reset without an answer",
        Fault::Refused => "the connection is reset, and so is every new one for a moment",
        Fault::Hang => "no answer, on a connection that stays open",
        Fault::Slow => "the right answer after 9 s",
        Fault::HangInBody => "half of an answer, and then silence",
        Fault::Truncated => "half of an answer, and then the end of the connection",
        Fault::Oversized => "an answer of 64 MiB",
        Fault::Html => "200 with the login page of a proxy",
        Fault::WrongJson => "200 with half of the answer, and a `Content-Length` that is right for it",
        Fault::WrongTypes => "every text is a number, and every number a text",
        Fault::RepeatedToken => "a page's token is the one that it was asked for with",
        Fault::TokenCycle => "a token leads back to the second page",
        Fault::ExpiredToken => "a page's token is refused",
        Fault::EmptyPage => "page after page without a job, and always a further one",
        Fault::EmptyToken => "the last page's token is an empty text instead of none",
        Fault::MissingJobs => "a page without its list of jobs",
        Fault::DuplicateJob => "the last job of a page is on it twice",
        Fault::MovedJob => "the first job of the walk is on a later page again, with another status",
        Fault::UnknownStatus => "a status that AWS does not have",
        Fault::MissingFields => "fields are missing, another one in each job",
        Fault::NullFields => "fields are null, another one in each job",
    }
}

fn role() -> Role {
    Role::new(AccountId::parse("210987654321").expect("an account id"), "reader")
}

fn fleet(jobs: usize) -> Vec<Job> {
    let job = |n: usize| {
        let status = if n < OPEN { Status::InProgress } else { Status::Completed };
        // Those that ended did so before anybody asks what they were for.
        let created = NOW.before(Duration::from_secs(60 + n as u64) + if n < OPEN { Duration::ZERO } else { DAYS });
        let executions = if n < OPEN { 3 } else { 0 };
        Job::new(format!("job-{n:06}"), status, created)
            .targeting_group("line")
            .with_executions(ExecutionStatus::InProgress, executions)
            .updated(created)
    };
    (0..jobs).map(job).collect()
}

const DAYS: Duration = Duration::from_hours(24 * 30);

/// What a refresh came to while a fault was there.
#[derive(PartialEq)]
struct Met {
    published: &'static str,
    up: f64,
    reason: String,
    notes: String,
}

/// What an exposition counts of what went wrong in the walk that it shows, where there is any.
fn notes(shown: &Exposition) -> String {
    const COUNTED: [(&str, &str); 6] = [
        ("aws_iot_jobs_last_walk_duplicates", "duplicates"),
        ("aws_iot_jobs_last_walk_recovered", "recovered"),
        ("aws_iot_jobs_last_walk_malformed", "malformed"),
        ("aws_iot_jobs_undescribed", "undescribed"),
        ("aws_iot_jobs_describe_failures", "describe_failures"),
        ("aws_iot_jobs_describe_denied", "describe_denied"),
    ];
    let counts = COUNTED.iter().filter_map(|(family, short)| {
        let count = shown.value(family, &[]).filter(|count| *count > 0.0)?;
        Some(format!("{short} {count}"))
    });
    counts.collect::<Vec<_>>().join(", ")
}

fn failures(shown: &Exposition) -> Vec<(String, f64)> {
    let rows = shown.family("aws_iot_jobs_exporter_refresh_failures_total");
    rows.map(|(labels, count)| (labels["reason"].clone(), count)).filter(|(_, count)| *count > 0.0).collect()
}

fn ended(shown: &Exposition) -> f64 {
    shown.family("aws_iot_jobs_exporter_refreshes_total").map(|(_, count)| count).sum::<f64>()
}

fn struck(exporter: &Exporter) -> bool {
    !exporter.simulator.struck().is_empty()
}

async fn exporter(place: Place, script: Option<Script>) -> Exporter {
    let simulator = simulated(if place.is_of_sts() { Vec::new() } else { fleet(JOBS) });
    if let Some(script) = script {
        simulator.set_script(script);
    }
    if !place.is_of_sts() {
        return Exporter::start(simulator, |config| config.limits.max_pages = 50).await;
    }
    let account = AccountId::parse("210987654321").expect("an account id");
    simulator.set_fleet(&account, REGION, Fleet::new(fleet(10), []));
    simulator.add_role(role());
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let target = format!("{{region: {REGION}, endpoint_url: 'http://simulator.test', role_arn: '{}'}}", role().arn());
    std::fs::write(file.path(), format!("targets: [{target}]")).expect("a written file");
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    let targets = config::load(&sources).expect("a valid configuration").targets;
    Exporter::start(simulator, |config| config.targets = targets).await
}

fn jobs(simulator: &Simulator) -> f64 {
    let other = AccountId::parse("210987654321").expect("an account id");
    let of = |account: &AccountId| simulator.truth(account, REGION).values().sum::<u64>() as f64;
    of(&account()) + of(&other)
}

/// Lets a fault strike wherever it finds its place, in the first refresh or in a later one, until it is lifted. Gives what
/// was seen, and how many refreshes it took to find back; nothing where it has no place there.
async fn meet(fault: Fault, place: Place, later: bool) -> Option<(Met, String)> {
    let script = Script::new([Rule::new(fault).on(place.operation).at(place.position)]);
    let exporter = exporter(place, (!later).then(|| script.clone())).await;
    let (mut before, mut refreshes) = (None, 1);
    let mut shown = exporter.refreshed(refreshes).await;
    if later {
        if !place.is_of_sts() {
            // One more, so that this walk differs from the one before.
            let another = fleet(JOBS + 1).remove(JOBS);
            exporter.simulator.with_fleet(&account(), REGION, |fleet| drop(fleet.add_job(another)));
        }
        // A session of an hour is renewed soon after.
        if place.is_of_sts() {
            tokio::time::sleep(Duration::from_mins(58)).await;
            shown = exporter.scrape().await;
            refreshes = (1..=1000).find(|n| f64::from(*n) >= ended(&shown)).expect("a number");
        }
        exporter.simulator.set_script(script);
        let last = refreshes + if place.is_of_sts() { 4 } else { 1 };
        while !struck(&exporter) && refreshes < last {
            refreshes += 1;
            before = Some(std::mem::replace(&mut shown, exporter.refreshed(refreshes).await));
        }
    }
    if !struck(&exporter) {
        return None;
    }
    let up = shown.up().expect("a target is up or not");
    let lines_before = before.as_ref().map(Exposition::job_lines).unwrap_or_default();
    let published = match shown.job_lines() {
        lines if lines.is_empty() => "nothing",
        lines if up == 0.0 => {
            assert!(
                lines == lines_before,
                "{fault} on {}: a failed refresh changed what is shown",
                place.operation.as_str()
            );
            "the walk before"
        }
        _ => {
            let total: f64 = shown.jobs().values().sum();
            assert_eq!(
                total,
                jobs(&exporter.simulator),
                "{fault} on {}: a job was lost or counted twice",
                place.operation.as_str()
            );
            "this walk"
        }
    };
    let failures_before = before.as_ref().map(failures).unwrap_or_default();
    let reasons = failures(&shown).into_iter().filter(|row| !failures_before.contains(row));
    let reason = reasons.map(|(reason, _)| format!("`{reason}`")).collect::<Vec<_>>().join(" ");
    let noted = if up == 1.0 { notes(&shown) } else { String::new() };
    let met = Met { published, up, reason, notes: noted };

    exporter.simulator.clear_script();
    let lifted = tokio::time::Instant::now();
    for recovery in 1..=PATIENCE {
        let healed = exporter.refreshed(refreshes + recovery).await;
        let total: f64 = healed.jobs().values().sum();
        if healed.up() == Some(1.0) && notes(&healed).is_empty() && total == jobs(&exporter.simulator) {
            let minutes = lifted.elapsed().as_secs() / 60;
            return Some((met, if recovery == 1 { "the next".to_owned() } else { format!("after {minutes} min") }));
        }
    }
    panic!("{fault} on {}: no recovery within {PATIENCE} refreshes", place.operation.as_str())
}

fn cells(met: Option<&(Met, String)>) -> String {
    let Some((met, _)) = met else { return "– | | |".to_owned() };
    let notes = if met.notes.is_empty() { String::new() } else { format!(" ({})", met.notes) };
    format!("{}{notes} | {} | {} |", met.published, met.up, met.reason)
}

async fn table(place: Place) -> String {
    let mut table = String::from(
        "| fault | first refresh: shown | up | reason | a later one: shown | up | reason | good again with refresh |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut nowhere = Vec::new();
    for &fault in Fault::ALL {
        let (first, later) = (meet(fault, place, false).await, meet(fault, place, true).await);
        if first.is_none() && later.is_none() {
            nowhere.push(format!("`{fault}`"));
            continue;
        }
        let mut recoveries: Vec<&str> = [&first, &later].into_iter().flatten().map(|(_, when)| when.as_str()).collect();
        recoveries.dedup();
        let recovery = recoveries.join(", ");
        let (first, later) = (cells(first.as_ref()), cells(later.as_ref()));
        let _ = writeln!(table, "| `{fault}` | {first} {later} {recovery} |");
    }
    if !nowhere.is_empty() {
        let _ = writeln!(table, "\nNothing to strike here: {}.", nowhere.join(", "));
    }
    table
}

fn meanings() -> String {
    let mut text = String::from("| fault | is |\n| --- | --- |\n");
    for &fault in Fault::ALL {
        let _ = writeln!(text, "| `{fault}` | {} |", meaning(fault));
    }
    text
}

/// Holds a section of the document against what was found, or writes it anew.
fn settle(section: &str, found: &str) {
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
    let advice = "docs/reliability.md is stale: if it should change, run `UPDATE_DOCS=1 cargo test matrix`";
    for (line, known) in found.lines().zip(known.lines()) {
        assert_eq!(line, known, "{section}: {advice}");
    }
    assert_eq!(found, known, "{section}: {advice}");
}

#[test]
fn every_fault_is_explained() {
    settle("faults", &meanings());
}

#[tokio::test(start_paused = true)]
async fn every_fault_on_the_first_page_does_what_the_document_says() {
    settle("first page", &table(FIRST_PAGE).await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_on_a_middle_page_does_what_the_document_says() {
    settle("middle page", &table(MIDDLE_PAGE).await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_on_the_last_page_does_what_the_document_says() {
    settle("last page", &table(LAST_PAGE).await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_describejob_does_what_the_document_says() {
    settle("describejob", &table(DESCRIBE_JOB).await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_getcalleridentity_does_what_the_document_says() {
    settle("getcalleridentity", &table(GET_CALLER_IDENTITY).await);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_assumerole_does_what_the_document_says() {
    settle("assumerole", &table(ASSUME_ROLE).await);
}
