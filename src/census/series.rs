//! Which open jobs have series of their own, where there are more than the limit.

use std::cmp::Reverse;
use std::time::Duration;

use crate::jobs::group_filter::GroupFilter;
use crate::jobs::thing_groups::{Groups, Label, is_group};
use crate::jobs::{OTHER, Status, TargetSelection, Timestamp};
use crate::snapshot::OpenJob;

/// What a job is chosen by, the first to be chosen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// In progress for longer than the shortest threshold.
    LongRunning,
    /// A SNAPSHOT job in progress.
    Snapshot,
    /// A CONTINUOUS job in progress with executions that can still change.
    Continuous,
    Scheduled,
    Rest,
}

/// The places in `open` of the `max` jobs that an operator wants to see most: long-running ones, the longest first, and the newest
/// of each other kind.
pub(super) fn choose(open: &[OpenJob], long_running_after: Option<Duration>, now: Timestamp, max: usize) -> Vec<usize> {
    let rank = |job: &OpenJob| {
        let running = job.running_since().map(|since| now.since(since));
        match (&job.status, &job.target_selection) {
            _ if running > Some(long_running_after.unwrap_or(Duration::MAX)) => Rank::LongRunning,
            (Status::InProgress, TargetSelection::Snapshot) => Rank::Snapshot,
            (Status::InProgress, TargetSelection::Continuous) if has_open_executions(job) => Rank::Continuous,
            (Status::Scheduled, _) => Rank::Scheduled,
            _ => Rank::Rest,
        }
    };
    let mut places: Vec<usize> = (0..open.len()).collect();
    places.sort_by_cached_key(|place| {
        let job = &open[*place];
        let rank = rank(job);
        let oldest_first = (rank == Rank::LongRunning).then(|| job.running_since());
        (rank, oldest_first, Reverse(job.created_at), job.job_id.clone())
    });
    places.truncate(max);
    places.sort_unstable();
    places
}

/// How many groups of a job are shown with it; AWS allows a hundred targets.
const MAX_GROUPS: usize = 10;

/// The groups to show for a job: those that the filter lets through, in alphabetical order, and [`OTHER`] for the rest.
pub(super) fn groups(job: &OpenJob, filter: &GroupFilter) -> Vec<Label> {
    let labels = job.groups.iter().flat_map(Groups::labels);
    let (mut shown, hidden): (Vec<Label>, Vec<Label>) =
        labels.cloned().partition(|label| !is_group(label) || filter.shows(label));
    if shown.len() > MAX_GROUPS || !hidden.is_empty() {
        shown.truncate(MAX_GROUPS);
        shown.push(OTHER.into());
    }
    shown
}

fn has_open_executions(job: &OpenJob) -> bool {
    job.executions.and_then(|executions| executions.open()).is_some_and(|open| open > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::group_filter::tests::filter;
    use crate::jobs::thing_groups::Interner;
    use crate::jobs::{ExecutionCounts, ExecutionStatus, JobTarget};

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn job(job_id: &str, status: Status, selection: TargetSelection, hours: u64, queued: u32) -> OpenJob {
        let executions = ExecutionCounts::from_fn(|status| (status == ExecutionStatus::Queued).then_some(queued));
        OpenJob {
            job_id: job_id.into(),
            status,
            target_selection: selection,
            created_at: Some(NOW.before(Duration::from_hours(hours))),
            last_updated_at: None,
            groups: None,
            schedule: None,
            executions: Some(executions),
            described_at: None,
        }
    }

    #[test]
    fn a_job_shows_ten_groups_and_the_rest_as_one() {
        let targets = |count: usize| -> Vec<JobTarget> {
            (0..count).map(|n| JobTarget::ThingGroup(format!("group-{n:02}"))).collect()
        };
        let mut interner = Interner::default();
        let mut shown = |count, exclude: &[&str]| {
            let groups = Some(interner.of_targets(Some(&targets(count))));
            let job = OpenJob { groups, ..job("a", Status::InProgress, TargetSelection::Snapshot, 1, 1) };
            groups_of(&job, &filter(&[], exclude))
        };
        assert_eq!(shown(10, &[]).len(), 10);
        let eleven = shown(11, &[]);
        assert_eq!((eleven.len(), eleven[9].as_str(), eleven[10].as_str()), (11, "group-09", OTHER));
        assert_eq!(
            shown(2, &["group-00"]),
            [OTHER, "group-01"].map(str::to_owned).into_iter().rev().collect::<Vec<_>>()
        );
        assert_eq!(shown(0, &[]), ["<none>"]);
    }

    fn groups_of(job: &OpenJob, filter: &GroupFilter) -> Vec<String> {
        groups(job, filter).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn jobs_are_chosen_by_how_much_an_operator_wants_to_see_them() {
        use Status::{DeletionInProgress, InProgress, Scheduled};
        use TargetSelection::{Continuous, Snapshot};
        let open = [
            job("idle", InProgress, Continuous, 900, 0),
            job("longest", InProgress, Snapshot, 90, 1),
            job("long", InProgress, Snapshot, 30, 1),
            job("deleting", DeletionInProgress, Snapshot, 29, 0),
            job("scheduled", Scheduled, Snapshot, 28, 0),
            job("older", InProgress, Snapshot, 9, 1),
            job("joined", InProgress, Continuous, 8, 1),
            job("newer", InProgress, Snapshot, 1, 1),
        ];
        let order = ["longest", "long", "newer", "older", "joined", "scheduled", "deleting", "idle"];
        for max in 0..=open.len() + 1 {
            let mut chosen: Vec<&str> = choose(&open, Some(Duration::from_hours(24)), NOW, max)
                .into_iter()
                .map(|place| &*open[place].job_id)
                .collect();
            let mut expected = order[..max.min(open.len())].to_vec();
            chosen.sort_unstable();
            expected.sort_unstable();
            assert_eq!(chosen, expected, "of {max}");
        }
    }
}
