//! Prints the estimate for people.

use std::fmt::{self, Display};

use super::{Estimate, Requests, TargetDay};
use crate::config::Shard;

/// The price of another copy of 100,000 management events, in US dollars. Source: [CloudTrail
/// pricing](https://aws.amazon.com/cloudtrail/pricing/).
const CLOUDTRAIL_PRICE: f64 = 2.0;

/// A whole number with groups of three digits.
fn grouped(count: impl Display) -> String {
    let digits = format!("{count:.0}");
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = usize::from(percent < 10.0 && percent.fract() != 0.0);
    format!("{percent:.digits$} %")
}

impl Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shard.total > 1 {
            let Shard { index, total } = self.shard;
            writeln!(f, "Targets of shard {index} of {total} only; --shard.total=1 is for all targets.\n")?;
        }
        if self.targets.is_empty() {
            return writeln!(f, "No target was listed.");
        }
        let is_active = format!("{} active", percent(self.active_share));
        for day in &self.targets {
            day.write(f, &is_active)?;
        }
        for warning in &self.warnings {
            writeln!(f, "{warning}\n")?;
        }
        let all = || self.targets.iter().flat_map(|day| &day.requests_per_day);
        let usd = |requests: f64| requests / 100_000.0 * CLOUDTRAIL_PRICE;
        let [still, active] = [all().map(|of| of.standing_still).sum(), all().map(|of| of.active).sum()].map(usd);
        writeln!(
            f,
            "A further copy of CloudTrail's management events costs at most ${still:.2} a day, ${active:.2} with {is_active},\n\
             at ${CLOUDTRAIL_PRICE:.2} for 100,000 requests (https://aws.amazon.com/cloudtrail/pricing/)."
        )
    }
}

impl TargetDay {
    fn write(&self, f: &mut fmt::Formatter<'_>, is_active: &str) -> fmt::Result {
        let listed = &self.listed;
        writeln!(f, "{} (account {}, region {})", listed.target, listed.aws_account_id, listed.aws_region)?;
        writeln!(f, "  {:<24}{:>12}{:>10}{:>12}{:>16}", "one run of each", "jobs", "pages", "took", "runs every")?;
        let walks = [("open_jobs", Some(listed.open_jobs)), ("all_jobs", listed.all_jobs)];
        for (collector, walk) in walks.into_iter().filter_map(|(collector, walk)| Some((collector, walk?))) {
            let (jobs, pages) = (grouped(walk.jobs), grouped(walk.pages));
            let [took, every] = [walk.seconds, walk.seconds_between_starts].map(|seconds| format!("{seconds:.1} s"));
            writeln!(f, "  {collector:<24}{jobs:>12}{pages:>10}{took:>12}{every:>16}")?;
        }
        writeln!(f, "  {:<24}{:>24}{is_active:>26}", "requests a day", "standing still")?;
        let sent = self.requests_per_day.iter().filter(|requests| requests.active > 0.0);
        for Requests { operation, standing_still, active, quota } in sent {
            let share = |requests| quota.map(|quota| format!(" ({})", percent(requests / quota))).unwrap_or_default();
            let [still, active] = [*standing_still, *active].map(|requests| grouped(requests) + &share(requests));
            writeln!(f, "  {operation:<24}{still:>24}{active:>26}")?;
        }
        let after_start = grouped(self.describe_requests_after_start);
        writeln!(f, "  {:<24}{after_start:>24}{after_start:>26}\n", "DescribeJob after a start")
    }
}
