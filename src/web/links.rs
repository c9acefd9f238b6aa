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

/// Commands that describe a job, and list its executions of each open or failed status that occurs.
pub(crate) fn commands(region: &str, job_id: &str, executions: Option<&ExecutionCounts>) -> Vec<String> {
    // Job ids have no characters that a shell would interpret: [a-zA-Z0-9_-]{1,64}
    // (https://docs.aws.amazon.com/iot/latest/apireference/API_CreateJob.html). Any other text is not a command to copy.
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_plain(job_id) || !is_plain(region) {
        return Vec::new();
    }
    let occurs =
        |status: &ExecutionStatus| executions.and_then(|counts| counts.get(*status)).is_some_and(|count| count > 0);
    let statuses = ExecutionStatus::ALL.into_iter().filter(|status| status.is_open() || status.is_failure());
    let listed = statuses.filter(occurs).map(|status| {
        let status = status.as_str();
        format!("aws iot list-job-executions-for-job --region {region} --job-id {job_id} --status {status}")
    });
    std::iter::once(format!("aws iot describe-job --region {region} --job-id {job_id}")).chain(listed).collect()
}
