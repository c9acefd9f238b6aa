//! A stand-in for the AWS IoT Jobs control plane and for STS: the real SDKs talk to it over HTTP and notice no
//! difference.
//!
//! [`Simulator::answer`] is the whole of it: a request and a time go in, a response comes out, without I/O and without
//! a clock. So the same simulator serves the demo over a socket ([`serve`]) and tests on a paused clock in the process.
//! [`Simulator::reply`] does the same, and lets the faults of a [`Script`] strike; without one, it is no different.
//! It knows `http` for the shapes of messages and `job` for the words of AWS IoT, and nothing else of this project.
//!
//! A fleet stays as it is until somebody changes it, or it has a [`Lifecycle`] of its own.
//!
//! # What is true to AWS
//! Paths, parameters, names and types of fields, bounds of parameters, and error shapes follow the service models
//! `iot/2015-05-28` and `sts/2011-06-15`. Reported behaviour is followed, too: `ListJobs` leaves SCHEDULED jobs out
//! under a thing group filter (aws-cli#8924).
//!
//! # What nobody documents, and how it is here
//! - The order of `ListJobs`: by status, then newest first, then by id. Clients must not depend on it.
//! - Pages go on after the last item of the page before, in that order. A job that changes its place during a walk can
//!   be seen twice or not at all; one that keeps its place is seen once. Tokens don't expire, unless a fault makes one.
//! - A page has [`DEFAULT_PAGE_SIZE`] items where `maxResults` is not given. It may change from page to page; any other
//!   parameter that changes makes the token invalid.
//! - `thingGroupId` of a job summary: the id of the group that is filtered by; without a filter, that of the job's
//!   target where that is one existing group and nothing else.
//! - A walk without `namespaceId` has the jobs of all namespaces.
//! - A filter by a group that does not exist answers `ResourceNotFoundException`.
//! - `ListThingGroups` without `parentGroup` has all groups, or the top ones alone with `recursive=false`; with it, the
//!   children, or all descendants with `recursive=true`.
//! - Executions of a job are listed in an order that is the same at any time, and that no client can make use of: by a hash.
//! - The things of a job are those that are targets themselves, then made-up members of its groups. Jobs of one group run on
//!   the same things.
//! - Each retry is an execution with a number of its own, and so is each time that a thing runs a job again. All of them are
//!   counted and listed; without a number, `DescribeJobExecution` describes the last one.
//! - A job that has ended can't be canceled or updated (`InvalidRequestException`).
//! - `ListTagsForResource` has [`TAG_PAGE_SIZE`] tags a page.
//!
//! # What is left out
//! `UpdateJob` takes descriptions, timeouts and retries alone, and `SearchIndex` the query `thingName:NAME` alone. Both refuse
//! anything else. No timer runs on executions in progress: how many time out is up to the [`Lifecycle`].
//!
//! Signatures and their dates are not verified: the access key in the `Authorization` header picks the account, and its
//! credential scope the region; the scope has to name the right service, though. No policy is checked; a role can be
//! assumed by every known caller that has its external id. The request id is in a header, and not in the XML of STS as
//! well.

#![expect(clippy::indexing_slicing, reason = "it serves clients on this machine only, and its indexes are its own")]

mod changes_api;
mod credentials;
mod executions;
mod executions_api;
mod faults;
mod fleet;
mod groups_api;
mod http_faults;
mod jobs_api;
mod json;
mod lifecycle;
mod paging;
mod protocol;
mod resources_api;
mod seeded;
mod sts;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::http::{HeaderMap, Listener, Request};
use crate::jobs::{AccountId, Status, TargetSelection, Timestamp};

use credentials::{Credentials, Principal};
use protocol::{ApiError, Route, Service};

pub use credentials::Role;
pub use executions::{Execution, Executions, TrackedExecutions};
pub use faults::{
    CLOCK_SKEW, Consequence, Fault, OVERSIZE, ParseScriptError, Position, REFUSAL, Rule, SLOWNESS, Script,
};
pub use fleet::{Fleet, Job, MaintenanceWindow, Scheduling, Target, Texts, ThingGroup};
pub use http_faults::{Body, FaultAction};
pub use lifecycle::Lifecycle;
pub use paging::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE};
pub use protocol::{Operation, Params, error, json, sts_error};
pub use resources_api::TAG_PAGE_SIZE;

