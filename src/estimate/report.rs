//! The estimate for people, as tables.

use std::fmt::{self, Display};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::day::{Estimate, OPERATIONS, TargetDay};
use crate::config::{Shard, Shown};

/// The left columns of a table are names, the others numbers.
fn table(names: usize, header: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells<const N: usize>(cells: [&dyn Display; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

/// A count in groups of three digits.
struct Count(u64);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 1000, self.0 % 1000) {
            (0, rest) => write!(f, "{rest}"),
            (thousands, rest) => write!(f, "{},{rest:03}", Self(thousands)),
        }
    }
}

struct Seconds(f64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0)
    }
}

struct Percent(f64);

impl Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        let digits = usize::from(percent < 10.0);
        write!(f, "{percent:.digits$} %")
    }
}

/// A change in percent, which is none where it is less than half of one.
struct Difference(f64);

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the sign that a rounded 0 may have.
        write!(f, "{:+.0} %", (self.0 * 100.0).round() + 0.0)
    }
}

impl Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shard.total > 1 {
            let Shard { index, total } = self.shard;
            writeln!(f, "Of shard {index} of {total} alone; --shard.total=1 is for all targets.\n")?;
        }
        if self.targets.is_empty() {
            return writeln!(f, "No target was walked.");
        }
        self.write_walks(f)?;
        self.write_days(f)?;
        self.write_quotas(f)?;
        self.write_changes(f)
    }
}

impl Estimate {
    fn write_walks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_retries = self.targets.iter().any(|day| day.walked.retries > 0);
        let rows = self.targets.iter().map(|TargetDay { walked, walk_seconds_at_budget, .. }| {
            let [jobs, open, ended, pages, retries] =
                [walked.jobs, walked.open_jobs, walked.jobs_ended_within, walked.pages, walked.retries].map(Count);
            let (took, at_budget) = (Seconds(walked.walk_seconds), Seconds(*walk_seconds_at_budget));
            let mut row = cells([&walked.target, &walked.aws_account_id, &walked.aws_region]);
            row.extend(cells([&jobs, &open, &ended, &pages]));
            row.extend(has_retries.then(|| retries.to_string()));
            row.extend(cells([&took, &at_budget]));
            row
        });
        let (ended, at_budget) =
            (format!("ended in {}", Shown(self.ended_jobs_within)), format!("at {}/s", self.requests_per_second_limit));
        let mut header = cells([&"target", &"account", &"region", &"jobs", &"open", &ended, &"pages"]);
        header.extend(has_retries.then(|| "retries".to_owned()));
        header.extend(cells([&"took", &at_budget]));
        writeln!(f, "One walk of each target:\n{}\n", table(3, header, rows))
    }

    fn write_days(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of STS nothing is asked with keys that never end.
        let of_all = |operation: &str| self.requests_per_day_by_operation.get(operation).copied().unwrap_or_default();
        let told: Vec<&str> = OPERATIONS.into_iter().filter(|operation| of_all(operation) > 0).collect();
        let row = |first: [&dyn Display; 3], requests: &dyn Fn(&str) -> u64| {
            let counts: Vec<u64> = told.iter().map(|operation| requests(operation)).collect();
            let sum = counts.iter().sum();
            let mut row = cells(first);
            row.extend(counts.into_iter().chain([sum]).map(|count| Count(count).to_string()));
            row
        };
        let mut rows: Vec<Vec<String>> = Vec::new();
        for day in &self.targets {
            let (every, refreshes) = (Seconds(day.seconds_between_refreshes), format!("{:.0}", day.refreshes_per_day));
            rows.push(row([&day.walked.target, &every, &refreshes], &|operation| day.requests_per_day[operation]));
        }
        if self.targets.len() > 1 {
            rows.push(row([&"all", &"", &""], &of_all));
        }
        let header = ["target", "every", "refreshes"].into_iter().chain(told.iter().copied()).chain(["sum"]);
        let table = table(1, header.map(str::to_owned).collect(), rows);
        writeln!(f, "A day with a refresh.interval of {}, in requests:\n{table}", Shown(self.interval))?;
        let after_start = self.targets.iter().map(|day| day.describe_requests_after_start).sum();
        if after_start > 0 {
            let count = Count(after_start);
            writeln!(f, "{count} more are DescribeJob after each start, for jobs that have ended, in the background.")?;
        }
        for TargetDay { walked, expected_walk_seconds, .. } in &self.targets {
            if *expected_walk_seconds > self.timeout.as_secs_f64() {
                writeln!(
                    f,
                    "{}: its refreshes fail: with the others of its account and region a walk takes {}, and refresh.timeout \
                     is {}. Raise that, or limits.requests_per_second.",
                    walked.target,
                    Seconds(*expected_walk_seconds),
                    Shown(self.timeout)
                )?;
            }
        }
        writeln!(f)
    }

    fn write_quotas(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |rate: f64, share: Option<f64>| {
            // No more digits than tell something.
            let digits = if rate.fract() == 0.0 { 0 } else { 2 };
            let share = share.map(|share| format!(" ({})", Percent(share))).unwrap_or_default();
            format!("{rate:.digits$}/s{share}")
        };
        let rows = self.quotas.iter().map(|of| {
            let mut row = cells([&of.aws_account_id, &of.aws_region, &of.operation]);
            row.push(rate(of.mean_requests_per_second, of.mean_share));
            row.push(rate(of.most_requests_per_second, of.most_share));
            row
        });
        let header = cells([&"account", &"region", &"operation", &"on average", &"at most"]);
        let is_given = self.quotas.iter().any(|of| of.quota_requests_per_second.is_some());
        let shares = if is_given { ", and the share of the quota" } else { "" };
        writeln!(f, "The rate at which one process asks an account and region{shares}:\n{}", table(3, header, rows))?;
        if is_given {
            writeln!(f)
        } else {
            writeln!(f, "With --quota it tells the share of a quota, which Service Quotas has.\n")
        }
    }

    fn write_changes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.changes.iter().map(|change| {
            let settings = change.settings.iter().map(|(key, value)| match value {
                Value::String(text) => format!("{key}: {text}"),
                value => format!("{key}: {value}"),
            });
            let mut row = vec![settings.collect::<Vec<_>>().join(", "), Count(change.requests_per_day).to_string()];
            row.push(change.difference.map(|difference| Difference(difference).to_string()).unwrap_or_default());
            row
        });
        let now = vec!["as it is".to_owned(), Count(self.requests_per_day).to_string(), String::new()];
        let header = cells([&"setting", &"requests a day", &""]);
        writeln!(f, "With other settings:\n{}", table(1, header, std::iter::once(now).chain(rows)))
    }
}
