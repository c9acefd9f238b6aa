//! Sample lines, by family. They are the same in both text formats: a counter's sample ends in `_total` in both, and
//! no value is infinite.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

use super::catalogue::{Family, FamilyType};

/// Label names and values, in output order.
pub type Labels = Vec<(String, String)>;

/// The sample lines of some families, in the order of the catalogue, as slices of one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Samples(Box<[(&'static Family, Bytes)]>);

impl Samples {
    /// The families with samples, and their lines.
    pub(super) fn families(&self) -> &[(&'static Family, Bytes)] {
        &self.0
    }

    /// The lines of a family.
    #[cfg(test)]
    pub(super) fn get(&self, family: &Family) -> Option<&Bytes> {
        self.0.iter().find(|(known, _)| known.position == family.position).map(|(_, lines)| lines)
    }

    /// The samples of a registry, for these families.
    ///
    /// prometheus-client writes the lines. Its headers are dropped: one header must precede the samples of all
    /// targets, and the library has only `OpenMetrics` headers. So families are registered without a help text.
    pub(super) fn of_registry(registry: &Registry, families: &[&'static Family]) -> Self {
        // Enough for the exporter's own metrics, which each scrape renders.
        let mut text = String::with_capacity(8 << 10);
        // Writing to a string cannot fail, and no collector here fails.
        let _ = encode_registry(&mut text, registry);
        let mut writer = SampleWriter::new(&[]);
        writer.text.reserve(text.len());
        // Faster than the iterators of `str`, which have no vector instructions.
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|newline| newline + 1);
        let mut lines = ends.scan(0, |start, end| {
            let place = std::mem::replace(start, end)..end;
            Some((text.get(place.clone())?, place))
        });
        let mut metrics: Vec<Range<usize>> = Vec::new();
        let mut header = lines.find_map(|(line, _)| type_name(line));
        while let Some(name) = header.take() {
            let family = families.iter().copied().find(|family| family.family_name() == name);
            // The lines of a histogram belong together and begin with the sum. Other samples are single lines.
            let is_histogram = family.is_some_and(|family| family.family_type == FamilyType::Histogram);
            metrics.clear();
            for (line, place) in &mut lines {
                if line.starts_with('#') {
                    header = type_name(line);
                    if header.is_some() {
                        break;
                    }
                    continue;
                }
                let continued = is_histogram && !line.get(name.len()..).is_some_and(|rest| rest.starts_with("_sum"));
                match metrics.last_mut().filter(|_| continued) {
                    Some(metric) => metric.end = place.end,
                    None => metrics.push(place),
                }
            }
            let Some(family) = family else { continue };
            // The library stores label sets in a hash map with a random order.
            metrics.sort_unstable_by_key(|metric| text.get(metric.clone()));
            writer.add(family, |written| {
                written.extend(metrics.drain(..).filter_map(|metric| text.get(metric)));
            });
        }
        writer.finish()
    }
}

/// The name in a line `# TYPE name type`.
fn type_name(line: &str) -> Option<&str> {
    line.strip_prefix("# TYPE ")?.split(' ').next()
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(u64),
    Float(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(u64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

/// Writes samples with common labels.
#[derive(Debug)]
pub(super) struct SampleWriter {
    text: String,
    /// The common labels, rendered.
    common: String,
    families: Vec<(&'static Family, Range<usize>)>,
}

impl SampleWriter {
    pub(super) fn new(common: &[(String, String)]) -> Self {
        let mut written = String::new();
        for (name, value) in common {
            push_label(&mut written, name, value);
        }
        Self { text: String::new(), common: written, families: Vec::new() }
    }

    /// Adds the samples of a gauge, each with the values of the family's own labels. Each family is added once.
    pub(super) fn gauge<'v, const LABELS: usize, V: Into<Value>>(
        &mut self,
        family: &'static Family,
        samples: impl IntoIterator<Item = ([&'v str; LABELS], V)>,
    ) {
        debug_assert_eq!((family.labels.len(), family.family_type), (LABELS, FamilyType::Gauge), "{}", family.name);
        let samples =
            samples.into_iter().map(|(values, value)| (family.labels.iter().copied().zip(values), value.into()));
        self.gauge_with_labels(family, samples);
    }

    /// Like `gauge`, for samples with additional labels.
    pub(super) fn gauge_with_labels<'v>(
        &mut self,
        family: &'static Family,
        samples: impl IntoIterator<Item = (impl IntoIterator<Item = (&'v str, &'v str)>, Value)>,
    ) {
        let common = std::mem::take(&mut self.common);
        self.add(family, |text| {
            for (labels, value) in samples {
                text.push_str(family.name);
                text.push('{');
                text.push_str(&common);
                for (name, value) in labels {
                    push_label(text, name, value);
                }
                // The comma after the last label.
                text.pop();
                // Writing to a string cannot fail. prometheus-client writes numbers the same way.
                let _ = match value {
                    Value::Whole(value) => writeln!(text, "}} {value}"),
                    Value::Float(value) => writeln!(text, "}} {value:?}"),
                };
            }
        });
        self.common = common;
    }

    /// Adds whole lines of a family.
    fn add(&mut self, family: &'static Family, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        if self.text.len() > start {
            self.families.push((family, start..self.text.len()));
        }
    }

    pub(super) fn finish(mut self) -> Samples {
        // The lines are kept until the data changes.
        self.text.shrink_to_fit();
        let text = Bytes::from(self.text);
        self.families.sort_unstable_by_key(|(family, _)| family.position);
        debug_assert!(self.families.is_sorted_by(|(a, _), (b, _)| a.position < b.position), "each family once");
        Samples(self.families.into_iter().map(|(family, range)| (family, text.slice(range))).collect())
    }
}

/// Writes `name="value",`.
fn push_label(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => text.push_str(r"\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str(r"\n"),
            other => text.push(other),
        }
    }
    text.push_str("\",");
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::EncodeMetric as _;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family as Counters;
    use prometheus_client::metrics::gauge::ConstGauge;
    use prometheus_client::metrics::histogram::Histogram;
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::catalogue::{API_REQUEST_DURATION, API_REQUESTS, COLLECTOR_DURATION, JOBS_CONCURRENT, UP};
    use crate::proptests::{cases, text};

    fn lines(samples: &Samples, family: &Family) -> String {
        String::from_utf8(samples.get(family).expect("samples").to_vec()).expect("UTF-8")
    }

    fn one_label(name: &str, value: &str) -> Labels {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn gauges_carry_the_common_labels_and_their_own_and_share_one_allocation() {
        let mut writer = SampleWriter::new(&one_label("target", "t\"1"));
        writer.gauge(&UP, [([], true)]);
        writer.gauge(&JOBS_CONCURRENT, [(["SNAPSHOT"], 3_u64), (["a\\b\nc"], 0)]);
        writer.gauge(&COLLECTOR_DURATION, std::iter::empty::<([&str; 1], f64)>());
        let samples = writer.finish();
        assert_eq!(lines(&samples, &UP), "aws_iot_jobs_up{target=\"t\\\"1\"} 1\n");
        assert_eq!(
            lines(&samples, &JOBS_CONCURRENT),
            "aws_iot_jobs_concurrent{target=\"t\\\"1\",target_selection=\"SNAPSHOT\"} 3\n\
             aws_iot_jobs_concurrent{target=\"t\\\"1\",target_selection=\"a\\\\b\\nc\"} 0\n"
        );
        assert_eq!(samples.get(&COLLECTOR_DURATION), None, "no samples, no family");
        let [up, concurrent] = [&UP, &JOBS_CONCURRENT].map(|family| samples.get(family).expect("samples"));
        assert_eq!(up.as_ptr_range().end, concurrent.as_ptr_range().start);
    }

    #[test]
    fn the_samples_of_a_histogram_stay_together_in_the_order_of_their_buckets() {
        let mut registry = Registry::default();
        let histograms = Counters::<Labels, _, _>::new_with_constructor(|| Histogram::new([0.5, 10.0]));
        for target in ["b", "a,le=\"x"] {
            histograms.get_or_create(&one_label("target", target)).observe(1.0);
        }
        let name = API_REQUEST_DURATION.name;
        registry.register(name, "Help", histograms);
        let of = |target: &str| {
            format!(
                "{name}_sum{{target=\"{target}\"}} 1.0\n{name}_count{{target=\"{target}\"}} 1\n\
                 {name}_bucket{{le=\"0.5\",target=\"{target}\"}} 0\n{name}_bucket{{le=\"10.0\",target=\"{target}\"}} 1\n\
                 {name}_bucket{{le=\"+Inf\",target=\"{target}\"}} 1\n"
            )
        };
        let samples = Samples::of_registry(&registry, &[&API_REQUEST_DURATION]);
        assert_eq!(lines(&samples, &API_REQUEST_DURATION), of("a,le=\\\"x") + &of("b"));
    }

    #[test]
    fn samples_of_a_registry_are_sorted_by_family_for_any_labels() {
        let mut registry = Registry::default();
        let counters: Counters<Labels, Counter> = Counters::default();
        counters.get_or_create(&one_label("a", "# TYPE x\n\"\\")).inc();
        registry.register(API_REQUESTS.family_name(), "Help\nwith a line", counters);
        registry.register("unknown", "Help", Counter::<u64>::default());
        let samples = Samples::of_registry(&registry, &[&API_REQUESTS]);
        assert_eq!(lines(&samples, &API_REQUESTS), format!("{}{{a=\"# TYPE x\\n\\\"\\\\\"}} 1\n", API_REQUESTS.name));
        assert_eq!(samples.families().len(), 1);
    }

    proptest! {
        #![proptest_config(cases(256))]

        /// The library writes the same line, so that the samples of both look alike.
        #[test]
        fn a_line_equals_that_of_prometheus_client(value in text(), millis in any::<i64>(), count in any::<u32>()) {
            #[derive(Debug)]
            struct One(String, f64, u64);
            impl prometheus_client::collector::Collector for One {
                fn encode(
                    &self,
                    mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
                ) -> Result<(), std::fmt::Error> {
                    let labels = [("target", "t"), ("collector", self.0.as_str())];
                    let gauge = ConstGauge::new(self.1);
                    let mut family = encoder.encode_descriptor(COLLECTOR_DURATION.name, "", None, gauge.metric_type())?;
                    gauge.encode(family.encode_family(&labels)?)?;
                    let labels = [("target", "t"), ("target_selection", self.0.as_str())];
                    let gauge = ConstGauge::new(self.2);
                    let mut family = encoder.encode_descriptor(JOBS_CONCURRENT.name, "", None, gauge.metric_type())?;
                    gauge.encode(family.encode_family(&labels)?)
                }
            }
            let seconds = crate::jobs::Timestamp::from_millis(millis).as_secs_f64();
            let mut registry = Registry::default();
            registry.register_collector(Box::new(One(value.clone(), seconds, count.into())));
            let theirs = Samples::of_registry(&registry, &[&COLLECTOR_DURATION, &JOBS_CONCURRENT]);
            let mut writer = SampleWriter::new(&one_label("target", "t"));
            writer.gauge(&COLLECTOR_DURATION, [([value.as_str()], seconds)]);
            writer.gauge(&JOBS_CONCURRENT, [([value.as_str()], u64::from(count))]);
            let ours = writer.finish();
            prop_assert_eq!(ours.get(&JOBS_CONCURRENT), theirs.get(&JOBS_CONCURRENT));
            // The library does not always use the shortest text of a number.
            let [ours, theirs] = [ours, theirs].map(|samples| {
                let line = lines(&samples, &COLLECTOR_DURATION);
                let (labels, value) = line.trim_end().rsplit_once(' ').expect("a value");
                (labels.to_owned(), value.parse::<f64>().expect("a number"))
            });
            prop_assert_eq!(ours, theirs);
        }
    }
}
