//! The data that `DescribeJob` adds to a summary: targets, executions, schedule.
//!
//! Source of every shape: the AWS IoT API reference, pages
//! [`Job`](https://docs.aws.amazon.com/iot/latest/apireference/API_Job.html),
//! [`JobProcessDetails`](https://docs.aws.amazon.com/iot/latest/apireference/API_JobProcessDetails.html) and
//! [`SchedulingConfig`](https://docs.aws.amazon.com/iot/latest/apireference/API_SchedulingConfig.html).

use std::time::Duration;

use super::{AbortCriterion, JobSummary, Timestamp};

/// A job as `DescribeJob` returns it. As in a summary, **every field is optional** in the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The fields that a summary of the job has, too.
    pub summary: JobSummary,
    /// `targets`; `None` if the answer has none, since every job has at least one.
    pub targets: Option<Vec<JobTarget>>,
    /// `jobProcessDetails`.
    pub executions: ExecutionCounts,
    /// `schedulingConfig`. A job without one has the default.
    pub schedule: Schedule,
    /// `abortConfig`.
    pub abort_criteria: Vec<AbortCriterion>,
    /// What else decides when executions end. Nothing that is collected depends on it.
    pub limits: ExecutionLimits,
}

/// What decides when executions start, end, and are tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionLimits {
    /// `timeoutConfig`: how long an execution can be in progress; `None` for as long as it likes.
    pub in_progress_timeout: Option<Duration>,
    /// `jobExecutionsRetryConfig`: how often an execution of each kind of failure is tried again; `None` stands for all kinds.
    pub retries: Vec<(Option<ExecutionStatus>, u32)>,
    /// `jobExecutionsRolloutConfig`: how many things are notified in a minute, at most.
    pub maximum_per_minute: Option<u32>,
}

/// A target of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobTarget {
    /// A thing group, by name.
    ThingGroup(String),
    /// Anything else: a single thing.
    Thing,
    /// Not an ARN, or not a valid group name.
    Unreadable,
}

impl JobTarget {
    /// Parses a target's ARN: `arn:PARTITION:iot:REGION:ACCOUNT:thinggroup/NAME`, or `…:thing/NAME`.
    #[must_use]
    pub fn parse(arn: &str) -> Self {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", _partition, "iot", _region, _account, resource] = parts[..] else { return Self::Unreadable };
        match resource.strip_prefix("thinggroup/") {
            Some(name) if is_thing_group_name(name) => Self::ThingGroup(name.to_owned()),
            Some(_) => Self::Unreadable,
            None => Self::Thing,
        }
    }
}

/// The name in a thing's ARN: `arn:PARTITION:iot:REGION:ACCOUNT:thing/NAME`; `None` if it is not a valid name.
#[must_use]
pub fn thing_name(arn: &str) -> Option<&str> {
    let resource = arn.splitn(6, ':').nth(5)?;
    // Names of things have the same syntax as those of groups
    // (<https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html>).
    resource.strip_prefix("thing/").filter(|name| is_thing_group_name(name))
}

/// Whether a text is a valid name of a thing group: `[a-zA-Z0-9:_-]{1,128}`
/// ([`CreateThingGroup`](https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThingGroup.html)).
#[must_use]
pub fn is_thing_group_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-".contains(&b))
}

/// The schedule of a job. By default, it starts at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Its start.
    pub start: Start,
    /// Its end, if it has a valid one.
    pub end: Option<Timestamp>,
    /// Whether it runs only in maintenance windows, and is `SCHEDULED` between them.
    pub windowed: bool,
}

impl Schedule {
    /// The start time, if it is known and not "at once".
    #[must_use]
    pub const fn start(&self) -> Option<Timestamp> {
        match self.start {
            Start::At(at) => Some(at),
            Start::AtOnce | Start::Unreadable => None,
        }
    }
}

