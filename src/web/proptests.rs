//! Any headers of a scrape get a well-formed response in one of the two formats, and valid headers get the requested
//! one.

use std::io::Read as _;

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::jobs::Timestamp;
use crate::metrics::Format;
use crate::proptests::exposition::Exposition;
use crate::proptests::{Damage, cases, damage, damaged, text};

/// Parts of `Accept` and `Accept-Encoding`, joined at random.
fn scraps() -> impl Strategy<Value = Vec<u8>> {
    let scraps: &[&str] = &[
        "application/openmetrics-text",
        "text/plain",
        "application/*",
        "text/*",
        "*/*",
        "*",
        "gzip",
        "identity",
        "x-gzip",
        "version",
        "1.0.0",
        "0.0.4",
        "0.0.1",
        "charset=utf-8",
        "q",
        "q=",
        ";q=0",
        ";q=0.5",
        ";q=1.000",
        ";q=0.0001",
        ";q=-1",
        ";q=1e3",
        ";q=\"0.5\"",
        ";q=99999999999999999999",
        "=",
        ";",
        ",",
        "/",
        " ",
        "\t",
        "\"",
        "\\",
        "\"\\\"",
        "(",
        ":",
    ];
    let scrap = prop_oneof![
        20 => select(scraps).prop_map(|scrap| scrap.as_bytes().to_vec()),
        1 => text().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..6),
    ];
    let damages = prop_oneof![3 => Just(Vec::<Damage>::new()), 1 => vec(damage(), 1..3)];
    (vec(scrap, 0..14), damages).prop_map(|(scraps, damages)| damaged(scraps.concat(), &damages))
}

fn headers(accept: &[Vec<u8>], accept_encoding: &[Vec<u8>]) -> HeaderMap {
    let values = |name: HeaderName, values: &[Vec<u8>]| {
        // Values that HTTP cannot transport are dropped.
        let values = values.iter().filter_map(|value| HeaderValue::from_bytes(value).ok());
        values.map(|value| (name.clone(), value)).collect::<Vec<_>>()
    };
    let mut headers = HeaderMap::new();
    for (name, value) in [values(header::ACCEPT, accept), values(header::ACCEPT_ENCODING, accept_encoding)].concat() {
        headers.append(name, value);
    }
    headers
}

fn mentions(headers: &HeaderMap, name: &HeaderName, words: &[&str]) -> bool {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).to_lowercase());
    values.any(|value| words.iter().any(|word| value.contains(word)))
}