/// An answer of the simulator, with its whole body.
pub type Response = ::http::Response<Bytes>;

/// Serves `simulator` on `listeners` until `shutdown` resolves. Each request sees the time that `now` gives when it
/// arrives.
pub async fn serve(
    simulator: Simulator,
    listeners: Vec<Listener>,
    now: impl Fn() -> Timestamp + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let handler = Arc::new(move |request: &Request| simulator.reply(request, now()));
    http_faults::serve(listeners, handler, shutdown).await;
}

/// Several AWS accounts, each with its own fleet in each region. Clones share everything.
#[derive(Clone, Default)]
pub struct Simulator {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: RwLock<State>,
    interceptor: RwLock<Option<Arc<Interceptor>>>,
    faults: faults::Faults,
    requests: AtomicU64,
    by_operation: [AtomicU64; Operation::ALL.len()],
}

type Interceptor = dyn Fn(&Call<'_>) -> Option<Response> + Send + Sync;

#[derive(Default)]
struct State {
    credentials: Credentials,
    fleets: HashMap<(AccountId, String), Fleet>,
    /// What happens to the fleets. One that nothing ever happened to has none.
    lifecycles: HashMap<(AccountId, String), Lifecycle>,
}

impl Simulator {
    /// A simulator without any account: it refuses everybody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets requests that are signed with `access_key_id`, a long-lived key, act for `account`. An account can have
    /// several keys, and has an empty fleet in every region.
    pub fn add_access_key(&self, account: &AccountId, access_key_id: &str) {
        self.write().credentials.add_access_key(account, access_key_id);
    }

    /// Lets every known caller assume `role`.
    pub fn add_role(&self, role: Role) {
        self.write().credentials.add_role(role);
    }

    /// Lets whoever has `token` assume `role` with it, and nobody any more who has the token before.
    pub fn trust_web_identity(&self, role: Role, token: &str) {
        self.write().credentials.trust_web_identity(role, token);
    }

    /// Knows an access key no more. One of a session is no different.
    pub fn remove_access_key(&self, access_key_id: &str) {
        self.write().credentials.remove_access_key(access_key_id);
    }

    /// Ends the sessions of all roles, as if their time were over.
    pub fn end_sessions(&self) {
        self.write().credentials.end_sessions();
    }

    /// Gives `account` this fleet in `region`, in place of the one it had there.
    pub fn set_fleet(&self, account: &AccountId, region: &str, fleet: Fleet) {
        let (mut state, place) = (self.write(), (account.clone(), region.to_owned()));
        state.lifecycles.remove(&place);
        state.fleets.insert(place, fleet);
    }

    /// Gives `account` a fleet that changes in `region`, in place of the one it had there. Each request about it lets
    /// happen first what is due by then, so that no task has to run beside.
    pub fn set_fleet_with_lifecycle(&self, account: &AccountId, region: &str, fleet: Fleet, lifecycle: Lifecycle) {
        let (mut state, place) = (self.write(), (account.clone(), region.to_owned()));
        state.lifecycles.insert(place.clone(), lifecycle);
        state.fleets.insert(place, fleet);
    }

    /// Lets happen to a fleet what is due by `now`. Requests do so themselves.
    pub fn advance(&self, account: &AccountId, region: &str, now: Timestamp) {
        let place = (account.clone(), region.to_owned());
        let is_due = |lifecycle: &Lifecycle| lifecycle.next().is_some_and(|next| next <= now);
        // Most of the time nothing is due, and requests need not wait for each other.
        if !self.read().lifecycles.get(&place).is_some_and(is_due) {
            return;
        }
        let state = &mut *self.write();
        if let (Some(lifecycle), Some(fleet)) = (state.lifecycles.get_mut(&place), state.fleets.get_mut(&place)) {
            lifecycle.advance(fleet, now);
        }
    }

    /// Reads or changes a fleet between two requests. `change` must not call this simulator.
    pub fn with_fleet<T>(&self, account: &AccountId, region: &str, change: impl FnOnce(&mut Fleet) -> T) -> T {
        change(self.write().fleets.entry((account.clone(), region.to_owned())).or_default())
    }

    /// How many jobs there are, by status and target selection; pairs without any are left out. Counted from the fleet
    /// itself, independently of `ListJobs` and its pages; one with a lifecycle, as the last request about it found it.
    #[must_use]
    pub fn truth(&self, account: &AccountId, region: &str) -> BTreeMap<(Status, TargetSelection), u64> {
        let mut counts = BTreeMap::new();
        if let Some(fleet) = self.read().fleets.get(&(account.clone(), region.to_owned())) {
            for job in fleet.jobs() {
                *counts.entry((job.status.clone(), job.target_selection.clone())).or_default() += 1;
            }
        }
        counts
    }

    /// How many requests named `operation`, refused and intercepted ones included.
    #[must_use]
    pub fn requests(&self, operation: Operation) -> u64 {
        self.shared.by_operation[operation as usize].load(Ordering::Relaxed)
    }

    /// How many requests there were, those that named no operation included.
    #[must_use]
    pub fn total_requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Lets `interceptor` see every call of a known caller, and answer it in the simulator's stead where it gives a
    /// response. Takes the place of the interceptor before. It may change fleets.
    pub fn intercept(&self, interceptor: impl Fn(&Call<'_>) -> Option<Response> + Send + Sync + 'static) {
        *self.shared.interceptor.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(interceptor));
    }

    /// Ends what [`Simulator::intercept`] began.
    pub fn stop_intercepting(&self) {
        *self.shared.interceptor.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Answers one request as AWS would at the time `now`. No fault strikes here: see [`Simulator::reply`].
    #[must_use]
    pub fn answer(&self, request: &Request, now: Timestamp) -> Response {
        self.handle(request, now, |_, response| response)
    }

    /// Answers one request, and lets `finish` make something of the answer where a known caller gets it.
    fn handle<R: From<Response>>(
        &self,
        request: &Request,
        now: Timestamp,
        finish: impl FnOnce(&Call<'_>, Response) -> R,
    ) -> R {
        let serial = self.shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let with_id = |response| protocol::with_request_id(response, serial);
        let answered = Route::of(request).and_then(|route| {
            self.answer_route(&route, request, now, |call, response| finish(call, with_id(response)))
                .map_err(|refusal| (route.operation.service(), refusal))
        });
        answered.unwrap_or_else(|(service, refusal)| with_id(refusal.into_response(service)).into())
    }

    fn answer_route<R>(
        &self,
        route: &Route,
        request: &Request,
        now: Timestamp,
        finish: impl FnOnce(&Call<'_>, Response) -> R,
    ) -> Result<R, ApiError> {
        let attempt = self.shared.by_operation[route.operation as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let identified = match route.operation {
            Operation::AssumeRoleWithWebIdentity => self.read().credentials.identify_bearer(&route.params),
            operation => self.read().credentials.identify(request.headers(), operation.service(), now),
        };
        let (principal, region) = identified?;
        self.advance(&principal.account, &region, now);
        let call = Call {
            operation: route.operation,
            account: &principal.account,
            region: &region,
            resource: route.resource.as_deref(),
            thing: route.thing.as_deref(),
            params: &route.params,
            headers: request.headers(),
            body: request.body(),
            attempt,
            now,
            principal: &principal,
            simulator: self,
        };
        // Cloned out of the lock, so that an interceptor can install another one.
        let interceptor = self.shared.interceptor.read().unwrap_or_else(PoisonError::into_inner).clone();
        let response = interceptor.and_then(|interceptor| interceptor(&call)).unwrap_or_else(|| call.answer());
        Ok(finish(&call, response))
    }

    /// A lock is poisoned by a test's panic inside of [`Simulator::with_fleet`]; the fleet is as far as it got, and the
    /// panic has been told already.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").field("requests", &self.total_requests()).finish_non_exhaustive()
    }
}

/// One request of a known caller, as an interceptor sees it.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is asked for.
    pub operation: Operation,
    /// Whose fleet it is about.
    pub account: &'a AccountId,
    /// In which region.
    pub region: &'a str,
    /// The job's id or the thing group's name from the path, where the operation has one. Not validated yet.
    pub resource: Option<&'a str>,
    /// The thing's name from the path, where the operation has one. Not validated yet.
    pub thing: Option<&'a str>,
    /// The query, or the form for STS. Not validated yet.
    pub params: &'a Params,
    /// What else it says: how it is signed, among others.
    pub headers: &'a HeaderMap,
    /// Its body. Not parsed yet.
    pub body: &'a Bytes,
    /// How many requests named this operation so far, over all accounts and regions; 1 for the first.
    pub attempt: u64,
    /// When it came.
    pub now: Timestamp,
    /// What it was sent to, for interceptors that change a fleet.
    pub simulator: &'a Simulator,
    principal: &'a Principal,
}

impl Call<'_> {
    /// What the simulator answers where nobody intercepts: for interceptors that alter the answer, or change the fleet
    /// after it.
    #[must_use]
    pub fn answer(&self) -> Response {
        match self.operation.service() {
            Service::Iot => {
                self.answer_iot().map_or_else(|error| error.into_response(Service::Iot), |body| json(&body))
            }
            Service::Sts => self.answer_sts().unwrap_or_else(|error| error.into_response(Service::Sts)),
        }
    }

    fn answer_iot(&self) -> Result<serde_json::Value, ApiError> {
        if self.operation.is_change() {
            return self.change();
        }
        let nothing = Fleet::default();
        let state = self.simulator.read();
        let fleet = state.fleets.get(&(self.account.clone(), self.region.to_owned())).unwrap_or(&nothing);
        match self.operation {
            Operation::ListJobs => jobs_api::list_jobs(self, fleet),
            Operation::DescribeJob => jobs_api::describe_job(self, fleet),
            Operation::GetJobDocument => jobs_api::get_job_document(self, fleet),
            Operation::ListJobExecutionsForJob => executions_api::list_job_executions_for_job(self, fleet),
            Operation::ListJobExecutionsForThing => executions_api::list_job_executions_for_thing(self, fleet),
            Operation::DescribeJobExecution => executions_api::describe_job_execution(self, fleet),
            Operation::ListTagsForResource => resources_api::list_tags_for_resource(self, fleet),
            Operation::SearchIndex => resources_api::search_index(self, fleet),
            Operation::ListThingGroups => groups_api::list_thing_groups(self, fleet),
            Operation::DescribeThingGroup => groups_api::describe_thing_group(self, fleet),
            _ => Err(ApiError::unknown_operation()),
        }
    }

    /// Answers what changes something. What follows from it later, a deletion for one, is up to the fleet's lifecycle.
    fn change(&self) -> Result<serde_json::Value, ApiError> {
        let (state, place) = (&mut *self.simulator.write(), (self.account.clone(), self.region.to_owned()));
        let fleet = state.fleets.entry(place.clone()).or_default();
        let lifecycle = state.lifecycles.entry(place).or_insert_with(|| Lifecycle::at_rest(self.now));
        match self.operation {
            Operation::CancelJobExecution => executions_api::cancel_job_execution(self, fleet, lifecycle),
            Operation::CancelJob => changes_api::cancel_job(self, fleet, lifecycle),
            Operation::DeleteJob => changes_api::delete_job(self, fleet, lifecycle),
            Operation::UpdateJob => changes_api::update_job(self, fleet),
            _ => Err(ApiError::unknown_operation()),
        }
    }

    /// The job that it is about, where it names one. Not validated yet.
    #[must_use]
    pub fn job_id(&self) -> Option<&str> {
        match self.operation {
            Operation::DescribeThingGroup => None,
            Operation::ListTagsForResource => self.params.get("resourceArn")?.split_once(":job/").map(|(_, id)| id),
            Operation::ListJobExecutionsForThing => self.params.get("jobId"),
            _ => self.resource,
        }
    }

    /// The body as an object. An empty body is an empty one.
    fn json_body(&self) -> Result<serde_json::Map<String, serde_json::Value>, ApiError> {
        if self.body.is_empty() {
            return Ok(serde_json::Map::new());
        }
        serde_json::from_slice(self.body).map_err(|_| ApiError::invalid_request("The body is not a JSON object"))
    }

    fn answer_sts(&self) -> Result<Response, ApiError> {
        match self.operation {
            Operation::AssumeRole => {
                sts::assume_role(&mut self.simulator.write().credentials, self.principal, self.params, self.now)
            }
            Operation::AssumeRoleWithWebIdentity => {
                sts::assume_role_with_web_identity(&mut self.simulator.write().credentials, self.params, self.now)
            }
            _ => Ok(sts::get_caller_identity(self.principal)),
        }
    }

    /// The ARN of something of AWS IoT in this account and region.
    fn arn(&self, resource: &str) -> String {
        let partition = match self.region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:iot:{}:{}:{resource}", self.region, self.account)
    }
}
