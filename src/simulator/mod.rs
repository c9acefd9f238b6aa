//! A simulated AWS IoT Jobs control plane and STS. The real SDKs call it over HTTP.
//!
//! [`Simulator::answer`] takes a request and a time and returns a response. It does no I/O and reads no clock. So the
//! same simulator serves the demo over a socket ([`serve`]) and tests on a paused clock in the process.
//! [`Simulator::answer_with_faults`] also applies the faults of a [`Script`]; without a script, the two are equal.
//! This module uses `http` for messages and `jobs` for the terms of AWS IoT.
//!
//! A fleet changes only by calls, unless it has a [`Lifecycle`].
//!
//! # What follows AWS
//! Paths, parameters, names and types of fields, bounds of parameters, and error shapes follow the service models
//! `iot/2015-05-28` and `sts/2011-06-15`. One reported behaviour is simulated, too: `ListJobs` omits SCHEDULED jobs
//! when a thing group filter is set (aws-cli#8924).
//!
//! # What AWS does not document, and how the simulator behaves
//! - The order of `ListJobs`: by status, then newest first, then by id. Clients must not depend on it.
//! - A page starts after the last item of the previous page, in that order. A job whose position changes during a walk
//!   can be listed twice or not at all; any other job is listed once. Tokens expire only when a fault says so.
//! - A page has [`DEFAULT_PAGE_SIZE`] items by default. `maxResults` may change from page to page; a change of any
//!   other parameter makes the token invalid.
//! - `thingGroupId` of a job summary: with a group filter, the id of that group; else the id of the job's target, if
//!   that is exactly one existing group.
//! - A walk without `namespaceId` has the jobs of all namespaces.
//! - A filter by an unknown group answers `ResourceNotFoundException`.
//! - `ListThingGroups` without `parentGroup` lists all groups, or only the top ones with `recursive=false`; with it,
//!   the children, or all descendants with `recursive=true`.
//! - Executions of a job are listed in the order of a hash. The order is stable, and clients cannot use it.
//! - The things of a job are first its target things, then made-up members of its groups. Jobs of one group run on the
//!   same things.
//! - Each retry is a new execution with its own number, and so is each repeated run on a thing. All of them are
//!   counted and listed; without a number, `DescribeJobExecution` describes the last one.
//! - A job that has ended cannot be canceled or updated (`InvalidRequestException`).
//! - `ListTagsForResource` has [`TAG_PAGE_SIZE`] tags a page.
//!
//! # What is not simulated
//! `UpdateJob` accepts only descriptions, timeouts and retries, and `SearchIndex` only the query `thingName:NAME`.
//! Both refuse everything else. Executions in progress have no timer: the [`Lifecycle`] decides how many time out.
//!
//! Signatures and their dates are not verified. The access key in the `Authorization` header selects the account, and
//! its credential scope the region; the scope must name the right service. No policy is checked: every known caller
//! that has the external id of a role can assume it. The request id is in a header only, not in the XML of STS.

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

/// A response of the simulator, with its whole body.
pub type Response = ::http::Response<Bytes>;

/// Serves `simulator` on `listeners` until `shutdown` resolves. Each request sees the time that `now` gives when it
/// arrives.
pub async fn serve(
    simulator: Simulator,
    listeners: Vec<Listener>,
    now: impl Fn() -> Timestamp + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let handler = Arc::new(move |request: &Request| simulator.answer_with_faults(request, now()));
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
    /// The lifecycle of each fleet. A fleet without one has never changed.
    lifecycles: HashMap<(AccountId, String), Lifecycle>,
}

impl Simulator {
    /// A simulator without any account: it refuses every caller.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts requests that are signed with the long-lived key `access_key_id` as requests of `account`. An account
    /// can have several keys, and has an empty fleet in every region.
    pub fn add_access_key(&self, account: &AccountId, access_key_id: &str) {
        self.write().credentials.add_access_key(account, access_key_id);
    }

    /// Allows every known caller to assume `role`.
    pub fn add_role(&self, role: Role) {
        self.write().credentials.add_role(role);
    }

    /// Allows every bearer of `token` to assume `role`, and revokes the earlier token of this role.
    pub fn trust_web_identity(&self, role: Role, token: &str) {
        self.write().credentials.trust_web_identity(role, token);
    }

    /// Removes an access key, long-lived or temporary.
    pub fn remove_access_key(&self, access_key_id: &str) {
        self.write().credentials.remove_access_key(access_key_id);
    }

    /// Expires the sessions of all roles.
    pub fn end_sessions(&self) {
        self.write().credentials.end_sessions();
    }

    /// Sets the fleet of `account` in `region`.
    pub fn set_fleet(&self, account: &AccountId, region: &str, fleet: Fleet) {
        let (mut state, key) = (self.write(), (account.clone(), region.to_owned()));
        state.lifecycles.remove(&key);
        state.fleets.insert(key, fleet);
    }

    /// Sets the fleet of `account` in `region`, with a lifecycle. Each request first applies what is due by then, so
    /// no background task is needed.
    pub fn set_fleet_with_lifecycle(&self, account: &AccountId, region: &str, fleet: Fleet, lifecycle: Lifecycle) {
        let (mut state, key) = (self.write(), (account.clone(), region.to_owned()));
        state.lifecycles.insert(key.clone(), lifecycle);
        state.fleets.insert(key, fleet);
    }

