//! The estimate for people, as tables.

use std::fmt::{self, Display};

use comfy_table::{CellAlignment, Table, presets};

use super::day::{Estimate, OPERATIONS, TargetDay};
use crate::config::Shown;

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

impl Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_walks(f)?;
        self.write_days(f)?;
        self.write_quotas(f)?;
        self.write_changes(f)
    }
}

impl Estimate {
    fn write_walks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.targets.iter().map(|TargetDay { walked, walk_seconds_at_budget, .. }| {
            let counts = [walked.jobs, walked.open_jobs, walked.jobs_ended_within, walked.pages, walked.retries];
            let [jobs, open, ended, pages, retries] = counts.map(Count);
            let (took, at_budget) = (Seconds(walked.walk_seconds), Seconds(*walk_seconds_at_budget));
            let (target, account, region) = (&walked.target, &walked.aws_account_id, &walked.aws_region);
            cells([target, account, region, &jobs, &open, &ended, &pages, &retries, &took, &at_budget])
        });
        let ended = format!("ended in {}", Shown(self.ended_jobs_within));
        let at_budget = format!("at {}/s", self.requests_per_second_limit);
        let header = ["target", "account", "region", "jobs", "open", &ended, "pages", "retries", "took", &at_budget];
        writeln!(f, "One walk of each target:\n{}\n", table(3, header.map(str::to_owned).to_vec(), rows))
    }

    fn write_days(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |name: String, each: String, refreshes: String, requests: &dyn Fn(&str) -> u64, start: u64| {
            let counts = OPERATIONS.map(requests);
            let sum = counts.iter().sum();
            let counts = counts.into_iter().chain([sum, start]).map(|count| Count(count).to_string());
            [name, each, refreshes].into_iter().chain(counts).collect::<Vec<String>>()
        };
        let mut rows: Vec<Vec<String>> = self
            .targets
            .iter()
            .map(|day| {
                let each = Seconds(day.seconds_between_refreshes).to_string();
                let refreshes = format!("{:.0}", day.refreshes_per_day);
                let requests = |operation: &str| day.requests_per_day[operation];
                row(day.walked.target.clone(), each, refreshes, &requests, day.describe_requests_after_start)
            })
            .collect();
        if self.targets.len() > 1 {
            let requests = |operation: &str| self.targets.iter().map(|day| day.requests_per_day[operation]).sum();
            let start = self.targets.iter().map(|day| day.describe_requests_after_start).sum();
            rows.push(row("all".to_owned(), String::new(), String::new(), &requests, start));
        }
        let header = ["target", "refresh each", "a day"].into_iter().chain(OPERATIONS).chain(["sum", "after a start"]);
        writeln!(f, "Requests a day with a refresh.interval of {}:", Shown(self.interval))?;
        writeln!(f, "{}", table(1, header.map(str::to_owned).collect(), rows))?;
        writeln!(
            f,
            "After a start, DescribeJob tells the groups of jobs that have ended, once and in the background.\n"
        )
    }

    fn write_quotas(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |share: Option<f64>| share.map_or_else(String::new, |share| Percent(share).to_string());
        let rows = self.quotas.iter().map(|of| {
            let mut row = cells([&of.aws_account_id, &of.aws_region, &of.operation]);
            row.push(format!("{:.2}/s", of.mean_requests_per_second));
            row.push(share(of.mean_share));
            row.push(format!("{}/s", of.most_requests_per_second));
            row.push(share(of.most_share));
            row
        });
        let is_given = self.quotas.iter().any(|of| of.quota_requests_per_second.is_some());
        let of = if is_given { "of the quota" } else { "" };
        let header = ["account", "region", "operation", "on average", of, "at most", of].map(str::to_owned).to_vec();
        writeln!(f, "What an account and region bears of it:\n{}", table(3, header, rows))?;
        if is_given {
            writeln!(f)
        } else {
            writeln!(f, "Give the quota, of Service Quotas, with --quota to see the share of it.\n")
        }
    }

    fn write_changes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.changes.iter().map(|change| {
            let mut row = cells([&change.configuration, &Count(change.requests_per_day)]);
            row.push(format!("{:+.0} %", change.difference * 100.0));
            row
        });
        let now = vec!["as it is".to_owned(), Count(self.requests_per_day).to_string(), String::new()];
        let header = ["configuration", "requests a day", ""].map(str::to_owned).to_vec();
        writeln!(f, "What would change that:\n{}", table(1, header, std::iter::once(now).chain(rows)))
    }
}
