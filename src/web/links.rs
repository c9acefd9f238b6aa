//! Where a job is found outside the exporter: the AWS console and the AWS CLI.

use super::route::SEGMENT;
use crate::config::partition_of_region;
use crate::jobs::{ExecutionCounts, ExecutionStatus};

/// The job in the AWS console of its partition.
pub(crate) fn console_url(region: &str, job_id: &str) -> String {
    let host = match partition_of_region(region) {
        "aws-cn" => format!("{region}.console.amazonaws.cn"),
        "aws-us-gov" => "console.amazonaws-us-gov.com".to_owned(),
        _ => format!("{region}.console.aws.amazon.com"),
    };
    let id = percent_encoding::utf8_percent_encode(job_id, SEGMENT);
    format!("https://{host}/iot/home?region={region}#/jobhub/{id}")
}

/// The command that describes a job; `None` if the id is not one of AWS's.
pub(crate) fn describe(region: &str, job_id: &str) -> Option<String> {
    is_plain(region, job_id).then(|| format!("aws iot describe-job --region {region} --job-id {job_id}"))
}

/// The command that lists the executions of a job with one status; `None` if the id is not one of AWS's.
pub(crate) fn list_executions(region: &str, job_id: &str, status: ExecutionStatus) -> Option<String> {
    let status = status.as_str();
    let command =
        || format!("aws iot list-job-executions-for-job --region {region} --job-id {job_id} --status {status}");
    is_plain(region, job_id).then(command)
}

/// Commands that describe a job, and list its executions of each open or failed status that occurs.
pub(crate) fn commands(region: &str, job_id: &str, executions: Option<&ExecutionCounts>) -> Vec<String> {
    let occurs =
        |status: &ExecutionStatus| executions.and_then(|counts| counts.get(*status)).is_some_and(|count| count > 0);
    let statuses = ExecutionStatus::ALL.into_iter().filter(|status| status.is_open() || status.is_failure());
    let lists = statuses.filter(occurs).filter_map(|status| list_executions(region, job_id, status));
    describe(region, job_id).into_iter().chain(lists).collect()
}

/// Whether a shell would interpret nothing of these texts. Job ids match `[a-zA-Z0-9_-]{1,64}`
/// (<https://docs.aws.amazon.com/iot/latest/apireference/API_CreateJob.html>).
fn is_plain(region: &str, job_id: &str) -> bool {
    [region, job_id].iter().all(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)))
}
