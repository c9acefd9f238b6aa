//! Tests of the simulator as clients of AWS IoT see it, in the process.

mod executions;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http::StatusCode;

use super::*;
use crate::jobs::ExecutionStatus;

const NOW: Timestamp = Timestamp::from_millis(1_784_986_200_123);
const REGION: &str = "eu-west-1";
const KEY: &str = "AKIASIMULATED0000001";

fn account(digit: char) -> AccountId {
    AccountId::parse(&digit.to_string().repeat(12)).expect("12 digits")
}

/// A simulator with one account, and this fleet in one region.
fn simulator(fleet: Fleet) -> Simulator {
    let simulator = Simulator::new();
    simulator.add_access_key(&account('1'), KEY);
    simulator.set_fleet(&account('1'), REGION, fleet);
    simulator
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// Ten jobs, two of each status, and two groups.
fn small_fleet() -> Fleet {
    let jobs = Status::KNOWN.iter().enumerate().flat_map(|(n, status)| {
        let first = Job::new(format!("{status}-1"), status.clone(), at(100)).targeting_group("one");
        let second = Job::new(format!("{status}-2"), status.clone(), at(200 + i64::try_from(n).unwrap_or(0)));
        [first, second.continuous().targeting_group("one").targeting_group("two").in_namespace("ns")]
    });
    Fleet::new(jobs, ["one", "two"].map(ThingGroup::new))
}

/// A caller with credentials.
struct Caller<'a> {
    simulator: &'a Simulator,
    key: String,
    region: &'a str,
    session_token: Option<String>,
}

struct Answer {
    status: StatusCode,
    error_type: Option<String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    fn error(&self) -> (u16, &str) {
        (self.status.as_u16(), self.error_type.as_deref().unwrap_or_default())
    }

    /// The text of the first XML element of this name.
    fn xml(&self, name: &str) -> &str {
        let (_, rest) = self.body.split_once(&format!("<{name}>")).expect(name);
        rest.split_once(&format!("</{name}>")).expect(name).0
    }
}

impl<'a> Caller<'a> {
    fn new(simulator: &'a Simulator) -> Self {
        Self { simulator, key: KEY.to_owned(), region: REGION, session_token: None }
    }

    fn request(&self, method: &str, uri: &str, service: &str, body: &str) -> Request {
        let scope = format!("{}/20260725/{}/{service}/aws4_request", self.key, self.region);
        let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let mut request = ::http::Request::builder().method(method).uri(uri).header("authorization", authorization);
        if let Some(token) = &self.session_token {
            request = request.header("x-amz-security-token", token);
        }
        request.body(Bytes::copy_from_slice(body.as_bytes())).expect("a valid request")
    }

    fn ask(&self, request: &Request, now: Timestamp) -> Answer {
        let response = self.simulator.answer(request, now);
        let header = |name: &str| Some(response.headers().get(name)?.to_str().expect("text").to_owned());
        assert!(header("x-amzn-requestid").is_some(), "every answer has an id");
        Answer {
            status: response.status(),
            error_type: header("x-amzn-errortype"),
            body: String::from_utf8(response.body().to_vec()).expect("UTF-8"),
        }
    }

    fn get(&self, uri: &str) -> Answer {
        self.ask(&self.request("GET", uri, "iot", ""), NOW)
    }

    fn sts(&self, form: &str) -> Answer {
        self.ask(&self.request("POST", "/", "sts", form), NOW)
    }

    /// All items of all pages of the list `member`, and the number of pages.
    fn walk(&self, uri: &str, member: &str) -> (Vec<Value>, usize) {
        let (mut items, mut token) = (Vec::new(), String::new());
        for pages in 1.. {
            let answer = self.get(&format!("{uri}{token}"));
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            let page = answer.json();
            items.extend(page[member].as_array().expect("a list").iter().cloned());
            match page["nextToken"].as_str() {
                Some(next) => token = format!("&nextToken={next}"),
                None => return (items, pages),
            }
        }
        unreachable!("the loop has no end but return")
    }