/// A media range, as the client means it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Range {
    Anything,
    AnyApplication,
    AnyText,
    OpenMetrics(Option<&'static str>),
    Text(Option<&'static str>),
    Another(&'static str),
}

#[derive(Clone, Debug)]
struct Wish {
    range: Range,
    /// In thousandths.
    quality: Option<u16>,
    spelling: Spelling,
}

/// Details of the spelling that do not change the meaning.
#[derive(Clone, Debug)]
struct Spelling {
    upper_case: bool,
    quoted: bool,
    blanks: [&'static str; 4],
    /// Parameters without a meaning here.
    more: &'static str,
    zeros: usize,
    in_a_header_of_its_own: bool,
}

fn wish() -> impl Strategy<Value = Wish> {
    let range = select(vec![
        Range::Anything,
        Range::AnyApplication,
        Range::AnyText,
        Range::OpenMetrics(None),
        Range::OpenMetrics(Some("1.0.0")),
        Range::OpenMetrics(Some("0.0.1")),
        Range::OpenMetrics(Some("2.0.0")),
        Range::Text(None),
        Range::Text(Some("0.0.4")),
        Range::Text(Some("1.0.0")),
        Range::Another("application/json"),
        Range::Another("text/html"),
        Range::Another("image/*"),
        Range::Another("application/openmetrics-text2"),
        Range::Another("text/plain2"),
    ]);
    let blanks = select(vec!["", "", " ", "\t", "  "]);
    let more =
        select(vec!["", "", ";charset=utf-8", ";escaping=allow-utf-8", ";a=\"b, text/plain;q=1\"", ";a=\"\\\"; q=0\""]);
    let spelling =
        (any::<bool>(), any::<bool>(), [blanks.clone(), blanks.clone(), blanks.clone(), blanks], more, 0_usize..3);
    let spelling = (spelling, any::<bool>()).prop_map(|((upper_case, quoted, blanks, more, zeros), apart)| Spelling {
        upper_case,
        quoted,
        blanks,
        more,
        zeros,
        in_a_header_of_its_own: apart,
    });
    let quality = weighted(0.7, prop_oneof![select(vec![0, 1, 100, 500, 999, 1000]), 0_u16..=1000]);
    (range, quality, spelling).prop_map(|(range, quality, spelling)| Wish { range, quality, spelling })
}

impl Wish {
    fn written(&self) -> String {
        let Spelling { upper_case, quoted, blanks: [before, a, b, after], more, zeros, .. } = &self.spelling;
        let (range, version) = match self.range {
            Range::Anything => ("*/*", None),
            Range::AnyApplication => ("application/*", None),
            Range::AnyText => ("text/*", None),
            Range::OpenMetrics(version) => ("application/openmetrics-text", version),
            Range::Text(version) => ("text/plain", version),
            Range::Another(range) => (range, None),
        };
        let (range, version_name) =
            if *upper_case { (range.to_uppercase(), "VERSION") } else { (range.to_owned(), "version") };
        let version = version.map_or_else(String::new, |version| {
            let version = if *quoted { format!("\"{version}\"") } else { version.to_owned() };
            format!("{a};{b}{version_name}={version}")
        });
        let quality = self.quality.map_or_else(String::new, |quality| {
            let digits = format!("{:03}", quality % 1000);
            let kept = digits.trim_end_matches('0');
            let decimals = &digits[..(kept.len() + zeros).min(3)];
            let dot = if decimals.is_empty() { "" } else { "." };
            format!("{a};{b}{}={}{dot}{decimals}", if *upper_case { 'Q' } else { 'q' }, quality / 1000)
        });
        format!("{before}{range}{version}{more}{quality}{after}")
    }

    /// How precisely it names a format.
    fn precision(&self, format: Format) -> Option<u8> {
        let is_text = format == Format::Text;
        match self.range {
            Range::Anything => Some(0),
            Range::AnyText if is_text => Some(1),
            Range::AnyApplication if !is_text => Some(1),
            Range::Text(None) if is_text => Some(2),
            Range::OpenMetrics(None) if !is_text => Some(2),
            Range::Text(Some("0.0.4")) if is_text => Some(3),
            Range::OpenMetrics(Some("1.0.0")) if !is_text => Some(3),
            _ => None,
        }
    }
}

fn written(wishes: &[Wish]) -> Vec<Vec<u8>> {
    let mut headers: Vec<String> = Vec::new();
    for wish in wishes {
        match headers.last_mut() {
            Some(last) if !wish.spelling.in_a_header_of_its_own => {
                last.push(',');
                last.push_str(&wish.written());
            }
            _ => headers.push(wish.written()),
        }
    }
    headers.into_iter().map(String::into_bytes).collect()
}

/// The requested format by RFC 9110, section 12.5.1, and by [`accept::format`] where the RFC leaves a choice.
fn wished(wishes: &[Wish]) -> Format {
    let judged = |format| {
        let of =
            |precision| wishes.iter().enumerate().filter(move |(_, wish)| wish.precision(format) == Some(precision));
        let precision = (0..=3).rev().find(|precision| of(*precision).next().is_some())?;
        let quality = |wish: &Wish| wish.quality.unwrap_or(1000);
        let best = of(precision).map(|(_, wish)| quality(wish)).max()?;
        let place = of(precision).find(|(_, wish)| quality(wish) == best)?.0;
        (best > 0).then_some((best, precision, place))
    };
    match (judged(Format::OpenMetrics), judged(Format::Text)) {
        (Some(_), None) => Format::OpenMetrics,
        (Some((quality, ..)), Some((other, ..))) if quality != other => {
            if quality > other {
                Format::OpenMetrics
            } else {
                Format::Text
            }
        }
        (Some((_, precision, _)), Some((_, other, _))) if precision != other => {
            if precision > other {
                Format::OpenMetrics
            } else {
                Format::Text
            }
        }
        (Some((.., place)), Some((.., other))) if place < other => Format::OpenMetrics,
        _ => Format::Text,
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_headers_get_a_well_formed_response_in_its_declared_format(
        accept in vec(scraps(), 0..3), accept_encoding in vec(scraps(), 0..3),
    ) {
        let clock = Clock::starting_at(Timestamp::from_secs(1_790_000_000));
        let site = Site::new(Arc::default(), Arc::new(ExporterMetrics::new(Vec::new)), clock, "/metrics".to_owned(), None);
        let headers = headers(&accept, &accept_encoding);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let response = runtime.block_on(site.metrics(&headers));
        prop_assert_eq!(response.status(), StatusCode::OK);
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let offered = [Format::Text, Format::OpenMetrics];
        let format = offered.into_iter().find(|format| Some(format.content_type()) == content_type);
        let Some(format) = format else { return Err(TestCaseError::fail(format!("{content_type:?}"))) };
        if format == Format::OpenMetrics {
            prop_assert!(mentions(&headers, &header::ACCEPT, &["application/openmetrics-text", "application/*", "*/*"]));
        }
        let coding = response.headers().get(header::CONTENT_ENCODING).cloned();
        let sent = response.into_body().into_bytes();
        let body = match coding {
            None => sent.to_vec(),
            Some(coding) => {
                prop_assert_eq!(coding, "gzip");
                prop_assert!(mentions(&headers, &header::ACCEPT_ENCODING, &["gzip", "*"]));
                let mut body = Vec::new();
                flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut body).expect("gzip");
                body
            }
        };
        let read = Exposition::read(&body, format == Format::OpenMetrics).map_err(TestCaseError::fail)?;
        prop_assert_eq!(read.sum("aws_iot_jobs_exporter_build_info"), Some(1.0));
    }

    #[test]
    fn a_well_formed_accept_gets_the_requested_format(wishes in vec(wish(), 0..6)) {
        let headers = headers(&written(&wishes), &[]);
        prop_assert_eq!(accept::format(&values(&headers, &header::ACCEPT)), wished(&wishes), "{:?}", headers);
    }
}
