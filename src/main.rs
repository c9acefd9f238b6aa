//! The `aws-iot-jobs-exporter` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    aws_iot_jobs_exporter::cli::run()
}
