//! What the tests share: a simulated account, an exporter in front of it, and a reader of expositions.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::future::ProvideCredentials as ProvidedCredentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_iot_jobs_exporter::aws::ClientOptions;
use aws_iot_jobs_exporter::clock::Clock;
use aws_iot_jobs_exporter::config::{Collectors, Config, Loaded, Problems, Target, WebConfig};
use aws_iot_jobs_exporter::daemon::{Daemon, Load};
use aws_iot_jobs_exporter::http::{self, Listener, Request, Response, StatusCode};
use aws_iot_jobs_exporter::jobs::{AccountId, Status, Timestamp};
use aws_iot_jobs_exporter::metrics::catalogue::{self, Subject};
use aws_iot_jobs_exporter::simulator::{self, Fleet, Job, Simulator};
use aws_iot_jobs_exporter::web::Reloads;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

#[path = "../../src/proptests/exposition.rs"]
#[allow(dead_code, reason = "the unit tests use more of it")]
mod exposition;

#[path = "../../src/aws/fake_connector.rs"]
mod fake_connector;

#[path = "../../src/logging/thread_log.rs"]
mod thread_log;

pub(crate) use thread_log::ThreadLog;

/// Answers from this size on, in bytes, are none that the exporter reads; see `Fault::Oversized`.
const LARGE: u64 = 16 << 20;

pub const REGION: &str = "eu-west-1";
pub const ACCESS_KEY_ID: &str = "AKIATESTTESTTESTTEST";

/// A time for fleets to be created at, and for paused walls to start from.
pub const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

pub fn account() -> AccountId {
    AccountId::parse("012345678901").expect("an account id")
}

/// A simulator with one account that has these jobs.
pub fn simulator(jobs: impl IntoIterator<Item = Job>) -> Simulator {
    let simulator = Simulator::new();
    simulator.add_access_key(&account(), ACCESS_KEY_ID);
    simulator.set_fleet(&account(), REGION, Fleet::new(jobs, []));
    simulator
}

/// `count` completed jobs, the first of them in progress.
pub fn jobs(count: usize) -> Vec<Job> {
    let status = |n| if n == 0 { Status::InProgress } else { Status::Completed };
    (0..count).map(|n| Job::new(format!("job-{n:06}"), status(n), NOW.before(Duration::from_secs(n as u64)))).collect()
}

/// The counts of the simulator's own books, as the exposition's labels tell them.
pub fn truth(simulator: &Simulator) -> BTreeMap<(String, String), f64> {
    let counts = simulator.truth(&account(), REGION).into_iter();
    counts.map(|((status, selection), n)| ((status.to_string(), selection.to_string()), n as f64)).collect()
}

/// What happens to a request on its way to the simulator.
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It arrives, so much later.
    Late(Duration),
    /// It never gets an answer.
    Hangs,
    /// The connection breaks.
    Breaks,
}

/// Runs that have ended, by collector.
const RUNS: &str = "aws_iot_jobs_exporter_collector_runs_total";

type FateOf = dyn Fn(&Request) -> Fate + Send + Sync;

/// Whether the faults of the simulator's script leave a request alone.
type Spares = dyn Fn(&Request) -> bool + Send + Sync;

/// How many jobs a page has at most; `None` for as many as the exporter asks for.
type PageSize = dyn Fn(&Request) -> Option<u32> + Send + Sync;

/// Hears of each whole answer that reaches the exporter: the request, the status and the body.
type Hear = dyn Fn(&Request, StatusCode, &[u8]) + Send + Sync;

