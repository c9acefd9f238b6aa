//! Which jobs a target watches.

use super::{Job, JobSummary, Status, TargetSelection};

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
    #[must_use]
    pub fn is_of_a_group(&self) -> bool {
        self.thing_group_name.is_some() || self.thing_group_id.is_some()
    }

    /// Whether this status and target selection are in scope. Of the other filters only `ListJobs` can tell.
    #[must_use]
    pub fn includes(&self, job: &Job) -> bool {
        let is_left_out = self.is_of_a_group() && job.status == Status::Scheduled;
        let has_status = self.statuses.is_empty() || self.statuses.contains(&job.status);
        let has_selection = self.target_selection.as_ref().is_none_or(|selection| *selection == job.target_selection);
        has_status && has_selection && !is_left_out
    }

    /// Whether a walk in this scope would list this job.
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
