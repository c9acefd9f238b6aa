//! Whatever comes back from the network is a page, a description, or an error of one short line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use tokio::time::Instant;

use super::*;
use crate::census::{self, Census, Folding};
use crate::exposition::board::{Board, Ended, Good, Identity, Source, State};
use crate::exposition::fragments::Fragments;
use crate::exposition::{self, Format};
use crate::fingerprint::Fingerprinter;
use crate::jobs::{Scope, Timepoint, UNKNOWN};
use crate::memory::{Memory, Standing};
use crate::proptests::answers::{self, Answer, Json};
use crate::proptests::exposition::Exposition;
use crate::proptests::{cases, fault_of_line, text};
use crate::snapshot::{Snapshot, Walk};
use crate::tally::{Attribution, Tally};
use crate::telemetry::{Reason, Telemetry};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// The longest error: a thousand characters of AWS's, each of which may have to be written out, and our own words.
const MAX_ERROR: usize = 11_000;

/// A single thread on the paused clock, where waits take no time.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// Gives these answers in turn, the last one again and again.
fn in_turn(answers: Vec<Answer>) -> ClientOptions {
    let next = AtomicUsize::new(0);
    fake_http::options(move |_| answers[next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)].clone())
}

async fn describe(
    network: &ClientOptions,
    telemetry: TargetTelemetry,
    job_id: &str,
) -> Result<Option<Description>, ApiError> {
    let connection = fake_http::connection(network, telemetry).await;
    let permit = connection.describe_permit(Class::OpenJob).await?;
    connection.describe_job(job_id, permit).await
}

fn telemetry() -> (Arc<Telemetry>, TargetTelemetry) {
    let telemetry = Arc::new(Telemetry::new());
    let target = telemetry.target(identity().target_labels());
    (telemetry, target)
}

fn identity() -> Identity {
    Identity { name: "t".to_owned(), region: "eu-west-1".to_owned(), labels: Vec::new() }
}

fn fault_of(error: &ApiError) -> Option<String> {
    fault_of_line(&error.to_string(), MAX_ERROR)
}

/// The text of what is shown once these summaries were met, and these descriptions told, in this order; and the jobs counted.
fn exposed(
    telemetry: &Telemetry,
    jobs: &[JobSummary],
    descriptions: &[Description],
) -> Result<(bytes::Bytes, u64), String> {
    let mut memory = Memory::new(Fingerprinter::new(&[0; 16]));
    let now = Timepoint { instant: Instant::now(), wall: NOW };
    let mut tally = Tally::new(memory.fingerprints(), Attribution::EndedSince(NOW.before(Duration::from_hours(100))));
    for job in jobs {
        tally.add(job, &memory);
    }
    let scope = Scope::default();
    for description in descriptions {
        let Some(id) = description.summary.id() else { continue };
        let told = tally.completed(id, &description.summary);
        memory.described(id, told.created_at, description, now);
        let job = memory.fingerprints().of(id);
        memory.learn_targets(job, told.created_at, description.targets.as_deref(), Standing::Settled);
        tally.amend(id, &description.summary, &scope, &memory);
    }
    let tallied = tally.finish(&scope, &mut memory);
    let wanted = census::Settings {
        long_running_after: vec![Duration::from_hours(24)],
        max_thing_groups: 2,
        max_jobs: Some(4),
        ..census::Settings::default()
    };
    let Census { attention, groups, series, omitted_jobs } =
        census::take(&tallied, &scope, &wanted, true, &mut Folding::default(), NOW);
    let snapshot = Snapshot {
        account: AccountId::parse("012345678901").map_err(|error| error.to_string())?,
        attention,
        groups,
        series,
        omitted_jobs,
        walk: Walk { duration: Duration::ZERO, pages: 1, requests: 1 },
        describing: None,
        counts: tallied.counts,
    };
    let total = snapshot.counts.total;
    let identity = Arc::new(identity());
    let fragments = Fragments::render(&snapshot, &identity.job_labels("012345678901"));
    let good = Good { snapshot, fragments, published: now, stale_after: Duration::from_hours(1) };
    let board = Board::default();
    let last = Some(Ended { at: NOW, took: Duration::ZERO, failure: None });
    board.add(identity, Source::default()).send_replace(State { good: Some(Arc::new(good)), last });
    let body = exposition::body(Format::Text, &board, telemetry, now);
    let other = exposition::body(Format::OpenMetrics, &board, telemetry, now);
    let (text, open_metrics) = (Exposition::read(&body, false)?, Exposition::read(&other, true)?);
    for family in ["aws_iot_jobs", "aws_iot_job_info", "aws_iot_thing_group_jobs"] {
        let (text, open_metrics) = (text.sum(family), open_metrics.sum(family));
        (text == open_metrics).then_some(()).ok_or(format!("{family}: {text:?} and {open_metrics:?}"))?;
    }
    Ok((body, total))
}

