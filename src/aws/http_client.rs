//! Where attempts are made: each one waits for its permit, is bounded in time and size, and is counted.
//!
//! All of it sits below the SDK's retries, so that a retry is an attempt like any other. The timeout of an attempt is kept here and
//! not by the SDK, whose own would run while an attempt waits for its permit.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_iot::config::http::HttpRequest;
use aws_sdk_iot::config::interceptors::{BeforeTransmitInterceptorContextMut, FinalizerInterceptorContextRef};
use aws_sdk_iot::config::{ConfigBag, Intercept, RuntimeComponents, SharedHttpClient};
use aws_sdk_iot::error::ProvideErrorMetadata;
use aws_sdk_iot::operation::describe_job::DescribeJobError;
use aws_sdk_iot::operation::list_jobs::ListJobsError;
use aws_sdk_sts::operation::get_caller_identity::GetCallerIdentityError;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::interceptors::context::Error as ErasedError;
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;
use tracing::trace;

use super::rate_limit::TargetLimiter;
use super::{GET_CALLER_IDENTITY, credentials, error};
use crate::telemetry::TargetTelemetry;

/// From the permit to the last byte of the answer. A page of 250 jobs is about 100 KB.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is read, in bytes: far above any real one, far below what would hurt.
const MAX_ANSWER: usize = 16 << 20;

/// An answer larger than [`MAX_ANSWER`].
#[derive(Debug, thiserror::Error)]
#[error("the answer is larger than {MAX_ANSWER} bytes")]
pub(super) struct TooLarge;

#[derive(Debug, thiserror::Error)]
#[error("no whole answer within {} s", .0.as_secs())]
struct TooSlow(Duration);

/// Whether requests go through a proxy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proxies {
    /// As `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say, except for addresses of this machine: see [`is_of_this_machine`].
    FromEnvironment,
    /// Straight to the endpoint.
    None,
}

/// An HTTPS client that trusts the certificates in `trust`: one pool of connections for all that share it.
pub(super) fn client(proxies: Proxies, trust: TrustStore) -> SharedHttpClient {
    SharedHttpClient::new(Https { proxies, trust, connectors: Mutex::default() })
}

#[derive(Debug)]
struct Https {
    proxies: Proxies,
    trust: TrustStore,
    /// One for each pair of connect and read timeout, which the SDK's credential sources choose differently.
    connectors: Mutex<Vec<(Timeouts, SharedHttpConnector)>>,
}

type Timeouts = (Option<Duration>, Option<Duration>);

impl HttpClient for Https {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let timeouts = (settings.connect_timeout(), settings.read_timeout());
        let mut connectors = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = connectors.iter().find(|(known, _)| *known == timeouts) {
            return connector.clone();
        }
        let connector = |proxies| {
            let mut builder = Connector::builder()
                .connector_settings(settings.clone())
                .proxy_config(proxies)
                .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc));
            // A context of a trust store alone is always valid.
            if let Ok(tls) = TlsContext::builder().with_trust_store(self.trust.clone()).build() {
                builder.set_tls_context(tls);
            }
            builder.set_sleep_impl(components.sleep_impl());
            SharedHttpConnector::new(builder.build())
        };
        let direct = connector(ProxyConfig::disabled());
        let connector = match self.proxies {
            Proxies::FromEnvironment => {
                SharedHttpConnector::new(Routed { proxied: connector(ProxyConfig::from_env()), direct })
            }
            Proxies::None => direct,
        };
        connectors.push((timeouts, connector.clone()));
        connector
    }
}

/// Sends requests through the proxy, or directly to addresses of this machine.
#[derive(Clone, Debug)]
struct Routed {
    proxied: SharedHttpConnector,
    direct: SharedHttpConnector,
}

impl HttpConnector for Routed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().parse::<http::Uri>().ok();
        let is_direct = uri.as_ref().and_then(http::Uri::host).is_some_and(is_of_this_machine);
        if is_direct { self.direct.call(request) } else { self.proxied.call(request) }
    }
}

/// Whether a host is reachable from this machine only: a loopback or link-local address, or the metadata service of EC2 or
/// EKS by IPv6 (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html>,
/// <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html>). A proxy could not reach what is meant, and
/// would see the token of a container in clear.
fn is_of_this_machine(host: &str) -> bool {
    const METADATA_V6: [Ipv6Addr; 2] =
        [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)];
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unicast_link_local() || METADATA_V6.contains(&address)
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// `http`, with answers that are read to their end, and not beyond a size that none of AWS's has.
pub(super) fn bounded(http: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Bounded(http))
}

#[derive(Debug)]
struct Bounded(SharedHttpClient);

impl HttpClient for Bounded {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(self.0.http_connector(settings, components)))
    }
}

#[derive(Clone, Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async { read_whole(answer.await?).await })
    }
}

/// `http`, which is [`bounded`], with the attempts of the exporter's own operations paced, timed and counted.
pub(super) fn metered(
    http: SharedHttpClient,
    limiter: Arc<TargetLimiter>,
    telemetry: TargetTelemetry,
) -> SharedHttpClient {
    SharedHttpClient::new(InstrumentedClient { http, limiter, telemetry })
}

