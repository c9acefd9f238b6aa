//! Content negotiation: the format and the coding of a response.
//! Source: [RFC 9110, section 12.5](https://www.rfc-editor.org/rfc/rfc9110#section-12.5).

use std::borrow::Cow;
use std::iter::repeat;

use crate::metrics::Format;

/// A member of a header list, with its parameters. The header may occur several times.
struct ListMember<'a> {
    value: &'a str,
    parameters: Vec<(&'a str, Cow<'a, str>)>,
    /// The quality in thousandths; 0 excludes the value.
    quality: u16,
}

impl<'a> ListMember<'a> {
    /// Parses one list member; `None` if it is empty or its quality is invalid.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = split_unquoted(text, ';');
        let value = parts.next()?.trim();
        if value.is_empty() {
            return None;
        }
        let mut item = Self { value, parameters: Vec::new(), quality: 1000 };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            let (name, value) = (name.trim(), unquote(value.trim()));
            if name.eq_ignore_ascii_case("q") {
                item.quality = quality(&value)?;
            } else {
                item.parameters.push((name, value));
            }
        }
        Some(item)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

/// `0` to `1` with up to three decimals, in thousandths.
fn quality(text: &str) -> Option<u16> {
    let (integer, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = decimals.bytes().chain(repeat(b'0')).take(3);
    let thousandths = digits.fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    match integer {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// Splits at a separator outside quoted strings.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let splits = !quoted && character == separator;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        splits
    })
}

fn unquote(text: &str) -> Cow<'_, str> {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.into() };
    let mut unquoted = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        unquoted.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    unquoted.into()
}

fn members<'a>(headers: &'a [&'a str]) -> Vec<ListMember<'a>> {
    headers.iter().flat_map(|header| split_unquoted(header, ',')).filter_map(ListMember::parse).collect()
}

/// The format of the response for these values of `Accept`.
///
/// The highest quality wins; then the more precise name, then the first one. If nothing matches, or nothing is
/// requested, the format is text: every Prometheus version reads it, and a scrape with an odd `Accept` should work.
#[must_use]
pub(super) fn format(accept: &[&str]) -> Format {
    let members = members(accept);
    // A range that names a format overrides a wildcard, also when it excludes the format.
    let offered = [Format::Text, Format::OpenMetrics];
    let judged = offered.map(|format| {
        let matches = members
            .iter()
            .enumerate()
            .filter_map(|(index, item)| Some((precision(item, format)?, index, item.quality)));
        let best = matches.max_by_key(|(precision, place, quality)| (*precision, *quality, std::cmp::Reverse(*place)));
        (best, format)
    });
    let wanted = judged.into_iter().filter_map(|(best, format)| best.map(|best| (best, format)));
    wanted
        .filter(|((_, _, quality), _)| *quality > 0)
        .max_by_key(|((precision, place, quality), format)| {
            (*quality, *precision, std::cmp::Reverse(*place), *format == Format::Text)
        })
        .map_or(Format::Text, |(_, format)| format)
}

/// How precisely a media range names a format; `None` if it names another one.
fn precision(item: &ListMember, format: Format) -> Option<u8> {
    let (kind, subtype) = item.value.split_once('/')?;
    let (own_kind, own_subtype, version) = match format {
        Format::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        Format::Text => ("text", "plain", "0.0.4"),
    };
    if kind == "*" && subtype == "*" {
        return Some(0);
    }
    if !kind.eq_ignore_ascii_case(own_kind) {
        return None;
    }
    if subtype == "*" {
        return Some(1);
    }
    if !subtype.eq_ignore_ascii_case(own_subtype) {
        return None;
    }
    match item.parameter("version") {
        None => Some(2),
        Some(asked) if asked == version => Some(3),
        // Older Prometheus servers also request OpenMetrics 0.0.1, which is not served.
        Some(_) => None,
    }
}

/// Whether to compress, for these values of `Accept-Encoding`: if gzip is requested, by name or by `*`, with at least
/// the quality of no coding.
#[must_use]
pub(super) fn gzip(accept_encoding: &[&str]) -> bool {
    let members = members(accept_encoding);
    let quality =
        |coding: &str| members.iter().find(|item| item.value.eq_ignore_ascii_case(coding)).map(|item| item.quality);
    let any = quality("*");
    let gzip = quality("gzip").or(quality("x-gzip")).or(any).unwrap_or(0);
    // A requested coding is used, unless no coding has a higher quality.
    gzip > 0 && quality("identity").is_none_or(|identity| gzip >= identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_format(expected: Format, accepts: &[&str]) {
        for accept in accepts {
            assert_eq!(format(&[accept]), expected, "{accept}");
        }
    }

    #[test]
    fn text_is_the_default() {
        assert_eq!(format(&[]), Format::Text);
        assert_format(
            Format::Text,
            &[
                "",
                "*/*",
                "text/*",
                "text/plain",
                "text/html,*/*;q=0.8",
                "application/json",
                "nonsense",
                ";;,,",
                "text/plain;version=0.0.4",
            ],
        );
    }

    #[test]
    fn openmetrics_is_served_if_it_is_preferred() {
        assert_format(
            Format::OpenMetrics,
            &[
                "application/openmetrics-text",
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                "Application/OpenMetrics-Text;Version=\"1.0.0\"",
                "application/*",
                "text/plain;q=0.3, application/openmetrics-text;q=0.7",
                "application/openmetrics-text;version=1.0.0,*/*;q=0.1",
                "text/plain;q=0,*/*",
            ],
        );
    }

    #[test]
    fn each_prometheus_version_gets_its_preferred_format() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let text_first = "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2";
        assert_format(Format::OpenMetrics, &[prometheus_2, prometheus_3]);
        assert_format(Format::Text, &[text_first]);
    }

    #[test]
    fn an_unsupported_version_is_not_served() {
        assert_format(
            Format::Text,
            &["application/openmetrics-text;version=0.0.1", "application/openmetrics-text;version=2.0.0, text/plain"],
        );
    }

    #[test]
    fn several_headers_read_like_one_list() {
        assert_eq!(format(&["text/plain;q=0.1", "application/openmetrics-text"]), Format::OpenMetrics);
    }

    #[test]
    fn a_refused_format_is_not_served_by_a_wildcard() {
        assert_format(Format::Text, &["application/openmetrics-text;q=0, */*"]);
    }

    #[test]
    fn a_separator_in_quotes_does_not_separate() {
        assert_format(Format::OpenMetrics, &["application/openmetrics-text;charset=\"a,b;q=0\\\"\""]);
    }

    #[test]
    fn gzip_is_used_if_it_is_requested() {
        for accept in
            ["gzip", "GZIP", "x-gzip", "deflate, gzip;q=0.5", "*", "br, *;q=0.1", "gzip;q=0.5, identity;q=0.5"]
        {
            assert!(gzip(&[accept]), "{accept}");
        }
        for accept in ["", "identity", "br", "gzip;q=0", "gzip;q=0, *", "*;q=0", "identity, gzip;q=0.5", "gzip;q=x"] {
            assert!(!gzip(&[accept]), "{accept}");
        }
        assert!(!gzip(&[]));
    }
}
