//! Samples as prometheus-client writes them, sorted by family.
//!
//! The library writes names, label escapes and numbers of samples; its headers are left out, since one header must stand over
//! the samples of all targets, and since it knows `OpenMetrics` only. Sample lines are the same in both text formats: a counter's
//! sample ends in `_total` in either, and no value is infinite.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

/// Sample lines by family name.
pub(super) type Samples = BTreeMap<String, String>;

/// The samples of everything in a registry.
pub(super) fn samples(registry: &Registry) -> Samples {
    let mut splitter = Splitter::default();
    // Writing into memory can't fail; a collector that fails would leave its own samples out, which is what absent means.
    let _ = encode_registry(&mut splitter, registry);
    let mut samples = splitter.samples;
    // The library keeps label sets in a hash map, whose order changes from process to process.
    for lines in samples.values_mut() {
        let mut sorted: Vec<&str> = lines.split_inclusive('\n').collect();
        // Stable, so that the samples of a histogram keep their order: sum, count, buckets.
        sorted.sort_by_key(|line| labels(line).rsplit_once(' ').map(|(labels, _)| labels));
        *lines = sorted.concat();
    }
    samples
}

/// What a sample line says after its name, without the bucket that the library writes first.
fn labels(line: &str) -> &str {
    let labels = line.split_once('{').map_or("", |(_, labels)| labels);
    labels.strip_prefix("le=\"").and_then(|rest| rest.split_once("\",")).map_or(labels, |(_, rest)| rest)
}

/// The samples of one collector.
pub(super) fn collect(collector: impl Collector) -> Samples {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    samples(&registry)
}

/// Sorts what the encoder writes, line by line: `# TYPE name …` names the family of the samples that follow.
#[derive(Default)]
struct Splitter {
    samples: Samples,
    family: String,
    line: String,
}

impl Write for Splitter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            self.line.push_str(part);
            if part.ends_with('\n') {
                self.end_line();
            }
        }
        Ok(())
    }
}

impl Splitter {
    fn end_line(&mut self) {
        if let Some(header) = self.line.strip_prefix("# TYPE ") {
            self.family.clear();
            self.family.push_str(header.split(' ').next().unwrap_or_default());
        } else if !self.line.starts_with('#') {
            match self.samples.get_mut(&self.family) {
                Some(samples) => samples.push_str(&self.line),
                None => drop(self.samples.insert(self.family.clone(), self.line.clone())),
            }
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::histogram::Histogram;

    use super::*;

    #[test]
    fn the_samples_of_a_histogram_stay_together_in_the_order_of_their_buckets() {
        let mut registry = Registry::default();
        let histograms =
            Family::<Vec<(String, String)>, _, _>::new_with_constructor(|| Histogram::new([0.5, 2.5, 10.0]));
        for target in ["b", "a,le=\"x"] {
            histograms.get_or_create(&vec![("target".to_owned(), target.to_owned())]).observe(1.0);
        }
        registry.register("h", "Help", histograms);
        let samples = samples(&registry);
        let of = |target: &str| {
            format!(
                "h_sum{{target=\"{target}\"}} 1.0\nh_count{{target=\"{target}\"}} 1\nh_bucket{{le=\"0.5\",target=\"{target}\"}} 0\n\
                 h_bucket{{le=\"2.5\",target=\"{target}\"}} 1\nh_bucket{{le=\"10.0\",target=\"{target}\"}} 1\n\
                 h_bucket{{le=\"+Inf\",target=\"{target}\"}} 1\n"
            )
        };
        assert_eq!(samples["h"], of("a,le=\\\"x") + &of("b"));
    }

    #[test]
    fn samples_are_sorted_by_family_whatever_stands_in_a_label() {
        let mut registry = Registry::default();
        let counters: Family<Vec<(String, String)>, Counter> = Family::default();
        counters.get_or_create(&vec![("a".to_owned(), "# TYPE x\n\"\\".to_owned())]).inc();
        registry.register("first", "Help\nwith a line", counters);
        registry.register("second", "Help", Counter::<u64>::default());
        let samples = samples(&registry);
        assert_eq!(samples["first"], "first_total{a=\"# TYPE x\\n\\\"\\\\\"} 1\n");
        assert_eq!(samples["second"], "second_total 0\n");
    }
}
