//! Any bytes from the network become a page, a description, or an error of one short line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use tokio::time::Instant;

use super::*;
use crate::jobs::{
    AggregateOptions, Aggregator, Answer, DetailsOptions, ExecutionsOptions, FailureReason, JobStore, LookRequest,
    OpenWalk, Part, Scope, SeriesLimits, Shown, StoreOptions, Timepoint, UNKNOWN,
};
use crate::metrics::{self, ExporterMetrics, Format, Identity, JobSource, Published, TargetState, TargetStates};
use crate::proptests::answers::{self, Answer as HttpAnswer, Json};
use crate::proptests::exposition::Exposition;
use crate::proptests::{cases, fault_of_line, text};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// The longest error: a thousand characters of AWS, each of which may be escaped, and the exporter's own words.
const MAX_ERROR: usize = 11_000;

/// A single thread on the paused clock, where waits take no time.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// Returns these answers in order; the last one repeats.
fn in_turn(answers: Vec<HttpAnswer>) -> ClientOptions {
    let next = AtomicUsize::new(0);
    fake_http::options(move |_| answers[next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)].clone())
}

async fn describe(network: &ClientOptions, job_id: &str) -> Result<Option<Description>, ApiError> {
    let connection = fake_http::connection(network, counters()).await;
    let permit = connection.describe_permit(Class::Redescription).await?;
    connection.describe_job(job_id, permit).await
}

fn counters() -> Arc<TargetCounters> {
    Arc::new(TargetCounters::new(identity().target_labels()))
}

fn identity() -> Identity {
    Identity { name: "t".to_owned(), region: "eu-west-1".to_owned(), labels: Vec::new() }
}

fn fault_of(error: &ApiError) -> Option<String> {
    fault_of_line(&error.to_string(), MAX_ERROR)
}

/// The exposition of these jobs, after walks have listed them and descriptions have answered for some of them.
fn exposed(
    jobs: &[JobSummary],
    descriptions: &[Description],
    executions: &[ExecutionSummary],
    tags: &[Tag],
) -> Result<Bytes, String> {
    let now = Timepoint { instant: Instant::now(), wall: NOW };
    let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
    let mut store = JobStore::new(StoreOptions {
        scope: Scope::default(),
        open_interval: minute,
        lists_ended: true,
        ended_within: hour * 100,
        details: Some(DetailsOptions { interval: minute, max_interval: minute, stale_after: hour }),
        executions: Some(ExecutionsOptions {
            interval: hour,
            stale_after: hour,
            stuck_after: hour,
            stuck_after_windowed: hour,
            things_per_job: 2,
        }),
        tag_keys: ["team".to_owned()].into(),
    });
    let (mut open, mut full) = (OpenWalk::default(), store.start_full_walk(now));
    for job in jobs {
        open.insert(job);
        full.insert(job);
    }
    store.open_walk_done(open, now);
    store.full_walk_done(full.finish(), now);
    while let Some(request) = store.next_to_describe(now) {
        let description = descriptions.iter().find(|description| description.summary.id() == Some(&*request.id));
        let answer = description
            .map_or(Answer::Failed(FailureReason::Other), |description| Answer::Found(Box::new(description.clone())));
        store.described(&request, &answer, now);
    }
    while let Some(LookRequest { request, mut look, .. }) = store.next_look(now) {
        for execution in executions {
            look.insert(execution);
        }
        store.looked(&request, Answer::Found(look.finish(true, now)), now);
    }
    while let Some(request) = store.next_tags(now) {
        store.tags_read(&request, &Answer::Found(tags.to_vec()), now);
    }
    let options = AggregateOptions {
        max_thing_groups: 2,
        series: Some(SeriesLimits { open: 4, ended: 4, things: 5 }),
        ..AggregateOptions::default()
    };
    let snapshot = Aggregator::default().aggregate(&store, &options, Shown { open: true, ended: true }, now);
    let published =
        |part: Option<Part>| part.map(|part| Published { part: Arc::new(part), collected: now, stale_after: hour });
    let state = TargetState {
        account: AccountId::parse("012345678901").ok(),
        open: published(snapshot.open),
        ended: published(snapshot.ended),
        tag_keys: Arc::clone(&store.options().tag_keys),
        ..TargetState::default()
    };
    let states = Arc::new(TargetStates::default());
    states.arrange([&states.slot(identity(), JobSource::default(), state)]);
    let exposition = metrics::Exposition::new(Arc::clone(&states), Arc::new(ExporterMetrics::new(Vec::new)));
    let [body, other] = [Format::Text, Format::OpenMetrics].map(|format| exposition.body(format, now).into_bytes());
    let (text, open_metrics) = (Exposition::read(&body, false)?, Exposition::read(&other, true)?);
    for family in ["aws_iot_jobs", "aws_iot_job_info", "aws_iot_thing_group_jobs"] {
        let (text, open_metrics) = (text.sum(family), open_metrics.sum(family));
        (text == open_metrics).then_some(()).ok_or(format!("{family}: {text:?} and {open_metrics:?}"))?;
    }
    Ok(body)
}

