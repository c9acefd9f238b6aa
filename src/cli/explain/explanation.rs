//! What is known about one job now, and what follows from it.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::Serialize;

use crate::aws::Connection;
use crate::aws::rate_limit::Class;
use crate::clock::{Age, Clock, Time};
use crate::collector::looks;
use crate::collector::walks::account;
use crate::jobs::{
    AccountId, Description, ExecutionCounts, ExecutionStatus, JobTarget, Look, LookClass, LookResult, LookScope,
    OVERDUE_AFTER, Start, Status, TargetSelection, Timestamp,
};
use crate::metrics::Failure;
use crate::web::links::{commands, console_url};

/// The target that is asked.
#[derive(Clone, Debug)]
pub(super) struct AskedTarget {
    pub(super) name: String,
    pub(super) region: String,
}

/// How many things of each open status are named.
const MAX_THINGS: usize = 10;

/// An execution that is not finished.
#[derive(Clone, Debug, Serialize)]
pub(super) struct OpenThing {
    /// The thing's name.
    pub thing: String,
    /// `QUEUED` or `IN_PROGRESS`.
    pub status: &'static str,
    /// Since when it has had the status.
    pub since: Time,
}

/// One job, and why it is not done.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Explanation {
    /// The target that has the job.
    pub target: String,
    /// Its account.
    pub aws_account_id: String,
    /// Its region.
    pub aws_region: String,
    /// The job's id.
    pub job_id: String,
    /// The job's status; `null` if AWS does not say.
    pub status: Option<String>,
    /// `SNAPSHOT` or `CONTINUOUS`; `null` if AWS does not say.
    pub target_selection: Option<String>,
    /// When it was created.
    pub created_at: Option<Time>,
    /// When it ended.
    pub completed_at: Option<Time>,
    /// When it starts; `null` for at once.
    pub scheduled_start_at: Option<Time>,
    /// When it ends at the latest.
    pub scheduled_end_at: Option<Time>,
    /// Whether it runs in maintenance windows only.
    pub windowed: bool,
    /// Executions by status. A status that AWS does not count is not there.
    pub executions: BTreeMap<&'static str, u32>,
    /// When an execution last started, reported, ended or was retried; `null` if that is not known.
    pub last_progress_at: Option<Time>,
    /// The things whose executions have been open for the longest.
    pub things: Vec<OpenThing>,
    /// Why `things` and `last_progress_at` are not complete.
    pub executions_failure: Option<String>,
    /// The thing groups that it targets.
    pub thing_groups: Vec<String>,
    /// How many single things it targets.
    pub single_things: usize,
    /// How long an execution can be in progress, in seconds; `null` without a limit.
    pub in_progress_timeout_seconds: Option<u64>,
    /// How often executions are tried again, by kind of failure.
    pub retries: BTreeMap<&'static str, u32>,
    /// When AWS aborts the job.
    pub abort_criteria: Vec<String>,
    /// How many things are notified in a minute, at most.
    pub maximum_per_minute: Option<u32>,
    /// Why it is not done, in sentences.
    pub why: Vec<String>,
    /// What to do next, in sentences and commands.
    pub next: Vec<String>,
    /// Its page in the AWS console.
    pub console_url: String,
    #[serde(skip)]
    now: Timestamp,
    #[serde(skip)]
    counts: ExecutionCounts,
}

/// Asks AWS about a job; `None` if there is no such job.
///
/// # Errors
/// If the job cannot be described. Executions that cannot be listed are part of the explanation.
pub(super) async fn explain(
    connection: &Connection,
    target: AskedTarget,
    job_id: &str,
    clock: Clock,
) -> Result<Option<Explanation>, Failure> {
    let account = account(connection).await?;
    let permit = connection.describe_permit(Class::Redescription).await.map_err(Failure::from)?;
    let Some(description) = connection.describe_job(job_id, permit).await.map_err(Failure::from)? else {
        return Ok(None);
    };
    let look = Look::new(LookScope::All, MAX_THINGS, Vec::new());
    let looked = looks::look(connection, &account, job_id, LookClass::First, look, clock).await;
    let mut explanation = Explanation::new(target, &account, job_id, &description, clock.now().wall);
    match looked {
        Ok(Some(look)) => explanation.add_executions(&look),
        Ok(None) => return Ok(None),
        Err(Failure { reason, message }) => {
            explanation.executions_failure = Some(format!("{message}. {}", reason.advice()));
        }
    }
    explanation.reason(&description);
    Ok(Some(explanation))
}

