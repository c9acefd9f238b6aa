//! What faults do: over real sockets where the connection matters, else in the process.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::http::{Listener, StatusCode};
use crate::jobs::{AccountId, Status};
use crate::simulator::json::{basic_iso_8601, http_date};
use crate::simulator::{Fleet, Job, Operation, ThingGroup, serve};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_784_986_200);
const REGION: &str = "eu-west-1";
const KEY: &str = "AKIASIMULATED0000001";

/// Longer than any step here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A connection that is silent for this time counts as silent.
const SILENCE: Duration = Duration::from_secs(1);

/// Two jobs a page make three pages of five jobs.
const PAGE: &str = "/jobs?maxResults=2";

fn simulator() -> Simulator {
    let account = AccountId::parse("111111111111").expect("12 digits");
    let statuses = [Status::InProgress, Status::InProgress, Status::Scheduled, Status::Completed, Status::Canceled];
    let jobs = statuses.into_iter().enumerate().map(|(n, status)| {
        let age = Duration::from_secs(u64::try_from(n).expect("a small number"));
        Job::new(format!("job-{n}"), status, NOW.before(age)).targeting_group("one")
    });
    let simulator = Simulator::new();
    simulator.add_access_key(&account, KEY);
    simulator.set_fleet(&account, REGION, Fleet::new(jobs, [ThingGroup::new("one"), ThingGroup::new("two")]));
    simulator
}

fn scripted(rules: impl IntoIterator<Item = Rule>) -> Simulator {
    let simulator = simulator();
    simulator.set_script(Script::new(rules));
    simulator
}

