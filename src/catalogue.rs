//! Every metric's name, type, unit, labels and help, once.
//!
//! The exposition writes its headers from here, `docs/metrics.md` is generated from here, and dashboards and rules are checked
//! against it. A family that is not here can't be served.

use std::fmt::Write as _;

/// The type of a family, in Prometheus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A value that only goes up; its name ends in `_total`.
    Counter,
    /// Observations, counted by their size; its samples end in `_bucket`, `_count` and `_sum`.
    Histogram,
}

impl Kind {
    /// The word after `# TYPE name`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// What a family tells of, which decides what labels it carries besides its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The jobs of a target: absent until a walk has succeeded, and withdrawn when that is too long ago.
    Jobs,
    /// A target itself: there before its account is known, and while its jobs are withdrawn.
    Target,
    /// This process.
    Exporter,
}

impl Subject {
    /// Every subject, in the order of the reference page.
    pub const ALL: &'static [Self] = &[Self::Jobs, Self::Target, Self::Exporter];

    /// Labels that every family of this subject carries; families of jobs and targets also have the target's constant labels.
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
    /// The name of its samples; of a histogram, what their names begin with.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its unit in Prometheus' base units, where it has one; the name ends in it (before `_total`).
    pub unit: Option<&'static str>,
    /// What it tells of.
    pub subject: Subject,
    /// Labels besides those of its subject.
    pub labels: &'static [&'static str],
    /// One sentence for `# HELP`.
    pub help: &'static str,
    /// What a reader of the reference page should know besides.
    pub notes: &'static str,
}

impl Family {
    /// The name in `OpenMetrics` headers: there a counter's family is named without `_total`.
    #[must_use]
    pub fn family_name(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }
}

/// Declares the families and the list of all of them.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal $([$unit:literal])? of $subject:ident ($($label:literal),*) $help:literal $notes:literal;)+) => {
        $(
            #[doc = $help]
            #[allow(clippy::doc_markdown, reason = "a help text is for Prometheus, which knows no Markdown")]
            pub const $constant: Family = Family {
                name: $name,
                kind: Kind::$kind,
                unit: families!(@unit $($unit)?),
                subject: Subject::$subject,
                labels: &[$($label),*],
                help: $help,
                notes: $notes,
            };
        )+

        /// Every family, in the order in which they are served.
        pub const ALL: &[&Family] = &[$(&$constant),+];
    };
    (@unit $unit:literal) => { Some($unit) };
    (@unit) => { None };
}

