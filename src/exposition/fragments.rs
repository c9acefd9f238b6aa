//! The samples of one target's jobs, as bytes: made when a refresh ends, copied by every scrape after it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode;
use crate::catalogue::{Family, JOBS, JOBS_CONCURRENT, JOBS_OLDEST_CREATED, TARGET_INFO};
use crate::snapshot::{Counts, Snapshot};
use crate::telemetry::Labels;

/// The sample lines of each job family of one target. They read the same in both formats, so one copy serves both.
#[derive(Debug)]
pub struct Fragments(BTreeMap<String, Bytes>);

impl Fragments {
    /// Formats a snapshot. `labels` go before each family's own.
    #[must_use]
    pub fn render(snapshot: &Snapshot, labels: &Labels) -> Self {
        let samples = encode::collect(Jobs { counts: snapshot.counts.clone(), labels: labels.clone() });
        Self(samples.into_iter().map(|(family, lines)| (family, Bytes::from(lines))).collect())
    }

    /// The samples of a family, whole lines.
    #[must_use]
    pub fn get(&self, family: &Family) -> Option<&Bytes> {
        self.0.get(family.family_name())
    }

    /// Bytes in all families.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.values().map(Bytes::len).sum()
    }
}

#[derive(Debug)]
struct Jobs {
    counts: Counts,
    labels: Labels,
}

impl Collector for Jobs {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let counts = &self.counts;
        let mut write = Gauges { encoder: &mut encoder, labels: &self.labels };
        let jobs = counts.jobs.iter();
        write.family(&JOBS, jobs.map(|((status, selection), n)| ([status.as_str(), selection.as_str()], *n)))?;
        let oldest = counts.oldest.iter();
        write.family(
            &JOBS_OLDEST_CREATED,
            oldest.map(|((status, selection), at)| ([status.as_str(), selection.as_str()], at.as_secs_f64())),
        )?;
        let concurrent = counts.concurrent.iter();
        write.family(&JOBS_CONCURRENT, concurrent.map(|(selection, n)| ([selection.as_str()], *n)))?;
        write.family(&TARGET_INFO, std::iter::once(([], 1_u64)))
    }
}

/// Writes gauges of the catalogue whose labels are common ones and the family's own, in the catalogue's order.
pub(super) struct Gauges<'a, 'e> {
    pub(super) encoder: &'a mut DescriptorEncoder<'e>,
    pub(super) labels: &'a Labels,
}

impl Gauges<'_, '_> {
    pub(super) fn family<'v, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        family: &Family,
        rows: impl Iterator<Item = ([&'v str; N], V)>,
    ) -> Result<(), fmt::Error> {
        debug_assert_eq!(family.labels.len(), N, "{} has other labels in the catalogue", family.name);
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(family.name, family.help, None, MetricType::Gauge)?;
        for (values, value) in rows {
            let own = family.labels.iter().copied().zip(values);
            let labels: Vec<(&str, &str)> =
                self.labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).chain(own).collect();
            ConstGauge::new(Value(value)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Any value that a gauge can have; `ConstGauge` wants one that can be copied.
#[derive(Clone, Copy, Debug)]
struct Value<V>(V);

impl<V: EncodeGaugeValue> EncodeGaugeValue for Value<V> {
    fn encode(&self, encoder: &mut prometheus_client::encoding::GaugeValueEncoder) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fingerprint::Fingerprinter;
    use crate::job::{AccountId, JobSummary, Scope, Timestamp};
    use crate::snapshot::Walk;
    use crate::tally::Tally;

    fn snapshot() -> Snapshot {
        let mut tally = Tally::new(Fingerprinter::new(&[0; 16]));
        tally.add(&JobSummary {
            job_id: Some("a".to_owned()),
            status: Some("IN_PROGRESS".into()),
            target_selection: Some("CONTINUOUS".into()),
            created_at: Some(Timestamp::from_millis(1_560_787_022_733)),
            is_concurrent: Some(true),
            ..JobSummary::default()
        });
        let walk = Walk { duration: Duration::ZERO, pages: 1, requests: 1 };
        let account = AccountId::parse("012345678901").expect("an account");
        Snapshot { account, counts: tally.finish(&Scope::default()), walk }
    }

    #[test]
    fn every_known_pair_has_a_row_and_an_age_only_where_there_is_a_job() {
        let fragments = Fragments::render(&snapshot(), &vec![("target".to_owned(), "t\"1".to_owned())]);
        let lines = |family: &Family| String::from_utf8(fragments.get(family).expect("rows").to_vec()).expect("text");
        let jobs = lines(&JOBS);
        assert_eq!(jobs.lines().count(), 10);
        assert!(
            jobs.contains("aws_iot_jobs{target=\"t\\\"1\",status=\"IN_PROGRESS\",target_selection=\"CONTINUOUS\"} 1\n"),
            "{jobs}"
        );
        assert_eq!(jobs.lines().filter(|line| line.ends_with("} 0")).count(), 9);
        assert_eq!(
            lines(&JOBS_OLDEST_CREATED),
            "aws_iot_jobs_oldest_created_timestamp_seconds{target=\"t\\\"1\",status=\"IN_PROGRESS\",target_selection=\"CONTINUOUS\"} 1560787022.733\n"
        );
    }
}
