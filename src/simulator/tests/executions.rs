//! Tests of executions, tags, and calls that change jobs.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

impl Caller<'_> {
    fn change(&self, method: &str, uri: &str, body: &str) -> Answer {
        self.change_at(method, uri, body, NOW)
    }

    fn change_at(&self, method: &str, uri: &str, body: &str, now: Timestamp) -> Answer {
        let answer = self.ask(&self.request(method, uri, "iot", body), now);
        assert!(answer.json().is_object(), "{}", answer.body);
        answer
    }

    fn executions(&self, uri: &str) -> Vec<Value> {
        let separator = if uri.contains('?') { '&' } else { '?' };
        self.walk(&format!("{uri}{separator}maxResults=2"), "executionSummaries").0
    }

    fn count(&self, job: &str, name: &str) -> u64 {
        let details = &self.get(&format!("/jobs/{job}")).json()["job"]["jobProcessDetails"];
        details[format!("numberOf{name}Things")].as_u64().expect("a count")
    }

    fn status(&self, job: &str) -> String {
        self.get(&format!("/jobs/{job}")).json()["job"]["status"].as_str().expect("a status").to_owned()
    }
}

/// A job with two queued executions and one in progress, another one on the same things, and one that has ended.
fn running() -> Simulator {
    let rollout = |id| Job::new(id, Status::InProgress, NOW.before(60 * MINUTE)).targeting_group("line");
    let jobs = [
        rollout("a").with_executions(ExecutionStatus::Queued, 2).with_executions(ExecutionStatus::InProgress, 1),
        rollout("b").in_namespace("ns").with_executions(ExecutionStatus::Failed, 2),
        Job::new("done", Status::Completed, NOW.before(90 * MINUTE)).with_executions(ExecutionStatus::Succeeded, 1),
        Job { in_progress_timeout_minutes: Some(120), ..rollout("timed") }
            .with_executions(ExecutionStatus::InProgress, 1),
    ];
    simulator(Fleet::new(jobs, [ThingGroup::new("line")]))
}

/// The name of a thing on which an execution of `job` has this status.
fn thing_with(caller: &Caller<'_>, job: &str, status: &str) -> String {
    let executions = caller.executions(&format!("/jobs/{job}/things?status={status}"));
    let arn = executions[0]["thingArn"].as_str().expect("an ARN");
    arn.rsplit_once(":thing/").expect("a thing").1.to_owned()
}

#[test]
fn counts_lists_and_times_agree_while_a_fleet_changes() {
    let simulator = Simulator::new();
    simulator.add_access_key(&account('1'), KEY);
    let speed = NonZeroU32::new(30).expect("not 0");
    let (fleet, lifecycle) = Lifecycle::begin(3, 120, speed, NOW);
    simulator.set_fleet_with_lifecycle(&account('1'), REGION, fleet, lifecycle);
    let (mut retried, mut again, mut reported, mut joined) = (0, 0, 0, 0);
    let mut last_seen: HashMap<String, Arc<Job>> = HashMap::new();
    for minutes in 0..60 {
        let now = NOW.after(MINUTE * minutes);
        simulator.advance(&account('1'), REGION, now);
        simulator.with_fleet(&account('1'), REGION, |fleet| {
            for job in fleet.shared_jobs() {
                let last = last_seen.insert(job.id.clone(), Arc::clone(job));
                if last.is_some_and(|last| Arc::ptr_eq(&last, job)) {
                    // It has not changed, and time cannot make it wrong.
                    continue;
                }
                let listed = job.executions.list(&job.times(), None, None, usize::MAX);
                assert_eq!(listed.len() as u64, job.executions.total(), "{}", job.id);
                let mut identities = BTreeSet::new();
                for (_, execution) in listed {
                    assert!(identities.insert((execution.thing, execution.number)), "{}: {execution:?}", job.id);
                    let begun = execution.started_at.unwrap_or(execution.queued_at);
                    let is_in_order = job.created_at <= execution.queued_at
                        && execution.queued_at <= begun
                        && begun <= execution.last_updated_at
                        && execution.last_updated_at <= now;
                    assert!(is_in_order, "{job:?} at {now:?}: {execution:?}");
                    assert!(execution.retry_attempt <= job.max_retries && execution.retry_attempt < execution.number);
                    let is_working = execution.status == ExecutionStatus::InProgress;
                    assert!(!is_working || execution.started_at.is_some());
                    retried += u32::from(execution.retry_attempt > 0);
                    again += u32::from(execution.number > 1 && execution.retry_attempt == 0);
                    reported += u32::from(is_working && begun < execution.last_updated_at);
                    joined += u32::from(execution.queued_at > job.created_at.after(60 * MINUTE));
                }
            }
        });
    }
    assert!(retried > 0 && again > 0 && reported > 0 && joined > 0, "{retried} {again} {reported} {joined}");
}

