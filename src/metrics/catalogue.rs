//! Every metric family: its name, type, unit, labels and help.
//!
//! The exposition and the reference page are generated from this catalogue. Only families in it can be served.
//!
//! # Example
//! ```
//! use aws_iot_jobs_exporter::metrics::catalogue::{ALL, FamilyType, JOBS};
//!
//! assert_eq!(JOBS.name, "aws_iot_jobs");
//! assert_eq!(JOBS.labels, ["status", "target_selection"]);
//! assert_eq!(JOBS.subject.labels(), ["target", "aws_account_id", "aws_region"]);
//!
//! let counters = ALL.iter().filter(|family| family.family_type == FamilyType::Counter);
//! assert!(counters.clone().count() > 0 && counters.clone().all(|family| family.name.ends_with("_total")));
//! ```

use std::fmt::Write as _;

/// The type of a family, as Prometheus defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyType {
    /// A value that can go up and down.
    Gauge,
    /// A value that only goes up. Its name ends in `_total`.
    Counter,
    /// A histogram. The names of its samples end in `_bucket`, `_count` and `_sum`.
    Histogram,
}

impl FamilyType {
    /// The type in `# TYPE` lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// What a family describes. This determines its common labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The jobs of a target: absent until a collector finds them, and withdrawn when the data is stale.
    Jobs,
    /// A target: present before its account is known, and while its jobs are withdrawn.
    Target,
    /// This process.
    Exporter,
}

impl Subject {
    /// Every subject, in the order of the reference page.
    pub const ALL: [Self; 3] = [Self::Jobs, Self::Target, Self::Exporter];

    /// The labels of every family of this subject. Families of jobs and targets also have the target's constant
    /// labels.
    #[must_use]
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Jobs => &["target", "aws_account_id", "aws_region"],
            Self::Target => &["target", "aws_region"],
            Self::Exporter => &[],
        }
    }
}

/// One metric family.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its position in [`ALL`].
    pub position: usize,
    /// The name of its samples. The samples of a histogram also have a suffix.
    pub name: &'static str,
    /// Its type.
    pub family_type: FamilyType,
    /// Its base unit, if it has one. The name ends in it (before `_total`).
    pub unit: Option<&'static str>,
    /// What it describes.
    pub subject: Subject,
    /// Labels in addition to those of its subject.
    pub labels: &'static [&'static str],
    /// One sentence for `# HELP`.
    pub help: &'static str,
    /// Additional text for the reference page.
    pub notes: &'static str,
}

impl Family {
    /// The name in `OpenMetrics` headers: the name of a counter without `_total`.
    #[must_use]
    pub fn family_name(&self) -> &'static str {
        match self.family_type {
            FamilyType::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            FamilyType::Gauge | FamilyType::Histogram => self.name,
        }
    }
}

/// Declares the families and the list of all of them.
macro_rules! families {
    ($($constant:ident: $type:ident $name:literal $([$unit:literal])? of $subject:ident ($($label:literal),*) $help:literal $notes:literal;)+) => {
        #[allow(clippy::upper_case_acronyms, non_camel_case_types, reason = "the names of the constants")]
        enum Position { $($constant),+ }

        $(
            #[doc = $help]
            #[allow(clippy::doc_markdown, reason = "a help text is for Prometheus, which knows no Markdown")]
            pub const $constant: Family = Family {
                position: Position::$constant as usize,
                name: $name,
                family_type: FamilyType::$type,
                unit: families!(@unit $($unit)?),
                subject: Subject::$subject,
                labels: &[$($label),*],
                help: $help,
                notes: $notes,
            };
        )+

        /// Every family, in the order of the exposition.
        pub const ALL: &[&Family] = &[$(&$constant),+];
    };
    (@unit $unit:literal) => { Some($unit) };
    (@unit) => { None };
}