    /// Applies what is due by `now`. Requests do so themselves.
    pub fn advance(&self, account: &AccountId, region: &str, now: Timestamp) {
        let key = (account.clone(), region.to_owned());
        let is_due = |lifecycle: &Lifecycle| lifecycle.next().is_some_and(|next| next <= now);
        // Mostly nothing is due. A read lock lets requests run at the same time.
        if !self.read().lifecycles.get(&key).is_some_and(is_due) {
            return;
        }
        let state = &mut *self.write();
        if let (Some(lifecycle), Some(fleet)) = (state.lifecycles.get_mut(&key), state.fleets.get_mut(&key)) {
            lifecycle.advance(fleet, now);
        }
    }

    /// Reads or changes a fleet between two requests. `change` must not call this simulator: it would deadlock.
    pub fn with_fleet<T>(&self, account: &AccountId, region: &str, change: impl FnOnce(&mut Fleet) -> T) -> T {
        change(self.write().fleets.entry((account.clone(), region.to_owned())).or_default())
    }

    /// The number of jobs by status and target selection; pairs without jobs are absent. Counted from the fleet,
    /// independently of `ListJobs` and its pages. A fleet with a lifecycle is as the last request left it.
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

    /// The number of requests for `operation`, refused and intercepted ones included.
    #[must_use]
    pub fn requests(&self, operation: Operation) -> u64 {
        self.shared.by_operation[operation as usize].load(Ordering::Relaxed)
    }

    /// The number of all requests, unknown operations included.
    #[must_use]
    pub fn total_requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Passes every call of a known caller to `interceptor`, which can answer instead of the simulator. Replaces an
    /// earlier interceptor. It may change fleets.
    pub fn intercept(&self, interceptor: impl Fn(&Call<'_>) -> Option<Response> + Send + Sync + 'static) {
        *self.shared.interceptor.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(interceptor));
    }

    /// Removes the interceptor.
    pub fn stop_intercepting(&self) {
        *self.shared.interceptor.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Answers one request as AWS would at the time `now`, without faults. See [`Simulator::answer_with_faults`].
    #[must_use]
    pub fn answer(&self, request: &Request, now: Timestamp) -> Response {
        self.handle(request, now, |_, response| response)
    }

    /// Answers one request. `finish` can change the answer to a known caller.
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
        // The clone releases the lock, so that an interceptor can install another one.
        let interceptor = self.shared.interceptor.read().unwrap_or_else(PoisonError::into_inner).clone();
        let response = interceptor.and_then(|interceptor| interceptor(&call)).unwrap_or_else(|| call.answer());
        Ok(finish(&call, response))
    }

    /// A panic of a test inside [`Simulator::with_fleet`] poisons the lock. The test reports that panic; the fleet
    /// stays usable.
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

/// One request of a known caller, as an interceptor gets it.
#[derive(Debug)]
pub struct Call<'a> {
    /// The operation.
    pub operation: Operation,
    /// The account of the fleet.
    pub account: &'a AccountId,
    /// The region of the fleet.
    pub region: &'a str,
    /// The job id or thing group name in the path, if any. Not validated.
    pub resource: Option<&'a str>,
    /// The thing name in the path, if any. Not validated.
    pub thing: Option<&'a str>,
    /// The query, or the form for STS. Not validated.
    pub params: &'a Params,
    /// The headers, with the signature among them.
    pub headers: &'a HeaderMap,
    /// The body. Not parsed.
    pub body: &'a Bytes,
    /// The number of requests for this operation so far, this one included, over all accounts and regions.
    pub attempt: u64,
    /// When the request came.
    pub now: Timestamp,
    /// The simulator, for interceptors that change a fleet.
    pub simulator: &'a Simulator,
    principal: &'a Principal,
}

impl Call<'_> {
    /// The answer of the simulator without the interceptor: for interceptors that alter the answer, or change the
    /// fleet afterwards.
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

    /// Answers a call that changes a job. Later effects, such as the end of a deletion, belong to the fleet's
    /// lifecycle.
    fn change(&self) -> Result<serde_json::Value, ApiError> {
        let (state, key) = (&mut *self.simulator.write(), (self.account.clone(), self.region.to_owned()));
        let fleet = state.fleets.entry(key.clone()).or_default();
        let lifecycle = state.lifecycles.entry(key).or_insert_with(|| Lifecycle::at_rest(self.now));
        match self.operation {
            Operation::CancelJobExecution => executions_api::cancel_job_execution(self, fleet, lifecycle),
            Operation::CancelJob => changes_api::cancel_job(self, fleet, lifecycle),
            Operation::DeleteJob => changes_api::delete_job(self, fleet, lifecycle),
            Operation::UpdateJob => changes_api::update_job(self, fleet),
            _ => Err(ApiError::unknown_operation()),
        }
    }

    /// The job id of the request, if any. Not validated.
    #[must_use]
    pub fn job_id(&self) -> Option<&str> {
        match self.operation {
            Operation::DescribeThingGroup => None,
            Operation::ListTagsForResource => self.params.get("resourceArn")?.split_once(":job/").map(|(_, id)| id),
            Operation::ListJobExecutionsForThing => self.params.get("jobId"),
            _ => self.resource,
        }
    }

    /// The body as an object. An empty body is an empty object.
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

    /// The ARN of an AWS IoT resource in this account and region.
    fn arn(&self, resource: &str) -> String {
        let partition = match self.region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:iot:{}:{}:{resource}", self.region, self.account)
    }
}
