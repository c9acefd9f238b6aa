//! The words of AWS IoT Jobs as plain values: statuses, target selections, times, job summaries.
//!
//! Nothing here reads a clock, does I/O or knows the SDK. Source of every shape: the AWS IoT API reference, pages
//! [`JobSummary`](https://docs.aws.amazon.com/iot/latest/apireference/API_JobSummary.html) and
//! [`Job`](https://docs.aws.amazon.com/iot/latest/apireference/API_Job.html).

mod description;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use description::{
    Description, ExecutionCounts, ExecutionStatus, JobTarget, Schedule, Start, is_thing_group_name, parse_start_time,
};

/// What a label says where a value is missing that AWS should have given.
///
/// Angle brackets can't occur in a status, a target selection or a thing group's name, so no real value collides with it.
pub const UNKNOWN: &str = "<unknown>";

/// What the label `thing_group` says of a job that targets single things only.
pub const NONE: &str = "<none>";

/// What a label says for values that are folded together: too many of them, or not fit to be shown.
pub const OTHER: &str = "<other>";

/// A point in time, in milliseconds since the Unix epoch: the precision that AWS IoT gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest time that is believed of a job, in the year 2527: milliseconds up to it fit into 44 bits.
    pub const LATEST: Self = Self((1 << 44) - 2);

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the Unix epoch, saturating.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch with a fraction, as Prometheus writes times.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// This time moved by `duration` into the future, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This time moved by `duration` into the past, saturating.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The time from `earlier` to this one; zero where `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

/// Whether two calls tell of the same creation of a job. Nothing says that all of them write times with the same fraction, and
/// one that leaves the time out contradicts nobody.
#[must_use]
pub fn same_creation(one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.0.div_euclid(1000) == other.0.div_euclid(1000),
        _ => true,
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(millis(after)),
            Err(before) => Self(-millis(before.duration())),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Declares an enumeration of AWS: the values known today, and a room for those that AWS adds later.
macro_rules! aws_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$value_meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$value_meta])* $variant,)+
            /// A value that AWS added after this was written, in AWS's own text.
            Unknown(Box<str>),
        }

        impl $name {
            /// Every value that is known today.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant),+];

            /// The text that AWS writes for this value.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    _ => Self::Unknown(text.into()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

aws_enum! {
    /// A job's status.
    Status {
        /// Rolling out, or waiting for devices.
        InProgress = "IN_PROGRESS",
        /// Waiting for its start time or its next maintenance window.
        Scheduled = "SCHEDULED",
        /// Being deleted; its executions go first.
        DeletionInProgress = "DELETION_IN_PROGRESS",
        /// All executions are terminal, which does not say that any succeeded.
        Completed = "COMPLETED",
        /// Canceled by somebody, or by its own abort configuration.
        Canceled = "CANCELED",
    }
}

impl Status {
    /// Whether a job of this status can still change by itself. An unknown status is not taken for open: nothing is known of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::InProgress | Self::Scheduled | Self::DeletionInProgress)
    }
}

aws_enum! {
    /// Which devices a job is for.
    TargetSelection {
        /// The devices that were in the targets when the job was created.
        Snapshot = "SNAPSHOT",
        /// Those, and every device that joins a target group later.
        Continuous = "CONTINUOUS",
    }
}

/// Whether a text from AWS may become a label value as it is: `[A-Za-z0-9_.]{1,64}`, the alphabet of every status, selection
/// and error code so far. Anything else could be free text, and is folded into [`OTHER`].
#[must_use]
pub fn is_label_text(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

/// An AWS account id: 12 digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(Box<str>);

impl AccountId {
    /// Reads an account id.
    ///
    /// # Errors
    /// Where `text` is not 12 ASCII digits.
    pub fn parse(text: &str) -> Result<Self, InvalidAccountId> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidAccountId)
        }
    }

    /// The 12 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not an account id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an AWS account id is 12 digits")]
pub struct InvalidAccountId;

/// The parts of a job's ARN that say something: `arn:PARTITION:iot:REGION:ACCOUNT:job/JOB_ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobArn<'a> {
    /// The account that owns the job.
    pub account: AccountId,
    /// The last part, which is the job's id.
    pub job_id: &'a str,
}

impl<'a> JobArn<'a> {
    /// Reads a job's ARN; `None` where it has not the form of one.
    #[must_use]
    pub fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        if parts.next()? != "arn" {
            return None;
        }
        let (_partition, service, _region) = (parts.next()?, parts.next()?, parts.next()?);
        let account = AccountId::parse(parts.next()?).ok()?;
        let job_id = parts.next()?.strip_prefix("job/")?;
        (service == "iot" && !job_id.is_empty()).then_some(Self { account, job_id })
    }
}

/// One job as `ListJobs` tells of it. **Every field is optional** in the API; none is guessed here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSummary {
    /// `jobId`, 1 to 64 of `[a-zA-Z0-9_-]`.
    pub job_id: Option<String>,
    /// `jobArn`.
    pub job_arn: Option<String>,
    /// `thingGroupId`: one id, of a job that can have a hundred targets; when AWS fills it is not documented.
    pub thing_group_id: Option<String>,
    /// `targetSelection`.
    pub target_selection: Option<TargetSelection>,
    /// `status`.
    pub status: Option<Status>,
    /// `createdAt`.
    pub created_at: Option<Timestamp>,
    /// `lastUpdatedAt`.
    pub last_updated_at: Option<Timestamp>,
    /// `completedAt`.
    pub completed_at: Option<Timestamp>,
    /// `isConcurrent`: rolling out or cancelling right now, which is what the concurrency quota counts.
    pub is_concurrent: Option<bool>,
}

