//! What the log tells of refreshes: one line for each that succeeds, and of a failure as much as is new.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::config::Refresh;
use crate::exposition::board::{Failure, Identity};
use crate::jobs::{AccountId, Status};
use crate::snapshot::{Counts, Pair, Permission, Snapshot};
use crate::telemetry::Reason;

/// What the log has told of a target, so that it tells a thing once.
#[derive(Debug, Default)]
pub(super) struct Log {
    failures: u32,
    last_failure: Option<(Reason, String)>,
    last_jobs: Option<BTreeMap<Pair, u64>>,
    last_malformed: u64,
    told_of_staleness: bool,
    trouble: Option<Trouble>,
    /// Refreshes in a row in which every description was to be had.
    described_well: u32,
}

/// What the log has told of descriptions that can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Denied,
    Failing,
}

/// After so many good refreshes, trouble is over.
const WELL_AFTER: u32 = 5;

/// Two targets turned out to watch the same jobs.
pub(super) fn overlaps(identity: &Identity, other: &Identity, account: &AccountId) {
    warn!(
        target = %identity.name,
        other = %other.name,
        account = %account,
        region = %identity.region,
        advice = "remove one of the two targets, or give them filters under jobs that have no job in common",
        "two targets watch the same jobs: sums over targets count each of these jobs twice"
    );
}

impl Log {
    /// One line a refresh: what it cost, what it found, what is different.
    pub(super) fn succeeded(&mut self, identity: &Identity, snapshot: &Snapshot, describe_failure: Option<&Failure>) {
        let Counts { total, open, duplicates, malformed, .. } = &snapshot.counts;
        let open = open.len();
        let changed = match self.last_jobs.replace(snapshot.counts.jobs.clone()) {
            None => "first walk".to_owned(),
            Some(before) => changes(&before, &snapshot.counts.jobs),
        };
        let in_progress = snapshot.counts.jobs.iter().filter(|((status, _), _)| *status == Status::InProgress);
        let in_progress = in_progress.map(|(_, jobs)| jobs).sum::<u64>();
        let walk = &snapshot.walk;
        info!(
            target = %identity.name,
            region = %identity.region,
            account = %snapshot.account,
            pages = walk.pages,
            jobs = total,
            open,
            in_progress,
            described = snapshot.describing.map(|describing| describing.described),
            undescribed = snapshot.describing.map(|describing| describing.undescribed).filter(|jobs| *jobs > 0),
            requests = walk.requests,
            duration = ?rounded(walk.duration),
            changed = %changed,
            "{}", if self.failures == 0 { "refreshed" } else { "refreshed again after failures" }
        );
        if std::mem::replace(&mut self.last_malformed, *malformed) != *malformed && *malformed > 0 {
            warn!(target = %identity.name, malformed, "summaries without a job id, a status or a target selection");
        }
        let recovered = snapshot.counts.recovered;
        debug!(target = %identity.name, duplicates, recovered, failures = self.failures, "walk");
        self.check_descriptions(identity, snapshot, describe_failure);
        (self.failures, self.last_failure) = (0, None);
    }

    /// A description that can't be had takes nothing from what the walk found. It is told once, and that it is over once it has
    /// been for a while: what comes and goes is one matter.
    fn check_descriptions(&mut self, identity: &Identity, snapshot: &Snapshot, failure: Option<&Failure>) {
        let Some(describing) = &snapshot.describing else { return };
        let now = match (describing.permission, failure) {
            (Permission::Denied | Permission::Partial, _) => Some(Trouble::Denied),
            (Permission::Granted, Some(_)) => Some(Trouble::Failing),
            (Permission::Granted, None) => None,
        };
        let Some(trouble) = now else {
            self.described_well += 1;
            let is_over = self.trouble == Some(Trouble::Denied) || self.described_well >= WELL_AFTER;
            if is_over && self.trouble.take().is_some() {
                info!(target = %identity.name, "jobs can be described again");
            }
            return;
        };
        self.described_well = 0;
        if self.trouble.replace(trouble) == Some(trouble) {
            return;
        }
        let error = failure.map(|failure| failure.message.as_str());
        match trouble {
            Trouble::Denied => warn!(
                target = %identity.name,
                action = "iot:DescribeJob",
                jobs = if describing.permission == Permission::Denied { "all" } else { "some" },
                error,
                advice = "allow iot:DescribeJob on job/* (config/iam/full.json), or set jobs.describe to false and thing_groups.resolve to off",
                "jobs can't be described: their groups, schedules and executions are not known; it is tried again now and then"
            ),
            Trouble::Failing => warn!(
                target = %identity.name,
                reason = failure.map(|failure| failure.reason.as_str()),
                open = describing.failures,
                ended = describing.undescribed,
                error,
                advice = failure.map(|failure| failure.reason.advice()),
                "jobs could not be described this time: they are shown as the walk and the last description told"
            ),
        }
    }