#[expect(clippy::cast_precision_loss, reason = "there are some dozens")]
fn number(count: usize) -> f64 {
    count as f64
}

fn failed(fault: String) -> TestCaseError {
    TestCaseError::fail(fault)
}

/// A job as AWS could tell of it, but for its texts.
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

/// What a label says of a text, by the rule in the documentation.
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
        let (telemetry, target) = telemetry();
        let listed = run(async {
            let connection = fake_http::connection(&in_turn(answers), target).await;
            connection.list_jobs(&Query::default(), None, Class::OpenJobs).await
        });
        let jobs = match listed {
            Err(error) => {
                prop_assert_eq!(fault_of(&error), None);
                Vec::new()
            }
            Ok(page) => {
                prop_assert!(page.next_token.is_none_or(|token| !token.is_empty()));
                page.jobs
            }
        };
        let ids: BTreeSet<&str> = jobs.iter().filter_map(JobSummary::id).collect();
        let nameless = jobs.iter().filter(|job| job.id().is_none()).count();
        let (shown, total) = run(async { exposed(&telemetry, &jobs, &[]) }).map_err(failed)?;
        let shown = Exposition::read(&shown, false).map_err(failed)?;
        prop_assert_eq!(total, (ids.len() + nameless) as u64);
        prop_assert_eq!(shown.sum("aws_iot_jobs"), Some(number(ids.len() + nameless)));
    }

    #[test]
    fn every_job_of_a_valid_answer_is_counted_once_whatever_its_texts(jobs in vec(valid_job(), 0..16)) {
        let body = Json::Object(vec![("jobs".to_owned(), Json::List(jobs.iter().map(written).collect()))]);
        let (telemetry, target) = telemetry();
        let page = run(async {
            let connection = fake_http::connection(&in_turn(vec![Answer::good(body.render())]), target).await;
            connection.list_jobs(&Query::default(), None, Class::OpenJobs).await
        });
        prop_assert_eq!(page, Ok(Page { jobs: jobs.clone(), next_token: None }));

        let mut last: BTreeMap<String, &JobSummary> = BTreeMap::new();
        for (place, job) in jobs.iter().enumerate() {
            let id = job.job_id.clone().filter(|id| !id.is_empty());
            last.insert(id.map_or_else(|| format!("no. {place}"), |id| format!("id {id}")), job);
        }
        let mut expected: BTreeMap<(String, String), f64> = BTreeMap::new();
        for job in last.values() {
            let status = label(job.status.as_ref().map(Status::as_str));
            let selection = label(job.target_selection.as_ref().map(TargetSelection::as_str));
            *expected.entry((status, selection)).or_default() += 1.0;
        }
        let (shown, _) = run(async { exposed(&telemetry, &jobs, &[]) }).map_err(failed)?;
        let shown = Exposition::read(&shown, false).map_err(failed)?;
        let rows = shown.family("aws_iot_jobs").filter(|(_, jobs)| *jobs > 0.0);
        let rows = rows.map(|(labels, jobs)| ((labels.of("status").to_owned(), labels.of("target_selection").to_owned()), jobs));
        prop_assert_eq!(rows.collect::<BTreeMap<_, _>>(), expected);
        for (labels, _) in shown.family("aws_iot_job_info") {
            prop_assert!(last.contains_key(&format!("id {}", labels.of("job_id"))), "{:?}", labels);
        }
    }

    #[test]
    fn any_answer_to_describe_job_is_a_description_or_an_error_of_one_short_line(
        job_id in prop_oneof!["[a-z]{1,3}", text()],
        descriptions in vec((answers::description(), weighted(0.2, answers::answer(answers::description()))), 1..3),
        listed in answers::answer(answers::list()),
    ) {
        let given = descriptions.into_iter();
        let given = given.map(|(fields, instead)| instead.unwrap_or_else(|| Answer::good(answers::describing(&job_id, &fields))));
        let (given, (telemetry, target)) = (given.collect(), telemetry());
        let (described, listed) = run(async {
            let described = describe(&in_turn(given), target.clone(), &job_id).await;
            let listed = fake_http::connection(&in_turn(vec![listed]), target).await;
            (described, listed.list_jobs(&Query::default(), None, Class::OpenJobs).await.unwrap_or_default())
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
        // The job that is described is listed as well, with as little as can be said of one.
        let mut jobs = listed.jobs;
        jobs.push(JobSummary {
            job_id: Some(job_id),
            status: Some(Status::InProgress),
            target_selection: Some(TargetSelection::Snapshot),
            ..JobSummary::default()
        });
        let ids: BTreeSet<&str> = jobs.iter().filter_map(JobSummary::id).collect();
        let nameless = jobs.iter().filter(|job| job.id().is_none()).count();
        let (shown, _) = run(async { exposed(&telemetry, &jobs, &descriptions) }).map_err(failed)?;
        let shown = Exposition::read(&shown, false).map_err(failed)?;
        prop_assert_eq!(shown.sum("aws_iot_jobs"), Some(number(ids.len() + nameless)));
        for (labels, _) in shown.family("aws_iot_job_thing_group_info") {
            let group = labels.of("thing_group");
            let is_word = ["<none>", "<other>", UNKNOWN].contains(&group);
            prop_assert!(is_word || crate::jobs::is_thing_group_name(group), "{}", group);
        }
    }
}

/// What the SDK does with an id that makes a request's line longer than HTTP allows: it panics.
#[test]
fn a_job_id_that_no_request_can_hold_is_an_error_and_no_panic() {
    let described =
        run(async { describe(&in_turn(vec![Answer::good("{}")]), telemetry().1, &"\u{10ffff}".repeat(10_000)).await });
    let error = described.expect_err("no such job");
    assert_eq!(
        (error.reason, error.to_string().as_str()),
        (Reason::Malformed, "DescribeJob in eu-west-1: a job was listed with an id of 40000 bytes, which no job has")
    );
}

/// What the SDK does with a token that makes a request's line longer than HTTP allows: it panics.
#[test]
fn a_page_token_that_no_request_can_hold_is_an_error_and_no_panic() {
    let body = format!("{{\"jobs\": [], \"nextToken\": \"{}\"}}", "x".repeat(70_000));
    let listed = run(async {
        let connection = fake_http::connection(&in_turn(vec![Answer::good(body)]), telemetry().1).await;
        connection.list_jobs(&Query::default(), None, Class::OpenJobs).await
    });
    let error = listed.expect_err("a token that is too long");
    assert_eq!(
        (error.reason, error.to_string().as_str()),
        (
            Reason::Malformed,
            "ListJobs on simulator.test: the answer has a nextToken of 70000 bytes, which no request can hold"
        )
    );
    // The longest one that is sent back, each byte of which is escaped.
    let (token, again) = ("/".repeat(MAX_TOKEN), Answer::good("{\"jobs\": []}"));
    let listed = run(async {
        let connection = fake_http::connection(&in_turn(vec![again]), telemetry().1).await;
        connection.list_jobs(&Query::default(), Some(token), Class::OpenJobs).await
    });
    assert_eq!(listed.expect("a page").jobs, []);
}

/// What the SDK does with an access key id that has a line end: it panics.
#[test]
fn credentials_that_no_request_can_hold_are_an_error_that_names_the_fault() {
    for (key, secret, token, told) in [
        ("AKIDEXAMPLE\n", "secret", None, "the access key id contains a line end"),
        ("AKIDEXAMPLE", "secret\r\n", None, "the secret access key contains a line end"),
        ("AKIDEXAMPLE", "secret", Some("token\n"), "the session token contains a line end"),
        ("AKID EXAMPLE", "secret", None, "the access key id contains a blank or another character"),
        ("AKID\u{7f}", "secret", None, "the access key id contains a blank or another character"),
        ("AKIDÉ", "secret", None, "the access key id contains a blank or another character"),
    ] {
        let credentials = Credentials::new(key, secret, token.map(str::to_owned), None, "test");
        let listed = run(async {
            let options = in_turn(vec![Answer::good("{\"jobs\": []}")]);
            fake_http::connection_with(&options, credentials, telemetry().1)
                .await
                .list_jobs(&Query::default(), None, Class::OpenJobs)
                .await
        });
        let error = listed.expect_err(told);
        assert_eq!(error.reason, Reason::Credentials, "{error}");
        assert!(error.to_string().contains(told) && !error.to_string().contains("AKID"), "{error}");
    }
}
