//! The samples of one target's jobs, as bytes: made when a refresh ends, copied by every scrape after it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode;
use crate::catalogue::{
    Family, JOB_CREATED, JOB_DESCRIBED, JOB_EXECUTIONS, JOB_INFO, JOB_LAST_UPDATED, JOB_SCHEDULED_START,
    JOB_THING_GROUP_INFO, JOBS, JOBS_CONCURRENT, JOBS_DESCRIBE_DENIED, JOBS_DESCRIBE_FAILURES, JOBS_LONG_RUNNING,
    JOBS_OLDEST_CREATED, JOBS_START_OVERDUE, JOBS_UNDESCRIBED, TARGET_INFO, THING_GROUP_JOBS,
    THING_GROUP_JOBS_LONG_RUNNING, THING_GROUP_JOBS_OLDEST_CREATED,
};
use crate::jobs::thing_groups::Label;
use crate::jobs::{ExecutionStatus, Timestamp, UNKNOWN};
use crate::snapshot::{GroupTable, OpenJob, Pair, Permission, Snapshot};
use crate::telemetry::Labels;

/// The sample lines of each job family of one target. They read the same in both formats, so one copy serves both.
#[derive(Debug)]
pub struct Fragments(BTreeMap<String, Bytes>);

impl Fragments {
    /// Formats a snapshot. `labels` go before each family's own.
    #[must_use]
    pub fn render(snapshot: &Snapshot, labels: &Labels) -> Self {
        let samples = encode::collect(Jobs { snapshot: snapshot.clone(), labels: labels.clone() });
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
    snapshot: Snapshot,
    labels: Labels,
}

impl Collector for Jobs {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut write = Gauges { encoder: &mut encoder, labels: &self.labels };
        self.write_aggregates(&mut write)?;
        self.write_groups(&mut write)?;
        self.write_jobs(&mut write)
    }
}

impl Jobs {
    fn write_aggregates(&self, write: &mut Gauges) -> Result<(), fmt::Error> {
        let Snapshot { counts, attention, describing, .. } = &self.snapshot;
        write.family(&JOBS, counts.jobs.iter().map(|(pair, jobs)| (labels(pair), *jobs)))?;
        let oldest = counts.oldest.iter();
        write.family(&JOBS_OLDEST_CREATED, oldest.map(|(pair, at)| (labels(pair), at.as_secs_f64())))?;
        let concurrent = counts.concurrent.iter();
        write.family(&JOBS_CONCURRENT, concurrent.map(|(selection, jobs)| ([selection.as_str()], *jobs)))?;
        let long_running = thresholds(&attention.long_running);
        write.family(&JOBS_LONG_RUNNING, long_running.iter().map(|(threshold, jobs)| ([threshold.as_str()], *jobs)))?;
        let overdue = attention.start_overdue.iter();
        write.family(&JOBS_START_OVERDUE, overdue.map(|(selection, jobs)| ([selection.as_str()], *jobs)))?;
        let describing = describing.as_slice();
        write.family(&JOBS_UNDESCRIBED, describing.iter().map(|told| ([], told.undescribed)))?;
        write.family(&JOBS_DESCRIBE_FAILURES, describing.iter().map(|told| ([], told.failures)))?;
        let denied = describing.iter().map(|told| ([], u64::from(told.permission != Permission::Granted)));
        write.family(&JOBS_DESCRIBE_DENIED, denied)?;
        write.family(&TARGET_INFO, std::iter::once(([], 1_u64)))
    }

    fn write_groups(&self, write: &mut Gauges) -> Result<(), fmt::Error> {
        let Some(GroupTable { rows, .. }) = &self.snapshot.groups else { return Ok(()) };
        let jobs = rows.iter().flat_map(|(group, row)| row.jobs.iter().map(move |(pair, jobs)| (group, pair, *jobs)));
        write.family(&THING_GROUP_JOBS, jobs.map(|(group, pair, jobs)| (group_labels(group, pair), jobs)))?;
        let oldest = rows.iter().flat_map(|(group, row)| row.oldest.iter().map(move |(pair, at)| (group, pair, *at)));
        write.family(
            &THING_GROUP_JOBS_OLDEST_CREATED,
            oldest.map(|(group, pair, at)| (group_labels(group, pair), at.as_secs_f64())),
        )?;
        let long_running: Vec<_> = rows.iter().map(|(group, row)| (group, thresholds(&row.long_running))).collect();
        let long_running = long_running.iter().flat_map(|(group, counts)| {
            counts.iter().map(move |(threshold, jobs)| ([&***group, threshold.as_str()], *jobs))
        });
        write.family(&THING_GROUP_JOBS_LONG_RUNNING, long_running)
    }