#[test]
fn an_execution_that_stays_in_the_filter_is_listed_once_while_others_change() {
    let job = Job::new("a", Status::InProgress, NOW.before(MINUTE))
        .continuous()
        .with_executions(ExecutionStatus::Queued, 60)
        .with_executions(ExecutionStatus::InProgress, 60);
    let simulator = simulator(Fleet::new([job], []));
    let caller = Caller::new(&simulator);
    let before: BTreeSet<String> = ids(&caller.executions("/jobs/a/things?status=QUEUED"));
    simulator.intercept(|call| {
        let answer = call.answer();
        call.simulator.with_fleet(call.account, call.region, |fleet| {
            fleet.update_job("a", |job| {
                let executions = job.executions_mut();
                executions.advance((ExecutionStatus::Queued, ExecutionStatus::InProgress), 1, 0, call.now);
                executions.queue(1, call.now);
            });
        });
        Some(answer)
    });
    let seen = caller.executions("/jobs/a/things?status=QUEUED");
    simulator.stop_intercepting();
    let after = ids(&caller.executions("/jobs/a/things?status=QUEUED"));
    assert!(before.intersection(&after).count() > 20);
    for arn in before.intersection(&after) {
        assert_eq!(seen.iter().filter(|execution| execution["thingArn"] == **arn).count(), 1, "{arn}");
    }
}

fn ids(executions: &[Value]) -> BTreeSet<String> {
    executions.iter().map(|execution| execution["thingArn"].as_str().expect("an ARN").to_owned()).collect()
}

#[test]
fn executions_are_not_listed_in_order_of_things_or_times() {
    let job = Job::new("a", Status::InProgress, NOW.before(MINUTE)).updated(NOW);
    let simulator = simulator(Fleet::new([job.with_executions(ExecutionStatus::Succeeded, 100)], []));
    let executions = Caller::new(&simulator).executions("/jobs/a/things");
    assert!(!executions.is_sorted_by_key(|execution| execution["thingArn"].to_string()));
    let queued_at = |execution: &Value| execution["jobExecutionSummary"]["queuedAt"].as_f64();
    assert!(!executions.is_sorted_by(|one, other| queued_at(one) <= queued_at(other)));
}

#[test]
fn an_execution_is_listed_with_exactly_its_values() {
    let execution = Execution {
        thing: 0,
        number: 3,
        retry_attempt: 2,
        status: ExecutionStatus::InProgress,
        queued_at: at(1000),
        started_at: Some(at(2000)),
        last_updated_at: Timestamp::from_millis(3_000_250),
        version: 4,
    };
    let job = Job::new("a", Status::InProgress, at(900)).targeting_thing("t").with_execution(execution);
    let simulator = simulator(Fleet::new([job], []));
    let caller = Caller::new(&simulator);
    let expected = serde_json::json!({
        "status": "IN_PROGRESS", "queuedAt": 1000.0, "startedAt": 2000.0, "lastUpdatedAt": 3000.25,
        "executionNumber": 3, "retryAttempt": 2,
    });
    assert_eq!(caller.executions("/jobs/a/things")[0]["jobExecutionSummary"], expected);
    let of_thing = &caller.executions("/things/t/jobs")[0];
    assert_eq!((&of_thing["jobId"], &of_thing["jobExecutionSummary"]), (&Value::from("a"), &expected));
    let described = &caller.get("/things/t/jobs/a").json()["execution"];
    for name in ["status", "queuedAt", "startedAt", "lastUpdatedAt", "executionNumber"] {
        assert_eq!(described[name], expected[name], "{name}");
    }
    assert_eq!(described["versionNumber"], 4);
    assert_eq!(caller.get("/things/t/jobs/a?executionNumber=3").status, StatusCode::OK);
    assert_eq!(caller.get("/things/t/jobs/a?executionNumber=1").error(), (404, "ResourceNotFoundException"));
}

