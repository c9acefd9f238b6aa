//! Which jobs a target watches.

use super::{Job, Status, TargetSelection};

/// Which jobs a target watches, by the filters of `ListJobs`. The default is all jobs.
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
    /// The known statuses whose jobs are listed in this scope.
    ///
    /// With a thing-group filter `ListJobs` omits SCHEDULED jobs (reported in aws-cli#8924), so their number is unknown.
    pub fn listed_statuses(&self) -> impl Iterator<Item = &Status> {
        let statuses = if self.statuses.is_empty() { Status::KNOWN } else { &self.statuses };
        statuses.iter().filter(|status| !self.is_of_a_group() || **status != Status::Scheduled)
    }

    /// Every known pair of status and selection whose jobs are all listed in this scope, so that it is 0 if none is.
    pub fn known_pairs(&self) -> impl Iterator<Item = (Status, TargetSelection)> {
        self.listed_statuses()
            .flat_map(|status| self.selections().iter().map(|selection| (status.clone(), selection.clone())))
    }

    /// Whether only jobs of one thing group are listed.
    #[must_use]
    pub fn is_of_a_group(&self) -> bool {
        self.thing_group_name.is_some() || self.thing_group_id.is_some()
    }

    /// Whether this status and target selection are in scope. Only `ListJobs` knows the other filters.
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