    fn write_jobs(&self, write: &mut Gauges) -> Result<(), fmt::Error> {
        let Snapshot { counts, series, .. } = &self.snapshot;
        let jobs = || series.iter().filter_map(|series| counts.open.get(series.place));
        let info = jobs().map(|job| {
            let windowed = job.schedule.map_or(UNKNOWN, |schedule| if schedule.windowed { "true" } else { "false" });
            ([&*job.job_id, job.status.as_str(), job.target_selection.as_str(), windowed], 1_u64)
        });
        write.family(&JOB_INFO, info)?;
        let groups = series.iter().filter_map(|series| Some((&*counts.open.get(series.place)?.job_id, &series.groups)));
        let groups = groups.flat_map(|(job_id, groups)| groups.iter().map(move |group| ([job_id, &**group], 1_u64)));
        write.family(&JOB_THING_GROUP_INFO, groups)?;
        for (family, time) in [
            (&JOB_CREATED, (|job| job.created_at) as fn(&OpenJob) -> Option<Timestamp>),
            (&JOB_LAST_UPDATED, |job| job.last_updated_at),
            (&JOB_SCHEDULED_START, |job| job.schedule?.start()),
            (&JOB_DESCRIBED, |job| job.described_at),
        ] {
            write.family(family, jobs().filter_map(|job| Some(([&*job.job_id], time(job)?.as_secs_f64()))))?;
        }
        let executions = jobs().filter_map(|job| Some((&*job.job_id, job.executions?)));
        let executions = executions.flat_map(|(job_id, executions)| {
            let told =
                move |status: ExecutionStatus| Some(([job_id, status.as_str()], u64::from(executions.get(status)?)));
            ExecutionStatus::ALL.into_iter().filter_map(told)
        });
        write.family(&JOB_EXECUTIONS, executions)
    }
}

fn labels((status, selection): &Pair) -> [&str; 2] {
    [status.as_str(), selection.as_str()]
}

fn group_labels<'a>(group: &'a Label, pair: &'a Pair) -> [&'a str; 3] {
    let [status, selection] = labels(pair);
    [group, status, selection]
}

/// Counts by threshold, which is written in seconds: `86400`.
fn thresholds(counts: &BTreeMap<Duration, u64>) -> Vec<(String, u64)> {
    counts.iter().map(|(threshold, jobs)| (threshold.as_secs_f64().to_string(), *jobs)).collect()
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
    use super::*;
    use crate::fingerprint::Fingerprinter;
    use crate::jobs::{AccountId, JobSummary, Scope};
    use crate::memory::Memory;
    use crate::snapshot::{Attention, JobSeries, Walk};
    use crate::tally::{Attribution, Tally};

    fn snapshot() -> Snapshot {
        let mut memory = Memory::new(Fingerprinter::new(&[0; 16]));
        let mut tally = Tally::new(memory.fingerprints(), Attribution::Nothing);
        let summary = JobSummary {
            job_id: Some("a".to_owned()),
            status: Some("IN_PROGRESS".into()),
            target_selection: Some("CONTINUOUS".into()),
            created_at: Some(Timestamp::from_millis(1_560_787_022_733)),
            is_concurrent: Some(true),
            ..JobSummary::default()
        };
        tally.add(&summary, &memory);
        Snapshot {
            account: AccountId::parse("012345678901").expect("an account"),
            counts: tally.finish(&Scope::default(), &mut memory).counts,
            attention: Attention::default(),
            groups: None,
            series: vec![JobSeries { place: 0, groups: vec![Label::from("line")] }],
            omitted_jobs: 0,
            walk: Walk { duration: Duration::ZERO, pages: 1, requests: 1 },
            describing: None,
        }
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