fn request_at(uri: &str, date: Timestamp) -> Request {
    let (method, uri, service, body) = match uri.strip_prefix("sts:") {
        Some(action) => ("POST", "/", "sts", format!("Action={action}")),
        None => ("GET", uri, "iot", String::new()),
    };
    let scope = format!("{KEY}/20260725/{REGION}/{service}/aws4_request");
    ::http::Request::builder()
        .method(method)
        .uri(uri)
        .header("authorization", format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"))
        .header("x-amz-date", basic_iso_8601(date))
        .body(Bytes::from(body))
        .expect("a request")
}

fn request(uri: &str) -> Request {
    request_at(uri, NOW)
}

/// The page after `token`.
fn page(token: Option<&str>) -> String {
    token.map_or_else(|| PAGE.to_owned(), |token| format!("{PAGE}&nextToken={token}"))
}

/// The answer of the simulator without faults.
fn right(simulator: &Simulator, uri: &str) -> Value {
    serde_json::from_slice(simulator.answer(&request(uri), NOW).body()).expect("JSON")
}

/// The three pages of the fleet: the request for each, and its body.
fn right_pages(simulator: &Simulator) -> Vec<(String, Value)> {
    let (mut pages, mut uri) = (Vec::new(), Some(page(None)));
    while let Some(asked) = uri {
        let said = right(simulator, &asked);
        uri = said["nextToken"].as_str().map(|token| page(Some(token)));
        pages.push((asked, said));
    }
    assert_eq!(pages.len(), 3);
    pages
}

/// Status and body of a response.
async fn read(mut reply: FaultAction) -> (StatusCode, String) {
    while let FaultAction::Delay(by, then) = reply {
        sleep(by).await;
        reply = *then;
    }
    let FaultAction::Response(response) = reply else { panic!("no response: {reply:?}") };
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

async fn ask(simulator: &Simulator, uri: &str) -> (StatusCode, String) {
    read(simulator.answer_with_faults(&request(uri), NOW)).await
}

fn count_of(simulator: &Simulator, fault: Fault) -> u64 {
    simulator.fault_counts().get(&fault).copied().unwrap_or_default()
}

/// A simulator on a loopback port, and a client that reads raw bytes.
struct TestServer {
    simulator: Simulator,
    address: SocketAddr,
}

/// How a response ended.
#[derive(Debug, PartialEq)]
enum End {
    /// After the announced number of bytes.
    Whole,
    /// The server closed the connection.
    Closed,
    Reset,
    /// The connection is open, and silent.
    Silent,
}

struct Exchange {
    head: String,
    body: Vec<u8>,
    end: End,
}

impl Exchange {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn content_length(&self) -> usize {
        self.header("content-length").and_then(|length| length.parse().ok()).expect("a length")
    }

    fn error(&self) -> (u16, &str) {
        (self.status(), self.header("x-amzn-errortype").unwrap_or_default())
    }

    fn json(&self) -> Value {
        assert_eq!((self.status(), &self.end), (200, &End::Whole), "{}", self.head);
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl TestServer {
    async fn serve(simulator: Simulator) -> Self {
        let listener = Listener::bind(Some("127.0.0.1"), 0).await.expect("a free port");
        let address = listener.local_addr();
        tokio::spawn(serve(simulator.clone(), vec![listener], || NOW, std::future::pending()));
        Self { simulator, address }
    }

    /// Sends one request on a new connection. It counts as silent after `silence` without data.
    async fn exchange(&self, uri: &str, silence: Duration) -> Exchange {
        let mut stream = TcpStream::connect(self.address).await.expect("the kernel accepts it");
        let request = request(uri);
        let mut text = format!("GET {uri} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in request.headers() {
            text.extend([name.as_str(), ": ", value.to_str().expect("text"), "\r\n"]);
        }
        // A refused connection may already be closed; the read shows it.
        let _ = stream.write_all((text + "\r\n").as_bytes()).await;

        let (mut received, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
        let mut exchange = Exchange { head: String::new(), body: Vec::new(), end: End::Whole };
        loop {
            if exchange.head.is_empty()
                && let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n")
            {
                let body = received.split_off(end + 4);
                exchange.head = String::from_utf8(std::mem::replace(&mut received, body)).expect("UTF-8");
            }
            if !exchange.head.is_empty() && received.len() >= exchange.content_length() {
                break;
            }
            exchange.end = match timeout(silence, stream.read(&mut buffer)).await {
                Ok(Ok(0)) => End::Closed,
                Ok(Ok(read)) => {
                    received.extend_from_slice(&buffer[..read]);
                    continue;
                }
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => End::Silent,
            };
            break;
        }
        if !exchange.head.is_empty() && received.len() == exchange.content_length() {
            exchange.end = End::Whole;
        }
        Exchange { body: received, ..exchange }
    }
}

/// Walks over a socket until `fault` was applied once. Also returns the page, counted from 0.
async fn apply_once(fault: Fault) -> (Vec<(String, Value)>, usize, Exchange, TestServer) {
    let rule = Rule::new(fault).times(1);
    let rule = if fault == Fault::Slow { rule.delayed(SILENCE) } else { rule };
    let server = TestServer::serve(scripted([rule])).await;
    let pages = right_pages(&server.simulator);
    let silence = if matches!(fault, Fault::Hang | Fault::HangInBody) { SILENCE } else { DEADLINE };
    for (n, (uri, said)) in pages.iter().enumerate() {
        let exchange = server.exchange(uri, silence).await;
        if count_of(&server.simulator, fault) == 1 {
            return (pages, n, exchange, server);
        }
        assert_eq!(exchange.json(), *said, "{fault} was not applied yet");
    }
    panic!("{fault} was never applied");
}

#[tokio::test]
async fn each_fault_alters_one_answer_on_the_wire() {
    for &fault in Fault::ALL {
        let (pages, n, exchange, server) = timeout(DEADLINE, apply_once(fault)).await.expect("in time");
        let (uri, said) = &pages[n];
        shows(fault, n, &exchange, &pages);
        if fault == Fault::Refused {
            tokio::time::sleep(REFUSAL).await;
        }
        assert_eq!(server.exchange(uri, DEADLINE).await.json(), *said, "{fault} is spent");
        assert_eq!(server.simulator.fault_counts(), BTreeMap::from([(fault, 1)]));
    }
}

/// Checks the response after `fault` was applied to page `n`.
fn shows(fault: Fault, n: usize, exchange: &Exchange, pages: &[(String, Value)]) {
    let said = &pages[n].1;
    let text = said.to_string();
    let half = &text.as_bytes()[..text.len() / 2];
    let token_to = |page: usize| pages[page - 1].1["nextToken"].clone();
    let with = |change: fn(&mut Value)| {
        let mut said = said.clone();
        change(&mut said);
        said
    };
    let ends = |end: End, announced: usize, body: &[u8]| {
        assert_eq!((exchange.status(), &exchange.end), (200, &end), "{fault}");
        assert_eq!((exchange.content_length(), &exchange.body[..]), (announced, body), "{fault}");
    };
    let assert_page = |expected: usize| assert_eq!(n, expected, "{fault}");
    match fault {
        Fault::Throttle400 => assert_eq!(exchange.error(), (400, "ThrottlingException")),
        Fault::Throttle429 => assert_eq!(exchange.error(), (429, "ThrottlingException")),
        Fault::Error500 => assert_eq!(exchange.error(), (500, "InternalFailureException")),
        Fault::Error503 => assert_eq!(exchange.error(), (503, "ServiceUnavailableException")),
        Fault::Denied => assert_eq!(exchange.error(), (403, "AccessDeniedException")),
        Fault::ExpiredCredentials => assert_eq!(exchange.error(), (403, "ExpiredTokenException")),
        Fault::InvalidCredentials => assert_eq!(exchange.error(), (403, "UnrecognizedClientException")),
        Fault::ClockSkew => {
            assert_eq!(exchange.error(), (403, "InvalidSignatureException"));
            let dates: Vec<&str> = exchange.head.lines().filter(|line| line.starts_with("date")).collect();
            assert_eq!(dates, [format!("date: {}", http_date(NOW.after(CLOCK_SKEW)))]);
            let body = String::from_utf8_lossy(&exchange.body);
            assert!(
                body.contains("Signature expired: 20260725T133000Z is now earlier than 20260725T142500Z"),
                "{body}"
            );
        }
        Fault::Reset | Fault::Refused => assert_eq!((exchange.head.as_str(), &exchange.end), ("", &End::Reset)),
        Fault::Hang => assert_eq!((exchange.head.as_str(), &exchange.end), ("", &End::Silent)),
        Fault::HangInBody => ends(End::Silent, text.len(), half),
        Fault::Truncated => ends(End::Closed, text.len(), half),
        Fault::Oversized => {
            assert_eq!((exchange.status(), &exchange.end), (200, &End::Whole));
            assert_eq!(u64::try_from(exchange.body.len()), Ok(OVERSIZE));
            assert_eq!(exchange.body.trim_ascii_end(), text.as_bytes());
        }
        Fault::Slow => assert_eq!(exchange.json(), *said),
        Fault::Html => {
            assert_eq!((exchange.status(), exchange.header("content-type")), (200, Some("text/html; charset=utf-8")));
            assert!(exchange.body.starts_with(b"<!DOCTYPE html>"));
        }
        Fault::WrongJson => ends(End::Whole, half.len(), half),
        Fault::WrongTypes => {
            let job = &exchange.json()["jobs"][0];
            assert!(job["jobId"].is_number() && job["createdAt"].is_string() && job["isConcurrent"].is_string());
            assert!(exchange.json()["nextToken"].is_number());
        }
        Fault::RepeatedToken => {
            assert_page(1);
            assert_eq!(exchange.json()["nextToken"], token_to(1), "the token of the request");
        }
        Fault::TokenCycle => {
            assert_page(2);
            assert_eq!(exchange.json()["nextToken"], token_to(1), "back to the second page");
        }
        Fault::ExpiredToken => {
            assert_page(1);
            assert_eq!(exchange.error(), (400, "InvalidRequestException"));
        }
        Fault::EmptyPage => {
            let page = exchange.json();
            assert_eq!(page["jobs"], json!([]));
            assert!(page["nextToken"].is_string() && page["nextToken"] != token_to(1));
        }
        Fault::EmptyToken => {
            assert_page(2);
            assert_eq!(exchange.json(), with(|said| said["nextToken"] = "".into()));
        }
        Fault::MissingJobs => assert_eq!(exchange.json(), json!({ "nextToken": token_to(1) })),
        Fault::DuplicateJob => {
            let [first, second] = [0, 1].map(|job| said["jobs"][job].clone());
            assert_eq!(exchange.json()["jobs"], json!([first, second, second]));
        }
        Fault::MovedJob => {
            assert_page(1);
            let jobs = &exchange.json()["jobs"];
            assert_eq!(jobs[2]["jobId"], pages[0].1["jobs"][0]["jobId"]);
            assert_eq!(
                (&pages[0].1["jobs"][0]["status"], &jobs[2]["status"]),
                (&json!("IN_PROGRESS"), &json!("COMPLETED"))
            );
        }
        Fault::UnknownStatus => assert_eq!(exchange.json(), with(|said| said["jobs"][0]["status"] = "PAUSED".into())),
        Fault::MissingFields | Fault::NullFields => {
            let lacks = |job: usize, name: &str| {
                let field = exchange.json()["jobs"][job].get(name).cloned();
                assert_eq!(field, (fault == Fault::NullFields).then_some(Value::Null), "{fault} {name}");
            };
            lacks(0, "createdAt");
            lacks(1, "isConcurrent");
            assert_eq!(exchange.json()["jobs"][0]["jobId"], said["jobs"][0]["jobId"], "the rest stays");
        }
    }
}

/// A client that follows tokens, makes three attempts of each request, corrects its clock, and checks types: the
/// relevant behaviour of the AWS SDKs.
struct Client<'a> {
    simulator: &'a Simulator,
    attempts: u64,
    clock_is_behind: Duration,
}

/// Why a walk failed.
type Failure = &'static str;

impl<'a> Client<'a> {
    fn new(simulator: &'a Simulator) -> Self {
        Self { simulator, attempts: 0, clock_is_behind: Duration::ZERO }
    }

    /// The ids of all jobs of a walk, duplicates included; an empty text for a job without an id.
    async fn walk(&mut self) -> Result<Vec<String>, Failure> {
        let (mut ids, mut tokens, mut uri) = (Vec::new(), BTreeSet::new(), page(None));
        loop {
            let said = self.request(&uri).await?;
            let jobs = said.get("jobs").and_then(Value::as_array).ok_or("no list of jobs")?;
            for job in jobs {
                ids.push(text(&job["jobId"])?.unwrap_or_default().to_owned());
                text(&job["status"])?;
                (job["createdAt"].is_number() || job["createdAt"].is_null()).then_some(()).ok_or("wrong types")?;
            }
            let Some(token) = text(&said["nextToken"])?.filter(|token| !token.is_empty()) else { return Ok(ids) };
            uri = page(Some(token));
            tokens.insert(token.to_owned()).then_some(()).ok_or("a token came again")?;
        }
    }

    async fn request(&mut self, uri: &str) -> Result<Value, Failure> {
        for _ in 0..3 {
            self.attempts += 1;
            let request = request_at(uri, NOW.after(self.clock_is_behind));
            let mut action = self.simulator.answer_with_faults(&request, NOW);
            if let FaultAction::Delay(by, then) = action {
                sleep(by).await;
                action = *then;
            }
            let FaultAction::Response(response) = action else { continue };
            let (head, body) = response.into_parts();
            let Ok(body) = timeout(Duration::from_secs(30), Limited::new(body, 16 << 20).collect()).await else {
                continue;
            };
            let body = match body {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<std::io::Error>() => continue,
                Err(_) => return Err("too large"),
            };
            if head.headers.get("date").is_some_and(|date| *date == http_date(NOW.after(CLOCK_SKEW))) {
                self.clock_is_behind = CLOCK_SKEW;
            }
            let code = head.headers.get("x-amzn-errortype").map_or("", |code| code.to_str().expect("text"));
            match (head.status.as_u16(), code) {
                (200, _) => return serde_json::from_slice(&body).map_err(|_| "no JSON"),
                (500.., _) | (_, "ThrottlingException") => {}
                (_, "InvalidSignatureException") if !self.clock_is_behind.is_zero() => {}
                _ => return Err("refused"),
            }
        }
        Err("three attempts")
    }
}

/// A text or none; anything else is an error.
fn text(value: &Value) -> Result<Option<&str>, Failure> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err("wrong types"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_fault_has_its_declared_consequence() {
    let all = Client::new(&simulator()).walk().await.expect("no fault");
    for &fault in Fault::ALL {
        let simulator = scripted([Rule::new(fault).times(1)]);
        let mut client = Client::new(&simulator);
        let walked = client.walk().await;
        assert_eq!(count_of(&simulator, fault), 1, "{fault}");
        match fault.consequence() {
            Consequence::Retried => assert_eq!((walked.as_ref(), client.attempts), (Ok(&all), 4), "{fault}"),
            Consequence::Tolerated => {
                let ids: BTreeSet<String> = walked.unwrap_or_default().into_iter().collect();
                assert!(ids.len() == all.len(), "{fault}: {ids:?}");
                assert_eq!(client.attempts, if fault == Fault::EmptyPage { 4 } else { 3 }, "{fault}");
            }
            Consequence::Fatal => {
                walked.expect_err(fault.as_str());
            }
        }
    }
}

#[tokio::test]
async fn a_script_without_rules_changes_nothing() {
    let (plain, scripted) = (simulator(), scripted([]));
    for uri in
        [PAGE, "/jobs/job-1", "/jobs/job-1/things", "/thing-groups", "/thing-groups/one", "sts:GetCallerIdentity"]
    {
        let answer = plain.answer(&request(uri), NOW);
        let expected = (answer.status(), String::from_utf8(answer.body().to_vec()).expect("UTF-8"));
        assert_eq!(ask(&scripted, uri).await, expected, "{uri}");
    }
    assert_eq!(scripted.fault_counts(), BTreeMap::new());
}

#[test]
fn a_refusal_ends_after_a_moment() {
    let simulator = scripted([Rule::new(Fault::Refused).times(1)]);
    let reply = simulator.answer_with_faults(&request(PAGE), NOW);
    assert!(matches!(reply, FaultAction::Refuse(REFUSAL)), "{reply:?}");
}

#[tokio::test]
async fn a_cleared_script_applies_no_faults_and_keeps_its_counts() {
    let simulator = scripted([Rule::new(Fault::Error503)]);
    assert_eq!(ask(&simulator, PAGE).await.0, StatusCode::SERVICE_UNAVAILABLE);
    simulator.clear_script();
    assert_eq!(ask(&simulator, PAGE).await.0, StatusCode::OK);
    assert_eq!(count_of(&simulator, Fault::Error503), 1);
    simulator.set_script(Script::default());
    assert_eq!(simulator.fault_counts(), BTreeMap::new(), "a new script starts again");
}

#[test]
fn answer_applies_no_faults_while_a_script_is_set() {
    let simulator = scripted([Rule::new(Fault::Error500)]);
    assert_eq!(simulator.answer(&request(PAGE), NOW).status(), StatusCode::OK);
    assert_eq!(simulator.fault_counts(), BTreeMap::new());
}

#[tokio::test]
async fn a_rule_applies_as_often_as_its_count_says() {
    let simulator = scripted([Rule::new(Fault::Throttle429).times(2)]);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask(&simulator, PAGE).await.0.as_u16());
    }
    assert_eq!(statuses, [429, 429, 200, 200]);
    assert_eq!(count_of(&simulator, Fault::Throttle429), 2);
}

#[tokio::test]
async fn a_rule_applies_to_its_own_operation_only() {
    let simulator = scripted([Rule::new(Fault::Denied).on(Operation::DescribeJob)]);
    assert_eq!(ask(&simulator, PAGE).await.0, StatusCode::OK);
    assert_eq!(ask(&simulator, "/jobs/job-1/things").await.0, StatusCode::OK);
    assert_eq!(ask(&simulator, "/jobs/job-1").await.0, StatusCode::FORBIDDEN);
}

/// Which of the three pages get the fault, in two walks that request each page twice.
async fn faulty_pages(position: Position) -> Vec<bool> {
    let simulator = scripted([Rule::new(Fault::Error500).on(Operation::ListJobs).at(position)]);
    let pages = right_pages(&simulator);
    let (mut first_attempts, mut second_attempts) = (Vec::new(), Vec::new());
    for (uri, _) in pages.iter().chain(&pages) {
        ask(&simulator, "/jobs/job-1").await;
        first_attempts.push(ask(&simulator, uri).await.0 != StatusCode::OK);
        second_attempts.push(ask(&simulator, uri).await.0 != StatusCode::OK);
    }
    if !matches!(position, Position::Attempt(_)) {
        assert_eq!(first_attempts, second_attempts, "{position:?}: a retry is the same page");
    }
    first_attempts
}

#[tokio::test]
async fn a_rule_applies_at_its_position_only() {
    let walks = |pages: [bool; 3]| [pages, pages].concat();
    assert_eq!(faulty_pages(Position::Any).await, walks([true; 3]));
    assert_eq!(faulty_pages(Position::FIRST).await, walks([true, false, false]));
    assert_eq!(faulty_pages(Position::Page(2)).await, walks([false, true, false]));
    assert_eq!(faulty_pages(Position::Page(4)).await, walks([false; 3]));
    assert_eq!(faulty_pages(Position::Middle).await, walks([false, true, false]));
    assert_eq!(faulty_pages(Position::Last).await, walks([false, false, true]));
    // Each page is requested twice, so the fifth request is the first one for the third page.
    assert_eq!(faulty_pages(Position::Attempt(5)).await, [false, false, true, false, false, false]);
}

#[tokio::test]
async fn walks_with_different_filters_count_their_own_pages() {
    let simulator = scripted([Rule::new(Fault::Error500).at(Position::Page(2))]);
    let other = "/jobs?maxResults=1&status=IN_PROGRESS";
    let token_of = |uri: &str| right(&simulator, uri)["nextToken"].as_str().expect("a token").to_owned();
    let second = [page(Some(&token_of(PAGE))), format!("{other}&nextToken={}", token_of(other))];
    for uri in [PAGE, other] {
        assert_eq!(ask(&simulator, uri).await.0, StatusCode::OK);
    }
    for uri in second {
        assert_eq!(ask(&simulator, &uri).await.0, StatusCode::INTERNAL_SERVER_ERROR, "{uri}");
    }
}

#[tokio::test]
async fn an_answer_without_pages_is_the_first_and_the_last_page() {
    for position in [Position::FIRST, Position::Last] {
        let simulator = scripted([Rule::new(Fault::Error500).at(position)]);
        assert_eq!(ask(&simulator, "/jobs/job-1").await.0, StatusCode::INTERNAL_SERVER_ERROR, "{position:?}");
        assert_eq!(ask(&simulator, "sts:GetCallerIdentity").await.0, StatusCode::INTERNAL_SERVER_ERROR, "{position:?}");
    }
}

/// Which of 1000 requests get the fault.
async fn drawn_faults(chance: f64, seed: u64) -> Vec<bool> {
    let simulator = simulator();
    simulator.set_script(Script { seed, ..Script::new([Rule::new(Fault::Error500).with_chance(chance)]) });
    let mut failed = Vec::new();
    for _ in 0..1000 {
        failed.push(ask(&simulator, "/jobs/job-1").await.0 != StatusCode::OK);
    }
    failed
}

#[tokio::test]
async fn the_chance_is_respected_and_reproducible() {
    let seventh = drawn_faults(0.3, 7).await;
    let failures = seventh.iter().filter(|failed| **failed).count();
    assert!((250..350).contains(&failures), "{failures} of 1000 at a chance of 0.3");
    assert_eq!(drawn_faults(0.3, 7).await, seventh);
    assert_ne!(drawn_faults(0.3, 8).await, seventh);
    assert_eq!(drawn_faults(0.0, 7).await, [false; 1000]);
    assert_eq!(drawn_faults(1.0, 7).await, [true; 1000]);
}

#[tokio::test]
async fn a_rule_for_a_job_applies_to_its_answers_only() {
    let simulator = scripted([Rule::new(Fault::Error500).of_job("job-1")]);
    let tags = |id: &str| format!("/tags?resourceArn=arn:aws:iot:{REGION}:111111111111:job/{id}");
    for uri in ["/jobs/job-1", "/jobs/job-1/things", "/jobs/job-1/job-document", "/things/t/jobs/job-1", &tags("job-1")]
    {
        assert_eq!(ask(&simulator, uri).await.0, StatusCode::INTERNAL_SERVER_ERROR, "{uri}");
    }
    for uri in [PAGE, "/jobs/job-2", "/jobs/job-2/things", "/thing-groups/one", "/things/t/jobs", &tags("job-2")] {
        assert_eq!(ask(&simulator, uri).await.0, StatusCode::OK, "{uri}");
    }
}

#[tokio::test]
async fn a_rule_can_apply_to_every_nth_request() {
    let simulator = scripted([Rule::new(Fault::Hang).of_job("job-1").at(Position::Every(3))]);
    let mut hung = Vec::new();
    for _ in 0..7 {
        assert_eq!(ask(&simulator, "/jobs/job-2").await.0, StatusCode::OK);
        hung.push(matches!(simulator.answer_with_faults(&request("/jobs/job-1"), NOW), FaultAction::Hang));
    }
    assert_eq!(hung, [false, false, true, false, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_right_and_other_faults_can_be_delayed() {
    for (script, status, seconds) in [("slow", 200, 9), ("slow:delay=2s", 200, 2), ("throttle-429:delay=3s", 429, 3)] {
        let simulator = simulator();
        simulator.set_script(script.parse().expect("a script"));
        let start = Instant::now();
        let (found, body) = ask(&simulator, PAGE).await;
        assert_eq!((found.as_u16(), start.elapsed().as_secs()), (status, seconds), "{script}");
        if status == 200 {
            assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), right(&simulator, PAGE));
        }
    }
}

#[tokio::test]
async fn the_first_rule_that_fits_applies() {
    let rules = [Fault::ExpiredToken, Fault::Error500, Fault::Error503].map(|fault| Rule::new(fault).times(1));
    let simulator = scripted(rules);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(ask(&simulator, PAGE).await.0.as_u16());
    }
    assert_eq!(statuses, [500, 503, 200], "no token to expire");
    assert_eq!(simulator.fault_counts(), BTreeMap::from([(Fault::Error500, 1), (Fault::Error503, 1)]));
}

#[tokio::test]
async fn sts_has_the_same_faults_under_its_own_names() {
    for (fault, status, code) in [
        (Fault::Throttle400, 400, "Throttling"),
        (Fault::Throttle429, 429, "Throttling"),
        (Fault::Error500, 500, "InternalFailure"),
        (Fault::Error503, 503, "ServiceUnavailable"),
        (Fault::Denied, 403, "AccessDenied"),
        (Fault::ExpiredCredentials, 403, "ExpiredToken"),
        (Fault::InvalidCredentials, 403, "InvalidClientTokenId"),
        (Fault::ClockSkew, 403, "SignatureDoesNotMatch"),
    ] {
        let simulator = scripted([Rule::new(fault)]);
        let (found, body) = ask(&simulator, "sts:GetCallerIdentity").await;
        assert_eq!(found.as_u16(), status, "{fault}");
        assert!(body.contains(&format!("<Code>{code}</Code>")), "{fault}: {body}");
    }
}

#[tokio::test]
async fn faults_that_alter_lists_do_not_change_other_answers() {
    use Fault as F;
    let faults = [F::RepeatedToken, F::TokenCycle, F::ExpiredToken, F::EmptyPage, F::EmptyToken, F::MissingJobs];
    for fault in faults.into_iter().chain([F::DuplicateJob, F::MovedJob, F::WrongTypes, F::NullFields]) {
        let simulator = scripted([Rule::new(fault)]);
        assert_eq!(ask(&simulator, "sts:GetCallerIdentity").await.0, StatusCode::OK);
        assert_eq!(ask(&simulator, "/jobs/none").await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask(&simulator, "/jobs?maxResults=0").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(simulator.fault_counts(), BTreeMap::new(), "{fault}");
    }
}

#[tokio::test]
async fn faults_apply_to_answers_of_an_interceptor() {
    for body in ["[]", "{}", "7", "", r#"{"jobs":7,"nextToken":7}"#, r#"{"jobs":[7,null,[]]}"#] {
        for &fault in Fault::ALL {
            let simulator = scripted([Rule::new(fault)]);
            simulator.intercept(move |_| Some(Response::new(Bytes::from_static(body.as_bytes()))));
            for uri in [page(None), page(Some("a")), "/jobs/job-1".to_owned()] {
                drop(simulator.answer_with_faults(&request(&uri), NOW));
            }
        }
    }
}

#[tokio::test]
async fn descriptions_and_executions_have_unknown_statuses_and_missing_fields_too() {
    let simulator = scripted([Rule::new(Fault::UnknownStatus)]);
    let (_, body) = ask(&simulator, "/jobs/job-1").await;
    assert!(body.contains(r#""status":"PAUSED""#), "{body}");
    simulator.set_script(Script::new([Rule::new(Fault::MissingFields)]));
    let (_, body) = ask(&simulator, "/jobs/job-1").await;
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON")["job"], json!({}));
    simulator.set_script(Script::new([Rule::new(Fault::NullFields)]));
    let (_, body) = ask(&simulator, "/jobs/job-1").await;
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON")["job"]["targets"], Value::Null);
}

#[tokio::test]
async fn consecutive_empty_pages_lose_no_items() {
    let simulator = scripted([Rule::new(Fault::EmptyPage).times(5)]);
    let mut client = Client::new(&simulator);
    assert_eq!(client.walk().await, Client::new(&self::simulator()).walk().await);
    assert_eq!((client.attempts, count_of(&simulator, Fault::EmptyPage)), (8, 5));
}

#[tokio::test]
async fn the_page_after_an_empty_one_is_the_next_one() {
    let empty = Rule::new(Fault::EmptyPage).at(Position::FIRST);
    let simulator = scripted([empty, Rule::new(Fault::Error500).at(Position::Page(2))]);
    let (_, body) = ask(&simulator, PAGE).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let next = page(body["nextToken"].as_str());
    assert_eq!(ask(&simulator, &next).await.0, StatusCode::INTERNAL_SERVER_ERROR, "{next}");
}

#[tokio::test]
async fn a_walk_of_one_status_has_no_job_that_moved_to_another() {
    let simulator = scripted([Rule::new(Fault::MovedJob)]);
    let first = "/jobs?maxResults=1&status=IN_PROGRESS";
    let said = right(&simulator, first);
    let second = format!("{first}&nextToken={}", said["nextToken"].as_str().expect("a token"));
    ask(&simulator, first).await;
    let (_, body) = ask(&simulator, &second).await;
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), right(&simulator, &second));
}

#[tokio::test]
async fn a_token_cycle_never_ends_for_a_client_that_ignores_it() {
    let simulator = scripted([Rule::new(Fault::TokenCycle)]);
    let pages = right_pages(&simulator);
    for round in 1..=10 {
        for (uri, _) in &pages[usize::from(round > 1)..] {
            let (_, body) = ask(&simulator, uri).await;
            let next = serde_json::from_str::<Value>(&body).expect("JSON")["nextToken"].clone();
            assert!(next.is_string(), "there is always a next page");
        }
        assert_eq!(count_of(&simulator, Fault::TokenCycle), round);
    }
}

#[tokio::test]
async fn a_skewed_clock_accepts_requests_signed_by_it() {
    let simulator = scripted([Rule::new(Fault::ClockSkew)]);
    let signed_at = |time: Timestamp| {
        let FaultAction::Response(response) = simulator.answer_with_faults(&request_at(PAGE, time), NOW) else {
            panic!("a response")
        };
        assert_eq!(response.headers()["date"], *http_date(NOW.after(CLOCK_SKEW)));
        response.status().as_u16()
    };
    let ahead = NOW.after(CLOCK_SKEW);
    let tolerated = Duration::from_mins(5);
    assert_eq!([signed_at(ahead), signed_at(ahead.after(tolerated)), signed_at(ahead.before(tolerated))], [200; 3]);
    let second = Duration::from_secs(1);
    let too_far = [NOW, ahead.after(tolerated).after(second), ahead.before(tolerated).before(second)];
    assert_eq!(too_far.map(signed_at), [403; 3]);
    let mut undated = request(PAGE);
    undated.headers_mut().remove("x-amz-date");
    assert_eq!(read(simulator.answer_with_faults(&undated, NOW)).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn every_reply_has_the_request_id_of_its_answer() {
    let simulator = scripted([Rule::new(Fault::Throttle400).times(1)]);
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let FaultAction::Response(response) = simulator.answer_with_faults(&request(PAGE), NOW) else {
            panic!("a response")
        };
        ids.insert(response.headers()["x-amzn-requestid"].clone());
    }
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_mixture_has_every_fault() {
    let faults: BTreeSet<Fault> = Script::mixture(1).rules.iter().map(|rule| rule.fault).collect();
    assert_eq!(faults, Fault::ALL.iter().copied().collect());
}

#[tokio::test(start_paused = true)]
async fn most_walks_through_a_mixture_complete_and_some_fail() {
    let simulator = simulator();
    simulator.set_script(Script::mixture(1));
    let (mut good, mut attempts) = (0, 0);
    for _ in 0..2000 {
        let mut client = Client::new(&simulator);
        good += u64::from(client.walk().await.is_ok());
        attempts += client.attempts;
    }
    assert!((1800..1980).contains(&good), "{good} of 2000");
    let counts = simulator.fault_counts();
    assert_eq!(counts.len(), Fault::ALL.len(), "each is applied: {counts:?}");
    assert!(attempts < 6500, "{attempts} attempts for 6000 pages");
}

#[test]
fn every_fault_is_found_by_its_name() {
    for &fault in Fault::ALL {
        assert_eq!(fault.as_str().parse(), Ok(fault));
        assert!(fault.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
    }
    let names: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
    assert_eq!(names.len(), Fault::ALL.len());
}

#[test]
fn a_rule_can_be_written_on_a_command_line() {
    let rule = Rule::new(Fault::Throttle429).on(Operation::ListJobs).at(Position::Page(2)).times(3).with_chance(0.5);
    for text in [
        "throttle-429:operation=ListJobs,page=2,count=3,chance=0.5",
        " throttle-429 : chance = .5 , count=3, page=2,operation=ListJobs,",
    ] {
        assert_eq!(text.parse(), Ok(rule.clone()), "{text:?}");
    }
    assert_eq!("reset".parse(), Ok(Rule::new(Fault::Reset)));
    assert_eq!("hang:page=first".parse(), Ok(Rule::new(Fault::Hang).at(Position::FIRST)));
    assert_eq!("hang:attempt=9".parse(), Ok(Rule::new(Fault::Hang).at(Position::Attempt(9))));
    let every = Rule::new(Fault::Hang).of_job("fw-1").at(Position::Every(3));
    assert_eq!("hang:job=fw-1,every=3".parse(), Ok(every));
    for (text, delay) in [("2s", Duration::from_secs(2)), ("250ms", Duration::from_millis(250))] {
        assert_eq!(format!("slow:delay={text}").parse(), Ok(Rule::new(Fault::Slow).delayed(delay)));
    }
    let script = Script { seed: 7, ..Script::new([Rule::new(Fault::Reset), rule]) };
    assert_eq!("reset; seed = 7 ;throttle-429:count=3,page=2,chance=0.5,operation=ListJobs;".parse(), Ok(script));
    assert_eq!("".parse(), Ok(Script::default()));
}

#[test]
fn an_invalid_script_is_refused_with_what_is_accepted() {
    for (text, expected) in [
        ("explode", "there is no fault \"explode\"; there are throttle-400, throttle-429, error-500,"),
        ("reset:operation=list-jobs", "there is no operation \"list-jobs\"; there are ListJobs, DescribeJob,"),
        ("reset:page=0", "\"0\" is not a page; give its number from 1, or first, middle, last or any"),
        ("reset:page=lst", "\"lst\" is not a page;"),
        ("reset:count=0", "count=0 is not valid; give a whole number from 1"),
        ("reset:attempt=-1", "attempt=-1 is not valid;"),
        ("reset:chance=2", "\"2\" is not a chance; give a number from 0 to 1, such as 0.05"),
        ("reset:chance=NaN", "\"NaN\" is not a chance;"),
        ("reset:often", "\"often\" is not a setting of a rule; there are operation=, job=, page=, attempt=, every=,"),
        ("reset:every=0", "every=0 is not valid;"),
        ("reset:every=2,page=1", "\"page=1\" repeats or contradicts an earlier setting;"),
        ("reset:job=a.b", "\"a.b\" is not a job id; give 1 to 64 of letters, digits, _ and -"),
        ("reset:job=", "\"\" is not a job id;"),
        (
            "slow:delay=9",
            "\"9\" is not a delay; give a whole number of seconds or milliseconds up to a day, such as 9s or 250ms",
        ),
        ("slow:delay=0s", "\"0s\" is not a delay;"),
        ("slow:delay=99999999999s", "\"99999999999s\" is not a delay;"),
        ("reset:colour=red", "\"colour=red\" is not a setting of a rule;"),
        ("reset:count=1,count=2", "\"count=2\" repeats or contradicts an earlier setting;"),
        ("reset:page=1,attempt=2", "\"attempt=2\" repeats or contradicts an earlier setting;"),
        ("seed=-1", "\"-1\" is not a seed; give a whole number from 0 to 2^64 - 1"),
    ] {
        let error = text.parse::<Script>().expect_err(text).to_string();
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let position = prop_oneof![
        Just(Position::Any),
        Just(Position::Middle),
        Just(Position::Last),
        (1_u64..).prop_map(Position::Page),
        (1_u64..).prop_map(Position::Attempt),
        (1_u64..).prop_map(Position::Every),
    ];
    let operation = proptest::option::of(proptest::sample::select(&Operation::ALL[..]));
    let count = proptest::option::of(1_u64..);
    let job = proptest::option::of("[a-zA-Z0-9_-]{1,64}");
    let delay = proptest::option::of((1_u64..86_400_000).prop_map(Duration::from_millis));
    let parts = (proptest::sample::select(Fault::ALL), operation, job, position, count, 0.0..=1.0, delay);
    parts.prop_map(|(fault, operation, job, position, count, chance, delay)| Rule {
        operation,
        job,
        position,
        count,
        chance,
        delay,
        fault,
    })
}

proptest! {
    #[test]
    fn a_script_round_trips_through_text(
        rules in proptest::collection::vec(any_rule(), 0..5),
        seed in any::<u64>(),
    ) {
        let script = Script { rules, seed };
        prop_assert_eq!(script.to_string().parse(), Ok(script));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".*") {
        drop(text.parse::<Script>());
    }
}
