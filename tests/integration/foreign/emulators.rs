//! AWS lookalikes that nobody here wrote: what they say and what boto3 counts of it must be what the daemon shows.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::tools::{python, tool};
use crate::process::{Running, get, isolated};
use crate::support::{Exposition, Labels, free_port, output};

const PYTHON_PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin");

/// The collectors that list jobs.
const LISTINGS: [&str; 2] = ["open_jobs", "all_jobs"];

/// A server in Python, of the test's own: it ends with the test.
struct Server {
    url: String,
    _process: Child,
}

impl Server {
    /// Starts `program` on a free loopback port; `prepare` gets the command and the port.
    async fn start(program: &str, prepare: impl FnOnce(&mut Command, u16)) -> Self {
        let port = free_port();
        let path = format!("{PYTHON_PROGRAMS}/{program}");
        assert!(std::path::Path::new(&path).exists(), "there is no {path}: run tests/run.sh --all, which installs it");
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        prepare(&mut command, port);
        let mut process = command.spawn().expect("a started server");
        for _ in 0..300 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                // The port was free a moment ago; if somebody else has it now, this server could not listen, and ended.
                tokio::time::sleep(Duration::from_millis(100)).await;
                assert!(process.try_wait().expect("a status").is_none(), "{program} lost its port to another process");
                return Self { url: format!("http://127.0.0.1:{port}"), _process: process };
            }
            assert!(process.try_wait().expect("a status").is_none(), "{program} ended before it listened");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{program} does not listen after 30 s");
    }

    async fn ministack() -> Self {
        Self::ministack_with(&[]).await
    }

    async fn ministack_with(settings: &[(&str, &str)]) -> Self {
        Self::start("ministack", |command, port| {
            // Without a host it would listen on every interface.
            command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
            command.env("IOT_MTLS_ENABLED", "0").env("LOG_LEVEL", "WARNING");
            command.envs(settings.iter().copied());
            // One in its own environment would be the key of another root.
            command.env_remove("AWS_ACCESS_KEY_ID");
        })
        .await
    }

    async fn moto() -> Self {
        Self::start("moto_server", |command, port| {
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        })
        .await
    }

    async fn microburst(upstream: &Self) -> Self {
        let microburst = Self::start("microburst", |command, port| {
            command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--upstream", &upstream.url]);
        })
        .await;
        // Its first answer can take longer than the exporter waits.
        microburst.fleet("count");
        microburst
    }

    /// An access key with this policy of `config/iam`, or a part of it, where IAM is enforced.
    fn access_key(&self, policy: &str, options: &[&str]) -> (String, String) {
        let key = self.identity(policy, options);
        (key["AccessKeyId"].clone(), key["SecretAccessKey"].clone())
    }

    /// The same with the ARN of the role that it may assume.
    fn identity(&self, policy: &str, options: &[&str]) -> BTreeMap<String, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/iam.py");
        let policy = format!("{}/config/iam/{policy}", env!("CARGO_MANIFEST_DIR"));
        let printed = output(python().args([script, &self.url, &policy]).args(options));
        serde_json::from_str(&printed).expect("an access key")
    }

    /// Does something to the jobs with boto3 and returns boto3's own count of them, by two words.
    fn fleet(&self, command: &str) -> BTreeMap<(String, String), f64> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/fleet.py");
        let printed = output(python().args([script, &self.url]).args(command.split(' ')));
        let counts: BTreeMap<String, f64> = serde_json::from_str(&printed).expect("counts");
        let pair = |text: String| text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("two words");
        counts.into_iter().map(|(text, count)| (pair(text), count)).collect()
    }

    /// Sets microburst's rules.
    fn rules(&self, rules: &str) {
        let url = format!("{}/_microburst/rules", self.url);
        output(tool("curl").args(["--fail", "--silent", "--show-error", "--request", "POST", "--data", rules, &url]));
    }
}

/// The daemon with nothing configured but an endpoint, credentials, a region, and intervals that a test can wait for.
struct Daemon {
    running: Running,
    address: String,
}

impl Daemon {
    async fn start(endpoint: &Server) -> Self {
        Self::start_as(endpoint, "test", "test").await
    }