impl Explanation {
    fn new(target: AskedTarget, account: &AccountId, job_id: &str, description: &Description, now: Timestamp) -> Self {
        let Description { summary, targets, executions, schedule, abort_criteria, limits } = description;
        let targets = targets.as_deref().unwrap_or_default();
        let group = |target: &JobTarget| match target {
            JobTarget::ThingGroup(name) => Some(name.clone()),
            JobTarget::Thing | JobTarget::Unreadable => None,
        };
        let kind = |failure: Option<ExecutionStatus>| failure.map_or("any failure", ExecutionStatus::as_str);
        let counted = ExecutionStatus::ALL.into_iter();
        Self {
            aws_account_id: account.as_str().to_owned(),
            job_id: job_id.to_owned(),
            status: summary.status.as_ref().map(ToString::to_string),
            target_selection: summary.target_selection.as_ref().map(ToString::to_string),
            created_at: summary.created_at.map(Time),
            completed_at: summary.completed_at.map(Time),
            scheduled_start_at: schedule.start().map(Time),
            scheduled_end_at: schedule.end.map(Time),
            windowed: schedule.windowed,
            executions: counted.filter_map(|status| Some((status.as_str(), executions.get(status)?))).collect(),
            last_progress_at: None,
            things: Vec::new(),
            executions_failure: None,
            thing_groups: targets.iter().filter_map(group).collect(),
            single_things: targets.iter().filter(|target| **target == JobTarget::Thing).count(),
            in_progress_timeout_seconds: limits.in_progress_timeout.map(|timeout| timeout.as_secs()),
            retries: limits.retries.iter().map(|(failure, number)| (kind(*failure), *number)).collect(),
            abort_criteria: abort_criteria
                .iter()
                .map(|criterion| {
                    let (whole, hundredths) = (criterion.threshold / 100, criterion.threshold % 100);
                    let failure = kind(criterion.failure);
                    let least = criterion.min_executed;
                    format!("{failure} of {whole}.{hundredths:02} % of at least {least} things")
                })
                .collect(),
            maximum_per_minute: limits.maximum_per_minute,
            why: Vec::new(),
            next: Vec::new(),
            console_url: console_url(&target.region, job_id),
            target: target.name,
            aws_region: target.region,
            now,
            counts: *executions,
        }
    }

    fn add_executions(&mut self, look: &LookResult) {
        self.last_progress_at = look.progressed.filter(|_| look.is_complete).map(Time);
        let open = look.named.iter().map(|execution| OpenThing {
            thing: execution.thing.to_string(),
            status: execution.status.as_str(),
            since: Time(execution.since),
        });
        self.things = open.collect();
        self.things.sort_by_key(|thing| thing.since.0);
        if !look.is_complete {
            self.executions_failure =
                Some("the job has more than 25,000 executions, and not all were listed".to_owned());
        }
    }

    /// Adds what follows from the facts.
    fn reason(&mut self, description: &Description) {
        let count = |status| self.counts.get(status).unwrap_or_default();
        let (queued, in_progress) = (count(ExecutionStatus::Queued), count(ExecutionStatus::InProgress));
        let (mut why, mut next) = (Vec::new(), Vec::new());
        let age = |at: Time| Age(self.now.since(at.0));
        match &description.summary.status {
            Some(status) if !status.is_open() => {
                let at = self.completed_at.map(|at| format!(" at {at}")).unwrap_or_default();
                why.push(format!("It is done: it ended{at} as {status}."));
            }
            Some(Status::Scheduled) if self.windowed => {
                why.push("It waits for its next maintenance window.".to_owned());
            }
            Some(Status::Scheduled) => match description.schedule.start {
                Start::At(start) if start > self.now => why.push(format!("It starts at {}.", Time(start))),
                Start::At(start) if start.after(OVERDUE_AFTER) >= self.now => {
                    why.push(format!("It is about to start: its start time was {}.", Time(start)));
                }
                Start::At(start) => {
                    why.push(format!("It should have started {} ago, at {}.", age(Time(start)), Time(start)));
                    next.push(
                        "Look at the job in the AWS console, and ask AWS support: AWS itself starts scheduled jobs."
                            .to_owned(),
                    );
                }
                Start::AtOnce | Start::Unreadable => why.push("It has not started.".to_owned()),
            },
            Some(Status::DeletionInProgress) => why.push("It is being deleted.".to_owned()),
            _ if self.counts.open().is_none() => {
                why.push("AWS does not say how many of its executions are open.".to_owned());
            }
            _ if queued == 0 && in_progress == 0 => {
                why.push(if description.summary.target_selection == Some(TargetSelection::Continuous) {
                    "All its executions have ended. It is CONTINUOUS, so it stays open for things that join its groups."
                        .to_owned()
                } else {
                    "No execution is open. AWS may still be creating them, or its groups have no things.".to_owned()
                });
            }
            _ => {}
        }
        if queued > 0 {
            let oldest = self.things.iter().find(|thing| thing.status == "QUEUED");
            let oldest = oldest
                .map(|thing| format!(" {} has not started it for {}.", thing.thing, age(thing.since)))
                .unwrap_or_default();
            why.push(format!("{} not started.{oldest}", executions(queued)));
            next.push(
                "Check whether these things are connected to AWS IoT, and whether their software asks for jobs: \
                 aws iot search-index --query-string 'thingName:NAME' (with fleet indexing), or the log of the device."
                    .to_owned(),
            );
            next.push(
                "A device takes its jobs one after the other. To see whether an earlier one holds it up: \
                 aws iot list-job-executions-for-thing --thing-name NAME --status IN_PROGRESS"
                    .to_owned(),
            );
        }
        if in_progress > 0 {
            let oldest = self.things.iter().find(|thing| thing.status == "IN_PROGRESS");
            let oldest = oldest
                .map(|thing| format!(" {} has worked on it for {}.", thing.thing, age(thing.since)))
                .unwrap_or_default();
            why.push(format!("{} in progress.{oldest}", executions(in_progress)));
            next.push(match self.in_progress_timeout_seconds {
                None => format!(
                    "The job has no timeout, so an execution that hangs never ends by itself. To end one: \
                     aws iot cancel-job-execution --region {} --job-id {} --thing-name NAME --force",
                    self.aws_region, self.job_id
                ),
                Some(timeout) => format!("AWS ends each of them after {} in progress.", Age::from_secs(timeout)),
            });
        }
        let failed = self.counts.sum(ExecutionStatus::is_failure).filter(|failed| *failed > 0);
        if let Some((failed, share)) = failed.zip(self.counts.share(ExecutionStatus::is_failure)) {
            let percent = share * 100.0;
            why.push(format!("{failed} executions failed, timed out or were rejected: {percent:.1} % of all."));
            next.push(format!(
                "Find out why executions fail before more devices take the job: look at the statusDetails of one that failed \
                 (aws iot describe-job-execution --region {} --job-id {} --thing-name NAME). If the job is at fault, cancel it: \
                 aws iot cancel-job --region {} --job-id {}",
                self.aws_region, self.job_id, self.aws_region, self.job_id
            ));
        }
        if let Some(failure) = &self.executions_failure {
            why.push(format!("Not all is known about its executions: {failure}."));
        }
        next.extend(commands(&self.aws_region, &self.job_id, Some(&self.counts)));
        (self.why, self.next) = (why, next);
    }
}

