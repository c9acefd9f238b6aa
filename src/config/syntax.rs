//! Texts with a syntax that AWS or Prometheus defines.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use regex_lite::Regex;
use serde_json::json;

use super::value::Scalar;

pub(super) const ENDPOINT_URL: &str =
    "an http:// or https:// URL with a host and without user, query or fragment, such as http://localhost:4566";

pub(super) const REGION: &str = "a region, such as eu-west-1 or us-gov-west-1";

/// Also matches future regions.
pub(super) const REGION_PATTERN: &str = "^[a-z]{2,8}(-[a-z]{2,16}){1,3}-[0-9]{1,2}$";

/// The longest value of a constant label. Every series of its target has it.
const MAX_LABEL_VALUE_CHARS: usize = 256;

/// The largest number of constant labels of a target, for the same reason.
pub(super) const MAX_LABELS: usize = 16;

/// Label names that constant labels cannot use: those of all metric families, and reserved ones.
pub const RESERVED_LABELS: &[&str] = &[
    "aws_account_id",
    "aws_region",
    "code",
    "collector",
    "execution_status",
    "job_id",
    "le",
    "operation",
    "reason",
    "state",
    "status",
    "target",
    "target_selection",
    "thing",
    "thing_group",
];

/// Labels of Prometheus service discovery. Prometheus would rename constant labels to `exported_…`, or drop its own.
const PROMETHEUS_LABELS: &[&str] = &["container", "endpoint", "instance", "job", "namespace", "node", "pod", "service"];

/// Whether a text is a region.
#[must_use]
pub fn is_region(text: &str) -> bool {
    region_error(text).is_none()
}

/// Why a text is not a region; `None` if it is one.
pub(super) fn region_error(text: &str) -> Option<String> {
    let is_region = |text: &str| matches(REGION_PATTERN, text);
    let without_letter = text.strip_suffix(|c: char| c.is_ascii_lowercase()).filter(|region| is_region(region));
    match without_letter {
        _ if is_region(text) => None,
        Some(region) => Some(format!("is an availability zone; the region is {region}")),
        None => Some(format!("is not {REGION}")),
    }
}

/// Whether a text matches a pattern, which is compiled once per thread.
#[expect(clippy::panic, reason = "patterns are written in the schema, and a test compiles all of them")]
pub(super) fn matches(pattern: &'static str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<&'static str, Regex>> = RefCell::default();
    }
    let compile = || Regex::new(pattern).unwrap_or_else(|error| panic!("the pattern {pattern}: {error}"));
    COMPILED.with_borrow_mut(|compiled| compiled.entry(pattern).or_insert_with(compile).is_match(text))
}

/// The partition of a region, from its prefix (<https://docs.aws.amazon.com/general/latest/gr/rande.html>).
pub(crate) fn partition_of_region(region: &str) -> &'static str {
    const PREFIXES: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    PREFIXES.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}

/// Whether a text is an `http` or `https` URL with a host, and without user information, query or fragment.
#[must_use]
pub fn is_endpoint_url(text: &str) -> bool {
    // `Uri` drops fragments.
    if text.contains(['?', '#', '@']) {
        return false;
    }
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && has_host(&uri))
}

/// Whether a URL has a host, and a numeric port if any.
pub(super) fn has_host(uri: &http::Uri) -> bool {
    let Some(authority) = uri.authority() else { return false };
    let host_and_port = authority.as_str().rsplit('@').next().unwrap_or_default();
    // `Uri` keeps a port that is not a number in the authority.
    let after_host = host_and_port.strip_prefix(authority.host());
    !authority.host().is_empty() && (after_host == Some("") || authority.port_u16().is_some_and(|port| port != 0))
}

/// `/` is the status page, and the probes are below `/-/`.
pub(super) fn is_telemetry_path(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_graphic() && b != b'?' && b != b'#';
    (2..=1024).contains(&text.len())
        && text.starts_with('/')
        && !text.starts_with("/-/")
        && text.bytes().all(is_allowed)
}

/// Why a constant label cannot have this name; `None` if it can.
pub(super) fn label_name_error(name: &str) -> Option<&'static str> {
    let is_name = (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
        Some("is not a label name: 1 to 128 letters, digits and _, not beginning with a digit")
    } else if name.starts_with("__") {
        Some("is not allowed: Prometheus keeps label names that begin with __ to itself")
    } else if RESERVED_LABELS.contains(&name) {
        Some("is a label that the exporter sets itself; choose another name")
    } else if PROMETHEUS_LABELS.contains(&name) {
        Some("is a label that Prometheus attaches itself; choose another name")
    } else {
        None
    }
}