families! {
    JOBS: Gauge "aws_iot_jobs" of Jobs ("status", "target_selection")
        "Jobs by status and target selection, each job counted once."
        "Every known pair in the target's scope is present, with 0 if it has no jobs. With a thing-group filter, SCHEDULED is absent, because ListJobs omits such jobs. The rows of open statuses come from the collector `open_jobs`, the others from `all_jobs`; each of these two groups appears and disappears separately. AWS purges ended jobs after a time, so COMPLETED and CANCELED can also fall. COMPLETED means that every execution has ended, not that any succeeded.";
    JOBS_OLDEST_CREATED: Gauge "aws_iot_jobs_oldest_created_timestamp_seconds" ["seconds"] of Jobs ("status", "target_selection")
        "Creation time of the oldest open job, in seconds since the epoch."
        "Absent if there is no open job. A CONTINUOUS job without an end stays IN_PROGRESS forever by design, so its age has no meaning.";
    JOBS_CONCURRENT: Gauge "aws_iot_jobs_concurrent" of Jobs ("target_selection")
        "Open jobs with a rollout or cancellation in progress, which the concurrency quota counts."
        "Absent for a selection if AWS gave no `isConcurrent` for one of its IN_PROGRESS jobs.";
    JOBS_START_OVERDUE: Gauge "aws_iot_jobs_start_overdue" of Jobs ("target_selection")
        "SCHEDULED jobs without maintenance windows whose start time passed more than 5 minutes ago."
        "Absent for a selection until the schedules of its SCHEDULED jobs are known.";
    JOBS_STUCK: Gauge "aws_iot_jobs_stuck" of Jobs ("target_selection")
        "Open jobs that are known to be stuck: they have open executions, and none has progressed for longer than jobs.stuck_after."
        "For jobs with maintenance windows, which pause by design, the time is `jobs.stuck_after_windowed`. Progress is the start of the job, an execution that starts, reports, ends or is retried. An added device is no progress, but the oldest open execution must also have been queued for longer than that time. All times come from AWS, so a restart loses nothing. Absent until the executions of each job of the first walk were listed or failed, and if the identity may not describe jobs or list their executions. `aws_iot_jobs_progress_unknown` counts the jobs whose progress is unknown.";
    JOBS_PROGRESS_UNKNOWN: Gauge "aws_iot_jobs_progress_unknown" of Jobs ()
        "Open jobs for which it is unknown whether they are stuck."
        "Absent if `aws_iot_jobs_stuck` is absent.";
    THING_GROUP_JOBS: Gauge "aws_iot_thing_group_jobs" of Jobs ("thing_group", "status", "target_selection")
        "Jobs that target a thing group: open ones, and those that ended within jobs.ended_within."
        "A job that targets three groups counts in each of them, so a sum over groups counts memberships, not jobs. A row appears when it is above 0 and then stays, even at 0. `thing_group` is the group's name; `<none>`: the job targets only things; `<unknown>`: its description failed, was denied or had no targets; `<other>`: groups beyond `limits.max_thing_groups`, or excluded by `thing_groups.include` and `exclude`. A job whose description is pending is in no row.";
    THING_GROUP_JOBS_OLDEST_CREATED: Gauge "aws_iot_thing_group_jobs_oldest_created_timestamp_seconds" ["seconds"] of Jobs ("thing_group", "status", "target_selection")
        "Creation time of the oldest open job that targets a thing group, in seconds since the epoch."
        "Absent if there is no open job.";
    THING_GROUP_JOBS_STUCK: Gauge "aws_iot_thing_group_jobs_stuck" of Jobs ("thing_group")
        "Open jobs that target a thing group and are known to be stuck."
        "Present for each group that has rows of `aws_iot_thing_group_jobs` for open jobs. Absent if `aws_iot_jobs_stuck` is absent.";
    JOB_INFO: Gauge "aws_iot_job_info" of Jobs ("job_id", "target_selection")
        "An open job, or one that ended within jobs.ended_within; always 1."
        "Series of single jobs exist for at most `limits.max_jobs` open jobs: stuck ones first, then the newest IN_PROGRESS SNAPSHOT ones, CONTINUOUS ones with open executions, SCHEDULED ones, the rest; and for at most `limits.max_ended_jobs` ended ones, the last to end first.";
    JOB_STATUS: Gauge "aws_iot_job_status" of Jobs ("job_id", "status")
        "The current status of a job; always 1."
        "";
    JOB_WINDOWED: Gauge "aws_iot_job_windowed" of Jobs ("job_id")
        "Whether a job runs only in maintenance windows."
        "Absent if its schedule is unknown.";
    JOB_STUCK: Gauge "aws_iot_job_stuck" of Jobs ("job_id")
        "Whether an open job is stuck: it has open executions, and none has progressed for longer than jobs.stuck_after."
        "See `aws_iot_jobs_stuck`. Absent if unknown. A job becomes stuck only by answers to requests that were sent after that time was over.";
    JOB_ABORT_CRITERIA_MET: Gauge "aws_iot_job_abort_criteria_met" of Jobs ("job_id")
        "Whether the executions of a job meet one of its abort criteria, for which AWS cancels a job."
        "AWS documents no field with the reason of a cancellation, so this is derived from `abortConfig` and the execution counts: of the executions that succeeded, failed, timed out or were rejected, the share that counts for the criterion. Executions in progress count towards the minimum number. After 1 it stays 1 until a restart. Absent for a job without abort criteria, and if its counts are unknown.";
    JOB_THING_GROUP_INFO: Gauge "aws_iot_job_thing_group_info" of Jobs ("job_id", "thing_group")
        "A thing group that a job targets; always 1."
        "At most ten groups of a job. `<excluded>` represents groups that `thing_groups.exclude` matches, `<other>` the rest: groups beyond ten, and those that `thing_groups.include` does not match. Groups keep their names here even if their counts are folded.";
    JOB_TAGS_INFO: Gauge "aws_iot_job_tags_info" of Jobs ("job_id")
        "The tags of a job that collectors.tags.keys names, as labels; always 1."
        "A label is `tag_` and the key of a tag, with `_` for each character that is invalid in labels. It is empty if the job lacks the tag, and cut at 256 characters. Absent if the tags are unknown.";
    JOB_CREATED: Gauge "aws_iot_job_created_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When a job was created, in seconds since the epoch."
        "";
    JOB_LAST_UPDATED: Gauge "aws_iot_job_last_updated_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When a job was last updated, in seconds since the epoch."
        "AWS does not document whether the progress of an execution updates its job.";
    JOB_SCHEDULED_START: Gauge "aws_iot_job_scheduled_start_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When a job is scheduled to start, in seconds since the epoch."
        "Absent for a job without a start time, and if it is unknown.";
    JOB_SCHEDULED_END: Gauge "aws_iot_job_scheduled_end_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When a job is scheduled to end, in seconds since the epoch."
        "Absent for a job without an end time, and if it is unknown.";
    JOB_COMPLETED: Gauge "aws_iot_job_completed_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When an ended job ended, in seconds since the epoch."
        "AWS's `completedAt`, or `lastUpdatedAt` if that is missing.";
    JOB_DESCRIBED: Gauge "aws_iot_job_described_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When a job was last described, in seconds since the epoch."
        "Absent if it is not described. The executions of a job change only when it is described again.";
    JOB_LAST_PROGRESS: Gauge "aws_iot_job_last_progress_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When a job with open executions last progressed, in seconds since the epoch."
        "The newest of: the start of the job; the last update of an execution that is not QUEUED; the queueing of a retry; the time at which the exporter saw more executions started or ended. Absent until the executions were listed once. Between two looks it can be too old by `collectors.executions.interval`. If a job has more than 25,000 executions, the others may have progressed at any time before the first look, so that look counts as progress.";
    JOB_OLDEST_OPEN_EXECUTION: Gauge "aws_iot_job_oldest_open_execution_timestamp_seconds" ["seconds"] of Jobs ("job_id", "execution_status")
        "When the oldest open execution of a job became QUEUED or IN_PROGRESS, in seconds since the epoch."
        "`queuedAt` or `startedAt` from the last look. Absent if not all executions were listed.";
    JOB_OPEN_EXECUTION_SINCE: Gauge "aws_iot_job_open_execution_since_timestamp_seconds" ["seconds"] of Jobs ("job_id", "thing", "execution_status")
        "When the execution on a thing became QUEUED or IN_PROGRESS, in seconds since the epoch."
        "For a stuck job, the things that keep it open; for another open job, those that have been IN_PROGRESS for more than an hour. These are the `limits.things_per_job` oldest ones of each status, and as many that were named before and are still open.";
    JOB_EXECUTIONS: Gauge "aws_iot_job_executions" of Jobs ("job_id", "execution_status")
        "Executions of an open job by status."
        "These are executions, not devices: with retries, a device has several, and there can be more executions than targets. Absent if the job was not described, or too long ago.";
    ENDED_JOB_EXECUTIONS: Gauge "aws_iot_ended_job_executions" of Jobs ("job_id", "execution_status")
        "Executions by status of a job that ended within jobs.ended_within."
        "As `aws_iot_job_executions`.";
    JOBS_UNDESCRIBED: Gauge "aws_iot_jobs_undescribed" of Jobs ()
        "Jobs without a description."
        "Counts open jobs, and those that ended within `jobs.ended_within`. Absent if the collector `details` is not enabled.";
    TARGET_INFO: Gauge "aws_iot_jobs_target_info" of Jobs ()
        "Joins a target's name to its account and region; always 1."
        "Absent until the account is known.";
    UP: Gauge "aws_iot_jobs_up" of Target ()
        "Whether the last run of every enabled listing succeeded and its data is fresh."
        "Listings are the collectors `open_jobs` and `all_jobs`. The first run counts as a success until its data would be stale.";
    FOLDED_THING_GROUPS: Gauge "aws_iot_jobs_folded_thing_groups" of Target ()
        "Thing groups without their own rows because of limits.max_thing_groups."
        "They are summed as `<other>`. Groups that `thing_groups.include` and `exclude` remove are not counted here.";
    OMITTED_JOBS: Gauge "aws_iot_jobs_omitted_jobs" of Target ("collector")
        "Jobs without their own series because of limits.max_jobs and limits.max_ended_jobs."
        "They are counted in all sums. `collector` is `open_jobs` for open jobs and `all_jobs` for those that ended within `jobs.ended_within`.";
    OVERLAPPING_TARGETS: Gauge "aws_iot_jobs_overlapping_targets" of Target ()
        "Other targets that monitor the same account and region with the same filter."
        "Sums over targets count the jobs of these targets several times: remove all of them but one. Absent until the account is known. Targets with different `endpoint_url` do not overlap. Overlaps between different filters are not detected.";
    COLLECTOR_SUCCESS: Gauge "aws_iot_jobs_collector_success" of Target ("collector")
        "Whether the last run of a listing succeeded."
        "`collector` is `open_jobs` or `all_jobs`. Absent before the first run has ended.";
    COLLECTOR_FRESH: Gauge "aws_iot_jobs_collector_fresh" of Target ("collector")
        "Whether the data of a listing is fresh. Stale data is not shown."
        "It becomes stale `stale_after` after the last successful run. Before the end of the first run, it counts as fresh until then.";
    COLLECTOR_LAST_SUCCESS: Gauge "aws_iot_jobs_collector_last_success_timestamp_seconds" ["seconds"] of Target ("collector")
        "When the last successful run of a listing ended, in seconds since the epoch."
        "Absent before the first one. It stays when the jobs are withdrawn as stale.";
    COLLECTOR_DURATION: Gauge "aws_iot_jobs_collector_duration_seconds" ["seconds"] of Target ("collector")
        "How long the last run of a listing took."
        "Includes waits for the rate limit. Absent before the first run has ended.";
    COLLECTOR_INTERVAL: Gauge "aws_iot_jobs_collector_interval_seconds" ["seconds"] of Target ("collector")
        "The planned time between the starts of the runs of a listing."
        "The configured interval, or a multiple of the last duration if that is longer: twice for `open_jobs`, 10 times for `all_jobs`.";
    COLLECTOR_JOBS: Gauge "aws_iot_jobs_collector_jobs" of Target ("collector", "state")
        "Jobs by the state of a collector's data about them."
        "`collector` is `details`, `executions` or `tags`; `executions` counts only jobs with open executions. `state`: `fresh`; `overdue`: no answer yet, or too long ago; `failing`: the last request failed, or AWS did not find the job, which does not count as a failed run; `denied`: the identity may not send the request. Absent before the first walk over the open jobs, and for a collector that is not enabled.";
    WALK_PAGES: Gauge "aws_iot_jobs_walk_pages" of Target ("collector")
        "Pages of the last complete walk of a listing."
        "";
    WALK_JOBS: Gauge "aws_iot_jobs_walk_jobs" of Target ("collector")
        "Distinct jobs of the last complete walk of a listing."
        "";
    WALK_DUPLICATES: Gauge "aws_iot_jobs_walk_duplicates" of Target ("collector")
        "Repeated summaries of the same job in the last complete walk of a listing."
        "A job whose status changes during a walk can be listed twice. It is counted once, with its last status.";
    WALK_MALFORMED: Gauge "aws_iot_jobs_walk_malformed" of Target ("collector")
        "Summaries of the last complete walk of a listing without a job id, a status or a target selection."
        "A summary without an id is not counted as a job. A missing status or selection is shown as `<unknown>`.";
    COLLECTOR_RUNS: Counter "aws_iot_jobs_exporter_collector_runs_total" of Target ("collector")
        "Runs of a collector that ended, successfully or not."
        "A run is one walk of a listing. For `details` and `tags` it is one request about one job, for `executions` one look at a job.";
    COLLECTOR_FAILURES: Counter "aws_iot_jobs_exporter_collector_failures_total" of Target ("collector", "reason")
        "Runs of a collector that failed, by reason."
        "Reasons: `throttled`, `denied`, `credentials`, `timeout`, `network`, `unavailable` (a 5xx answer), `rejected` (any other error answer), `malformed` (an answer that cannot be read, or has no `jobs`), `token_loop`, `page_limit`, `account_mismatch`, `configuration`, `internal` (a bug in the exporter). Every reason is present from the start, with 0.";
    API_REQUESTS: Counter "aws_iot_jobs_exporter_api_requests_total" of Target ("operation")
        "Requests sent to AWS, retries included."
        "Requests for credentials are included after their first use: `AssumeRole`, `AssumeRoleWithWebIdentity`, and for IAM Identity Center `CreateToken` and `GetRoleCredentials`. Requests to the metadata services of containers and instances are not.";
    API_ERRORS: Counter "aws_iot_jobs_exporter_api_errors_total" of Target ("operation", "code")
        "Requests to AWS that failed, by error code, retries included."
        "A job that DescribeJob does not find is not an error: it was deleted after the walk. `code` is AWS's own, or `timeout`, `network` or `malformed` without one. Codes with unusual characters, and the 17th and later unknown ones, count as `<other>`.";
    API_REQUEST_DURATION: Histogram "aws_iot_jobs_exporter_api_request_duration_seconds" ["seconds"] of Target ("operation")
        "How long AWS took to answer a request, retries included."
        "From sending a request to the end of its answer, including the connection and excluding the wait for the rate limit. A request that timed out counts with its timeout of 10 s.";
    API_RATE_LIMIT_WAIT: Counter "aws_iot_jobs_exporter_api_rate_limit_wait_seconds_total" ["seconds"] of Target ("operation")
        "How long requests waited for the rate limit."
        "The sum over requests. Several can wait at once, so it can grow by more than a second a second.";
    API_RATE_LIMIT: Gauge "aws_iot_jobs_exporter_api_rate_limit_requests_per_second" of Exporter ("aws_account_id", "aws_region", "operation")
        "The current rate limit of an operation in an account and region, in requests a second."
        "`limits.requests_per_second`, unless AWS throttles: that halves it, at most once in 10 s and down to a tenth of the configured rate, and each minute without throttling adds a tenth. Absent before the first request of an operation, and until the account is known.";
    HTTP_REQUESTS: Counter "aws_iot_jobs_exporter_http_requests_total" of Exporter ("handler", "code")
        "Requests to the exporter, by the pattern of the path and the status of the response."
        "A request that is refused before it reaches a handler, because of its credentials or its size, is not counted.";
    HTTP_LOGIN_FAILURES: Counter "aws_iot_jobs_exporter_http_login_failures_total" of Exporter ("reason")
        "Requests to the exporter without valid credentials, by reason."
        "`reason` is `no_credentials`, `wrong_credentials`, or `too_many_attempts` for one that was not checked because too many attempts of the same client were waiting. A browser sends its first request without credentials. Always 0 if the web configuration has no users.";
    BUILD_INFO: Gauge "aws_iot_jobs_exporter_build_info" of Exporter ("version", "revision", "rustc")
        "Version, commit and compiler of this exporter; always 1."
        "`revision` is `unknown` in a build outside a git checkout.";
    CONFIG_SUCCESSFUL: Gauge "aws_iot_jobs_exporter_config_last_reload_successful" of Exporter ()
        "Whether the last reload of the configuration succeeded."
        "0: the configuration is invalid, and the previous one stays in use; the log has the reason.";
    CONFIG_SUCCESS_TIME: Gauge "aws_iot_jobs_exporter_config_last_reload_success_timestamp_seconds" ["seconds"] of Exporter ()
        "When a configuration was last applied, in seconds since the epoch."
        "";
    CONFIG_HASH: Gauge "aws_iot_jobs_exporter_config_hash" of Exporter ()
        "Hash of the effective configuration in use."
        "It changes with the value of any key that is not a secret, and with the web configuration and its certificates. Processes with the same configuration have the same hash.";
    WEB_CONFIG_SUCCESSFUL: Gauge "aws_iot_jobs_exporter_web_config_last_reload_successful" of Exporter ()
        "Whether the web configuration in its files is in use."
        "0: the files are invalid, or remove users, TLS or client authentication, which only an explicit reload can do. The previous web configuration stays in use; the log has the reason. Also 1 without `web.config_file`.";
    SHARD_INDEX: Gauge "aws_iot_jobs_exporter_shard_index" of Exporter ()
        "The shard of the targets that this process monitors, from 0."
        "`shard.index` of the configuration in use.";
    SHARD_TOTAL: Gauge "aws_iot_jobs_exporter_shard_total" of Exporter ()
        "The number of shards that the targets are split into."
        "`shard.total` of the configuration in use. 1 without shards.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" ["seconds"] of Exporter ()
        "Total user and system CPU time spent in seconds."
        "`process_*` are served on Linux only.";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" of Exporter ()
        "Number of open file descriptors."
        "";
    PROCESS_MAX_FDS: Gauge "process_max_fds" of Exporter ()
        "Maximum number of open file descriptors."
        "Absent if there is no limit.";
    PROCESS_VIRTUAL_MEMORY: Gauge "process_virtual_memory_bytes" ["bytes"] of Exporter ()
        "Virtual memory size in bytes."
        "";
    PROCESS_VIRTUAL_MEMORY_MAX: Gauge "process_virtual_memory_max_bytes" ["bytes"] of Exporter ()
        "Maximum amount of virtual memory available in bytes."
        "Absent if there is no limit.";
    PROCESS_RESIDENT_MEMORY: Gauge "process_resident_memory_bytes" ["bytes"] of Exporter ()
        "Resident memory size in bytes."
        "";
    PROCESS_START_TIME: Gauge "process_start_time_seconds" ["seconds"] of Exporter ()
        "Start time of the process since unix epoch in seconds."
        "";
    PROCESS_THREADS: Gauge "process_threads" of Exporter ()
        "Number of OS threads in the process."
        "";
}