fn executions(number: u32) -> String {
    if number == 1 { "1 execution is".to_owned() } else { format!("{number} executions are") }
}

impl Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job_id, target, aws_account_id, aws_region, .. } = self;
        writeln!(f, "Job {job_id} of target {target} (account {aws_account_id}, {aws_region})\n")?;
        let unknown = || "unknown".to_owned();
        let text = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
        let time = |at: Option<Time>| at.map(|at| format!("{at}, {} ago", Age(self.now.since(at.0))));
        let counts = ExecutionStatus::ALL.into_iter().filter_map(|status| Some((status, self.counts.get(status)?)));
        let executions: Vec<String> = counts
            .filter(|(_, count)| *count > 0)
            .map(|(status, count)| format!("{count} {}", status.as_str()))
            .collect();
        let share = |share: Option<f64>| share.map_or_else(unknown, |share| format!("{:.1} %", share * 100.0));
        let ended = self.counts.share(|status| !status.is_open());
        let failed = self.counts.share(ExecutionStatus::is_failure);
        let no_executions = if self.executions.is_empty() { "unknown" } else { "none" };
        let mut groups = self.thing_groups.clone();
        if self.single_things > 0 {
            groups.push(format!("{} single things", self.single_things));
        }
        let schedule = [
            self.windowed.then(|| "in maintenance windows only".to_owned()),
            self.scheduled_start_at.map(|at| format!("starts at {at}")),
            self.scheduled_end_at.map(|at| format!("ends at {at}")),
        ];
        let schedule: Vec<String> = schedule.into_iter().flatten().collect();
        let or = |texts: Vec<String>, other: &str| if texts.is_empty() { other.to_owned() } else { texts.join(", ") };
        let retries = self.retries.iter().map(|(kind, number)| format!("{number} for {kind}")).collect();
        for (name, value) in [
            ("Status", format!("{}, {}", text(&self.status), text(&self.target_selection))),
            ("Created", time(self.created_at).unwrap_or_else(unknown)),
            ("Executions", or(executions, no_executions)),
            ("Ended", format!("{} of all, failed {}", share(ended), share(failed))),
            ("Last progress", time(self.last_progress_at).unwrap_or_else(unknown)),
            ("Targets", or(groups, "unknown")),
            ("Schedule", or(schedule, "at once")),
            (
                "Timeout",
                self.in_progress_timeout_seconds
                    .map_or_else(|| "none".to_owned(), |secs| Age::from_secs(secs).to_string()),
            ),
            ("Retries", or(retries, "none")),
            ("Abort criteria", or(self.abort_criteria.clone(), "none")),
            (
                "Rollout",
                self.maximum_per_minute
                    .map_or_else(|| "no limit".to_owned(), |number| format!("{number} things a minute")),
            ),
        ] {
            writeln!(f, "{name:<18} {value}")?;
        }
        if !self.things.is_empty() {
            writeln!(f, "\nOpen for the longest")?;
            let width = self.things.iter().map(|thing| thing.thing.len()).max().unwrap_or_default();
            for OpenThing { thing, status, since } in &self.things {
                writeln!(f, "  {thing:<width$}  {status:<11}  {}", Age(self.now.since(since.0)))?;
            }
        }
        for (title, lines) in [("Why it is not done", &self.why), ("What to do next", &self.next)] {
            if !lines.is_empty() {
                writeln!(f, "\n{title}")?;
                lines.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
        }
        writeln!(f, "\n{}", self.console_url)
    }
}