    fn ids(&self, query: &str) -> Vec<String> {
        let (jobs, _) = self.walk(&format!("/jobs?{query}"), "jobs");
        jobs.iter().map(|job| job["jobId"].as_str().expect("an id").to_owned()).collect()
    }
}

#[test]
fn every_page_size_shows_every_job_once() {
    // Small, because each of 250 walks lists all its jobs; and one that has more than the largest page.
    for (jobs, sizes) in [(60, (1..=250).collect()), (251, vec![1, 2, 9, 125, 126, 249, 250])] {
        let simulator = simulator(Fleet::seeded(1, jobs, NOW));
        let caller = Caller::new(&simulator);
        let all = caller.ids("maxResults=250");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), jobs);
        for size in sizes {
            let (listed, pages) = caller.walk(&format!("/jobs?maxResults={size}"), "jobs");
            let ids: Vec<&str> = listed.iter().filter_map(|job| job["jobId"].as_str()).collect();
            assert_eq!(ids, all, "page size {size}");
            assert_eq!(pages, jobs.div_ceil(size), "page size {size}");
        }
    }
}

#[test]
fn a_full_last_page_has_no_token() {
    let simulator = simulator(small_fleet());
    let page = Caller::new(&simulator).get("/jobs?maxResults=10").json();
    assert_eq!((page["jobs"].as_array().map(Vec::len), page.get("nextToken")), (Some(10), None));
}

#[test]
fn without_max_results_a_page_has_the_default_size() {
    let simulator = simulator(Fleet::seeded(1, 100, NOW));
    let page = Caller::new(&simulator).get("/jobs").json();
    assert_eq!(page["jobs"].as_array().map(Vec::len), usize::try_from(DEFAULT_PAGE_SIZE).ok());
}

