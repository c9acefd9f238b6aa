//! Roles, and the STS calls that assume them.

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_iot::config::http::HttpResponse;
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::types;

use super::{ATTEMPT_TIMEOUT, CredentialRequests, SourceError, for_calls, retries, usable};
use crate::aws::MAX_ATTEMPTS;
use crate::aws::error::classify;
use crate::config::Secret;
use crate::metrics::Reason;

/// The default session name. It appears in AWS logs.
pub(super) const SESSION_NAME: &str = env!("CARGO_PKG_NAME");

/// A role to assume.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<Secret>,
    pub(super) duration_seconds: Option<i32>,
}

/// The STS calls that return credentials.
#[derive(Clone, Debug)]
pub(super) struct Sts {
    settings: SdkConfig,
    requests: CredentialRequests,
}

impl Sts {
    pub(super) fn new(settings: &SdkConfig, requests: CredentialRequests) -> Self {
        Self { settings: for_calls(settings), requests }
    }

    /// Assumes `role` with the credentials `source`.
    pub(super) async fn assume(&self, role: &Role, source: Credentials) -> Result<Credentials, SourceError> {
        const OPERATION: &str = "sts:AssumeRole";
        let call = self
            .client(Some(source))
            .assume_role()
            .role_arn(&role.arn)
            .role_session_name(role.session_name.as_deref().unwrap_or(SESSION_NAME))
            .set_external_id(role.external_id.as_ref().map(|external_id| external_id.expose().to_owned()))
            .set_duration_seconds(role.duration_seconds);
        let answer = call.send().await.map_err(|error| failed(OPERATION, &error))?;
        issued(OPERATION, answer.credentials)
    }

    /// Assumes `role` with the token of an identity provider.
    pub(super) async fn assume_by_token(&self, role: &Role, token: &str) -> Result<Credentials, SourceError> {
        const OPERATION: &str = "sts:AssumeRoleWithWebIdentity";
        let call = self
            .client(None)
            .assume_role_with_web_identity()
            .role_arn(&role.arn)
            .role_session_name(role.session_name.as_deref().unwrap_or(SESSION_NAME))
            .set_duration_seconds(role.duration_seconds)
            .web_identity_token(token);
        let answer = call.send().await.map_err(|error| failed(OPERATION, &error))?;
        issued(OPERATION, answer.credentials)
    }

    fn client(&self, credentials: Option<Credentials>) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::config::Builder::from(&self.settings).retry_partition(retries());
        let mut config = config.interceptor(self.requests.clone());
        config.set_credentials_provider(credentials.map(SharedCredentialsProvider::new));
        aws_sdk_sts::Client::from_conf(config.build())
    }
}

/// The error of a call that returned no credentials.
pub(super) fn failed<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> SourceError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let (reason, _, mut cause) = classify(error);
    if reason == Reason::Timeout {
        cause = format!("no answer in {MAX_ATTEMPTS} attempts of {} s", ATTEMPT_TIMEOUT.as_secs());
    }
    SourceError { reason, message: format!("{operation}: {cause}") }
}

fn issued(operation: &str, credentials: Option<types::Credentials>) -> Result<Credentials, SourceError> {
    let malformed = |what: &str| SourceError { reason: Reason::Malformed, message: format!("{operation}: {what}") };
    let issued = credentials.ok_or_else(|| malformed("the answer has no credentials"))?;
    let ends = issued.expiration.try_into().map_err(|_| malformed("the answer has an invalid time"))?;
    let credentials = Credentials::builder()
        .access_key_id(issued.access_key_id)
        .secret_access_key(issued.secret_access_key)
        .session_token(issued.session_token)
        .expiry(ends)
        .provider_name("AssumeRole");
    usable(credentials.build())
}

/// Assumes the role of a target, with the target's other credentials.
#[derive(Debug)]
pub(super) struct AssumedRoleProvider {
    sts: Sts,
    role: Role,
    source: Option<SharedCredentialsProvider>,
}

impl AssumedRoleProvider {
    pub(super) fn new(sts: Sts, role: Role, source: Option<SharedCredentialsProvider>) -> Self {
        Self { sts, role, source }
    }
}

impl ProvideCredentials for AssumedRoleProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let source =
                self.source.as_ref().ok_or_else(|| CredentialsError::not_loaded("no source of credentials"))?;
            let source = usable(source.provide_credentials().await?)?;
            Ok(self.sts.assume(&self.role, source).await?)
        })
    }
}