/// The start of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At its creation, or in its next maintenance window.
    #[default]
    AtOnce,
    /// At this time.
    At(Timestamp),
    /// At a time in an unknown format.
    Unreadable,
}

/// Parses `startTime`: `YYYY-MM-DD HH:MM` as in the documentation's examples (the zone is not documented; assumed to
/// be UTC), or RFC 3339, with or without a zone.
#[must_use]
pub fn parse_start_time(text: &str) -> Option<Timestamp> {
    let with_zone = || text.parse::<jiff::Timestamp>().ok();
    // The parser would take a date alone as its midnight.
    let has_time = text.contains(':');
    let in_utc = || {
        let time: jiff::civil::DateTime = text.parse().ok().filter(|_| has_time)?;
        jiff::tz::TimeZone::UTC.to_timestamp(time).ok()
    };
    let time = with_zone().or_else(in_utc)?;
    Some(Timestamp::from_millis(time.as_millisecond()))
}

/// The number of executions of a job in each status. AWS can omit some.
///
/// Retries are executions, too, so the sum can exceed the number of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutionCounts(
    /// [`ExecutionCounts::UNKNOWN`] represents `None`. This takes half the memory: there can be thousands of ended
    /// jobs.
    [u32; ExecutionStatus::ALL.len()],
);

impl Default for ExecutionCounts {
    fn default() -> Self {
        Self::from_fn(|_| None)
    }
}

impl ExecutionCounts {
    const UNKNOWN: u32 = u32::MAX;

    /// Makes counts from the number for each status.
    #[must_use]
    pub fn from_fn(mut count: impl FnMut(ExecutionStatus) -> Option<u32>) -> Self {
        Self(ExecutionStatus::ALL.map(|status| count(status).unwrap_or(Self::UNKNOWN)))
    }

    /// The number of executions with a status; `None` if AWS omits it.
    #[must_use]
    pub fn get(&self, status: ExecutionStatus) -> Option<u32> {
        self.0.get(status as usize).copied().filter(|count| *count != Self::UNKNOWN)
    }

    /// Whether more executions have started or ended than in `before`. An added device is QUEUED, which is no
    /// progress.
    #[must_use]
    pub fn show_progress_since(&self, before: &Self) -> bool {
        let has_risen = |status| self.get(status).zip(before.get(status)).is_some_and(|(now, before)| now > before);
        ExecutionStatus::ALL.into_iter().any(|status| status != ExecutionStatus::Queued && has_risen(status))
    }

    /// How many have one of the statuses that `is_counted` selects; `None` unless AWS gives the count of each.
    #[must_use]
    pub fn sum(&self, is_counted: impl Fn(ExecutionStatus) -> bool) -> Option<u64> {
        let counted = ExecutionStatus::ALL.into_iter().filter(|status| is_counted(*status));
        counted.map(|status| self.get(status).map(u64::from)).sum()
    }

    /// The share of all executions that have one of these statuses; `None` if there are none at all, or AWS does not give
    /// every count.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of executions are far below 2^53")]
    pub fn share(&self, is_counted: impl Fn(ExecutionStatus) -> bool) -> Option<f64> {
        let (part, all) = (self.sum(is_counted)?, self.sum(|_| true)?);
        (all > 0).then(|| part as f64 / all as f64)
    }

    /// The number of executions that can still change; `None` if AWS omits both counts.
    #[must_use]
    pub fn open(&self) -> Option<u64> {
        let counts =
            ExecutionStatus::ALL.into_iter().filter(|status| status.is_open()).filter_map(|status| self.get(status));
        counts.map(u64::from).reduce(|a, b| a + b)
    }
}

/// The status of one execution of a job on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExecutionStatus {
    /// The device has not started it.
    Queued,
    /// The device works on it.
    InProgress,
    /// The device reported success.
    Succeeded,
    /// The device reported a failure.
    Failed,
    /// The device took too long.
    TimedOut,
    /// The device rejected it.
    Rejected,
    /// The device is no longer a target.
    Removed,
    /// The job was canceled.
    Canceled,
}