#[test]
fn the_jobs_of_a_thing_are_listed_by_status_namespace_and_job() {
    let simulator = running();
    let caller = Caller::new(&simulator);
    let jobs = |query: &str| -> BTreeSet<String> {
        let executions = caller.executions(&format!("/things/line-000000/jobs?maxResults=1{query}"));
        executions.iter().map(|execution| execution["jobId"].as_str().expect("an id").to_owned()).collect()
    };
    let set = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(jobs(""), set(&["a", "b", "timed"]));
    assert_eq!(jobs("&status=FAILED"), set(&["b"]));
    assert_eq!(jobs("&namespaceId=ns"), set(&["b"]));
    assert_eq!(jobs("&jobId=timed"), set(&["timed"]));
    assert_eq!(caller.executions("/things/nobody/jobs").len(), 0);
}

#[test]
fn pages_of_a_thing_can_end_between_two_executions_of_one_job() {
    let mut job = Job::new("a", Status::InProgress, NOW).continuous().targeting_thing("t");
    let executions = job.executions_mut();
    executions.queue(1, NOW);
    for _ in 0..3 {
        executions.advance((ExecutionStatus::Queued, ExecutionStatus::Rejected), 1, 0, NOW);
        assert!(executions.queue_again(NOW));
    }
    let simulator = simulator(Fleet::new([job, Job::new("b", Status::InProgress, NOW)], []));
    let (executions, pages) = Caller::new(&simulator).walk("/things/t/jobs?maxResults=1", "executionSummaries");
    let numbers: Vec<_> = executions.iter().map(|it| it["jobExecutionSummary"]["executionNumber"].as_u64()).collect();
    assert_eq!((numbers, pages), (vec![Some(1), Some(2), Some(3), Some(4)], 4));
}

#[test]
fn a_description_has_the_failure_reason_and_the_time_left() {
    let simulator = running();
    let caller = Caller::new(&simulator);
    let failed = &caller.get("/things/line-000000/jobs/b").json()["execution"];
    assert!(failed["statusDetails"]["detailsMap"]["reason"].is_string(), "{failed}");
    let working = &caller.get("/things/line-000000/jobs/timed").json()["execution"];
    let left = working["approximateSecondsBeforeTimedOut"].as_u64().expect("a timer runs");
    assert!((3600..=7200).contains(&left), "{left}");
}

#[test]
fn a_canceled_job_keeps_executions_in_progress_unless_forced() {
    for (force, in_progress) in [("", 1), ("?force=false", 1), ("?force=true", 0)] {
        let simulator = running();
        let caller = Caller::new(&simulator);
        let body = r#"{"comment": "stuck", "reasonCode": "ÜBER_1"}"#;
        let answer = caller.change("PUT", &format!("/jobs/a/cancel{force}"), body).json();
        assert_eq!(answer["jobId"], "a");
        let job = &caller.get("/jobs/a").json()["job"];
        assert_eq!((&job["status"], &job["comment"]), (&"CANCELED".into(), &"stuck".into()));
        assert_eq!((&job["reasonCode"], &job["forceCanceled"]), (&"ÜBER_1".into(), &(in_progress == 0).into()));
        assert_eq!(job["completedAt"], job["lastUpdatedAt"]);
        assert_eq!((caller.count("a", "Queued"), caller.count("a", "InProgress")), (0, in_progress), "{force}");
        assert_eq!(caller.count("a", "Canceled"), 3 - in_progress);
        for execution in caller.executions("/jobs/a/things?status=CANCELED") {
            assert_eq!(execution["jobExecutionSummary"]["lastUpdatedAt"], job["lastUpdatedAt"]);
        }
        let again = caller.change("PUT", "/jobs/a/cancel", "");
        assert_eq!(again.error(), (400, "InvalidRequestException"));
    }
}