families! {
    JOBS: Gauge "aws_iot_jobs" of Jobs ("status", "target_selection")
        "Jobs by status and target selection, each job counted once."
        "Every known pair in the target's scope is there, as 0 where there is none; of a scope by thing group, SCHEDULED is not, since ListJobs leaves such jobs out. Ended jobs are purged by AWS in time, so COMPLETED and CANCELED fall as well as rise. COMPLETED says that every execution is terminal, not that any succeeded.";
    JOBS_OLDEST_CREATED: Gauge "aws_iot_jobs_oldest_created_timestamp_seconds" ["seconds"] of Jobs ("status", "target_selection")
        "Creation time of the oldest open job, in seconds since the epoch."
        "Absent where there is no open job. A CONTINUOUS job without an end stays IN_PROGRESS for ever by design: its age says nothing.";
    JOBS_CONCURRENT: Gauge "aws_iot_jobs_concurrent" of Jobs ("target_selection")
        "Jobs that are rolling out or cancelling right now, which is what the concurrency quota counts."
        "Absent for a selection of which any job IN_PROGRESS came without `isConcurrent`, and where the target's scope names statuses: a job of another one can be cancelling.";
    THING_GROUP_JOBS: Gauge "aws_iot_thing_group_jobs" of Jobs ("thing_group", "status", "target_selection")
        "Jobs that target a thing group: open ones, and those that ended within thing_groups.ended_jobs_within."
        "A job that targets three groups counts in each of them, so the sum over groups is one of memberships and not of jobs. A group that is shown has every known pair in scope. `thing_group` is the group's name (its id with `thing_groups.resolve: summary`); `<none>`: the job targets single things only; `<unknown>`: its description could not be had, or open jobs are not described (`jobs.describe: false`); `<other>`: groups past `limits.max_thing_groups`, or left out by `thing_groups.include` and `exclude`. While the description of any ended job is still to come (`aws_iot_jobs_undescribed`), the rows of ended statuses are absent rather than too low.";
    THING_GROUP_JOBS_OLDEST_CREATED: Gauge "aws_iot_thing_group_jobs_oldest_created_timestamp_seconds" ["seconds"] of Jobs ("thing_group", "status", "target_selection")
        "Creation time of the oldest open job that targets a thing group, in seconds since the epoch."
        "Absent where there is no open job.";
    JOBS_LONG_RUNNING: Gauge "aws_iot_jobs_long_running" of Jobs ("threshold")
        "SNAPSHOT jobs that have been IN_PROGRESS for longer than the threshold, which is in seconds."
        "Counted from the start time where a job is scheduled, else from its creation, at the time of the last walk. Thresholds are cumulative, and not to be summed. Jobs with maintenance windows are left out, since they pause by design; where schedules are not known (`jobs.describe: false`, or no permission) they can't be told apart, and are counted. Absent where such jobs are out of the target's scope.";
    THING_GROUP_JOBS_LONG_RUNNING: Gauge "aws_iot_thing_group_jobs_long_running" of Jobs ("thing_group", "threshold")
        "SNAPSHOT jobs that target a thing group and have been IN_PROGRESS for longer than the threshold, which is in seconds."
        "As `aws_iot_jobs_long_running`.";
    JOBS_START_OVERDUE: Gauge "aws_iot_jobs_start_overdue" of Jobs ("target_selection")
        "SCHEDULED jobs without maintenance windows whose start time is past."
        "Absent for a selection while the schedule of any of its SCHEDULED jobs is not known.";
    JOB_INFO: Gauge "aws_iot_job_info" of Jobs ("job_id", "status", "target_selection", "windowed")
        "An open job; always 1."
        "`windowed` is `true` where the job runs in maintenance windows only, `<unknown>` where its schedule is not known. Series of single jobs are there for open jobs only, for `limits.max_jobs` of them: long-running ones first, then the newest IN_PROGRESS SNAPSHOT ones, CONTINUOUS ones with open executions, SCHEDULED ones, and the rest.";
    JOB_THING_GROUP_INFO: Gauge "aws_iot_job_thing_group_info" of Jobs ("job_id", "thing_group")
        "A thing group that an open job targets; always 1."
        "Ten groups of a job at most, the rest as `<other>`. Groups keep their names here also where their counts are folded.";
    JOB_CREATED: Gauge "aws_iot_job_created_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When an open job was created, in seconds since the epoch."
        "";
    JOB_LAST_UPDATED: Gauge "aws_iot_job_last_updated_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When an open job was last updated, in seconds since the epoch."
        "Whether the progress of an execution updates its job is not documented: look at `aws_iot_job_executions` for progress.";
    JOB_SCHEDULED_START: Gauge "aws_iot_job_scheduled_start_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When an open job is scheduled to start, in seconds since the epoch."
        "Absent for a job without a start time, and where it is not known.";
    JOB_EXECUTIONS: Gauge "aws_iot_job_executions" of Jobs ("job_id", "execution_status")
        "Executions of an open job by status."
        "Executions and not devices: with retries a device has several, and they can exceed the number of targets. Where a description fails, the last one is shown until it is as old as stale data; after that, and where there was none, they are absent.";
    JOB_DESCRIBED: Gauge "aws_iot_job_described_timestamp_seconds" ["seconds"] of Jobs ("job_id")
        "When the executions of an open job were told, in seconds since the epoch."
        "Absent where they are not known. Executions that are not told anew can't move: look at this where they seem to stand still.";
    JOBS_UNDESCRIBED: Gauge "aws_iot_jobs_undescribed" of Jobs ()
        "Jobs that ended within thing_groups.ended_jobs_within and have not been described yet."
        "They are described once each, the last to end first, in the time and budget left between refreshes. Jobs that AWS refuses to describe stay here, and count as `<unknown>` without keeping the rows of ended statuses back.";
    JOBS_DESCRIBE_FAILURES: Gauge "aws_iot_jobs_describe_failures" of Jobs ()
        "Open jobs whose description failed in the last refresh."
        "They are shown as ListJobs told of them, with what the last description told besides.";
    JOBS_DESCRIBE_DENIED: Gauge "aws_iot_jobs_describe_denied" of Jobs ()
        "Whether the permission to call DescribeJob is missing, for some jobs or all."
        "Where it is missing for all, groups are `<unknown>`, and DescribeJob is tried again every ten minutes.";
    TARGET_INFO: Gauge "aws_iot_jobs_target_info" of Jobs ()
        "Joins a target's name to its account and region; always 1."
        "";
    UP: Gauge "aws_iot_jobs_up" of Target ()
        "Whether the last refresh of the target succeeded."
        "0 before the first refresh has ended. What is shown of jobs stays the last complete walk until that is stale.";
    LAST_SUCCESS: Gauge "aws_iot_jobs_last_success_timestamp_seconds" ["seconds"] of Target ()
        "When the last successful refresh ended, in seconds since the epoch."
        "Absent until there was one. Stays when the target's jobs are withdrawn as stale.";
    OVERLAPPING_TARGETS: Gauge "aws_iot_jobs_overlapping_targets" of Target ()
        "Other targets that turned out to watch the same account and region with the same filter."
        "Sums over targets count the jobs of such targets several times: remove all of them but one. Absent until the first successful refresh, which shows the target's account. Targets with different `endpoint_url` do not overlap. Filters of which one includes the other are not compared.";
    WALK_DURATION: Gauge "aws_iot_jobs_last_walk_duration_seconds" ["seconds"] of Target ()
        "How long the last complete walk of ListJobs took."
        "Waits for the request budget included.";
    WALK_PAGES: Gauge "aws_iot_jobs_last_walk_pages" of Target ()
        "Pages of the last complete walk."
        "";
    WALK_JOBS: Gauge "aws_iot_jobs_last_walk_jobs" of Target ()
        "Distinct jobs of the last complete walk."
        "As they are counted in `aws_iot_jobs`: with those recovered, and without those that were gone when they were to be described.";
    WALK_DUPLICATES: Gauge "aws_iot_jobs_last_walk_duplicates" of Target ()
        "Summaries of the last complete walk whose job had been met before in it."
        "A job whose status changes during a walk can show up twice; it is counted once, by its later sighting.";
    WALK_MALFORMED: Gauge "aws_iot_jobs_last_walk_malformed" of Target ()
        "Summaries of the last complete walk without a job id, a status or a target selection."
        "A job without an id is counted as it comes; a missing status or selection is counted as `<unknown>`.";
    WALK_RECOVERED: Gauge "aws_iot_jobs_last_walk_recovered" of Target ()
        "Jobs that were open, that the last complete walk missed, and that were counted as DescribeJob described them."
        "A job that changes its status during a walk can be left out of it.";
    DESCRIBE_DURATION: Gauge "aws_iot_jobs_last_describe_duration_seconds" ["seconds"] of Target ()
        "How long it took to describe jobs after the last complete walk, before both were shown."
        "Waits for the request budget included. Absent where no job is described.";
    FOLDED_THING_GROUPS: Gauge "aws_iot_jobs_folded_thing_groups" of Target ()
        "Thing groups without rows of their own because of limits.max_thing_groups."
        "They are summed as `<other>`, with those that `thing_groups.include` and `exclude` leave out, which are not counted here.";
    OMITTED_JOBS: Gauge "aws_iot_jobs_omitted_jobs" of Target ()
        "Open jobs without series of their own because of limits.max_jobs."
        "They are counted in all aggregates.";
    REFRESHES: Counter "aws_iot_jobs_exporter_refreshes_total" of Target ()
        "Refreshes that ended, well or not."
        "";
    REFRESH_FAILURES: Counter "aws_iot_jobs_exporter_refresh_failures_total" of Target ("reason")
        "Refreshes that failed, by reason."
        "Reasons: `throttled`, `denied`, `credentials`, `timeout`, `network`, `unavailable` (a 5xx answer), `rejected` (any other error answer), `malformed` (an answer that can't be read, or has no `jobs`), `token_loop`, `page_limit`, `account_mismatch`, `configuration`, `internal` (a fault in the exporter). Every reason is there from the start, as 0.";
    API_REQUESTS: Counter "aws_iot_jobs_exporter_api_requests_total" of Target ("operation")
        "Requests sent to AWS, retries included."
        "Those that get credentials too, from the first on: `AssumeRole`, `AssumeRoleWithWebIdentity`, and for IAM Identity Center `CreateToken` and `GetRoleCredentials`. The metadata services of containers and instances are not counted.";
    API_ERRORS: Counter "aws_iot_jobs_exporter_api_errors_total" of Target ("operation", "code")
        "Requests to AWS that failed, by error code, retries included."
        "A job that DescribeJob does not find is no error: it was deleted since the walk. `code` is AWS's own, or `timeout`, `network`, `malformed` where there was none. A code that is no plain word, or the 17th and later ones, count as `<other>`.";
    API_REQUEST_DURATION: Histogram "aws_iot_jobs_exporter_api_request_duration_seconds" ["seconds"] of Target ("operation")
        "How long AWS took to answer a request, retries included."
        "From sending a request to the end of its answer, connecting included; the wait for the request budget is not. A request that timed out counts with the 10 s after which it was given up.";
    API_RATE_LIMIT_WAIT: Counter "aws_iot_jobs_exporter_api_rate_limit_wait_seconds_total" ["seconds"] of Target ("operation")
        "How long requests waited for the request budget."
        "The sum over requests, of which several can wait at once: it can grow by more than a second a second.";
    API_RATE_LIMIT: Gauge "aws_iot_jobs_exporter_api_rate_limit_requests_per_second" of Exporter ("aws_account_id", "aws_region", "operation")
        "The most requests a second that are sent to an operation in an account and region."
        "`limits.requests_per_second`, unless AWS throttles: that halves it, at most once in 10 s and down to a tenth of the configured rate, and each minute without throttling adds a tenth. There from the first request of an operation, when the account is known.";
    BUILD_INFO: Gauge "aws_iot_jobs_exporter_build_info" of Exporter ("version", "revision", "rustc")
        "What this exporter was built from; always 1."
        "`revision` is `unknown` in a build outside a git checkout.";
    CONFIG_SUCCESSFUL: Gauge "aws_iot_jobs_exporter_config_last_reload_successful" of Exporter ()
        "Whether the last reload of the configuration succeeded."
        "0: what was read is invalid, and the previous configuration stays in use; the log has the reason.";
    CONFIG_SUCCESS_TIME: Gauge "aws_iot_jobs_exporter_config_last_reload_success_timestamp_seconds" ["seconds"] of Exporter ()
        "When a configuration was last applied, in seconds since the epoch."
        "";
    CONFIG_HASH: Gauge "aws_iot_jobs_exporter_config_hash" of Exporter ()
        "Hash of the effective configuration in use."
        "It changes with the value of any key that is not a secret, and with the web configuration and its certificates. Processes with the same configuration have the same hash.";
    WEB_CONFIG_SUCCESSFUL: Gauge "aws_iot_jobs_exporter_web_config_last_reload_successful" of Exporter ()
        "Whether the web configuration in its files is in use."
        "0: the files are invalid, or remove users, TLS or client authentication, which only an explicit reload can do. What was read before stays in use; the log has the reason. 1 without `web.config_file`, too.";
    REFRESH_INTERVAL: Gauge "aws_iot_jobs_exporter_refresh_interval_seconds" ["seconds"] of Exporter ()
        "How far apart refreshes start, in seconds, unless they take longer than that."
        "`refresh.interval` of the configuration that is in use.";
    REQUESTS_LIMIT: Gauge "aws_iot_jobs_exporter_requests_per_second_limit" of Exporter ()
        "The most requests a second to each operation in an account and region, of all targets together."
        "`limits.requests_per_second` of the configuration that is in use. Targets share it where they share account and region.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" ["seconds"] of Exporter ()
        "Total user and system CPU time spent in seconds."
        "`process_*` are served on Linux only.";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" of Exporter ()
        "Number of open file descriptors."
        "";
    PROCESS_MAX_FDS: Gauge "process_max_fds" of Exporter ()
        "Maximum number of open file descriptors."
        "Absent where there is no limit.";
    PROCESS_VIRTUAL_MEMORY: Gauge "process_virtual_memory_bytes" ["bytes"] of Exporter ()
        "Virtual memory size in bytes."
        "";
    PROCESS_VIRTUAL_MEMORY_MAX: Gauge "process_virtual_memory_max_bytes" ["bytes"] of Exporter ()
        "Maximum amount of virtual memory available in bytes."
        "Absent where there is no limit.";
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

/// Label names that a target's constant labels may not use: those of any family, now or as announced in the design of those to come.
pub const RESERVED_LABELS: &[&str] = &[
    "aws_account_id",
    "aws_region",
    "code",
    "collector",
    "execution_status",
    "job_id",
    "le",
    "operation",
    "reason",
    "state",
    "status",
    "target",
    "target_selection",
    "thing",
    "thing_group",
    "threshold",
    "windowed",
];

/// The reference page of all families, `docs/metrics.md`.
#[must_use]
pub fn reference_page() -> String {
    // Writing to a string can't fail.
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from `src/catalogue.rs`; `UPDATE_DOCS=1 cargo test reference_page` writes it anew.\n\n\
         `/metrics` serves OpenMetrics 1.0 or the text format 0.0.4, as `Accept` asks. What is not known is absent, never 0; what\n\
         is known to be none is 0.\n",
    );
    for subject in Subject::ALL {
        let (title, about) = match subject {
            Subject::Jobs => (
                "Jobs",
                "They follow from the last complete walk of a target, and are withdrawn together when that is older than \
                 `refresh.stale_after`.\nLabels of each: `target`, `aws_account_id`, `aws_region`, the target's own constant `labels`, \
                 and those named.\n\nThe value of `status` or `target_selection` is AWS's own word, also one that AWS adds later; \
                 `<unknown>` where AWS left it out,\n`<other>` for a text that is no plain word, and for the 17th and later unknown words.",
            ),
            Subject::Target => (
                "Targets",
                "They exist before a target's account is known, and stay while its jobs are withdrawn.\nLabels of each: `target`, \
                 `aws_region`, the target's own constant `labels`, and those named.",
            ),
            Subject::Exporter => ("Exporter", "About this process."),
        };
        let _ = write!(page, "\n## {title}\n\n{about}\n");
        for family in ALL.iter().filter(|family| family.subject == *subject) {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = write!(page, "\n### `{}`\n\n{}", family.name, family.help);
            let _ = write!(page, "\n\n- type: {}\n", family.kind.as_str());
            if let Some(unit) = family.unit {
                let _ = writeln!(page, "- unit: {unit}");
            }
            if !labels.is_empty() {
                let _ = writeln!(page, "- labels: {}", labels.join(", "));
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

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for family in ALL {
            assert!(names.insert(family.family_name()), "{} twice", family.name);
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
            if let Some(unit) = family.unit {
                assert!(family.family_name().ends_with(&format!("_{unit}")), "{} is in {unit}", family.name);
            }
            assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{}", family.name);
        }
    }

    #[test]
    fn a_targets_own_labels_can_collide_with_no_family_of_jobs_or_targets() {
        for family in ALL.iter().filter(|family| family.subject != Subject::Exporter) {
            for label in family.subject.labels().iter().chain(family.labels) {
                assert!(RESERVED_LABELS.contains(label), "{label} of {}", family.name);
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