#[derive(Debug)]
struct InstrumentedClient {
    http: SharedHttpClient,
    limiter: Arc<TargetLimiter>,
    telemetry: TargetTelemetry,
}

impl HttpClient for InstrumentedClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(InstrumentedConnector {
            inner: self.http.http_connector(settings, components),
            limiter: Arc::clone(&self.limiter),
            telemetry: self.telemetry.clone(),
        })
    }
}

#[derive(Clone, Debug)]
struct InstrumentedConnector {
    inner: SharedHttpConnector,
    limiter: Arc<TargetLimiter>,
    telemetry: TargetTelemetry,
}

impl HttpConnector for InstrumentedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let operation = request.extension::<Operation>().map_or_else(String::new, |operation| operation.0.clone());
            this.limiter.permit(&operation).await;
            trace!(target = this.limiter.name(), operation, "request");
            this.telemetry.request_sent(&operation);
            let answer = this.inner.call(request);
            let limit = if operation == GET_CALLER_IDENTITY { credentials::ATTEMPT_TIMEOUT } else { ATTEMPT_TIMEOUT };
            let too_slow = |_| Err(ConnectorError::timeout(TooSlow(limit).into()));
            timeout(limit, answer).await.unwrap_or_else(too_slow)
        })
    }
}

/// Reads an answer to its end, so that an attempt ends here, and not while the SDK parses it.
async fn read_whole(mut response: HttpResponse) -> Result<HttpResponse, ConnectorError> {
    let body = Limited::new(response.take_body(), MAX_ANSWER).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            ConnectorError::other(TooLarge.into(), None)
        } else {
            ConnectorError::io(error)
        }
    })?;
    *response.body_mut() = SdkBody::from(body.to_bytes());
    Ok(response)
}

/// The operation that a request is an attempt of, told by [`Watch`] to the connector.
#[derive(Clone)]
struct Operation(String);

/// Names each attempt's operation for the connector, and counts the attempts that fail.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    telemetry: TargetTelemetry,
}

impl Watch {
    pub(super) fn new(telemetry: TargetTelemetry) -> Self {
        Self { telemetry }
    }
}

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().add_extension(Operation(operation(config)));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Err(failed)) = context.output_or_error() else { return Ok(()) };
        if failed.as_operation_error().is_some_and(is_gone) {
            return Ok(());
        }
        let status = context.response().map(|response| response.status().as_u16());
        let code = if let Some(connector) = failed.as_connector_error() {
            match connector {
                slow if slow.is_timeout() => "timeout".to_owned(),
                large if too_large(large) => "malformed".to_owned(),
                _ => "network".to_owned(),
            }
        } else if failed.is_timeout_error() {
            "timeout".to_owned()
        } else if failed.is_operation_error() || failed.is_response_error() {
            error::code(status, failed.as_operation_error().and_then(service_code))
        } else {
            // No request was made: there were no credentials for it, for one. The refresh tells of that.
            return Ok(());
        };
        self.telemetry.request_failed(&operation(config), &code);
        Ok(())
    }
}

fn too_large(error: &ConnectorError) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<TooLarge>)
}

fn operation(config: &ConfigBag) -> String {
    config.load::<Metadata>().map_or_else(String::new, |metadata| metadata.name().to_owned())
}

/// Whether it says that a job is gone, which is an answer like any other: jobs are deleted between a walk and a description.
fn is_gone(error: &ErasedError) -> bool {
    error.downcast_ref().is_some_and(DescribeJobError::is_resource_not_found_exception)
}

/// AWS's code in an error of one of the exporter's operations, whose type the SDK has erased here.
fn service_code(error: &ErasedError) -> Option<&str> {
    fn code<E>(error: &ErasedError) -> Option<&str>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        error.downcast_ref::<E>().and_then(ProvideErrorMetadata::code)
    }
    code::<ListJobsError>(error)
        .or_else(|| code::<DescribeJobError>(error))
        .or_else(|| code::<GetCallerIdentityError>(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers everything with this status, in place of a network.
    #[derive(Debug)]
    struct Answering(u16);

    impl HttpConnector for Answering {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let status = self.0.try_into().expect("a status");
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::empty())))
        }
    }

    #[tokio::test]
    async fn metadata_services_are_never_asked_through_a_proxy() {
        let [proxied, direct] = [502, 200].map(|status| SharedHttpConnector::new(Answering(status)));
        let routed = Routed { proxied, direct };
        for (uri, status) in [
            ("http://169.254.169.254/latest/api/token", 200),
            ("http://169.254.170.23/v1/credentials", 200),
            ("http://[fd00:ec2::23]/v1/credentials", 200),
            ("http://127.0.0.1:8080/", 200),
            ("https://iot.eu-west-1.amazonaws.com/jobs", 502),
        ] {
            let answer = routed.call(HttpRequest::get(uri).expect("a request")).await.expect("an answer");
            assert_eq!(answer.status().as_u16(), status, "{uri}");
        }
    }

    #[test]
    fn metadata_services_and_loopback_are_of_this_machine() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
        ] {
            assert!(is_of_this_machine(host), "{host}");
        }
        for host in ["iot.eu-west-1.amazonaws.com", "10.0.0.1", "192.168.1.1", "[fd00::1]", "169.254.example", ""] {
            assert!(!is_of_this_machine(host), "{host}");
        }
    }
}