/// A network without sockets: requests go straight to the simulator, at the time that the clock shows.
#[derive(Clone)]
pub struct Wire {
    simulator: Simulator,
    clock: Clock,
    fate: Arc<Mutex<Arc<FateOf>>>,
    spares: Arc<Mutex<Arc<Spares>>>,
    page_size: Arc<Mutex<Arc<PageSize>>>,
    hear: Arc<Mutex<Option<Arc<Hear>>>>,
    /// When each request was released, by path.
    pub released: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Wire {
    pub fn new(simulator: Simulator, clock: Clock) -> Self {
        let fate: Arc<FateOf> = Arc::new(|_: &Request| Fate::Arrives);
        let fate = Arc::new(Mutex::new(fate));
        let spares: Arc<Spares> = Arc::new(|_: &Request| false);
        let spares = Arc::new(Mutex::new(spares));
        let page_size: Arc<PageSize> = Arc::new(|_: &Request| None);
        let page_size = Arc::new(Mutex::new(page_size));
        Self { simulator, clock, fate, spares, page_size, hear: Arc::default(), released: Arc::default() }
    }

    pub fn decide(&self, fate: impl Fn(&Request) -> Fate + Send + Sync + 'static) {
        *self.fate.lock().expect("no test panics in here") = Arc::new(fate);
    }

    /// Has the faults of the simulator's script leave some requests alone.
    pub fn spare(&self, spares: impl Fn(&Request) -> bool + Send + Sync + 'static) {
        *self.spares.lock().expect("no test panics in here") = Arc::new(spares);
    }

    /// Has some pages of `ListJobs` hold fewer jobs than the exporter asks for, so that a small fleet has many pages.
    pub fn set_page_size(&self, page_size: impl Fn(&Request) -> Option<u32> + Send + Sync + 'static) {
        *self.page_size.lock().expect("no test panics in here") = Arc::new(page_size);
    }

    fn with_page_size(&self, mut request: Request) -> Request {
        let page_size = self.page_size.lock().expect("no test panics in here").clone();
        if let Some(jobs) = page_size(&request) {
            let uri = request.uri().to_string().replace("maxResults=250", &format!("maxResults={jobs}"));
            *request.uri_mut() = uri.parse().expect("a URI");
        }
        request
    }

    /// Lets `hear` know of every answer, byte for byte, from now on.
    pub fn record(&self, hear: impl Fn(&Request, StatusCode, &[u8]) + Send + Sync + 'static) {
        *self.hear.lock().expect("no test panics in here") = Some(Arc::new(hear));
    }

    /// Forgets the requests that were released so far: a test that goes on for long would hold more and more of them.
    pub fn forget_releases(&self) {
        self.released.lock().expect("no test panics in here").clear();
    }

    /// When requests to `path` were released.
    pub fn releases(&self, path: &str) -> Vec<Instant> {
        let released = self.released.lock().expect("no test panics in here");
        released.iter().filter(|(of, _)| of == path).map(|(_, at)| *at).collect()
    }
}

impl Wire {
    /// The client of the SDK for this network.
    pub fn client(&self) -> SharedHttpClient {
        let this = self.clone();
        fake_connector::client(move |request| this.clone().answer(request))
    }

    async fn answer(self, request: Request) -> fake_connector::Outcome {
        self.released.lock().expect("no test panics in here").push((request.uri().path().to_owned(), Instant::now()));
        let decide = self.fate.lock().expect("no test panics in here").clone();
        match decide(&request) {
            Fate::Arrives => {}
            Fate::Late(by) => tokio::time::sleep(by).await,
            Fate::Hangs => pending().await,
            Fate::Breaks => return Err(ConnectorError::io("connection reset by peer".into())),
        }
        let (request, now) = (self.with_page_size(request), self.clock.now().wall);
        let spares = self.spares.lock().expect("no test panics in here").clone();
        let mut action = if spares(&request) {
            self.simulator.answer(&request, now).into()
        } else {
            self.simulator.answer_with_faults(&request, now)
        };
        while let simulator::FaultAction::Delay(by, then) = action {
            tokio::time::sleep(by).await;
            action = *then;
        }
        let response = match action {
            simulator::FaultAction::Response(response) => response,
            simulator::FaultAction::Delay(..) | simulator::FaultAction::Hang => pending().await,
            simulator::FaultAction::Reset | simulator::FaultAction::Refuse(_) => {
                return Err(ConnectorError::io("connection reset by peer".into()));
            }
        };
        let hear = self.hear.lock().expect("no test panics in here").clone();
        let response = match hear {
            Some(hear) if response.body().size_hint().exact().is_some_and(|size| size < LARGE) => {
                let (parts, body) = response.into_parts();
                let whole = body.collect().await.map_err(|error| ConnectorError::io(error.into()))?.to_bytes();
                hear(&request, parts.status, &whole);
                ::http::Response::from_parts(parts, simulator::Body::whole(whole))
            }
            _ => response,
        };
        Ok(response.map(SdkBody::from_body_1_x))
    }
}

/// An exporter on the paused clock, in front of a simulator, without any socket.
pub struct Exporter {
    pub simulator: Simulator,
    pub wire: Wire,
    handler: http::Handler,
    configured: Configured,
    reads: Arc<AtomicUsize>,
    reloads: Reloads,
    task: JoinHandle<()>,
}

/// What an exporter reads when it reads its configuration again.
type Configured = Arc<Mutex<Result<Config, Problems>>>;

/// Reads the configuration, and counts how often.
fn load(configured: &Configured, reads: &Arc<AtomicUsize>) -> Load {
    let (configured, reads) = (Arc::clone(configured), Arc::clone(reads));
    Arc::new(move || {
        reads.fetch_add(1, Ordering::Relaxed);
        let config = configured.lock().expect("no test panics in here").clone()?;
        Ok(loaded(config))
    })
}

impl Exporter {
    /// Starts it; `configure` may change the configuration of one plain target first.
    pub async fn start(simulator: Simulator, configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(simulator, None, configure).await
    }