#[test]
fn a_deleted_job_is_in_deletion_before_it_is_gone() {
    let simulator = running();
    let caller = Caller::new(&simulator);
    assert_eq!(caller.change("DELETE", "/jobs/done", "").status, StatusCode::OK);
    assert_eq!(caller.status("done"), "DELETION_IN_PROGRESS");
    assert_eq!(caller.change("DELETE", "/jobs/done", "").error(), (409, "InvalidStateTransitionException"));
    let later = NOW.after(Duration::from_hours(2));
    let gone = caller.ask(&caller.request("GET", "/jobs/done", "iot", ""), later);
    assert_eq!(gone.error(), (404, "ResourceNotFoundException"));
    let others = caller.ask(&caller.request("GET", "/jobs", "iot", ""), later).json();
    assert_eq!(others["jobs"].as_array().map(Vec::len), Some(3), "nothing else happens to a fleet at rest");
}

#[test]
fn an_open_job_is_deleted_with_force_only() {
    let simulator = running();
    let caller = Caller::new(&simulator);
    for uri in ["/jobs/a", "/jobs/a?force=false"] {
        assert_eq!(caller.change("DELETE", uri, "").error(), (409, "InvalidStateTransitionException"), "{uri}");
    }
    assert_eq!(caller.change("DELETE", "/jobs/b?force=true&namespaceId=other", "").error().0, 404);
    assert_eq!(caller.change("DELETE", "/jobs/b?force=true&namespaceId=ns", "").status, StatusCode::OK);
    assert_eq!(caller.status("b"), "DELETION_IN_PROGRESS");
}

#[test]
fn no_more_than_ten_jobs_are_deleted_at_the_same_time() {
    let jobs = (0..12).map(|n| Job::new(format!("job-{n}"), Status::Completed, NOW));
    let simulator = simulator(Fleet::new(jobs, []));
    let caller = Caller::new(&simulator);
    for n in 0..10 {
        assert_eq!(caller.change("DELETE", &format!("/jobs/job-{n}"), "").status, StatusCode::OK);
    }
    assert_eq!(caller.change("DELETE", "/jobs/job-10", "").error(), (410, "LimitExceededException"));
    let later = caller.change_at("DELETE", "/jobs/job-10", "", NOW.after(Duration::from_hours(2)));
    assert_eq!(later.status, StatusCode::OK);
}

