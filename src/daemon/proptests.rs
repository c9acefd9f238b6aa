//! The whole exporter with arbitrary answers of AWS: its responses and its log stay well-formed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::http::{Request, StatusCode, header};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::aws::fake_http;
use crate::config::{Collectors, Config, Target};
use crate::jobs::Timestamp;
use crate::logging::thread_log::TEXT;
use crate::logging::{JSON, capture};
use crate::proptests::answers::{self, Answer, Fields};
use crate::proptests::exposition::Exposition;
use crate::proptests::{cases_of_whole_exporters, fault_of_line, page, text};

/// The answers of AWS, in order; the last one repeats.
#[derive(Clone, Debug)]
struct Answers {
    lists: Vec<Answer>,
    /// Descriptions of jobs, or any other answers.
    descriptions: Vec<Result<Fields, Answer>>,
}

impl Answers {
    fn options(self) -> ClientOptions {
        let (lists, descriptions) = (AtomicUsize::new(0), AtomicUsize::new(0));
        fake_http::options(move |path| match path.strip_prefix("/jobs/") {
            Some(job_id) => {
                let job_id = percent_decode_str(job_id).decode_utf8_lossy();
                let index = descriptions.fetch_add(1, Ordering::Relaxed) % self.descriptions.len();
                match &self.descriptions[index] {
                    Ok(fields) => Answer::good(answers::describing(&job_id, fields)),
                    Err(instead) => instead.clone(),
                }
            }
            None => self.lists[lists.fetch_add(1, Ordering::Relaxed).min(self.lists.len() - 1)].clone(),
        })
    }
}

fn any_answers() -> impl Strategy<Value = Answers> {
    let description = prop_oneof![
        4 => answers::description().prop_map(Ok),
        1 => answers::answer(answers::description()).prop_map(Err),
    ];
    (vec(answers::answer(answers::list()), 1..3), vec(description, 1..4))
        .prop_map(|(lists, descriptions)| Answers { lists, descriptions })
}

/// A name that the configuration accepts.
fn any_name() -> impl Strategy<Value = String> {
    text().prop_map(|text| {
        let name: String = text.chars().filter(|c| fault_of_line(&c.to_string(), 1).is_none()).take(128).collect();
        if name.is_empty() { "t".to_owned() } else { name }
    })
}

fn any_config() -> impl Strategy<Value = Config> {
    (any_name(), btree_map("l_[a-z]{1,3}", text(), 0..3), any::<bool>(), 0_u32..4).prop_map(
        |(name, labels, describes, most)| {
            let mut target = Target { name: Some(name), labels, ..fake_http::target() };
            let Collectors { open_jobs, details, .. } = &mut target.collectors;
            open_jobs.interval = Duration::from_hours(24);
            details.enabled = describes;
            let mut config = Config { targets: vec![target], ..Config::default() };
            config.web.listen_addresses.clear();
            config.limits.requests_per_second = 1000.0;
            (config.limits.max_thing_groups, config.limits.max_jobs) = (most, most);
            config
        },
    )
}

/// The responses after the jobs have been listed and described.
struct Served {
    text: Bytes,
    open_metrics: Bytes,
    page: String,
}

async fn serve(config: &Config, options: &ClientOptions) -> Served {
    let clock = Clock::starting_at(Timestamp::from_secs(1_790_000_000));
    let daemon =
        Daemon::start(Loaded::from(config.clone()), options, clock, Handle::current()).await.expect("it starts");
    let handler = daemon.handler();
    let get = |path: &str, accept: &'static str| {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Bytes::new()).expect("a request");
        handler(request)
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let load: Load = Arc::new(|| Ok(Loaded::from(Config::default())));
    let stopped = async { drop(stopped.await) };
    let task = tokio::spawn(async move { Box::pin(daemon.run(load, stopped)).await });
    while get("/-/ready", "*/*").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The full walk and the descriptions follow the open walk.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let served = Served {
        text: get("/metrics", "text/plain").await.into_body().into_bytes(),
        open_metrics: get("/metrics", "application/openmetrics-text").await.into_body().into_bytes(),
        page: String::from_utf8(get("/", "*/*").await.into_body().into_bytes().to_vec()).expect("UTF-8"),
    };
    drop(stop);
    task.await.expect("no panic").expect("it runs until it is stopped");
    served
}