impl JobSummary {
    /// The job's id: `jobId`, else the last part of `jobArn`. An empty one counts as none.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        let from_arn = || self.job_arn.as_deref().and_then(JobArn::parse).map(|arn| arn.job_id);
        self.job_id.as_deref().filter(|id| !id.is_empty()).or_else(from_arn)
    }
}

/// Which jobs a target watches: the filters of `ListJobs` itself, passed on as they are. The default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Only these statuses, one walk each (`ListJobs` takes a single one); empty for all.
    pub statuses: Vec<Status>,
    /// Only this target selection.
    pub target_selection: Option<TargetSelection>,
    /// Only jobs whose target is this thing group.
    pub thing_group_name: Option<String>,
    /// Only jobs whose target is the thing group with this id. `ListJobs` takes a name or an id.
    pub thing_group_id: Option<String>,
    /// Only jobs of this namespace.
    pub namespace_id: Option<String>,
}

impl Scope {
    /// Every known pair of status and selection of which a walk in this scope meets all jobs, so that none of them is 0.
    ///
    /// Filtered by thing group, `ListJobs` leaves SCHEDULED jobs out (reported in aws-cli#8924): of those nothing is known.
    pub fn known_pairs(&self) -> impl Iterator<Item = (Status, TargetSelection)> + '_ {
        let statuses = if self.statuses.is_empty() { Status::KNOWN } else { &self.statuses };
        let met = |status: &&Status| !self.is_of_a_group() || **status != Status::Scheduled;
        statuses
            .iter()
            .filter(met)
            .flat_map(move |status| self.selections().iter().map(|s| (status.clone(), s.clone())))
    }

    /// Whether only jobs of one thing group are listed.
    fn is_of_a_group(&self) -> bool {
        self.thing_group_name.is_some() || self.thing_group_id.is_some()
    }

    /// Whether a walk in this scope would list a job that is as told here.
    #[must_use]
    pub fn covers(&self, job: &JobSummary) -> bool {
        let has_status = |status: &Status| self.statuses.is_empty() || self.statuses.contains(status);
        let is_left_out = self.is_of_a_group() && job.status == Some(Status::Scheduled);
        job.status.as_ref().is_none_or(has_status)
            && !is_left_out
            && (self.target_selection.is_none() || self.target_selection == job.target_selection)
    }

    /// The known target selections in this scope.
    #[must_use]
    pub fn selections(&self) -> &[TargetSelection] {
        self.target_selection.as_ref().map_or(TargetSelection::KNOWN, std::slice::from_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_status_reads_back_from_its_own_text() {
        for status in Status::KNOWN {
            assert_eq!(&Status::from(status.as_str()), status);
        }
        for selection in TargetSelection::KNOWN {
            assert_eq!(&TargetSelection::from(selection.as_str()), selection);
        }
    }

    #[test]
    fn an_unknown_status_keeps_its_text_and_is_not_open() {
        let status = Status::from("QUEUED");
        assert_eq!(status.as_str(), "QUEUED");
        assert!(!status.is_open());
    }

    #[test]
    fn a_job_arn_of_any_partition_gives_account_and_id() {
        for arn in ["arn:aws:iot:eu-west-1:012345678901:job/a-b_c", "arn:aws-cn:iot:cn-north-1:012345678901:job/a-b_c"]
        {
            let parsed = JobArn::parse(arn).expect("a job's ARN");
            assert_eq!((parsed.account.as_str(), parsed.job_id), ("012345678901", "a-b_c"));
        }
    }

    #[test]
    fn what_is_not_a_job_arn_is_refused() {
        for arn in [
            "",
            "arn:aws:iot:eu-west-1:012345678901:thing/a",
            "arn:aws:iot:eu-west-1:12345:job/a",
            "arn:aws:iot:eu-west-1:012345678901:job/",
            "arn:aws:s3:eu-west-1:012345678901:job/a",
            "arn:aws:iot",
        ] {
            assert_eq!(JobArn::parse(arn), None, "{arn}");
        }
    }

    #[test]
    fn a_summary_without_an_id_takes_the_last_part_of_its_arn() {
        let arn = Some("arn:aws:iot:eu-west-1:012345678901:job/from-arn".to_owned());
        let summary = JobSummary { job_id: Some(String::new()), job_arn: arn, ..JobSummary::default() };
        assert_eq!(summary.id(), Some("from-arn"));
        assert_eq!(JobSummary::default().id(), None);
    }

    #[test]
    fn only_plain_words_become_labels() {
        assert!(is_label_text("IN_PROGRESS") && is_label_text("a.B_9") && is_label_text(&"x".repeat(64)));
        for text in ["", "a b", "a\"b", "a\nb", "é", "<other>", &"x".repeat(65)] {
            assert!(!is_label_text(text), "{text:?}");
        }
    }

    #[test]
    fn times_saturate_instead_of_wrapping() {
        assert_eq!(Timestamp::from_millis(i64::MIN).before(Duration::MAX), Timestamp::from_millis(i64::MIN));
        assert_eq!(Timestamp::from_millis(i64::MAX).after(Duration::MAX), Timestamp::from_millis(i64::MAX));
        assert_eq!(Timestamp::from_secs(5).since(Timestamp::from_secs(9)), Duration::ZERO);
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(1)), Timestamp::from_secs(-1));
    }
}