impl ExecutionStatus {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::InProgress,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Rejected,
        Self::Removed,
        Self::Canceled,
    ];

    /// The text in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::InProgress => "IN_PROGRESS",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Rejected => "REJECTED",
            Self::Removed => "REMOVED",
            Self::Canceled => "CANCELED",
        }
    }

    /// The status with this text in the API.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether it can still change.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::InProgress)
    }

    /// Whether the device failed, took too long, or refused.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Rejected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed_from_the_end_of_their_arn() {
        let group = |name: &str| JobTarget::ThingGroup(name.to_owned());
        for (arn, expected) in [
            ("arn:aws:iot:eu-west-1:012345678901:thinggroup/ring:canary_1-a", group("ring:canary_1-a")),
            ("arn:aws-cn:iot:cn-north-1:012345678901:thinggroup/a", group("a")),
            ("arn:aws:iot:eu-west-1:012345678901:thing/thinggroup/a", JobTarget::Thing),
            ("arn:aws:iot:eu-west-1:012345678901:thinggroup/", JobTarget::Unreadable),
            ("arn:aws:iot:eu-west-1:012345678901:thinggroup/<none>", JobTarget::Unreadable),
            ("thinggroup/a", JobTarget::Unreadable),
            ("", JobTarget::Unreadable),
        ] {
            assert_eq!(JobTarget::parse(arn), expected, "{arn}");
        }
    }

    #[test]
    fn a_thing_name_is_parsed_from_its_arn() {
        assert_eq!(thing_name("arn:aws:iot:eu-west-1:012345678901:thing/press:1_a-b"), Some("press:1_a-b"));
        for arn in ["", "thing/a", "arn:aws:iot:eu-west-1:012345678901:thing/", "arn:aws:iot:eu-west-1:1:thing/a\nb"] {
            assert_eq!(thing_name(arn), None, "{arn}");
        }
    }

    #[test]
    fn a_start_time_has_the_documented_format_or_rfc_3339() {
        let expected = Some(Timestamp::from_secs(1_784_989_800));
        for text in [
            "2026-07-25 14:30",
            "2026-07-25T14:30",
            "2026-07-25T14:30:00",
            "2026-07-25T14:30:00Z",
            "2026-07-25T16:30:00+02:00",
        ] {
            assert_eq!(parse_start_time(text), expected, "{text}");
        }
        for text in ["", "2026-07-25", "tomorrow", "2026-13-25 14:30", "cron(0 4 * * ? *)", "2026-07-25 14:30 CET"] {
            assert_eq!(parse_start_time(text), None, "{text}");
        }
    }

    #[test]
    fn a_share_is_unknown_if_a_count_is() {
        let counts = |rejected| {
            ExecutionCounts::from_fn(|status| match status {
                ExecutionStatus::Succeeded => Some(3),
                ExecutionStatus::Failed => Some(1),
                ExecutionStatus::Rejected => rejected,
                _ => Some(0),
            })
        };
        assert_eq!(counts(Some(0)).share(ExecutionStatus::is_failure), Some(0.25));
        assert_eq!(counts(None).share(ExecutionStatus::is_failure), None);
        assert_eq!(counts(None).sum(ExecutionStatus::is_open), Some(0));
        assert_eq!(ExecutionCounts::from_fn(|_| Some(0)).share(|_| true), None, "there are none");
    }

    #[test]
    fn open_executions_are_unknown_only_without_both_counts() {
        let of = |queued, in_progress| {
            ExecutionCounts::from_fn(|status| match status {
                ExecutionStatus::Queued => queued,
                ExecutionStatus::InProgress => in_progress,
                _ => Some(7),
            })
        };
        assert_eq!(of(None, None).open(), None);
        assert_eq!(of(Some(2), None).open(), Some(2));
        assert_eq!(of(Some(u32::MAX - 1), Some(2)).open(), Some(1 << 32));
    }
}
