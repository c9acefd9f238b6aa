//! The forms of texts that keys take, as AWS and Prometheus define them.

use crate::catalogue::RESERVED_LABELS;
use crate::job::AccountId;

/// 1 to 128 characters, none of them a control character: it becomes a label value and a heading.
pub(super) fn is_target_name(text: &str) -> bool {
    (1..=128).contains(&text.chars().count()) && !text.contains(char::is_control)
}

/// A region, also one that is newer than this program.
#[must_use]
pub fn is_region(text: &str) -> bool {
    consists_of(text, 32, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The name of a profile in the AWS configuration files, which have one in a line.
pub(super) fn is_profile(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// A path, as far as one can tell.
pub(super) fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`; 2048 characters at most, says `AssumeRole`.
pub(super) fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts[..] else { return false };
    let is_partition = consists_of(partition, 32, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let role = resource.strip_prefix("role/").filter(|role| !role.ends_with('/') && !role.starts_with('/'));
    let is_role = |role| consists_of(role, 2048, |b| b.is_ascii_graphic());
    is_partition && AccountId::parse(account).is_ok() && role.is_some_and(is_role) && text.len() <= 2048
}

/// 2 to 1224 of the characters that `AssumeRole` takes.
pub(super) fn is_external_id(text: &str) -> bool {
    text.len() >= 2 && consists_of(text, 1224, |b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
}

/// 2 to 64 of the characters that `AssumeRole` takes.
pub(super) fn is_session_name(text: &str) -> bool {
    text.len() >= 2 && consists_of(text, 64, |b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

/// 12 digits.
pub(super) fn is_account_id(text: &str) -> bool {
    AccountId::parse(text).is_ok()
}

/// An `http` or `https` URL with a host, and without user information, query or fragment.
#[must_use]
pub fn is_endpoint_url(text: &str) -> bool {
    // `Uri` drops a fragment without a word.
    if text.contains(['?', '#', '@']) {
        return false;
    }
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    // A port that is no number is left in the authority, and `port` gives none.
    let after_host = authority.as_str().strip_prefix(authority.host());
    !authority.host().is_empty() && (after_host == Some("") || authority.port_u16().is_some_and(|port| port != 0))
}

/// A namespace of jobs, says the AWS IoT API.
pub(super) fn is_namespace_id(text: &str) -> bool {
    consists_of(text, 64, |b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// A path of its own: `/` is the status page, and below `/-/` stand the probes.
pub(super) fn is_telemetry_path(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_graphic() && b != b'?' && b != b'#';
    text.len() > 1 && text.starts_with('/') && !text.starts_with("/-/") && consists_of(text, 1024, allowed)
}

/// Why a label can't have this name; `None` where it can.
pub(super) fn label_name_fault(name: &str) -> Option<&'static str> {
    let is_name = consists_of(name, 1024, |b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
        Some("is not a label name: letters, digits and _, not beginning with a digit")
    } else if name.starts_with("__") {
        Some("is not a label name for users: Prometheus keeps those that begin with __ to itself")
    } else if RESERVED_LABELS.contains(&name) {
        Some("is a label that the exporter gives a meaning of its own; choose another name")
    } else {
        None
    }
}

/// Whether the text has 1 to `max` bytes, all of them `allowed`.
fn consists_of(text: &str, max: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::is_thing_group_name;

    /// Holds `form` against texts that fit and texts that don't.
    fn check(form: fn(&str) -> bool, fitting: &[&str], others: &[&str]) {
        for text in fitting {
            assert!(form(text), "{text:?} fits");
        }
        for text in others {
            assert!(!form(text), "{text:?} does not fit");
        }
    }

    #[test]
    fn target_names_are_1_to_128_printable_characters() {
        check(is_target_name, &["a", "Werk 1", &"é".repeat(128)], &["", "a\nb", "\u{7f}", &"é".repeat(129)]);
    }

    #[test]
    fn regions_are_plain_words_known_or_not() {
        check(
            is_region,
            &["eu-west-1", "us-iso-east-1"],
            &["", "EU-WEST-1", "eu_west_1", "eu-west-1 ", &"a".repeat(33)],
        );
    }

    #[test]
    fn role_arns_are_of_any_partition_with_or_without_a_path() {
        check(
            is_role_arn,
            &["arn:aws:iam::012345678901:role/jobs", "arn:aws-us-gov:iam::012345678901:role/a/b/jobs+=,.@-"],
            &[
                "",
                "arn:aws:iam::012345678901:role/",
                "arn:aws:iam::012345678901:user/a",
                "arn:aws:iam::12345:role/a",
                "arn:aws:iam:eu-west-1:012345678901:role/a",
                "arn:aws:sts::012345678901:role/a",
                "arn::iam::012345678901:role/a",
                "arn:aws:iam::012345678901:role/a b",
            ],
        );
    }

    #[test]
    fn external_ids_are_those_that_assume_role_takes() {
        check(is_external_id, &["ab", "a_+=,.@:/-9", &"x".repeat(1224)], &["", "a", "a b", "é9", &"x".repeat(1225)]);
    }

    #[test]
    fn account_ids_are_12_digits() {
        check(is_account_id, &["012345678901"], &["", "12345678901", "0123456789012", "01234567890a"]);
    }

    #[test]
    fn endpoint_urls_have_a_host_and_nothing_that_could_hold_a_secret() {
        check(
            is_endpoint_url,
            &[
                "http://localhost:4566",
                "https://vpce-1.iot.eu-west-1.vpce.amazonaws.com",
                "http://[::1]:1/",
                "http://a/b",
            ],
            &[
                "",
                "localhost:4566",
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
            ],
        );
    }

    #[test]
    fn thing_groups_and_namespaces_are_named_as_aws_names_them() {
        check(is_thing_group_name, &["a:b_C-9", &"x".repeat(128)], &["", "a b", "a.b", "<none>", &"x".repeat(129)]);
        check(is_namespace_id, &["a_C-9", &"x".repeat(64)], &["", "a:b", "a.b", &"x".repeat(65)]);
    }

    #[test]
    fn telemetry_paths_leave_the_status_page_and_the_probes_alone() {
        check(
            is_telemetry_path,
            &["/metrics", "/iot/metrics", "/-metrics"],
            &["", "/", "metrics", "/-/metrics", "/-/", "/a?b", "/a#b", "/a b", "/a\n", "/é"],
        );
    }

    #[test]
    fn labels_are_named_as_prometheus_allows_and_the_exporter_has_not_taken() {
        for name in ["team", "_a", "A9_b"] {
            assert_eq!(label_name_fault(name), None, "{name}");
        }
        for name in ["", "9a", "a-b", "a.b", "é", "__name__", "job_id", "target"] {
            assert!(label_name_fault(name).is_some(), "{name}");
        }
    }
}