    async fn start_as(endpoint: &Server, access_key_id: &str, secret_access_key: &str) -> Self {
        Self::start_with(endpoint, access_key_id, secret_access_key, &[]).await
    }

    async fn start_with(endpoint: &Server, access_key_id: &str, secret_access_key: &str, arguments: &[&str]) -> Self {
        let mut command = isolated(Command::new(crate::process::PROGRAM), &["--web.listen-address=127.0.0.1:0"]);
        command.args(arguments);
        command.env("AWS_ENDPOINT_URL", &endpoint.url).env("AWS_REGION", "eu-west-1");
        command.env("AWS_ACCESS_KEY_ID", access_key_id).env("AWS_SECRET_ACCESS_KEY", secret_access_key);
        for interval in ["OPEN_JOBS__INTERVAL", "ALL_JOBS__INTERVAL", "DETAILS__INTERVAL", "DETAILS__MAX_INTERVAL"] {
            command.env(format!("IOT_JOBS_EXPORTER_COLLECTORS__{interval}"), "200ms");
        }
        command.env("IOT_JOBS_EXPORTER_LIMITS__REQUESTS_PER_SECOND", "100");
        let mut running = Running::start(command);
        let address = running.address().await;
        Self { running, address }
    }

    /// One for which a job is stuck after 3 seconds. It looks at executions every second.
    async fn start_impatient(endpoint: &Server) -> Self {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        let settings = "collectors: {executions: {interval: 1s}}\njobs: {stuck_after: 3s}\n";
        std::io::Write::write_all(&mut file, settings.as_bytes()).expect("a written file");
        Self::start_with(endpoint, "test", "test", &[&format!("--config.file={}", file.path().display())]).await
    }

    async fn scrape(&self) -> Exposition {
        let answer = get(&self.address, "/metrics").await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a header and a body");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Exposition::parse(body.as_bytes())
    }

    /// What it shows after walks of both listings that started later than this call. A job that has left the open list stays in it
    /// until it is described or found by a later walk over all jobs.
    async fn listed(&self) -> Exposition {
        self.walked_over("open_jobs").await;
        self.walked_over("all_jobs").await
    }

    /// What it shows after a walk of a listing that started later than this call.
    async fn walked_over(&self, collector: &str) -> Exposition {
        // The one under way may have begun before.
        let enough = self.scrape().await.runs(collector).expect("a counter") + 2.0;
        self.until(|shown| shown.runs(collector) >= Some(enough)).await
    }