#[test]
fn an_execution_in_progress_is_canceled_with_force_only_and_keeps_its_details() {
    let simulator = running();
    let caller = Caller::new(&simulator);
    let [queued, working] = ["QUEUED", "IN_PROGRESS"].map(|status| thing_with(&caller, "a", status));
    let cancel = |thing: &str, query: &str, body: &str| {
        caller.change("PUT", &format!("/things/{thing}/jobs/a/cancel{query}"), body)
    };
    assert_eq!(cancel(&queued, "", "").status, StatusCode::OK);
    assert_eq!(cancel(&queued, "", "").error(), (409, "InvalidStateTransitionException"), "it has ended");
    assert_eq!(cancel(&working, "", "").error(), (409, "InvalidStateTransitionException"));
    assert_eq!(cancel(&working, "?force=true", r#"{"expectedVersion": 9}"#).error(), (409, "VersionConflictException"));
    let body = r#"{"expectedVersion": 2, "statusDetails": {"who": "me"}}"#;
    assert_eq!(cancel(&working, "?force=true", body).status, StatusCode::OK);
    let execution = &caller.get(&format!("/things/{working}/jobs/a")).json()["execution"];
    assert_eq!(execution["statusDetails"]["detailsMap"]["who"], "me");
    assert_eq!((&execution["forceCanceled"], &execution["versionNumber"]), (&true.into(), &3.into()));
    assert_eq!((caller.count("a", "Canceled"), caller.status("a")), (2, "IN_PROGRESS".to_owned()));
    let last = thing_with(&caller, "a", "QUEUED");
    assert_eq!(cancel(&last, "", "").status, StatusCode::OK);
    assert_eq!(caller.status("a"), "COMPLETED", "no execution is open any more");
    assert_eq!(cancel("nobody", "", "").error(), (404, "ResourceNotFoundException"));
}

#[test]
fn an_update_changes_only_its_fields_and_refuses_unsupported_ones() {
    let simulator = running();
    let caller = Caller::new(&simulator);
    let body = r#"{"description": "new", "timeoutConfig": {"inProgressTimeoutInMinutes": 120},
        "jobExecutionsRetryConfig": {"criteriaList": [{"failureType": "ALL", "numberOfRetries": 3}]}}"#;
    assert_eq!(caller.change("PATCH", "/jobs/a", body).status, StatusCode::OK);
    let job = &caller.get("/jobs/a").json()["job"];
    assert_eq!(
        (&job["description"], &job["timeoutConfig"]["inProgressTimeoutInMinutes"]),
        (&"new".into(), &120.into())
    );
    assert_eq!(job["jobExecutionsRetryConfig"]["criteriaList"][0]["numberOfRetries"], 3);
    for body in [
        r#"{"timeoutConfig": {"inProgressTimeoutInMinutes": 0}}"#,
        r#"{"timeoutConfig": 7}"#,
        r#"{"jobExecutionsRetryConfig": {}}"#,
        r#"{"jobExecutionsRetryConfig": {"criteriaList": [{"numberOfRetries": 11}]}}"#,
        r#"{"abortConfig": {}}"#,
        r#"{"description": 7}"#,
        "[]",
        "{",
    ] {
        assert_eq!(caller.change("PATCH", "/jobs/a", body).error(), (400, "InvalidRequestException"), "{body}");
    }
    assert_eq!(caller.change("PATCH", "/jobs/done", "{}").error(), (400, "InvalidRequestException"));
}

#[test]
fn changes_outside_of_the_model_are_refused() {
    let simulator = running();
    let caller = Caller::new(&simulator);
    for (method, uri, body) in [
        ("PUT", "/jobs/a/cancel", r#"{"reasonCode": "lower"}"#),
        ("PUT", "/jobs/a/cancel", r#"{"comment": ""}"#),
        ("PUT", "/jobs/a/cancel?force=yes", ""),
        ("PUT", "/jobs/a.b/cancel", ""),
        ("PUT", "/jobs/done/cancel", ""),
        ("DELETE", "/jobs/done?force=1", ""),
        ("PUT", "/things/a.b/jobs/a/cancel", ""),
        ("PUT", "/things/line-000000/jobs/a/cancel", r#"{"statusDetails": {"a.b": "c"}}"#),
        ("PUT", "/things/line-000000/jobs/a/cancel", r#"{"statusDetails": {"a": 7}}"#),
    ] {
        assert_eq!(caller.change(method, uri, body).error(), (400, "InvalidRequestException"), "{method} {uri} {body}");
    }
    for (method, uri) in [("PUT", "/jobs/none/cancel"), ("DELETE", "/jobs/none"), ("PATCH", "/jobs/none")] {
        assert_eq!(caller.change(method, uri, "").error(), (404, "ResourceNotFoundException"), "{method} {uri}");
    }
}

#[test]
fn changes_by_calls_replace_planned_actions() {
    let simulator = Simulator::new();
    simulator.add_access_key(&account('1'), KEY);
    let (fleet, lifecycle) = Lifecycle::begin(5, 60, NonZeroU32::MIN, NOW);
    let open: Vec<String> = fleet.jobs_after(None, Some(&Status::InProgress)).map(|job| job.id.clone()).collect();
    simulator.set_fleet_with_lifecycle(&account('1'), REGION, fleet, lifecycle);
    let caller = Caller::new(&simulator);
    for id in &open {
        assert_eq!(caller.change("PUT", &format!("/jobs/{id}/cancel?force=true"), "").status, StatusCode::OK);
    }
    simulator.advance(&account('1'), REGION, NOW.after(5 * MINUTE));
    for id in &open {
        let found = simulator.with_fleet(&account('1'), REGION, |fleet| fleet.job(id).cloned());
        let Some(job) = found.filter(|job| job.status == Status::Canceled) else { continue };
        assert_eq!((job.executions.open(), job.is_concurrent), (0, false), "{job:?}");
    }
}

#[test]
fn tags_are_paged_and_belong_to_jobs_of_the_account() {
    let tagged =
        (0..25).fold(Job::new("a", Status::InProgress, NOW), |job, n| job.tagged(&format!("key-{n:02}"), "value"));
    let simulator = simulator(Fleet::new([tagged, Job::new("b", Status::InProgress, NOW)], [ThingGroup::new("line")]));
    let caller = Caller::new(&simulator);
    let tags = |resource: &str| {
        caller.walk(&format!("/tags?resourceArn=arn:aws:iot:{REGION}:111111111111:{resource}"), "tags")
    };
    let (of_a, pages) = tags("job/a");
    assert_eq!((of_a.len(), pages), (25, 25_usize.div_ceil(TAG_PAGE_SIZE)));
    assert_eq!(of_a[3], serde_json::json!({ "Key": "key-03", "Value": "value" }));
    assert_eq!((tags("job/b").0.len(), tags("thinggroup/line").0.len()), (0, 0));
    let missing = format!("/tags?resourceArn=arn:aws:iot:{REGION}:111111111111:job/none");
    assert_eq!(caller.get(&missing).error(), (404, "ResourceNotFoundException"));
    for uri in ["/tags", "/tags?resourceArn=job/a", "/tags?resourceArn=arn:aws:iot:us-east-1:111111111111:job/a"] {
        assert_eq!(caller.get(uri).error(), (400, "InvalidRequestException"), "{uri}");
    }
}

#[test]
fn a_search_finds_a_thing_by_its_name_and_whether_it_is_connected() {
    let simulator = running();
    let caller = Caller::new(&simulator);
    let search = |query: &str| {
        let body = serde_json::json!({ "queryString": query }).to_string();
        caller.change("POST", "/indices/search", &body)
    };
    let waiting = thing_with(&caller, "a", "QUEUED");
    assert_eq!(search(&format!("thingName:{waiting}")).json()["things"][0]["connectivity"]["connected"], false);
    assert_eq!(search("thingName:line-000000").json()["things"][0]["connectivity"]["connected"], true);
    assert_eq!(search("thingName:nobody").json(), serde_json::json!({ "things": [] }));
    for query in ["", "*", "connectivity.connected:true", "thingName:a*"] {
        assert_eq!(search(query).error(), (400, "InvalidQueryException"), "{query}");
    }
}

#[test]
fn a_job_has_a_document() {
    let simulator = simulator(Fleet::seeded(1, 10, NOW));
    let caller = Caller::new(&simulator);
    let id = &caller.ids("")[0];
    let document = caller.get(&format!("/jobs/{id}/job-document")).json()["document"].as_str().map(str::to_owned);
    let document: Value = serde_json::from_str(&document.expect("a document")).expect("JSON in a text");
    assert_eq!(document["operation"], "update");
    assert_eq!(caller.get("/jobs/none/job-document").error(), (404, "ResourceNotFoundException"));
}
