//! The jobs that a target monitors.

use super::{Job, Status, TargetSelection};

/// The jobs that a target monitors, as filters of `ListJobs`. The default is all jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Only these statuses, with one walk each (`ListJobs` accepts a single one); empty for all.
    pub statuses: Vec<Status>,
    /// Only this target selection.
    pub target_selection: Option<TargetSelection>,
    /// Only jobs that target this thing group.
    pub thing_group_name: Option<String>,
    /// Only jobs that target the thing group with this id. `ListJobs` accepts a name or an id.
    pub thing_group_id: Option<String>,
    /// Only jobs of this namespace.
    pub namespace_id: Option<String>,
}

impl Scope {
    /// The known statuses that are listed in this scope.
    ///
    /// With a thing-group filter `ListJobs` omits SCHEDULED jobs (reported in aws-cli#8924), so their number is unknown.
    pub fn listed_statuses(&self) -> impl Iterator<Item = &Status> {
        let statuses = if self.statuses.is_empty() { Status::KNOWN } else { &self.statuses };
        statuses.iter().filter(|status| !self.is_of_a_group() || **status != Status::Scheduled)
    }

    /// The known pairs of status and selection that are listed completely in this scope. Pairs without jobs count as
    /// 0.
    pub fn known_pairs(&self) -> impl Iterator<Item = (Status, TargetSelection)> {
        self.listed_statuses()
            .flat_map(|status| self.selections().iter().map(|selection| (status.clone(), selection.clone())))
    }

    /// Whether the scope has a thing-group filter.
    #[must_use]
    pub fn is_of_a_group(&self) -> bool {
        self.thing_group_name.is_some() || self.thing_group_id.is_some()
    }

    /// Whether the status and the target selection of a job are in scope. Only `ListJobs` can apply the other filters.
    #[must_use]
    pub fn includes(&self, job: &Job) -> bool {
        let is_left_out = self.is_of_a_group() && job.status == Status::Scheduled;
        let has_status = self.statuses.is_empty() || self.statuses.contains(&job.status);
        let has_selection = self.target_selection.as_ref().is_none_or(|selection| *selection == job.target_selection);
        has_status && has_selection && !is_left_out
    }

    /// The known target selections in this scope.
    #[must_use]
    pub fn selections(&self) -> &[TargetSelection] {
        self.target_selection.as_ref().map_or(TargetSelection::KNOWN, std::slice::from_ref)
    }
}
