//! Generates answers of all operations about jobs: documented fields, fields that are of another type, repeated,
//! missing or unknown, malformed JSON, and errors of other servers.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Damage, damage, damaged, text};

/// JSON that may be invalid.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    /// Written as it is.
    Raw(String),
    /// A text, quoted and escaped.
    Text(String),
    List(Vec<Json>),
    Object(Fields),
}

/// The fields of an object, in order; a name can occur twice.
pub(crate) type Fields = Vec<(String, Json)>;

impl Json {
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Raw(text) => out.push_str(text),
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::List(items) => {
                out.push('[');
                for (place, item) in items.iter().enumerate() {
                    out.push_str(if place == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (place, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if place == 0 { "" } else { "," });
                    out.push_str(&quoted(name));
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A successful answer with this body.
    pub(crate) fn good(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }
    }
}

/// Values of other types, and invalid ones.
fn odd() -> impl Strategy<Value = Json> {
    let raw: &[&str] = &[
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "1",
        "2147483648",
        "4294967296",
        "9223372036854775807",
        "18446744073709551616",
        "99999999999999999999999999999999999999999",
        "1.5",
        "-1.5e-7",
        "1e308",
        "1e999",
        "-1e999",
        "1e",
        "01",
        ".5",
        "+1",
        "NaN",
        "Infinity",
        "\"\"",
        "\" \"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"\\u12\"",
        "\"\\x\"",
        "\"\n\"",
        "\"\t\"",
        "\"",
        "[]",
        "{}",
        "[null]",
        "[[[]]]",
        "[{}]",
        "{\"a\":{\"a\":{}}}",
        "{\"\":\"\"}",
        "{\"a\"}",
        "[1,]",
        "[,1]",
        "{,}",
        "// x",
        "/* x */0",
        "",
    ];
    prop_oneof![
        20 => select(raw).prop_map(|raw| Json::Raw(raw.to_owned())),
        5 => text().prop_map(Json::Text),
        2 => (select(vec!["[", "{\"a\":"]), 1_usize..600).prop_map(|(open, times)| {
            let close = if open == "[" { "]" } else { "}" };
            Json::Raw(format!("{}0{}", open.repeat(times), close.repeat(times)))
        }),
        1 => (select(vec!["[", "{\"a\":", "["]), 500_usize..20_000).prop_map(|(open, times)| Json::Raw(open.repeat(times))),
        1 => ("[0-9]{1,5}", 1_usize..400).prop_map(|(digits, times)| Json::Raw(digits.repeat(times))),
    ]
}

/// Mostly `fit`, sometimes another value.
fn mostly(fit: impl Strategy<Value = Json> + 'static) -> BoxedStrategy<Json> {
    prop_oneof![16 => fit, 2 => text().prop_map(Json::Text), 1 => odd()].boxed()
}

fn texts(words: &'static [&'static str]) -> impl Strategy<Value = Json> {
    select(words).prop_map(|word| Json::Text(word.to_owned()))
}

/// Times near the limits of valid ones, and far outside.
fn time() -> impl Strategy<Value = Json> {
    let times: &[&str] = &[
        "1789990000",
        "1789990000.123",
        "1.789990000123E9",
        "1789999999.9999999",
        "1790000000",
        "1790086400.5",
        "0",
        "-1",
        "-0.0004",
        "17592186044.414",
        "17592186044.416",
        "253402300800",
        "9223372036854775.807",
        "9223372036854775807",
        "-9223372036854775808",
        "9.3e18",
        "1e300",
        "-1e300",
        "5e-324",
        "\"1789990000\"",
        "\"2026-09-21T00:00:00Z\"",
        "\"Infinity\"",
        "\"NaN\"",
        "null",
    ];
    prop_oneof![
        8 => (1_789_000_000_u32..1_790_000_000, 0_u16..1000).prop_map(|(secs, ms)| Json::Raw(format!("{secs}.{ms:03}"))),
        3 => select(times).prop_map(|time| Json::Raw(time.to_owned())),
        1 => any::<f64>().prop_map(|time| Json::Raw(format!("{time:e}"))),
        1 => any::<i64>().prop_map(|time| Json::Raw(time.to_string())),
    ]
}

const IDS: &[&str] = &["a", "b", "job-1", "job-2", "job-3", "job-4", "..", "a/b"];

const ARNS: &[&str] = &[
    "arn:aws:iot:eu-west-1:012345678901:job/job-1",
    "arn:aws:iot:eu-west-1:012345678901:job/a/b:c",
    "arn:aws:iot:eu-west-1:012345678901:job/",
    "arn:aws:iot::::",
    "arn::::::job/x",
];

const STATUSES: &[&str] = &[
    "IN_PROGRESS",
    "IN_PROGRESS",
    "SCHEDULED",
    "DELETION_IN_PROGRESS",
    "COMPLETED",
    "COMPLETED",
    "CANCELED",
    "in_progress",
    "QUEUED",
    "",
];

const SELECTIONS: &[&str] = &["SNAPSHOT", "SNAPSHOT", "CONTINUOUS", "snapshot", ""];

const TARGETS: &[&str] = &[
    "arn:aws:iot:eu-west-1:012345678901:thinggroup/line-1",
    "arn:aws:iot:eu-west-1:012345678901:thinggroup/line:2",
    "arn:aws:iot:eu-west-1:012345678901:thinggroup/<other>",
    "arn:aws:iot:eu-west-1:012345678901:thinggroup/a\"b\n",
    "arn:aws:iot:eu-west-1:012345678901:thing/x",
    "arn:aws:iot:eu-west-1:012345678901:thinggroup/",
    "",
];

/// Field names of AWS, and others.
fn name() -> impl Strategy<Value = String> {
    let names: &[&str] = &[
        "jobs",
        "job",
        "nextToken",
        "jobId",
        "jobArn",
        "status",
        "targetSelection",
        "createdAt",
        "lastUpdatedAt",
        "completedAt",
        "isConcurrent",
        "thingGroupId",
        "jobProcessDetails",
        "targets",
        "schedulingConfig",
        "JobId",
        "comment",
        "",
        "\0",
    ];
    prop_oneof![4 => select(names).prop_map(str::to_owned), 1 => text()]
}

fn job_fields() -> impl Strategy<Value = Fields> {
    let given = (
        weighted(0.95, mostly(texts(IDS))),
        weighted(0.5, mostly(texts(ARNS))),
        weighted(0.95, mostly(texts(STATUSES))),
        weighted(0.95, mostly(texts(SELECTIONS))),
        weighted(0.9, mostly(time())),
        weighted(0.9, mostly(time())),
        weighted(0.3, mostly(time())),
        weighted(0.6, mostly(select(vec!["true", "false"]).prop_map(|truth| Json::Raw(truth.to_owned())))),
    );
    (given, vec((name(), odd()), 0..2)).prop_map(
        |((id, arn, status, selection, created, updated, completed, is), more)| {
            let fields = [
                ("jobId", id),
                ("jobArn", arn),
                ("status", status),
                ("targetSelection", selection),
                ("createdAt", created),
                ("lastUpdatedAt", updated),
                ("completedAt", completed),
                ("isConcurrent", is),
            ];
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            fields.chain(more).collect()
        },
    )
}

fn field(name: &str, value: impl Strategy<Value = Json>) -> impl Strategy<Value = Fields> {
    let name = name.to_owned();
    value.prop_map(move |value| vec![(name.clone(), value)])
}

/// Some of these fields, or none.
fn at_times(share: f64, fields: impl Strategy<Value = Fields>) -> impl Strategy<Value = Fields> {
    weighted(share, fields).prop_map(Option::unwrap_or_default)
}

fn joined(parts: Vec<Fields>) -> Fields {
    parts.into_iter().flatten().collect()
}

/// The fields of an answer of `ListJobs`.
pub(crate) fn list() -> impl Strategy<Value = Fields> {
    let summary = (job_fields(), at_times(0.3, field("thingGroupId", mostly(texts(&["line-1", "", "0-0-0-0"])))));
    let summary = summary.prop_map(|(job, group)| Json::Object(joined(vec![job, group])));
    let summary = prop_oneof![30 => summary, 1 => odd()];
    let jobs = vec(summary, 0..6).prop_map(Json::List);
    let jobs = field("jobs", prop_oneof![40 => jobs, 1 => odd()]);
    let token = field("nextToken", mostly(texts(&["", "t"])));
    (at_times(0.97, jobs), at_times(0.2, token), vec((name(), odd()), 0..2))
        .prop_map(|(jobs, token, more)| joined(vec![jobs, token, more]))
}

/// The fields of an answer of `DescribeJob`, without the id of its job.
pub(crate) fn description() -> impl Strategy<Value = Fields> {
    let count = || prop_oneof![any::<i32>().prop_map(|count| Json::Raw(count.to_string())), odd()];
    let counts: &[&str] = &[
        "numberOfQueuedThings",
        "numberOfInProgressThings",
        "numberOfSucceededThings",
        "numberOfFailedThings",
        "numberOfTimedOutThings",
        "processingTargets",
    ];
    let details = vec((select(counts).prop_map(str::to_owned), count()), 0..4).prop_map(Json::Object);
    let starts = &["2026-09-21 00:00", "9999-12-31T23:59:59Z", "-009999-01-01T00:00Z", "2026-02-30 00:00", "0:0", ""];
    let windows = vec(odd(), 0..2).prop_map(Json::List);
    let schedule = (
        at_times(0.8, field("startTime", mostly(texts(starts)))),
        at_times(0.3, field("maintenanceWindows", mostly(windows))),
    );
    let schedule = schedule.prop_map(|(start, windows)| Json::Object(joined(vec![start, windows])));
    let targets = vec(mostly(texts(TARGETS)), 0..14).prop_map(Json::List);
    let job = (
        job_fields(),
        at_times(0.8, field("targets", mostly(targets))),
        at_times(0.8, field("jobProcessDetails", mostly(details))),
        at_times(0.4, field("schedulingConfig", mostly(schedule))),
        at_times(0.3, field("abortConfig", mostly(abort_config()))),
    );
    job.prop_map(|(job, targets, details, schedule, abort)| {
        let job = job.into_iter().filter(|(name, _)| name != "jobId").collect();
        joined(vec![job, targets, details, schedule, abort])
    })
}

fn abort_config() -> impl Strategy<Value = Json> {
    let number = || {
        let numbers = &["0", "20", "20.05", "100", "1e300", "-1", "-0.0", "\"NaN\"", "2147483647", "null"];
        select(&numbers[..]).prop_map(|number| Json::Raw((*number).to_owned()))
    };
    let criterion = (
        at_times(0.9, field("failureType", mostly(texts(&["ALL", "FAILED", "TIMED_OUT", "LOST", ""])))),
        at_times(0.9, field("action", texts(&["CANCEL", "PAUSE"]))),
        at_times(0.9, field("thresholdPercentage", number())),
        at_times(0.9, field("minNumberOfExecutedThings", number())),
    );
    let criterion =
        criterion.prop_map(|(of, action, share, least)| Json::Object(joined(vec![of, action, share, least])));
    field("criteriaList", vec(criterion, 0..3).prop_map(Json::List)).prop_map(Json::Object)
}

/// The fields of an answer of `ListJobExecutionsForJob`.
pub(crate) fn executions() -> impl Strategy<Value = Fields> {
    let things: &[&str] =
        &["arn:aws:iot:eu-west-1:012345678901:thing/press-1", "thing/x", "arn:aws:iot:::thing/a\nb", ""];
    let statuses: &[&str] = &["QUEUED", "QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "PAUSED", ""];
    let number =
        || mostly(select(vec!["0", "1", "2", "-1", "9223372036854775807"]).prop_map(|n| Json::Raw(n.to_owned())));
    let summary = (
        at_times(0.95, field("status", mostly(texts(statuses)))),
        at_times(0.95, field("queuedAt", mostly(time()))),
        at_times(0.6, field("startedAt", mostly(time()))),
        at_times(0.95, field("lastUpdatedAt", mostly(time()))),
        at_times(0.5, field("executionNumber", number())),
        at_times(0.5, field("retryAttempt", number())),
    );
    let summary = summary.prop_map(|(status, queued, started, updated, number, retry)| {
        Json::Object(joined(vec![status, queued, started, updated, number, retry]))
    });
    let execution = (
        at_times(0.95, field("thingArn", mostly(texts(things)))),
        at_times(0.95, field("jobExecutionSummary", mostly(summary))),
    );
    let execution = execution.prop_map(|(thing, summary)| Json::Object(joined(vec![thing, summary])));
    let list = field("executionSummaries", vec(mostly(execution), 0..6).prop_map(Json::List));
    (at_times(0.97, list), at_times(0.2, field("nextToken", mostly(texts(&["", "t"])))))
        .prop_map(|(a, b)| joined(vec![a, b]))
}

/// The fields of an answer of `ListTagsForResource`.
pub(crate) fn tags() -> impl Strategy<Value = Fields> {
    let tag = (
        at_times(0.9, field("Key", mostly(texts(&["team", "cost:center", ""])))),
        at_times(0.9, field("Value", prop_oneof![3 => text().prop_map(Json::Text), 1 => odd()])),
    );
    let tag = tag.prop_map(|(key, value)| Json::Object(joined(vec![key, value])));
    let list = field("tags", vec(mostly(tag), 0..4).prop_map(Json::List));
    (at_times(0.9, list), at_times(0.2, field("nextToken", mostly(texts(&["", "t"])))))
        .prop_map(|(a, b)| joined(vec![a, b]))
}

/// The body of a description of the job with this id.
pub(crate) fn describing(job_id: &str, fields: &Fields) -> Vec<u8> {
    let id = vec![("jobId".to_owned(), Json::Text(job_id.to_owned()))];
    let job = Json::Object(joined(vec![id, fields.clone()]));
    Json::Object(vec![("documentSource".to_owned(), Json::Text("x".to_owned())), ("job".to_owned(), job)])
        .render()
        .into()
}

/// An error of AWS, of a proxy, or of an unknown server.
pub(crate) fn error() -> impl Strategy<Value = Answer> {
    let statuses = vec![100_u16, 200, 204, 302, 400, 400, 403, 404, 404, 409, 413, 429, 500, 502, 503, 599, 999];
    let codes: &[&str] = &[
        "ThrottlingException",
        "AccessDeniedException",
        "ResourceNotFoundException",
        "ResourceNotFoundException:http://internal.amazon.com/coral/",
        "aws.iot#InvalidRequestException",
        "ExpiredTokenException",
        "InternalFailureException",
    ];
    let code = || mostly(texts(codes));
    let names = select(vec!["code", "__type", "Code", "message", "Message", "errorMessage", "errorCode"]);
    let fields =
        vec((names.prop_map(str::to_owned), code()), 0..4).prop_map(|fields| Json::Object(fields).render().into());
    let bodies: &[&[u8]] =
        &[b"", b"<html><body>\"'</body></html>", b"\0", b"null", b"[]", b"\xff\xfe", b"{\"message\":\"\xff\"}"];
    let body = prop_oneof![
        6 => fields,
        1 => select(bodies).prop_map(<[u8]>::to_vec),
        1 => text().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..60),
    ];
    (select(statuses), headers(), body).prop_map(|(status, headers, body)| Answer { status, headers, body })
}

/// Headers that the SDK reads.
fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let names = vec![
        "x-amzn-errortype",
        "x-amzn-errortype",
        "x-amz-retry-after",
        "retry-after",
        "content-type",
        "date",
        "x-amzn-requestid",
    ];
    let values: &[&[u8]] = &[
        b"ThrottlingException",
        b"AccessDeniedException:http://x/",
        b"",
        b"0",
        b"-1",
        b"5000",
        b"18446744073709551615",
        b"99999999999999999999999",
        b"NaN",
        b"text/html; charset=\"",
        b"Wed, 21 Oct 9999 07:28:00 GMT",
        b"\xff\xfe",
    ];
    let value = prop_oneof![
        select(values).prop_map(<[u8]>::to_vec),
        text().prop_map(String::into_bytes),
        vec(any::<u8>(), 0..20),
    ];
    vec((select(names), value), 0..3)
}

/// An answer to a request for jobs: a valid one, a damaged one, or an error.
pub(crate) fn answer(fields: impl Strategy<Value = Fields>) -> impl Strategy<Value = Answer> {
    let damages = prop_oneof![2 => Just(Vec::<Damage>::new()), 1 => vec(damage(), 1..4)];
    let good = (fields, damages)
        .prop_map(|(fields, damages)| Answer::good(damaged(Json::Object(fields).render().into(), &damages)));
    prop_oneof![8 => good, 2 => error()]
}