#[test]
fn an_empty_fleet_answers_an_empty_list() {
    let simulator = simulator(Fleet::default());
    assert_eq!(Caller::new(&simulator).get("/jobs").body, r#"{"jobs":[]}"#);
}

#[test]
fn jobs_that_keep_their_position_are_listed_once_while_others_change() {
    let simulator = simulator(Fleet::seeded(1, 200, NOW));
    let caller = Caller::new(&simulator);
    let before: BTreeSet<String> = caller.ids("maxResults=250").into_iter().collect();
    simulator.intercept(|call| {
        let answer = call.answer();
        call.simulator.with_fleet(call.account, call.region, |fleet| {
            fleet.add_job(Job::new(format!("new-{}", call.attempt), Status::InProgress, call.now));
            let last = fleet.jobs().last().map(|job| job.id.clone()).expect("jobs");
            fleet.remove_job(&last);
        });
        Some(answer)
    });
    let seen = caller.ids("maxResults=7");
    let after: BTreeSet<String> =
        simulator.with_fleet(&account('1'), REGION, |fleet| fleet.jobs().map(|job| job.id.clone()).collect());
    for id in before.intersection(&after) {
        assert_eq!(seen.iter().filter(|other| *other == id).count(), 1, "{id}");
    }
}

#[test]
fn a_token_with_other_parameters_is_refused() {
    let simulator = simulator(small_fleet());
    simulator.set_fleet(&account('1'), "us-east-1", small_fleet());
    let caller = Caller::new(&simulator);
    let page = caller.get("/jobs?maxResults=1&targetSelection=SNAPSHOT").json();
    let token = page["nextToken"].as_str().expect("more jobs");
    let refused = |uri: &str| assert_eq!(caller.get(uri).error(), (400, "InvalidRequestException"), "{uri}");
    refused(&format!("/jobs?nextToken={token}"));
    refused(&format!("/jobs?targetSelection=CONTINUOUS&nextToken={token}"));
    refused(&format!("/jobs?targetSelection=SNAPSHOT&status=COMPLETED&nextToken={token}"));
    refused(&format!("/thing-groups?nextToken={token}"));
    refused("/jobs?nextToken=nonsense");
    refused("/jobs?nextToken=");
    let same = format!("/jobs?targetSelection=SNAPSHOT&nextToken={token}");
    let elsewhere = Caller { region: "us-east-1", ..Caller::new(&simulator) };
    assert_eq!(elsewhere.get(&same).error(), (400, "InvalidRequestException"));
    assert_eq!(caller.get(&same).status, StatusCode::OK, "the page size may change");
}

#[test]
fn filters_narrow_a_walk() {
    let simulator = simulator(small_fleet());
    let caller = Caller::new(&simulator);
    for status in Status::KNOWN {
        let expected = [format!("{status}-2"), format!("{status}-1")];
        assert_eq!(caller.ids(&format!("status={status}&maxResults=1")), expected, "newest first");
    }
    assert!(caller.ids("targetSelection=SNAPSHOT").iter().all(|id| id.ends_with("-1")));
    assert!(caller.ids("namespaceId=ns").iter().all(|id| id.ends_with("-2")));
    assert_eq!(caller.ids("status=CANCELED&targetSelection=CONTINUOUS"), ["CANCELED-2"]);
    assert_eq!(caller.ids("namespaceId=other"), [""; 0]);
}

#[test]
fn scheduled_jobs_are_missing_under_a_group_filter() {
    let simulator = simulator(small_fleet());
    let caller = Caller::new(&simulator);
    assert_eq!(caller.ids("").len(), 10);
    let of_group = caller.ids("thingGroupName=one&maxResults=3");
    assert_eq!(of_group.len(), 8);
    assert!(of_group.iter().all(|id| !id.starts_with("SCHEDULED")), "{of_group:?}");
    assert_eq!(caller.ids("thingGroupName=one&status=SCHEDULED"), [""; 0]);
    assert_eq!(caller.ids("thingGroupName=two").len(), 4);
}

#[test]
fn a_group_can_be_named_by_its_id() {
    let simulator = simulator(small_fleet());
    let caller = Caller::new(&simulator);
    let id = caller.get("/thing-groups/two").json()["thingGroupId"].as_str().expect("an id").to_owned();
    assert_eq!(caller.ids(&format!("thingGroupId={id}")), caller.ids("thingGroupName=two"));
}

#[test]
fn a_summary_has_the_id_of_the_filter_group_or_of_the_only_target() {
    let simulator = simulator(small_fleet());
    let caller = Caller::new(&simulator);
    let id_of = |name: &str| caller.get(&format!("/thing-groups/{name}")).json()["thingGroupId"].clone();
    let (jobs, _) = caller.walk("/jobs?", "jobs");
    for job in jobs {
        let has_one_target = job["jobId"].as_str().expect("an id").ends_with("-1");
        assert_eq!(job.get("thingGroupId"), has_one_target.then(|| id_of("one")).as_ref(), "{job}");
    }
    let (jobs, _) = caller.walk("/jobs?thingGroupName=two", "jobs");
    assert!(jobs.iter().all(|job| job["thingGroupId"] == id_of("two")));
}

#[test]
fn parameters_outside_of_the_model_are_refused() {
    let simulator = simulator(small_fleet());
    let caller = Caller::new(&simulator);
    for uri in [
        "/jobs?maxResults=0",
        "/jobs?maxResults=251",
        "/jobs?maxResults=ten",
        "/jobs?status=QUEUED",
        "/jobs?status=",
        "/jobs?targetSelection=snapshot",
        "/jobs?thingGroupName=a%20b",
        "/jobs?thingGroupName=",
        "/jobs?thingGroupId=a_b",
        "/jobs?namespaceId=a.b",
        "/jobs?thingGroupName=one&thingGroupId=one",
        "/jobs/a.b",
        "/jobs/",
        "/jobs/%FF",
        "/jobs/IN_PROGRESS-1/things?status=DONE",
        "/jobs/IN_PROGRESS-1/things?maxResults=251",
        "/thing-groups?maxResults=251",
        "/thing-groups?recursive=yes",
        "/thing-groups?namePrefixFilter=a.b",
        "/thing-groups/a.b",
    ] {
        let answer = caller.get(uri);
        assert_eq!(answer.error(), (400, "InvalidRequestException"), "{uri}");
        assert!(answer.json()["message"].is_string(), "{uri}");
    }
}

#[test]
fn unknown_resources_are_not_found() {
    let simulator = simulator(small_fleet());
    let caller = Caller::new(&simulator);
    for uri in [
        "/jobs/none",
        "/jobs/none/things",
        "/thing-groups/none",
        "/thing-groups?parentGroup=none",
        "/jobs?thingGroupName=none",
        "/jobs?thingGroupId=none",
    ] {
        assert_eq!(caller.get(uri).error(), (404, "ResourceNotFoundException"), "{uri}");
    }
}

#[test]
fn an_unknown_path_or_method_is_an_unknown_operation() {
    let simulator = simulator(small_fleet());
    let caller = Caller::new(&simulator);
    assert_eq!(caller.get("/things").error(), (404, "UnknownOperationException"));
    let post = caller.request("POST", "/jobs/IN_PROGRESS-1", "iot", "");
    assert_eq!(caller.ask(&post, NOW).error(), (404, "UnknownOperationException"));
    assert_eq!(caller.sts("Action=GetSessionToken").xml("Code"), "InvalidAction");
}

#[test]
fn a_description_has_all_fields_of_a_job() {
    let window = MaintenanceWindow { start_time: "cron(0 2 ? * * *)".to_owned(), duration_in_minutes: 90 };
    let scheduling = Scheduling {
        start_time: Some(NOW),
        end_time: Some(NOW.after(Duration::from_hours(24))),
        end_behavior: Some("CANCEL".to_owned()),
        maintenance_windows: vec![window],
    };
    let job = Job::new("rollout", Status::InProgress, Timestamp::from_millis(1_560_787_022_733))
        .targeting_group("a:b")
        .targeting_thing("t")
        .with_executions(ExecutionStatus::Queued, 3)
        .with_executions(ExecutionStatus::TimedOut, 1)
        .scheduled(scheduling)
        .in_namespace("ns");
    let simulator = simulator(Fleet::new([Job { in_progress_timeout_minutes: Some(5), ..job }], []));
    let body = Caller::new(&simulator).get("/jobs/rollout").json();
    let job = &body["job"];
    assert_eq!(job["jobArn"], "arn:aws:iot:eu-west-1:111111111111:job/rollout");
    assert_eq!(job["targets"][0], "arn:aws:iot:eu-west-1:111111111111:thinggroup/a:b");
    assert_eq!(job["targets"][1], "arn:aws:iot:eu-west-1:111111111111:thing/t");
    assert_eq!(job["createdAt"].to_string(), "1560787022.733");
    assert_eq!(job["jobProcessDetails"]["numberOfQueuedThings"], 3);
    assert_eq!(job["jobProcessDetails"]["numberOfTimedOutThings"], 1);
    assert_eq!(job["jobProcessDetails"]["numberOfFailedThings"], 0);
    assert_eq!(job["schedulingConfig"]["startTime"], "2026-07-25 13:30");
    assert_eq!(job["schedulingConfig"]["endTime"], "2026-07-26 13:30");
    assert_eq!(job["schedulingConfig"]["maintenanceWindows"][0]["durationInMinutes"], 90);
    assert_eq!(job["timeoutConfig"]["inProgressTimeoutInMinutes"], 5);
    assert_eq!(job["namespaceId"], "ns");
    assert_eq!(job.get("completedAt"), None, "AWS writes no null");
}

#[test]
fn arns_have_the_partition_of_their_region() {
    let simulator = simulator(Fleet::default());
    for (region, start) in [("cn-north-1", "arn:aws-cn:iot:"), ("us-gov-west-1", "arn:aws-us-gov:iot:")] {
        simulator.set_fleet(&account('1'), region, small_fleet());
        let job = Caller { region, ..Caller::new(&simulator) }.get("/jobs/CANCELED-1").json();
        assert!(job["job"]["jobArn"].as_str().is_some_and(|arn| arn.starts_with(start)), "{job}");
    }
}

#[test]
fn executions_are_listed_as_the_counts_say() {
    let job = Job::new("a", Status::InProgress, at(9))
        .targeting_thing("named")
        .with_executions(ExecutionStatus::Succeeded, 4)
        .with_executions(ExecutionStatus::Queued, 3);
    let simulator = simulator(Fleet::new([job], []));
    let caller = Caller::new(&simulator);
    for size in 1..=8 {
        let (executions, _) = caller.walk(&format!("/jobs/a/things?maxResults={size}"), "executionSummaries");
        let things: BTreeSet<&str> = executions.iter().filter_map(|execution| execution["thingArn"].as_str()).collect();
        assert_eq!((executions.len(), things.len()), (7, 7), "page size {size}");
        assert!(things.contains("arn:aws:iot:eu-west-1:111111111111:thing/named"));
    }
    let (queued, _) = caller.walk("/jobs/a/things?status=QUEUED&maxResults=2", "executionSummaries");
    assert_eq!(queued.len(), 3);
    assert!(queued.iter().all(|execution| execution["jobExecutionSummary"]["status"] == "QUEUED"));
}

#[test]
fn groups_are_listed_by_prefix_and_parent() {
    let groups = [
        ThingGroup::new("emea"),
        ThingGroup::new("emea-pumps").within("emea"),
        ThingGroup::new("emea-pumps-new").within("emea-pumps"),
        ThingGroup::new("lab"),
    ];
    let simulator = simulator(Fleet::new([], groups));
    let caller = Caller::new(&simulator);
    let names = |query: &str| -> Vec<String> {
        let (groups, _) = caller.walk(&format!("/thing-groups?maxResults=1&{query}"), "thingGroups");
        groups.iter().map(|group| group["groupName"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(""), ["emea", "emea-pumps", "emea-pumps-new", "lab"]);
    assert_eq!(names("namePrefixFilter=emea-"), ["emea-pumps", "emea-pumps-new"]);
    assert_eq!(names("recursive=false"), ["emea", "lab"]);
    assert_eq!(names("parentGroup=emea"), ["emea-pumps"]);
    assert_eq!(names("parentGroup=emea&recursive=true"), ["emea-pumps", "emea-pumps-new"]);
    assert_eq!(names("parentGroup=lab&recursive=true"), [""; 0]);

    let metadata = &caller.get("/thing-groups/emea-pumps-new").json()["thingGroupMetadata"];
    assert_eq!(metadata["parentGroupName"], "emea-pumps");
    assert_eq!(metadata["rootToParentThingGroups"][0]["groupName"], "emea", "the top comes first");
}

#[test]
fn a_colon_in_a_name_may_be_encoded() {
    let simulator = simulator(Fleet::new([], [ThingGroup::new("ring:canary")]));
    for path in ["/thing-groups/ring:canary", "/thing-groups/ring%3Acanary"] {
        assert_eq!(Caller::new(&simulator).get(path).json()["thingGroupName"], "ring:canary", "{path}");
    }
}

#[test]
fn truth_equals_the_counts_of_a_walk() {
    let simulator = simulator(Fleet::seeded(7, 2000, NOW));
    let mut walked: BTreeMap<(Status, TargetSelection), u64> = BTreeMap::new();
    let (jobs, _) = Caller::new(&simulator).walk("/jobs?maxResults=250", "jobs");
    for job in jobs {
        let text = |name: &str| job[name].as_str().expect("a text").to_owned();
        let pair = (text("status").as_str().into(), text("targetSelection").as_str().into());
        *walked.entry(pair).or_default() += 1;
    }
    assert_eq!(simulator.truth(&account('1'), REGION), walked);
    assert!(simulator.truth(&account('2'), REGION).is_empty());
}

#[test]
fn accounts_and_regions_are_separate() {
    let simulator = simulator(Fleet::new([Job::new("first", Status::InProgress, at(1))], []));
    simulator.add_access_key(&account('2'), "AKIASIMULATED0000002");
    simulator.set_fleet(&account('2'), REGION, Fleet::new([Job::new("second", Status::InProgress, at(1))], []));
    let first = Caller::new(&simulator);
    let second = Caller { key: "AKIASIMULATED0000002".to_owned(), ..Caller::new(&simulator) };
    assert_eq!((first.ids(""), second.ids("")), (vec!["first".to_owned()], vec!["second".to_owned()]));
    assert_eq!(first.get("/jobs/second").error(), (404, "ResourceNotFoundException"));
    assert_eq!(Caller { region: "us-east-1", ..Caller::new(&simulator) }.ids(""), [""; 0]);
}

#[test]
fn callers_without_known_credentials_are_refused() {
    let simulator = simulator(small_fleet());
    let stranger = Caller { key: "AKIASTRANGER".to_owned(), ..Caller::new(&simulator) };
    assert_eq!(stranger.get("/jobs").error(), (403, "UnrecognizedClientException"));
    let answer = stranger.sts("Action=GetCallerIdentity&Version=2011-06-15");
    assert_eq!((answer.status, answer.xml("Code")), (StatusCode::FORBIDDEN, "InvalidClientTokenId"));

    let caller = Caller::new(&simulator);
    let mut unsigned = caller.request("GET", "/jobs", "iot", "");
    unsigned.headers_mut().remove("authorization");
    assert_eq!(caller.ask(&unsigned, NOW).error(), (403, "MissingAuthenticationTokenException"));
    let for_another_service = caller.request("GET", "/jobs", "s3", "");
    assert_eq!(caller.ask(&for_another_service, NOW).error(), (403, "InvalidSignatureException"));
}

#[test]
fn get_caller_identity_returns_the_account() {
    let simulator = simulator(Fleet::default());
    let answer = Caller::new(&simulator).sts("Action=GetCallerIdentity&Version=2011-06-15");
    assert_eq!((answer.status, answer.xml("Account")), (StatusCode::OK, "111111111111"));
}

#[test]
fn an_assumed_role_acts_for_its_account_until_it_expires() {
    let simulator = simulator(Fleet::default());
    simulator.set_fleet(&account('2'), REGION, small_fleet());
    simulator.add_role(Role::new(account('2'), "exporter"));
    let caller = Caller::new(&simulator);
    let answer = caller.sts(
        "Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A222222222222%3Arole%2Fexporter&RoleSessionName=test&DurationSeconds=900",
    );
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.xml("Expiration"), "2026-07-25T13:45:00Z");
    let session_token = Some(answer.xml("SessionToken").to_owned());
    let assumed = Caller { key: answer.xml("AccessKeyId").to_owned(), session_token, ..Caller::new(&simulator) };

    assert_eq!(assumed.ids("").len(), 10);
    let identity = assumed.sts("Action=GetCallerIdentity");
    assert_eq!(identity.xml("Arn"), "arn:aws:sts::222222222222:assumed-role/exporter/test");
    let expired = assumed.ask(&assumed.request("GET", "/jobs", "iot", ""), NOW.after(Duration::from_mins(15)));
    assert_eq!(expired.error(), (403, "ExpiredTokenException"));
    let without_token = Caller { session_token: None, ..assumed };
    assert_eq!(without_token.get("/jobs").error(), (403, "UnrecognizedClientException"));
}

#[test]
fn a_role_with_an_external_id_requires_it() {
    let simulator = simulator(Fleet::default());
    let role = Role::new(account('2'), "exporter").with_external_id("secret");
    let form = format!("Action=AssumeRole&RoleSessionName=test&RoleArn={}", role.arn());
    simulator.add_role(role);
    let caller = Caller::new(&simulator);
    for wrong in [form.clone(), format!("{form}&ExternalId=other"), form.replace("exporter", "none")] {
        let answer = caller.sts(&wrong);
        assert_eq!((answer.status, answer.xml("Code")), (StatusCode::FORBIDDEN, "AccessDenied"), "{wrong}");
    }
    assert_eq!(caller.sts(&format!("{form}&ExternalId=secret")).status, StatusCode::OK);
}

#[test]
fn an_invalid_assume_role_is_a_validation_error_in_xml() {
    let simulator = simulator(Fleet::default());
    simulator.add_role(Role::new(account('2'), "exporter"));
    let arn = "RoleArn=arn:aws:iam::222222222222:role/exporter";
    for form in [
        "Action=AssumeRole&RoleSessionName=test".to_owned(),
        format!("Action=AssumeRole&{arn}"),
        format!("Action=AssumeRole&{arn}&RoleSessionName=x"),
        format!("Action=AssumeRole&{arn}&RoleSessionName=a%20b"),
        format!("Action=AssumeRole&{arn}&RoleSessionName=test&DurationSeconds=899"),
        format!("Action=AssumeRole&{arn}&RoleSessionName=test&DurationSeconds=43201"),
    ] {
        let answer = Caller::new(&simulator).sts(&form);
        assert_eq!((answer.status, answer.xml("Code")), (StatusCode::BAD_REQUEST, "ValidationError"), "{form}");
        assert_eq!(answer.xml("Type"), "Sender");
    }
}

#[test]
fn an_interceptor_answers_instead_of_the_simulator() {
    let simulator = simulator(small_fleet());
    simulator.intercept(|call| {
        let throttled = call.operation == Operation::ListJobs && call.attempt == 2;
        throttled.then(|| error(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", "Rate exceeded"))
    });
    let caller = Caller::new(&simulator);
    assert_eq!(caller.get("/jobs").status, StatusCode::OK);
    assert_eq!(caller.get("/jobs").error(), (429, "ThrottlingException"));
    assert_eq!(caller.get("/jobs").status, StatusCode::OK);
    simulator.stop_intercepting();
    assert_eq!(simulator.requests(Operation::ListJobs), 3);
}

#[test]
fn an_interceptor_gets_the_request() {
    let simulator = simulator(small_fleet());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    simulator.intercept(move |call| {
        let page_size = call.params.get("maxResults").map(str::to_owned);
        let entry = (call.operation, call.account.clone(), call.resource.map(str::to_owned), page_size, call.attempt);
        log.lock().expect("no panic").push(entry);
        None
    });
    let caller = Caller::new(&simulator);
    caller.get("/jobs?maxResults=9");
    caller.get("/jobs/CANCELED-1");
    let expected = [
        (Operation::ListJobs, account('1'), None, Some("9".to_owned()), 1),
        (Operation::DescribeJob, account('1'), Some("CANCELED-1".to_owned()), None, 1),
    ];
    assert_eq!(*seen.lock().expect("no panic"), expected);
}

#[tokio::test]
async fn it_serves_over_a_socket_until_shutdown() {
    let listener = Listener::bind(Some("127.0.0.1"), 0).await.expect("a free port");
    let address = listener.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let shutdown = async move { drop(stopped.await) };
    let server = tokio::spawn(serve(simulator(small_fleet()), vec![listener], || NOW, shutdown));

    let mut client = TcpStream::connect(address).await.expect("a connection");
    client.write_all(b"GET /jobs HTTP/1.0\r\n\r\n").await.expect("the server reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("the whole answer");
    assert!(answer.starts_with("HTTP/1.0 403 Forbidden\r\n"), "{answer}");
    assert!(answer.contains("x-amzn-errortype: MissingAuthenticationTokenException\r\n"), "{answer}");

    stop.send(()).expect("the server runs");
    server.await.expect("the server stops");
}

#[test]
fn requests_are_counted_regardless_of_their_answer() {
    let simulator = simulator(small_fleet());
    let caller = Caller::new(&simulator);
    caller.get("/jobs");
    caller.get("/jobs?maxResults=0");
    caller.get("/nothing");
    Caller { key: "AKIASTRANGER".to_owned(), ..Caller::new(&simulator) }.get("/jobs");
    assert_eq!(simulator.requests(Operation::ListJobs), 3);
    assert_eq!(simulator.requests(Operation::DescribeJob), 0);
    assert_eq!(simulator.total_requests(), 4);
}