/// Generates `docs/metrics.md`, the reference page of all families.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from `src/metrics/catalogue.rs`; `UPDATE_DOCS=1 cargo test reference_page` updates it.\n\n\
         `/metrics` serves OpenMetrics 1.0 or the text format 0.0.4, as `Accept` asks. An unknown value is absent, never 0. A value\n\
         that is known to be none is 0.\n\n\
         | metric | type | meaning |\n| --- | --- | --- |\n",
    );
    // Writing to a string cannot fail.
    for Family { name, family_type, help, .. } in ALL {
        let _ = writeln!(page, "| [`{name}`](#{name}) | {} | {help} |", family_type.as_str());
    }
    for subject in Subject::ALL {
        let (title, about) = match subject {
            Subject::Jobs => (
                "Jobs",
                "Metrics of open jobs are withdrawn when the data of the collector `open_jobs` is stale, those of ended jobs when \
                 that of\n`all_jobs` is stale. Each has the labels `target`, `aws_account_id` and `aws_region`, the constant \
                 `labels` of the target, and the\nlabels named below.\n\nThe value of `status` or `target_selection` is AWS's \
                 own text, even one that AWS adds later. It is `<unknown>` if AWS left it\nout, and `<other>` for a text with unusual \
                 characters, and for the 17th and later unknown texts.",
            ),
            Subject::Target => (
                "Targets",
                "These exist before the account of a target is known, and stay while its jobs are withdrawn. Each has the labels\n\
                 `target` and `aws_region`, the constant `labels` of the target, and the labels named below.",
            ),
            Subject::Exporter => ("Exporter", "About this process."),
        };
        let _ = write!(page, "\n## {title}\n\n{about}\n");
        for family in ALL.iter().filter(|family| family.subject == subject) {
            let _ = write!(page, "\n### `{}`\n\n{}", family.name, family.help);
            let _ = write!(page, "\n\n- type: {}\n", family.family_type.as_str());
            if let Some(unit) = family.unit {
                let _ = writeln!(page, "- unit: {unit}");
            }
            if !family.labels.is_empty() {
                let _ = writeln!(page, "- labels: `{}`", family.labels.join("`, `"));
            }
            if !family.notes.is_empty() {
                let _ = write!(page, "\n{}\n", family.notes);
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::RESERVED_LABELS;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for family in ALL {
            assert!(names.insert(family.family_name()), "{} twice", family.name);
            // The number of shards is a gauge, although its name ends in `_total`.
            let is_total = family.name.ends_with("_total") && *family != &SHARD_TOTAL;
            assert_eq!(family.family_type == FamilyType::Counter, is_total, "{}", family.name);
            if let Some(unit) = family.unit {
                assert!(family.family_name().ends_with(&format!("_{unit}")), "{} is in {unit}", family.name);
            }
            assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{}", family.name);
        }
    }

    #[test]
    fn a_targets_constant_labels_collide_with_no_family_of_jobs_or_targets() {
        for family in ALL.iter().filter(|family| family.subject != Subject::Exporter) {
            for label in family.subject.labels().iter().chain(family.labels) {
                assert!(RESERVED_LABELS.contains(label), "add {label} of {} to RESERVED_LABELS", family.name);
            }
            if family.family_type == FamilyType::Histogram {
                assert!(RESERVED_LABELS.contains(&"le"), "le of {}", family.name);
            }
        }
    }

    #[test]
    fn the_reference_page_in_docs_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference_page()).expect("docs/metrics.md can be written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference_page(), "docs/metrics.md is stale: run `UPDATE_DOCS=1 cargo test reference_page`");
    }
}
