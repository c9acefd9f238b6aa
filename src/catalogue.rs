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
}

impl Kind {
    /// The word after `# TYPE name`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
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
    /// The name of its samples.
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
            Kind::Gauge => self.name,
        }
    }
}

/// Declares the families and the list of all of them.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal $([$unit:literal])? of $subject:ident ($($label:literal),*) $help:literal $notes:literal;)+) => {
        $(
            #[doc = $help]
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
    TARGET_INFO: Gauge "aws_iot_jobs_target_info" of Jobs ()
        "Joins a target's name to its account and region; always 1."
        "";
    UP: Gauge "aws_iot_jobs_up" of Target ()
        "Whether the last refresh of the target succeeded."
        "0 before the first refresh has ended. What is shown of jobs stays the last complete walk until that is stale.";
    LAST_SUCCESS: Gauge "aws_iot_jobs_last_success_timestamp_seconds" ["seconds"] of Target ()
        "When the last successful refresh ended, in seconds since the epoch."
        "Absent until there was one. Stays when the target's jobs are withdrawn as stale.";
    WALK_DURATION: Gauge "aws_iot_jobs_last_walk_duration_seconds" ["seconds"] of Target ()
        "How long the last complete walk of ListJobs took."
        "Waits for the request budget included.";
    WALK_PAGES: Gauge "aws_iot_jobs_last_walk_pages" of Target ()
        "Pages of the last complete walk."
        "";
    WALK_JOBS: Gauge "aws_iot_jobs_last_walk_jobs" of Target ()
        "Distinct jobs of the last complete walk."
        "";
    WALK_DUPLICATES: Gauge "aws_iot_jobs_last_walk_duplicates" of Target ()
        "Summaries of the last complete walk whose job had been met before in it."
        "A job whose status changes during a walk can show up twice; it is counted once, by its later sighting.";
    WALK_MALFORMED: Gauge "aws_iot_jobs_last_walk_malformed" of Target ()
        "Summaries of the last complete walk without a job id, a status or a target selection."
        "A job without an id is counted as it comes; a missing status or selection is counted as `<unknown>`.";
    REFRESHES: Counter "aws_iot_jobs_exporter_refreshes_total" of Target ()
        "Refreshes that ended, well or not."
        "";
    REFRESH_FAILURES: Counter "aws_iot_jobs_exporter_refresh_failures_total" of Target ("reason")
        "Refreshes that failed, by reason."
        "Reasons: `throttled`, `denied`, `credentials`, `timeout`, `network`, `unavailable` (a 5xx answer), `rejected` (any other error answer), `malformed` (an answer that can't be read, or has no `jobs`), `token_loop`, `page_limit`, `account_mismatch`, `configuration`. Every reason is there from the start, as 0.";
    API_REQUESTS: Counter "aws_iot_jobs_exporter_api_requests_total" of Target ("operation")
        "Requests sent to AWS, retries included."
        "";
    API_ERRORS: Counter "aws_iot_jobs_exporter_api_errors_total" of Target ("operation", "code")
        "Requests to AWS that failed, by error code, retries included."
        "`code` is AWS's own, or `timeout`, `network`, `malformed` where there was none. A code that is no plain word, or the 17th and later ones, count as `<other>`.";
    BUILD_INFO: Gauge "aws_iot_jobs_exporter_build_info" of Exporter ("version", "revision", "rustc")
        "What this exporter was built from; always 1."
        "`revision` is `unknown` in a build outside a git checkout.";
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
    "execution_status",
    "job_id",
    "operation",
    "reason",
    "status",
    "target",
    "target_selection",
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