/// The first fault of a log. Each event must be one line that begins with its time and level, or one JSON object.
fn fault_of_log(text: &[u8], json: &[u8]) -> Option<String> {
    const MAX_LINE: usize = 16_000;
    let (Ok(text), Ok(json)) = (std::str::from_utf8(text), std::str::from_utf8(json)) else {
        return Some("no UTF-8".to_owned());
    };
    let is_event = |line: &str| {
        let mut words = line.split_whitespace();
        let is_time = words.next().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok());
        is_time && words.next().is_some_and(|level| ["ERROR", "WARN", "INFO", "DEBUG"].contains(&level))
    };
    for line in text.lines() {
        if let Some(fault) = fault_of_line(line, MAX_LINE) {
            return Some(fault);
        }
        if !is_event(line) {
            return Some(format!("not an event: {line:?}"));
        }
    }
    for line in json.lines() {
        let event: Option<BTreeMap<String, serde_json::Value>> = serde_json::from_str(line).ok();
        if !event.is_some_and(|event| ["timestamp", "level", "message"].iter().all(|key| event.contains_key(*key))) {
            return Some(format!("not an event: {line:?}"));
        }
    }
    let (in_text, in_json) = (text.lines().count(), json.lines().count());
    (in_text != in_json || in_text == 0).then(|| format!("{in_text} lines of text and {in_json} of JSON"))
}

proptest! {
    #![proptest_config(cases_of_whole_exporters(40))]

    #[test]
    fn any_answers_of_aws_leave_the_exposition_the_page_and_the_log_well_formed(
        answers in any_answers(), config in any_config(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let options = answers.options();
        let log = capture();
        let served = runtime.expect("a runtime").block_on(Box::pin(serve(&config, &options)));
        prop_assert_eq!(fault_of_log(&log.take_output(TEXT), &log.take_output(JSON)), None);
        prop_assert_eq!(page::fault(&served.page), None, "{}", served.page);
        let text = Exposition::read(&served.text, false).map_err(TestCaseError::fail)?;
        let open_metrics = Exposition::read(&served.open_metrics, true).map_err(TestCaseError::fail)?;
        for shown in [text, open_metrics] {
            let name = config.targets[0].name.as_deref();
            prop_assert!(shown.family("aws_iot_jobs_up").all(|(labels, _)| labels.get("target") == name));
            let open = shown.family("aws_iot_jobs_walk_jobs").filter(|(labels, _)| labels.of("collector") == "open_jobs");
            let open: Option<f64> = open.map(|(_, jobs)| jobs).next();
            if shown.sum("aws_iot_jobs_up") == Some(1.0) {
                prop_assert!(open.is_some() && shown.sum("aws_iot_jobs") >= open);
            } else {
                prop_assert!(shown.sum("aws_iot_jobs_exporter_collector_failures_total") >= Some(1.0));
            }
            if shown.sum("aws_iot_jobs_collector_last_success_timestamp_seconds").is_none() {
                prop_assert_eq!(shown.sum("aws_iot_jobs"), None);
            }
            for (label, value) in &config.targets[0].labels {
                prop_assert!(shown.family("aws_iot_jobs").all(|(labels, _)| labels.get(label) == Some(value.as_str())));
            }
        }
    }
}

#[test]
fn a_broken_log_is_detected() {
    let (text, json) =
        ("2026-09-21T00:00:00.1Z  INFO a\n", "{\"timestamp\":\"\",\"level\":\"INFO\",\"message\":\"a\"}\n");
    assert_eq!(fault_of_log(text.as_bytes(), json.as_bytes()), None);
    let broken_text = ["x", "2026-09-21T00:00:00Z INFO a\nb\n", "2026-09-21T00:00:00Z INFO a\u{1b}[0m\n", ""];
    for text in broken_text {
        assert!(fault_of_log(text.as_bytes(), json.as_bytes()).is_some(), "{text:?}");
    }
    for json in ["{}\n", "{\"timestamp\":\"\"\n", "x\n"] {
        assert!(fault_of_log(text.as_bytes(), json.as_bytes()).is_some(), "{json:?}");
    }
}