pub(super) fn label_value() -> Scalar<String> {
    let schema = json!({ "type": ["string", "number", "boolean"], "maxLength": MAX_LABEL_VALUE_CHARS });
    Scalar::new(format!("a text of at most {MAX_LABEL_VALUE_CHARS} characters"), schema, |text| {
        match text.chars().count() {
            0..=MAX_LABEL_VALUE_CHARS => Ok(text.to_owned()),
            chars => Err(format!("has {chars} characters; a label's value has at most {MAX_LABEL_VALUE_CHARS}")),
        }
    })
}

/// Why there are too many constant labels; `None` if there are not.
pub(super) fn label_count_error(labels: &BTreeMap<String, String>) -> Option<String> {
    let count = labels.len();
    (count > MAX_LABELS).then(|| format!("has {count} labels; a target has at most {MAX_LABELS}"))
}

/// The account in a role's ARN.
pub(super) fn account_of_role(role_arn: &str) -> Option<&str> {
    role_arn.split(':').nth(4)
}

/// The partition in an ARN.
pub(super) fn partition_of_arn(arn: &str) -> Option<&str> {
    arn.split(':').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_end_in_a_number() {
        for region in
            ["eu-west-1", "us-gov-west-1", "us-iso-east-1", "ap-southeast-10", "eusc-de-east-1", "mx-central-1"]
        {
            assert_eq!(region_error(region), None, "{region}");
        }
        for text in [
            "",
            "Global",
            "EU-WEST-1",
            "eu_west_1",
            " eu-west-1",
            "eu-west-1 ",
            "eu-west",
            "eu",
            "1",
            "eu--1",
            "é-west-1",
        ] {
            assert_eq!(region_error(text), Some(format!("is not {REGION}")), "{text}");
        }
        let zone = region_error("eu-west-1a");
        assert_eq!(zone.as_deref(), Some("is an availability zone; the region is eu-west-1"));
    }

    #[test]
    fn a_region_belongs_to_a_partition() {
        for (region, partition) in [
            ("eu-west-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-east-1", "aws-us-gov"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
        ] {
            assert_eq!(partition_of_region(region), partition);
        }
    }

    #[test]
    fn endpoint_urls_have_a_host_and_no_secrets() {
        for text in [
            "http://localhost:4566",
            "https://vpce-1.iot.eu-west-1.vpce.amazonaws.com",
            "http://[::1]:1/",
            "http://a/b",
        ] {
            assert!(is_endpoint_url(text), "{text}");
        }
        for text in [
            "",
            "localhost:4566",
            "127.0.0.1:4566",
            "/path",
            "ftp://host",
            "http://",
            "http:///path",
            "http://user@host",
            "http://user:pw@host",
            "http://host?a=b",
            "http://host/#a",
            "http://host:99999",
            "http://host:0",
            "http://host:",
            "http://a b",
        ] {
            assert!(!is_endpoint_url(text), "{text}");
        }
    }

    #[test]
    fn telemetry_paths_differ_from_the_status_page_and_the_probes() {
        for text in ["/metrics", "/iot/metrics", "/-metrics"] {
            assert!(is_telemetry_path(text), "{text}");
        }
        for text in ["", "/", "metrics", "/-/metrics", "/-/", "/a?b", "/a#b", "/a b", "/a\n", "/é"] {
            assert!(!is_telemetry_path(text), "{text}");
        }
    }

    #[test]
    fn label_names_are_valid_and_not_reserved() {
        for name in ["team", "_a", "A9_b"] {
            assert_eq!(label_name_error(name), None, "{name}");
        }
        for name in ["", "9a", "a-b", "a.b", "é", "__name__", "job_id", "target"]
            .into_iter()
            .chain(PROMETHEUS_LABELS.iter().copied())
        {
            assert!(label_name_error(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_length_of_a_label_value_is_limited() {
        assert!(label_value().parse(&"é".repeat(256)).is_ok() && label_value().parse("").is_ok());
        assert_eq!(
            label_value().parse(&"x".repeat(10_240)),
            Err("has 10240 characters; a label's value has at most 256".to_owned())
        );
    }
}