    /// What it shows once that is as wanted. On a busy machine a walk over all jobs can take seconds, and the next one then starts
    /// after ten times as long.
    async fn until(&self, is_wanted: impl Fn(&Exposition) -> bool) -> Exposition {
        for _ in 0..2400 {
            let shown = self.scrape().await;
            if is_wanted(&shown) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not in 2 minutes; at last:\n{}", self.scrape().await.text);
    }

    /// What it shows after a walk of each listing of so many targets.
    async fn each_listed(&self, targets: usize) -> Exposition {
        self.until(|shown| {
            let runs = shown.family("aws_iot_jobs_exporter_collector_runs_total");
            runs.filter(|(labels, runs)| LISTINGS.contains(&labels["collector"].as_str()) && *runs > 0.0).count()
                == 2 * targets
        })
        .await
    }

    async fn stop(mut self) {
        self.running.signal("TERM");
        assert_eq!(self.running.exit_code().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ministack_jobs_are_counted_as_boto3_counts_them_after_every_step_of_their_lives() {
    let ministack = Server::ministack().await;
    let daemon = Daemon::start(&ministack).await;
    assert_eq!(daemon.listed().await.jobs(), BTreeMap::new());
    for step in [
        "things d0 d1 d2",
        "create snap SNAPSHOT d0 d1",
        "create cont CONTINUOUS group:line",
        "create group SNAPSHOT group:line d0",
        "create gone SNAPSHOT d2",
        "finish snap d0 SUCCEEDED",
        "finish snap d1 FAILED",
        "cancel gone",
        "delete gone",
        "finish cont d2 SUCCEEDED",
        "finish cont d0 SUCCEEDED",
        "finish group d0 SUCCEEDED",
    ] {
        let counted = ministack.fleet(step);
        let shown = daemon.listed().await;
        assert_eq!((shown.jobs(), shown.up()), (counted, Some(1.0)), "after {step}");
    }
    let completed = ("COMPLETED".to_owned(), "SNAPSHOT".to_owned());
    let shown = daemon.scrape().await;
    assert_eq!(shown.jobs()[&completed], 1.0, "a job whose executions have all ended, one of them badly");
    let (labels, _) = shown.family("aws_iot_jobs").next().expect("a row");
    assert_eq!((labels["aws_account_id"].as_str(), labels["target"].as_str()), ("000000000000", "eu-west-1"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_aws_does_not_know_is_shown_as_moto_gives_it() {
    let moto = Server::moto().await;
    moto.fleet("things d0");
    let counted = moto.fleet("create a SNAPSHOT d0");
    assert_eq!(counted.keys().next().expect("a job").0, "QUEUED", "what this test is about");
    let daemon = Daemon::start(&moto).await;
    let shown = daemon.listed().await;
    assert_eq!((shown.jobs(), shown.up()), (counted, Some(1.0)));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn motos_broken_paging_is_a_token_loop_and_publishes_nothing() {
    let moto = Server::moto().await;
    moto.fleet("things d0");
    moto.fleet("many x 260 d0");
    let daemon = Daemon::start(&moto).await;
    let shown = daemon.listed().await;
    assert!(shown.job_lines().is_empty(), "{}", shown.text);
    assert_eq!(shown.up(), Some(0.0));
    for collector in LISTINGS {
        assert!(shown.failures(collector, "token_loop") >= Some(2.0), "{}", shown.text);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_microburst_does_to_ministacks_answers_has_its_reason_and_heals() {
    let ministack = Server::ministack().await;
    ministack.fleet("things d0");
    let counted = ministack.fleet("create a SNAPSHOT d0");
    let microburst = Server::microburst(&ministack).await;
    let daemon = Daemon::start(&microburst).await;
    assert_eq!(daemon.listed().await.jobs(), counted);
    let on = |fault: &str| format!(r#"[{{"service": "iot", {fault}}}]"#);
    for (reason, fault) in [
        ("throttled", r#""error": {"code": "ThrottlingException"}"#),
        ("denied", r#""error": {"code": "AccessDeniedException", "status": 403}"#),
        ("credentials", r#""error": {"code": "ExpiredTokenException", "status": 403}"#),
        ("unavailable", r#""error": {"code": "ServiceUnavailableException", "status": 503}"#),
        ("network", r#""reset": true"#),
        ("network", r#""response": {"abort_frac": 0.5}"#),
        ("malformed", r#""response": {"truncate_frac": 0.5}"#),
    ] {
        microburst.rules(&on(fault));
        let failures = |shown: &Exposition| LISTINGS.map(|collector| shown.failures(collector, reason));
        let before = failures(&daemon.scrape().await);
        let shown = daemon.listed().await;
        for (before, after) in before.iter().zip(failures(&shown)) {
            assert!(before.is_some() && after > *before, "{fault} is not {reason}: {}", shown.text);
        }
        assert_eq!((shown.up(), shown.jobs()), (Some(0.0), counted.clone()), "{fault}: the last good walk is shown");
        microburst.rules("[]");
        let healed = daemon.listed().await;
        assert_eq!((healed.up(), healed.jobs()), (Some(1.0), counted.clone()), "after {fault}");
    }

    // What one retry mends is no failure of a listing.
    let failures = |shown: &Exposition| {
        let failures = shown.family("aws_iot_jobs_exporter_collector_failures_total");
        failures.filter(|(labels, _)| LISTINGS.contains(&labels["collector"].as_str())).map(|(_, n)| n).sum::<f64>()
    };
    let before = failures(&daemon.scrape().await);
    microburst.rules(&on(r#""error": {"code": "ThrottlingException"}, "times": 1"#));
    daemon.listed().await;
    microburst.rules(&on(r#""latency": 400"#));
    let duration =
        |shown: &Exposition| shown.value("aws_iot_jobs_collector_duration_seconds", &[("collector", "open_jobs")]);
    let slow = daemon.until(|shown| duration(shown) >= Some(0.4)).await;
    assert_eq!((slow.up(), failures(&slow)), (Some(1.0), before));
    daemon.stop().await;
}

/// How many jobs are in a state for the collector `details`.
fn jobs(shown: &Exposition, state: &str) -> Option<f64> {
    shown.in_state("details", state)
}

/// What the daemon shows of groups and executions, as `fleet.py described` tells it.
fn described(shown: &Exposition) -> BTreeMap<(String, String), f64> {
    let pair = |(labels, value): (&Labels, f64), a: &str, b: &str| ((labels[a].clone(), labels[b].clone()), value);
    let mut rows: BTreeMap<(String, String), f64> = BTreeMap::new();
    for row in shown.family("aws_iot_thing_group_jobs") {
        let (row, jobs) = pair(row, "thing_group", "status");
        *rows.entry(row).or_default() += jobs;
    }
    for row in shown.family("aws_iot_job_executions") {
        let ((job, status), executions) = pair(row, "job_id", "execution_status");
        // As the API names the numbers: `IN_PROGRESS` is `numberOfInProgressThings`.
        let word = |word: &str| word[..1].to_owned() + &word[1..].to_lowercase();
        rows.insert((job, status.split('_').map(word).collect()), executions);
    }
    rows.retain(|_, value| *value > 0.0);
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn group_rows_and_executions_follow_a_continuous_job_of_ministack_that_devices_join_and_finish() {
    let ministack = Server::ministack().await;
    let daemon = Daemon::start(&ministack).await;
    for step in [
        "things d0 d1",
        "create cont CONTINUOUS group:line",
        "create snap SNAPSHOT group:line d0",
        "create single SNAPSHOT d1",
        "finish cont d0 SUCCEEDED",
        "join d2",
        "finish cont d2 FAILED",
        "finish cont d1 SUCCEEDED",
        "finish snap d0 SUCCEEDED",
        "finish snap d1 SUCCEEDED",
    ] {
        ministack.fleet(step);
        let expected = ministack.fleet("described");
        let shown = daemon.until(|shown| described(shown) == expected).await;
        assert_eq!(jobs(&shown, "failing"), Some(0.0), "after {step}");
    }
    let rows = described(&daemon.scrape().await);
    let row = |a: &str, b: &str| rows.get(&(a.to_owned(), b.to_owned())).copied();
    assert_eq!([row("line", "COMPLETED"), row("line", "IN_PROGRESS")], [Some(1.0), Some(1.0)]);
    assert_eq!(
        [row("cont", "Succeeded"), row("cont", "Failed"), row("<none>", "IN_PROGRESS")],
        [Some(2.0), Some(1.0), Some(1.0)]
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_ministack_that_one_thing_never_asks_for_is_stuck_since_the_last_one_finished() {
    let ministack = Server::ministack().await;
    for step in ["things d0 d1 d2", "create slow SNAPSHOT d0 d1 d2", "finish slow d0 SUCCEEDED"] {
        ministack.fleet(step);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    ministack.fleet("finish slow d1 FAILED");
    let executions = ministack.fleet("executions slow");
    let at = |thing: &str, status: &str| executions[&(thing.to_owned(), status.to_owned())];
    let (finished, queued) = (at("d1", "FAILED"), at("d2", "QUEUED"));
    assert!(finished > at("d0", "SUCCEEDED") + 1.0);
    let since = |shown: &Exposition, family: &str, labels: &[(&str, &str)], expected: f64| {
        let value = shown.value(family, labels).unwrap_or_else(|| panic!("no {family}: {}", shown.text));
        assert!((value - expected).abs() < 1.0, "{family}: {value}, not {expected}");
    };
    for _restart in 0..2 {
        let daemon = Daemon::start_impatient(&ministack).await;
        let stuck = daemon.until(|shown| shown.value("aws_iot_job_stuck", &[]) == Some(1.0)).await;
        since(&stuck, "aws_iot_job_last_progress_timestamp_seconds", &[], finished);
        let waiting = [("thing", "d2"), ("execution_status", "QUEUED")];
        since(&stuck, "aws_iot_job_open_execution_since_timestamp_seconds", &waiting, queued);
        assert_eq!(stuck.family("aws_iot_job_open_execution_since_timestamp_seconds").count(), 1);
        daemon.stop().await;
    }
    let daemon = Daemon::start_impatient(&ministack).await;
    ministack.fleet("finish slow d2 SUCCEEDED");
    let shown = daemon
        .until(|shown| shown.value("aws_iot_ended_job_executions", &[("execution_status", "FAILED")]) == Some(1.0))
        .await;
    assert_eq!(shown.family("aws_iot_job_stuck").count(), 0);
    let stuck = shown.family("aws_iot_jobs_stuck").map(|(_, jobs)| jobs).reduce(|sum, jobs| sum + jobs);
    assert_eq!(stuck, Some(0.0));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_each_shipped_policy_it_works_and_with_one_action_less_it_shows_just_that_degradation() {
    let ministack = Server::ministack_with(&[("AUTH", "true")]).await;
    for step in ["things d0 d1", "create open SNAPSHOT group:line d0", "create done SNAPSHOT d1", "cancel done"] {
        ministack.fleet(step);
    }
    let (counted, expected) = (ministack.fleet("count"), ministack.fleet("described"));
    let start = async |policy: &str, options: &[&str]| {
        let (id, secret) = ministack.access_key(policy, options);
        Daemon::start_as(&ministack, &id, &secret).await
    };
    for (policy, denied) in [("details.json", 1.0), ("executions.json", 0.0), ("tags.json", 0.0)] {
        let daemon = start(policy, &[]).await;
        daemon.listed().await;
        let is_known =
            |shown: &Exposition| described(shown) == expected && shown.in_state("executions", "overdue") == Some(0.0);
        let shown = daemon.until(is_known).await;
        assert_eq!((shown.up(), shown.jobs(), jobs(&shown, "denied")), (Some(1.0), counted.clone(), Some(0.0)));
        assert_eq!(shown.in_state("executions", "denied"), Some(denied), "{policy}");
        let stuck = shown.family("aws_iot_jobs_stuck").map(|(_, jobs)| jobs).reduce(|sum, jobs| sum + jobs);
        assert_eq!(stuck, if denied > 0.0 { None } else { Some(0.0) }, "{policy}");
        daemon.stop().await;
    }

    for (policy, options) in [("counts.json", &[][..]), ("executions.json", &["--without", "iot:DescribeJob"])] {
        let counts = start(policy, options).await;
        counts.listed().await;
        let shown = counts.until(|shown| jobs(shown, "denied") == Some(2.0)).await;
        assert_eq!((shown.up(), shown.jobs()), (Some(1.0), counted.clone()), "{policy}");
        let unknown = ["IN_PROGRESS", "CANCELED"].map(|status| (("<unknown>".to_owned(), status.to_owned()), 1.0));
        assert_eq!(described(&shown), BTreeMap::from(unknown), "{policy}");
        counts.stop().await;
    }

    for (policy, options) in
        [("tags.json", &["--without", "iot:ListJobs"]), ("counts.json", &["--without", "iot:ListJobs"])]
    {
        let none = start(policy, options).await;
        let shown = none.listed().await;
        assert_eq!((shown.up(), shown.job_lines()), (Some(0.0), vec![]), "{policy}");
        for collector in LISTINGS {
            assert!(shown.failures(collector, "denied") >= Some(2.0), "{policy}: {}", shown.text);
        }
        none.stop().await;
    }
}

/// What a subcommand prints, with this access key.
async fn printed(endpoint: &Server, (id, secret): &(String, String), arguments: &[&str]) -> String {
    let mut command = isolated(Command::new(crate::process::PROGRAM), arguments);
    command.env("AWS_ENDPOINT_URL", &endpoint.url).env("AWS_REGION", "eu-west-1");
    command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    String::from_utf8(command.output().await.expect("an end").stdout).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_names_the_thing_that_never_asked_for_the_job_and_doctor_what_is_denied() {
    let ministack = Server::ministack_with(&[("AUTH", "true")]).await;
    for step in
        ["things d0 d1 d2", "create fw-1 SNAPSHOT group:line", "finish fw-1 d0 SUCCEEDED", "finish fw-1 d2 FAILED"]
    {
        ministack.fleet(step);
    }
    let key = ministack.access_key("executions.json", &[]);
    let explained = printed(&ministack, &key, &["explain", "fw-1"]).await;
    for part in ["1 execution is not started. d1 has not started it for", "1 QUEUED, 1 SUCCEEDED, 1 FAILED", "line"] {
        assert!(explained.contains(part), "{part} is not in {explained}");
    }

    let lines = |report: &str, word: &str| -> Vec<String> {
        let of_word = report.lines().filter(|line| line.split_whitespace().nth(1) == Some(word));
        of_word.map(|line| line.split_whitespace().next().unwrap_or_default().to_owned()).collect()
    };
    let healthy = printed(&ministack, &key, &["doctor"]).await;
    assert_eq!(lines(&healthy, "FAULT"), [""; 0], "{healthy}");
    let denied = printed(&ministack, &ministack.access_key("counts.json", &[]), &["doctor"]).await;
    assert_eq!(lines(&denied, "FAULT"), ["iot:DescribeJob", "iot:ListJobExecutionsForJob"], "{denied}");
    let wrong = printed(&ministack, &(key.0, "a-guess".to_owned()), &["doctor"]).await;
    assert!(
        lines(&wrong, "FAULT").contains(&"iot:ListJobs".to_owned()) && wrong.contains("InvalidSignature"),
        "{wrong}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_another_account_is_assumed_with_its_external_id_only_and_its_jobs_carry_that_account() {
    let ministack = Server::ministack_with(&[("AUTH", "true")]).await;
    let (own_account, other_account) = ("000000000000", "210987654321");
    for step in ["things d0", "create own SNAPSHOT d0"] {
        ministack.fleet(step);
    }
    for step in ["things d0", "create a SNAPSHOT d0", "create b CONTINUOUS group:line", "cancel a"] {
        ministack.fleet(&format!("--account {other_account} {step}"));
    }
    let key = ministack.identity("details.json", &["--role-in", other_account, "--external-id", "between-us"]);
    let role = &key["RoleArn"];
    assert!(role.contains(other_account), "{role}");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = format!(
        "targets:\n- {{name: own}}\n- {{name: theirs, role_arn: '{role}', external_id: between-us}}\n\
         - {{name: locked-out, role_arn: '{role}', external_id: a-guess, filter: {{target_selection: SNAPSHOT}}}}\n"
    );
    std::fs::write(file.path(), text).expect("a written file");
    let path = format!("--config.file={}", file.path().display());
    let (id, secret) = (&key["AccessKeyId"], &key["SecretAccessKey"]);
    let daemon = Daemon::start_with(&ministack, id, secret, &[&path]).await;

    let shown = daemon.each_listed(3).await;
    let mut counted: Vec<(String, String, String, f64)> = shown
        .family("aws_iot_jobs")
        .filter(|(_, count)| *count > 0.0)
        .map(|(labels, count)| {
            let label = |name: &str| labels[name].clone();
            (label("target"), label("aws_account_id"), label("status"), count)
        })
        .collect();
    counted.sort_by(|left, right| left.partial_cmp(right).expect("counts"));
    let row = |target: &str, account: &str, status: &str| (target.into(), account.into(), status.into(), 1.0);
    assert_eq!(
        counted,
        [
            row("own", own_account, "IN_PROGRESS"),
            row("theirs", other_account, "CANCELED"),
            row("theirs", other_account, "IN_PROGRESS"),
        ]
    );
    let up = |target: &str| shown.value("aws_iot_jobs_up", &[("target", target)]);
    assert_eq!(["own", "theirs", "locked-out"].map(up), [Some(1.0), Some(1.0), Some(0.0)]);
    let of = [("target", "locked-out"), ("collector", "open_jobs"), ("reason", "denied")];
    assert!(shown.value("aws_iot_jobs_exporter_collector_failures_total", &of) >= Some(1.0), "{}", shown.text);
    daemon.stop().await;
}