    /// The same with credentials of the test's own.
    pub async fn start_as(
        simulator: Simulator,
        credentials: Option<SharedCredentialsProvider>,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let clock = Clock::starting_at(NOW);
        let wire = Wire::new(simulator.clone(), clock);
        let mut config = config("http://simulator.test");
        configure(&mut config);
        let mut access = ClientOptions { http: wire.client(), ..ClientOptions::local(ACCESS_KEY_ID, "secret") };
        access.credentials = credentials.or(access.credentials);
        let daemon = Box::pin(Daemon::start(loaded(config.clone()), &access, clock, Handle::current()))
            .await
            .expect("the exporter starts");
        let (handler, reloads) = (daemon.handler(), daemon.reloads());
        let configured: Configured = Arc::new(Mutex::new(Ok(config)));
        let reads = Arc::default();
        let load = load(&configured, &reads);
        let task = tokio::spawn(async move { Box::pin(daemon.run(load, pending())).await.expect("the exporter runs") });
        Self { simulator, wire, handler, configured, reads, reloads, task }
    }

    /// Changes the configuration, and has it read again.
    pub async fn reload(&self, change: impl FnOnce(&mut Config)) -> Result<String, String> {
        self.configured.lock().expect("no test panics in here").as_mut().map(change).expect("a valid configuration");
        self.reloads.reload().await
    }

    /// How often it has read its configuration again.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Has a configuration read that is faulty.
    pub async fn reload_faulty(&self, problems: Problems) -> Result<String, String> {
        let faulty = Err(problems);
        let good = std::mem::replace(&mut *self.configured.lock().expect("no test panics in here"), faulty);
        let outcome = self.reloads.reload().await;
        *self.configured.lock().expect("no test panics in here") = good;
        outcome
    }

    pub async fn get(&self, path: &str) -> Response {
        let request = ::http::Request::get(path).body(Bytes::new()).expect("a request");
        (self.handler)(request).await
    }

    pub async fn scrape(&self) -> Exposition {
        scrape_handler(&self.handler).await
    }

    /// The exposition if it differs from the last one. Most of the time of a test would go into parsing it otherwise.
    pub async fn scrape_if_changed(&self, last: &Exposition) -> Option<Exposition> {
        let body = scraped(&self.handler).await;
        let is_same = std::str::from_utf8(&body).is_ok_and(|body| last.lasts_in(body));
        (!is_same).then(|| Exposition::parse(&body))
    }

    /// Waits, on the paused clock, until each target has ended so many walks over its open jobs and, where there are any, one
    /// over all jobs.
    pub async fn listed(&self, open_walks: u32) -> Exposition {
        self.until(|shown| shown.has_listed(open_walks)).await
    }

