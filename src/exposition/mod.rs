//! From snapshots to the bytes of `/metrics`.
//!
//! A target's job samples are formatted once, when its refresh ends ([`fragments`]), and put on the [`board`]. A scrape writes
//! each family's header and the fragments of the targets that are not stale, and formats only what is small and the exporter's
//! own. Nothing here calls AWS.

pub mod board;
mod encode;
pub mod fragments;

use bytes::{Bytes, BytesMut};

use crate::catalogue::{self, Family};
use crate::jobs::Timepoint;
use crate::telemetry::Telemetry;
use board::Board;

/// A text format of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// [`OpenMetrics` 1.0](https://prometheus.io/docs/specs/om/open_metrics_spec/).
    OpenMetrics,
    /// [Text format 0.0.4](https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format).
    Text,
}

impl Format {
    /// The value of `Content-Type`, without which Prometheus 3 fails a scrape.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The whole exposition at a moment.
#[must_use]
pub fn body(format: Format, board: &Board, telemetry: &Telemetry, now: Timepoint) -> Bytes {
    // Before the board is read, since a refresh is counted after it is on the board: a counter that is shown is never ahead of
    // the data that is shown with it.
    let counters = encode::samples(telemetry.registry());
    let targets = board.read();
    let fresh: Vec<_> = targets.iter().filter_map(|target| target.state.fresh(now)).collect();
    let own = [encode::collect(board::Status { targets: targets.clone(), now }), counters];

    let size = fresh.iter().map(|good| good.fragments.size()).sum::<usize>();
    let mut body = BytesMut::with_capacity(size + 32 * 1024);
    for family in catalogue::ALL {
        let name = family.family_name();
        let parts = fresh.iter().filter_map(|good| good.fragments.get(family)).map(Bytes::as_ref);
        let mut parts = parts.chain(own.iter().filter_map(|own| own.get(name)).map(String::as_bytes)).peekable();
        // A family without samples says nothing, and its header would only raise the question where they are.
        if parts.peek().is_some() {
            write_header(&mut body, format, family);
        }
        parts.for_each(|part| body.extend_from_slice(part));
    }
    if format == Format::OpenMetrics {
        body.extend_from_slice(b"# EOF\n");
    }
    body.freeze()
}

fn write_header(body: &mut BytesMut, format: Format, family: &Family) {
    // A counter's family is named without `_total` in OpenMetrics and with it in the text format, which also has no units.
    let (name, unit) = match format {
        Format::OpenMetrics => (family.family_name(), family.unit),
        Format::Text => (family.name, None),
    };
    let mut line = |keyword: &str, text: &str| {
        for part in ["# ", keyword, " ", name, " ", text, "\n"] {
            body.extend_from_slice(part.as_bytes());
        }
    };
    line("HELP", &escape_help(format, family.help));
    line("TYPE", family.kind.as_str());
    if let Some(unit) = unit {
        line("UNIT", unit);
    }
}

/// Escapes a help text: backslash and line feed in both formats, the double quote in `OpenMetrics` only.
fn escape_help(format: Format, help: &str) -> String {
    let escaped = help.replace('\\', r"\\").replace('\n', r"\n");
    match format {
        Format::OpenMetrics => escaped.replace('"', "\\\""),
        Format::Text => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_escaped_as_each_format_wants_it() {
        assert_eq!(escape_help(Format::OpenMetrics, "a \"b\"\\\n"), r#"a \"b\"\\\n"#);
        assert_eq!(escape_help(Format::Text, "a \"b\"\\\n"), r#"a "b"\\\n"#);
    }

    #[test]
    fn headers_differ_between_the_formats_where_the_formats_do() {
        let header = |format, family| {
            let mut body = BytesMut::new();
            write_header(&mut body, format, family);
            String::from_utf8(body.to_vec()).expect("text")
        };
        let family = &catalogue::PROCESS_CPU;
        assert_eq!(
            header(Format::OpenMetrics, family),
            "# HELP process_cpu_seconds Total user and system CPU time spent in seconds.\n# TYPE process_cpu_seconds counter\n\
             # UNIT process_cpu_seconds seconds\n"
        );
        assert_eq!(
            header(Format::Text, family),
            "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n\
             # TYPE process_cpu_seconds_total counter\n"
        );
    }
}
