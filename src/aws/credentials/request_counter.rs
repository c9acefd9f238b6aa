//! Counts the requests that fetch credentials in the metrics of their target.

use std::sync::{Arc, OnceLock};

use aws_sdk_iot::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_iot::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_iot::error::ProvideErrorMetadata;
use aws_sdk_sso::operation::get_role_credentials::GetRoleCredentialsError;
use aws_sdk_ssooidc::operation::create_token::CreateTokenError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::Error as ErasedError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::result::ConnectorError;

use crate::aws::error;
use crate::metrics::TargetCounters;

/// Counts requests for a target. The target is set later than the interceptor: a target without a name gets the name
/// of its region, which the same settings provide.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct CredentialRequests(Arc<OnceLock<Arc<TargetCounters>>>);

impl CredentialRequests {
    /// Counts requests for this target from now on.
    pub(in super::super) fn count_for(&self, counters: Arc<TargetCounters>) {
        // A target is opened once.
        let _ = self.0.set(counters);
    }
}

impl Intercept for CredentialRequests {
    fn name(&self) -> &'static str {
        "CredentialRequests"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some((counters, operation)) = self.0.get().zip(operation(config)) {
            counters.credential_request_sent(operation);
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Err(failed)) = context.output_or_error() else { return Ok(()) };
        let status = context.response().map(|response| response.status().as_u16());
        let code = match failed.as_connector_error() {
            Some(error) if ConnectorError::is_timeout(error) => "timeout".to_owned(),
            Some(_) => "network".to_owned(),
            None if failed.is_timeout_error() => "timeout".to_owned(),
            None if failed.is_operation_error() || failed.is_response_error() => {
                error::code(status.unwrap_or(200), failed.as_operation_error().and_then(service_code))
            }
            // No request was sent.
            None => return Ok(()),
        };
        if let Some((counters, operation)) = self.0.get().zip(operation(config)) {
            counters.request_failed(operation, &code);
        }
        Ok(())
    }
}

fn operation(config: &ConfigBag) -> Option<&str> {
    config.load::<Metadata>().map(Metadata::name)
}

/// AWS's error code, from an error whose type the SDK has erased.
fn service_code(error: &ErasedError) -> Option<&str> {
    fn code<E>(error: &ErasedError) -> Option<&str>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        error.downcast_ref::<E>().and_then(ProvideErrorMetadata::code)
    }
    code::<AssumeRoleError>(error)
        .or_else(|| code::<AssumeRoleWithWebIdentityError>(error))
        .or_else(|| code::<GetRoleCredentialsError>(error))
        .or_else(|| code::<CreateTokenError>(error))
}