    /// Data that turns stale before it can be renewed comes and goes without any failure.
    pub(super) fn check_staleness(
        &mut self,
        identity: &Identity,
        schedule: &Refresh,
        took: Duration,
        stale_after: Duration,
    ) {
        let renewed = schedule.longest_cycle(took);
        if stale_after >= renewed {
            self.told_of_staleness = false;
        } else if !std::mem::replace(&mut self.told_of_staleness, true) {
            warn!(
                target = %identity.name,
                ?stale_after,
                renewed_after = ?rounded(renewed),
                "refresh.stale_after is shorter than it takes to renew the data: raise it, or it disappears between refreshes"
            );
        }
    }

    /// The whole cause and what to do at first and whenever the failure is another; while it lasts, that it does.
    pub(super) fn failed(&mut self, identity: &Identity, failure: &Failure) {
        self.failures += 1;
        let reason = failure.reason;
        // The page that a walk fails on may well differ from one refresh to the next; it is the same failure.
        let kind: String = failure.message.chars().filter(|character| !character.is_ascii_digit()).collect();
        let kind = Some((reason, kind));
        if std::mem::replace(&mut self.last_failure, kind.clone()) == kind {
            warn!(target = %identity.name, %reason, failures = self.failures, "refresh failed again");
        } else {
            warn!(
                target = %identity.name,
                region = %identity.region,
                %reason,
                error = %failure.message,
                advice = reason.advice(),
                "refresh failed"
            );
        }
    }
}

/// Which counts differ, and by how much: `IN_PROGRESS/SNAPSHOT -1, COMPLETED/SNAPSHOT +1`.
fn changes(before: &BTreeMap<Pair, u64>, after: &BTreeMap<Pair, u64>) -> String {
    let pairs: BTreeSet<&Pair> = before.keys().chain(after.keys()).collect();
    let of = |counts: &BTreeMap<Pair, u64>, pair: &Pair| counts.get(pair).copied().unwrap_or_default();
    let change = |pair: &Pair| match (of(before, pair), of(after, pair)) {
        (before, after) if before == after => None,
        (before, after) if after > before => Some(format!("{}/{} +{}", pair.0, pair.1, after - before)),
        (before, after) => Some(format!("{}/{} -{}", pair.0, pair.1, before - after)),
    };
    let changes: Vec<String> = pairs.into_iter().filter_map(change).collect();
    if changes.is_empty() { "nothing".to_owned() } else { changes.join(", ") }
}

/// To the millisecond, which is what a reader of a log wants.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis().try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::TargetSelection;

    #[test]
    fn what_changed_is_told_by_status_and_selection() {
        let counts = |rows: &[(&str, u64)]| -> BTreeMap<Pair, u64> {
            rows.iter().map(|(status, jobs)| (((*status).into(), TargetSelection::Snapshot), *jobs)).collect()
        };
        let before = counts(&[("IN_PROGRESS", 3), ("COMPLETED", 5), ("QUEUED", 1)]);
        assert_eq!(changes(&before, &before), "nothing");
        let after = counts(&[("IN_PROGRESS", 1), ("COMPLETED", 8)]);
        assert_eq!(changes(&before, &after), "IN_PROGRESS/SNAPSHOT -2, COMPLETED/SNAPSHOT +3, QUEUED/SNAPSHOT -1");
    }
}