#[expect(clippy::cast_precision_loss, reason = "there are some dozens")]
fn number(count: usize) -> f64 {
    count as f64
}

fn failed(fault: String) -> TestCaseError {
    TestCaseError::fail(fault)
}

/// A valid job without texts.
fn valid_job() -> impl Strategy<Value = JobSummary> {
    let id = prop_oneof!["[a-c]", text()];
    let word = |known: &'static [&'static str]| prop_oneof![6 => select(known).prop_map(str::to_owned), 2 => "[A-Z_.]{1,3}", 1 => text()];
    let time = || weighted(0.8, (0_i64..=Timestamp::LATEST.as_millis()).prop_map(Timestamp::from_millis));
    (
        weighted(0.9, id),
        weighted(0.9, word(&["IN_PROGRESS", "SCHEDULED", "COMPLETED"])),
        weighted(0.9, word(&["SNAPSHOT", "CONTINUOUS"])),
        time(),
        weighted(0.5, any::<bool>()),
        weighted(0.3, text()),
    )
        .prop_map(|(job_id, status, selection, created_at, is_concurrent, thing_group_id)| JobSummary {
            job_id,
            status: status.as_deref().map(Status::from),
            target_selection: selection.as_deref().map(TargetSelection::from),
            created_at,
            is_concurrent,
            thing_group_id,
            ..JobSummary::default()
        })
}