    /// Waits, on the paused clock, until all jobs have been listed and each of those that are described has a description.
    pub async fn described(&self) -> Exposition {
        self.until(|shown| {
            let mut undescribed = shown.family("aws_iot_jobs_undescribed");
            shown.has_listed(1) && undescribed.all(|(_, jobs)| jobs == 0.0)
        })
        .await
    }

    /// Waits, on the paused clock, until the exposition is as wanted.
    pub async fn until(&self, is_wanted: impl Fn(&Exposition) -> bool) -> Exposition {
        let mut shown = self.scrape().await;
        for _ in 0..100_000 {
            if is_wanted(&shown) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            shown = self.scrape_if_changed(&shown).await.unwrap_or(shown);
        }
        panic!("not in 50,000 s; at last:\n{}", shown.text);
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a handler has at `/metrics`.
pub async fn scrape_handler(handler: &http::Handler) -> Exposition {
    Exposition::parse(&scraped(handler).await)
}

/// The first sample that differs in every scrape: the number of scrapes.
const FIRST_VARIABLE: &str = "aws_iot_jobs_exporter_http_requests_total{";

/// The other samples that differ in every scrape: the metrics of the process, which come last.
const LAST_VARIABLE: &str = "# HELP process_";

/// What is the same in each scrape: where the text before the number of scrapes ends, and the text after it.
fn lasting(exposition: &str) -> (usize, Range<usize>) {
    let end = exposition.len();
    let before = exposition.find(FIRST_VARIABLE).unwrap_or(end);
    let after = exposition[before..].find("\n# ").map_or(end, |at| before + at);
    (before, after..exposition[after..].find(LAST_VARIABLE).map_or(end, |at| after + at))
}

async fn scraped(handler: &http::Handler) -> Bytes {
    let request = ::http::Request::get("/metrics").body(Bytes::new()).expect("a request");
    let response = handler(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().into_bytes()
}

/// Describes no jobs, for tests that answer `ListJobs` with jobs that do not exist.
pub fn list_only(config: &mut Config) {
    config.collectors.details.enabled = false;
}

/// The collectors that walk over `ListJobs`.
pub const LISTINGS: [&str; 2] = ["open_jobs", "all_jobs"];

/// Only this listing has a second walk soon, so that it is the one that meets a fault. Nothing is described.
pub fn only_one_walks_again(listing: &str, config: &mut Config) {
    list_only(config);
    let (soon, late) = (Duration::from_mins(1), Duration::from_hours(24));
    let is_open = listing == LISTINGS[0];
    config.collectors.open_jobs.interval = if is_open { soon } else { late };
    config.collectors.all_jobs.interval = if is_open { late } else { soon };
}

/// A configuration in which each target has the global collectors, unless it has its own, as loading a file gives it.
fn loaded(mut config: Config) -> Loaded {
    let defaults = Collectors::default();
    for target in config.targets.iter_mut().filter(|target| target.collectors == defaults) {
        target.collectors = config.collectors.clone();
    }
    config.into()
}

/// A configuration of one plain target, without any address to listen on, and with a budget that nothing has to wait for.
pub fn config(endpoint: &str) -> Config {
    let mut config = Config::default();
    config.limits.requests_per_second = 1000.0;
    config.web.listen_addresses.clear();
    config.targets = vec![target("t", endpoint)];
    config
}

pub fn target(name: &str, endpoint: &str) -> Target {
    Target {
        name: Some(name.to_owned()),
        region: Some(REGION.to_owned()),
        endpoint_url: Some(endpoint.to_owned()),
        ..Target::default()
    }
}

/// One HTTP exchange without a client library: the header in lower case, and the body as it was sent.
pub async fn exchange(address: impl tokio::net::ToSocketAddrs, request: &str) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    socket.write_all(request.as_bytes()).await.expect("a sent request");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("an answer");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the end of a header");
    let head = String::from_utf8(answer[..end].to_vec()).expect("text").to_ascii_lowercase();
    (head, answer[end + 4..].to_vec())
}

/// A simulator that listens on loopback.
pub struct Endpoint {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Endpoint {
    pub async fn start(simulator: Simulator) -> Self {
        let listener = Listener::bind(Some("127.0.0.1"), 0).await.expect("a loopback port");
        let address = listener.local_addr();
        let now = || Clock::system().now().wall;
        let task = tokio::spawn(simulator::serve(simulator, vec![listener], now, pending()));
        Self { address, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port of loopback for a program that can't report one that it picked itself.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port()
}

/// An exporter in this process that listens on loopback.
pub struct Listening {
    pub address: SocketAddr,
    pub handler: http::Handler,
    task: JoinHandle<()>,
}

impl Listening {
    /// Starts it, and waits until every target has ended a walk over its open jobs and, where there are any, one over all jobs.
    pub async fn start(config: Config) -> Self {
        Self::start_with_web_config(config, WebConfig::default()).await
    }

    /// The same behind locks.
    pub async fn start_with_web_config(mut config: Config, web: WebConfig) -> Self {
        config.web.listen_addresses = vec!["127.0.0.1:0".parse().expect("an address")];
        let access = ClientOptions::local(ACCESS_KEY_ID, "secret");
        let daemon = Box::pin(Daemon::start(
            Loaded { web, ..loaded(config.clone()) },
            &access,
            Clock::system(),
            Handle::current(),
        ))
        .await
        .expect("the exporter starts");
        let (address, handler) = (daemon.addresses()[0], daemon.handler());
        let load = load(&Arc::new(Mutex::new(Ok(config))), &Arc::default());
        let task = tokio::spawn(async move { Box::pin(daemon.run(load, pending())).await.expect("the exporter runs") });
        let listening = Self { address, handler, task };
        listening.listed().await;
        listening
    }

    async fn listed(&self) {
        let listed = async {
            while !scrape_handler(&self.handler).await.has_listed(1) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), listed).await.expect("a listing in time");
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An exposition, by the strict reader of the unit tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposition {
    pub text: String,
    samples: Vec<(String, Labels, f64)>,
    lasting: (usize, Range<usize>),
}

pub type Labels = BTreeMap<String, String>;

impl Exposition {
    /// Reads either format, and nothing that breaks its grammar.
    #[track_caller]
    pub fn parse(body: &[u8]) -> Self {
        let is_open_metrics = body.ends_with(b"# EOF\n");
        let read = exposition::Exposition::read(body, is_open_metrics).unwrap_or_else(|fault| panic!("{fault}"));
        let owned = |labels: &exposition::Labels| -> Labels {
            labels.iter().map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
        };
        let samples = read.samples().map(|(name, labels, value)| (name.to_owned(), owned(labels), value)).collect();
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        let lasting = lasting(&text);
        Self { text, samples, lasting }
    }

    /// Whether a later body differs only in what differs in every scrape. It compares, because a search through the whole text
    /// takes most of the time of a test that waits.
    fn lasts_in(&self, later: &str) -> bool {
        let (before, after) = &self.lasting;
        let (before, rest, after) = (&self.text[..*before], &self.text[*before..], &self.text[after.clone()]);
        let Some(later) = later.strip_prefix(before) else { return false };
        if rest.is_empty() || !later.starts_with(FIRST_VARIABLE) {
            return later == rest;
        }
        let later = later.find("\n# ").map_or("", |at| &later[at..]);
        later.strip_prefix(after).is_some_and(|process| process.is_empty() || process.starts_with(LAST_VARIABLE))
    }

    /// The samples of a name.
    pub fn family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Labels, f64)> {
        self.samples.iter().filter(move |(of, ..)| of == name).map(|(_, labels, value)| (labels, *value))
    }

    /// The one sample of a name that has these labels among its own; `None` where there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |of: &Labels| labels.iter().all(|(label, value)| of.get(*label).is_some_and(|known| known == value));
        let mut matching = self.family(name).filter(|(of, _)| has(of));
        let first = matching.next().map(|(_, value)| value);
        assert!(matching.next().is_none(), "several samples of {name} with {labels:?}");
        first
    }

    /// The non-zero rows of `aws_iot_jobs`, by status and selection.
    pub fn jobs(&self) -> BTreeMap<(String, String), f64> {
        let rows = self.family("aws_iot_jobs").filter(|(_, value)| *value > 0.0);
        rows.map(|(labels, value)| ((labels["status"].clone(), labels["target_selection"].clone()), value)).collect()
    }

    pub fn up(&self) -> Option<f64> {
        self.value("aws_iot_jobs_up", &[])
    }

    /// Runs of a collector that have ended, of the only target.
    pub fn runs(&self, collector: &str) -> Option<f64> {
        self.value(RUNS, &[("collector", collector)])
    }

    /// Jobs in one state of a collector that sends requests about single jobs.
    pub fn in_state(&self, collector: &str, state: &str) -> Option<f64> {
        self.value("aws_iot_jobs_collector_jobs", &[("collector", collector), ("state", state)])
    }

    /// Runs of a collector that failed for this reason, of the only target.
    pub fn failures(&self, collector: &str, reason: &str) -> Option<f64> {
        let labels = [("collector", collector), ("reason", reason)];
        self.value("aws_iot_jobs_exporter_collector_failures_total", &labels)
    }

    /// Whether every target has ended so many walks over its open jobs and, where there are any, one over all jobs.
    fn has_listed(&self, open_walks: u32) -> bool {
        let is_of = |labels: &Labels, collector: &str| labels["collector"] == collector;
        let have_run = |collector: &str, targets: &[&str], runs: f64| {
            let of_targets =
                self.family(RUNS).filter(|(of, _)| is_of(of, collector) && targets.contains(&&*of["target"]));
            of_targets.into_iter().all(|(_, ended)| ended >= runs)
        };
        let that_run = |collector: &str| -> Vec<&str> {
            let intervals = self.family("aws_iot_jobs_collector_interval_seconds");
            intervals.filter(|(of, _)| is_of(of, collector)).map(|(labels, _)| &*labels["target"]).collect()
        };
        have_run("open_jobs", &that_run("open_jobs"), f64::from(open_walks))
            && have_run("all_jobs", &that_run("all_jobs"), 1.0)
    }

    /// Every line about jobs, without those about the exporter and its targets.
    pub fn job_lines(&self) -> Vec<&str> {
        let is_about_jobs = |line: &&str| {
            let name = line.split('{').next().unwrap_or_default();
            catalogue::ALL.iter().any(|family| family.subject == Subject::Jobs && family.name == name)
        };
        self.text.lines().filter(is_about_jobs).collect()
    }
}

/// The exporter's log of the current thread, from here on: that of a daemon on the paused clock, which has no other thread.
pub fn thread_log() -> ThreadLog {
    ThreadLog::start(|| {
        let own = Targets::new().with_target("aws_iot_jobs_exporter", tracing::Level::DEBUG);
        let lines = tracing_subscriber::fmt::layer().with_writer(|| thread_log::TEXT).without_time();
        tracing_subscriber::registry().with(lines.with_filter(own))
    })
}

/// Runs a command to its end on a thread of its own and returns what it printed.
#[track_caller]
pub fn output(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
    let (printed, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed with {}:\n{printed}\n{complained}", output.status);
    printed.into_owned()
}

/// A file of the repository.
pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What is in it.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The same, read as YAML.
pub fn yaml(path: &str) -> serde_json::Value {
    yaml_serde::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Credentials that are looked for again at nearly every request on the paused clock: they always end two milliseconds later.
#[derive(Clone, Debug)]
pub struct Rotating {
    key: Arc<Mutex<&'static str>>,
    started: Instant,
}

impl Rotating {
    /// Those of [`ACCESS_KEY_ID`], on a clock that shows [`NOW`] now.
    pub fn new() -> Self {
        Self { key: Arc::new(Mutex::new(ACCESS_KEY_ID)), started: Instant::now() }
    }

    /// Changes the access key.
    pub fn set(&self, key: &'static str) {
        *self.key.lock().expect("no test panics in here") = key;
    }
}

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> ProvidedCredentials<'a>
    where
        Self: 'a,
    {
        let key = *self.key.lock().expect("no test panics in here");
        let end = NOW.after(self.started.elapsed()).after(Duration::from_millis(2));
        let end = SystemTime::UNIX_EPOCH + end.since(Timestamp::from_millis(0));
        ProvidedCredentials::ready(Ok(Credentials::new(key, "secret", None, Some(end), "test")))
    }
}
