//! Account ids and the ARNs of jobs.

use std::fmt;

/// An AWS account id: 12 digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(Box<str>);

impl AccountId {
    /// Parses an account id.
    ///
    /// # Errors
    /// If `text` is not 12 ASCII digits.
    ///
    /// # Example
    /// ```
    /// use aws_iot_jobs_exporter::jobs::AccountId;
    ///
    /// let account = AccountId::parse("012345678901")?;
    /// assert_eq!(account.as_str(), "012345678901");
    /// assert!(AccountId::parse("12345").is_err());
    /// # Ok::<(), aws_iot_jobs_exporter::jobs::InvalidAccountId>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidAccountId> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidAccountId)
        }
    }

    /// The 12 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not an account id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an AWS account id is 12 digits")]
pub struct InvalidAccountId;

/// The relevant parts of a job's ARN: `arn:PARTITION:iot:REGION:ACCOUNT:job/JOB_ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobArn<'a> {
    /// The account that owns the job.
    pub account: AccountId,
    /// The job's id.
    pub job_id: &'a str,
}

impl<'a> JobArn<'a> {
    /// Parses a job's ARN; `None` if it is not one.
    #[must_use]
    pub fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        if parts.next()? != "arn" {
            return None;
        }
        let (_partition, service, _region) = (parts.next()?, parts.next()?, parts.next()?);
        let account = AccountId::parse(parts.next()?).ok()?;
        let job_id = parts.next()?.strip_prefix("job/")?;
        (service == "iot" && !job_id.is_empty()).then_some(Self { account, job_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_arn_of_any_partition_gives_account_and_id() {
        for arn in ["arn:aws:iot:eu-west-1:012345678901:job/a-b_c", "arn:aws-cn:iot:cn-north-1:012345678901:job/a-b_c"]
        {
            let parsed = JobArn::parse(arn).expect("a job's ARN");
            assert_eq!((parsed.account.as_str(), parsed.job_id), ("012345678901", "a-b_c"));
        }
    }

    #[test]
    fn other_texts_are_not_job_arns() {
        for arn in [
            "",
            "arn:aws:iot:eu-west-1:012345678901:thing/a",
            "arn:aws:iot:eu-west-1:12345:job/a",
            "arn:aws:iot:eu-west-1:012345678901:job/",
            "arn:aws:s3:eu-west-1:012345678901:job/a",
            "arn:aws:iot",
        ] {
            assert_eq!(JobArn::parse(arn), None, "{arn}");
        }
    }
}