fn written(job: &JobSummary) -> Json {
    let text = |text: &str| Json::Text(text.to_owned());
    let millis = |at: Timestamp| Json::Raw(format!("{}.{:03}", at.as_millis() / 1000, at.as_millis() % 1000));
    let fields = [
        ("jobId", job.job_id.as_deref().map(text)),
        ("status", job.status.as_ref().map(|status| text(status.as_str()))),
        ("targetSelection", job.target_selection.as_ref().map(|selection| text(selection.as_str()))),
        ("createdAt", job.created_at.map(millis)),
        ("isConcurrent", job.is_concurrent.map(|is| Json::Raw(is.to_string()))),
        ("thingGroupId", job.thing_group_id.as_deref().map(text)),
    ];
    Json::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

/// The label value of a text, as documented.
fn label(text: Option<&str>) -> String {
    let is_plain = |text: &str| {
        (1..=64).contains(&text.chars().count())
            && text.chars().all(|c| matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '.'))
    };
    match text {
        None => "<unknown>".to_owned(),
        Some(text) if is_plain(text) => text.to_owned(),
        Some(_) => "<other>".to_owned(),
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn any_answer_to_list_jobs_is_a_page_or_an_error_of_one_short_line(
        answers in vec(answers::answer(answers::list()), 1..3),
    ) {
        let listed = run(async {
            let connection = fake_http::connection(&in_turn(answers), counters()).await;
            connection.list_jobs(&Query::default(), None, Class::OpenWalk).await
        });
        let jobs = match listed {
            Err(error) => {
                prop_assert_eq!(fault_of(&error), None);
                Vec::new()
            }
            Ok(page) => {
                prop_assert!(page.next_token.is_none_or(|token| !token.is_empty()));
                page.items
            }
        };
        let ids: BTreeSet<&str> = jobs.iter().filter_map(JobSummary::id).collect();
        let shown = run(async { exposed(&jobs, &[], &[], &[]) }).map_err(failed)?;
        let shown = Exposition::read(&shown, false).map_err(failed)?;
        prop_assert_eq!(shown.sum("aws_iot_jobs"), Some(number(ids.len())));
    }

    #[test]
    fn every_job_of_a_valid_answer_is_counted_once(jobs in vec(valid_job(), 0..16)) {
        let body = Json::Object(vec![("jobs".to_owned(), Json::List(jobs.iter().map(written).collect()))]);
        let page = run(async {
            let connection = fake_http::connection(&in_turn(vec![HttpAnswer::good(body.render())]), counters()).await;
            connection.list_jobs(&Query::default(), None, Class::OpenWalk).await
        });
        prop_assert_eq!(page, Ok(Page { items: jobs.clone(), next_token: None }));

        let last: BTreeMap<&str, &JobSummary> =
            jobs.iter().filter_map(|job| Some((job.job_id.as_deref().filter(|id| !id.is_empty())?, job))).collect();
        let mut expected: BTreeMap<(String, String), f64> = BTreeMap::new();
        for job in last.values() {
            let status = label(job.status.as_ref().map(Status::as_str));
            let selection = label(job.target_selection.as_ref().map(TargetSelection::as_str));
            *expected.entry((status, selection)).or_default() += 1.0;
        }
        let shown = run(async { exposed(&jobs, &[], &[], &[]) }).map_err(failed)?;
        let shown = Exposition::read(&shown, false).map_err(failed)?;
        let rows = shown.family("aws_iot_jobs").filter(|(_, jobs)| *jobs > 0.0);
        let rows = rows.map(|(labels, jobs)| ((labels.of("status").to_owned(), labels.of("target_selection").to_owned()), jobs));
        prop_assert_eq!(rows.collect::<BTreeMap<_, _>>(), expected);
        for (labels, _) in shown.family("aws_iot_job_info") {
            prop_assert!(last.contains_key(labels.of("job_id")), "{:?}", labels);
        }
    }

    #[test]
    fn any_answer_about_executions_and_tags_is_valid_or_an_error_of_one_short_line(
        executions in answers::answer(answers::executions()), tags in answers::answer(answers::tags()), job in valid_job(),
    ) {
        let account = AccountId::parse("012345678901").expect("an account id");
        let (executions, tags) = run(async {
            let connection = fake_http::connection(&in_turn(vec![executions]), counters()).await;
            let executions = connection.list_executions("job-1", None, None, Class::FirstLook).await;
            let connection = fake_http::connection(&in_turn(vec![tags]), counters()).await;
            (executions, connection.list_tags(&account, "job-1", Class::Redescription).await)
        });
        for error in executions.as_ref().err().into_iter().chain(tags.as_ref().err()) {
            prop_assert_eq!(fault_of(error), None);
        }
        let executions = executions.ok().flatten().map(|page| page.items).unwrap_or_default();
        let tags = tags.ok().flatten().unwrap_or_default();
        let job = JobSummary { job_id: Some("job-1".to_owned()), status: Some(Status::InProgress), ..job };
        let description = Description {
            summary: job.clone(),
            executions: ExecutionCounts::from_fn(|_| Some(1)),
            ..Description::default()
        };
        let shown = run(async { exposed(&[job], &[description], &executions, &tags) }).map_err(failed)?;
        let shown = Exposition::read(&shown, false).map_err(failed)?;
        prop_assert_eq!(shown.sum("aws_iot_job_tags_info"), Some(1.0));
        let stuck = shown.sum("aws_iot_job_stuck");
        prop_assert!(stuck.is_none_or(|stuck| stuck == 0.0 || !executions.is_empty()), "stuck without an execution");
    }

    #[test]
    fn any_answer_to_describe_job_is_a_description_or_an_error_of_one_short_line(
        job_id in prop_oneof!["[a-z]{1,3}", text()],
        descriptions in vec((answers::description(), weighted(0.2, answers::answer(answers::description()))), 1..3),
        listed in answers::answer(answers::list()),
    ) {
        let given = descriptions.into_iter();
        let given = given.map(|(fields, instead)| instead.unwrap_or_else(|| HttpAnswer::good(answers::describing(&job_id, &fields))));
        let given = given.collect();
        let (described, listed) = run(async {
            let described = describe(&in_turn(given), &job_id).await;
            let listed = fake_http::connection(&in_turn(vec![listed]), counters()).await;
            (described, listed.list_jobs(&Query::default(), None, Class::OpenWalk)
                .await.map(|page| page.items).unwrap_or_default())
        });
        let descriptions: Vec<Description> = match described {
            Err(error) => {
                prop_assert_eq!(fault_of(&error), None);
                Vec::new()
            }
            Ok(description) => {
                if let Some(description) = &description {
                    prop_assert_eq!(description.summary.id(), Some(job_id.as_str()));
                }
                description.into_iter().collect()
            }
        };
        // The described job is listed as well, with minimal fields.
        let mut jobs = listed;
        jobs.push(JobSummary {
            job_id: Some(job_id),
            status: Some(Status::InProgress),
            target_selection: Some(TargetSelection::Snapshot),
            ..JobSummary::default()
        });
        let ids: BTreeSet<&str> = jobs.iter().filter_map(JobSummary::id).collect();
        let shown = run(async { exposed(&jobs, &descriptions, &[], &[]) }).map_err(failed)?;
        let shown = Exposition::read(&shown, false).map_err(failed)?;
        prop_assert_eq!(shown.sum("aws_iot_jobs"), Some(number(ids.len())));
        for (labels, _) in shown.family("aws_iot_job_thing_group_info") {
            let group = labels.of("thing_group");
            let is_word = ["<none>", "<other>", UNKNOWN].contains(&group);
            prop_assert!(is_word || crate::jobs::is_thing_group_name(group), "{}", group);
        }
    }
}

/// The SDK panics if an id makes the request line longer than HTTP allows.
#[test]
fn a_job_id_that_is_too_long_is_an_error() {
    let described = run(async { describe(&in_turn(vec![HttpAnswer::good("{}")]), &"\u{10ffff}".repeat(10_000)).await });
    let error = described.expect_err("no such job");
    assert_eq!(
        (error.reason, error.to_string().as_str()),
        (Reason::Malformed, "DescribeJob in eu-west-1: a job was listed with an id of 40000 bytes, which no job has")
    );
}

/// The SDK panics if a token makes the request line longer than HTTP allows.
#[test]
fn a_page_token_that_is_too_long_is_an_error() {
    let body = format!("{{\"jobs\": [], \"nextToken\": \"{}\"}}", "x".repeat(70_000));
    let listed = run(async {
        let connection = fake_http::connection(&in_turn(vec![HttpAnswer::good(body)]), counters()).await;
        connection.list_jobs(&Query::default(), None, Class::OpenWalk).await
    });
    let error = listed.expect_err("a token that is too long");
    assert_eq!(
        (error.reason, error.to_string().as_str()),
        (
            Reason::Malformed,
            "ListJobs on simulator.test: the answer has a nextToken of 70000 bytes, which no request can hold"
        )
    );
    // The longest token that is sent, with each byte escaped.
    let (token, again) = ("/".repeat(MAX_TOKEN), HttpAnswer::good("{\"jobs\": []}"));
    let listed = run(async {
        let connection = fake_http::connection(&in_turn(vec![again]), counters()).await;
        connection.list_jobs(&Query::default(), Some(token), Class::OpenWalk).await
    });
    assert_eq!(listed.expect("a page").items, []);
}

/// The SDK panics if an access key id contains a line end.
#[test]
fn credentials_with_invalid_characters_are_an_error_that_names_the_fault() {
    for (key, secret, token, fault) in [
        ("AKIDEXAMPLE\n", "secret", None, "the access key id contains a line end"),
        ("AKIDEXAMPLE", "secret\r\n", None, "the secret access key contains a line end"),
        ("AKIDEXAMPLE", "secret", Some("token\n"), "the session token contains a line end"),
        ("AKID EXAMPLE", "secret", None, "the access key id contains a blank or another character"),
        ("AKID\u{7f}", "secret", None, "the access key id contains a blank or another character"),
        ("AKIDÉ", "secret", None, "the access key id contains a blank or another character"),
    ] {
        let credentials = Credentials::new(key, secret, token.map(str::to_owned), None, "test");
        let listed = run(async {
            let options = in_turn(vec![HttpAnswer::good("{\"jobs\": []}")]);
            fake_http::connection_with(&options, credentials, counters())
                .await
                .list_jobs(&Query::default(), None, Class::OpenWalk)
                .await
        });
        let error = listed.expect_err(fault);
        assert_eq!(error.reason, Reason::Credentials, "{error}");
        assert!(error.to_string().contains(fault) && !error.to_string().contains("AKID"), "{error}");
    }
}
