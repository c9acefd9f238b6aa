//! Credentials from the metadata services of containers (ECS, EKS) and instances (EC2).
//!
//! The SDK sends the requests, but its errors name neither the service nor its answer. So this module observes the
//! requests.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::Profile;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{self, ProvideCredentials};
use aws_sdk_iot::config::http::HttpRequest;
use aws_sdk_iot::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use tokio::time::timeout;

use super::{SOURCE_TIMEOUT, SourceError, read_token};
use crate::aws::error::{chain, one_line};

const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// Why there are no credentials.
#[derive(Debug)]
pub(super) enum Missed {
    /// The source does not exist, so another one may be meant.
    Absent(String),
    /// The source exists and failed.
    Failed(SourceError),
}

/// The credentials of the container's metadata service; `None` if no variable names one.
pub(super) async fn container(base: &SdkConfig) -> Option<Result<Credentials, SourceError>> {
    let variable = [RELATIVE_URI, FULL_URI].into_iter().find(|name| std::env::var_os(name).is_some())?;
    if let Err(fault) = check_token().await {
        return Some(Err(SourceError::new(fault)));
    }
    let exchanges = Exchanges::default();
    let settings = settings(base, &exchanges);
    let provider = EcsCredentialsProvider::builder().configure(&settings).build();
    let asked = timeout(SOURCE_TIMEOUT, provider.provide_credentials()).await;
    let failed = |outcome: String| SourceError::new(format!("container metadata, which {variable} names, {outcome}"));
    Some(match asked {
        Ok(Ok(credentials)) => Ok(credentials),
        Ok(Err(error)) => Err(failed(exchanges.outcome(|| format!("gave no credentials: {}", chain(&error))))),
        Err(_) => Err(failed(format!("did not answer within {} s", SOURCE_TIMEOUT.as_secs()))),
    })
}

/// Checks the token for the container's service before it is sent.
async fn check_token() -> Result<(), String> {
    let (variable, token) = if let Ok(path) = std::env::var(TOKEN_FILE) {
        let token = read_token(Path::new(&path)).await;
        (TOKEN_FILE, token.map_err(|fault| format!("{TOKEN_FILE} names {}, which {fault}", one_line(&path)))?)
    } else {
        (TOKEN, std::env::var(TOKEN).unwrap_or_default())
    };
    let is_fit = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if token.bytes().all(is_fit) {
        return Ok(());
    }
    Err(format!("the token of {variable} contains a line end or another character that no header can have"))
}

/// The credentials of the instance's metadata service. The profile can name its endpoint.
pub(super) async fn instance(base: &SdkConfig, profile: Option<&Profile>) -> Result<Credentials, Missed> {
    if std::env::var(DISABLED).is_ok_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(Missed::Absent(format!("instance metadata is disabled by {DISABLED}")));
    }
    let exchanges = Exchanges::default();
    let settings = settings(base, &exchanges);
    let mut client = imds::Client::builder().configure(&settings);
    let of_profile = |key: &str| profile.and_then(|profile| profile.get(key));
    // The environment precedes the profile; the SDK reads it itself.
    if std::env::var_os(ENDPOINT).is_none() {
        if let Some(url) = of_profile("ec2_metadata_service_endpoint") {
            let wrong =
                |_| Missed::Failed(SourceError::new("ec2_metadata_service_endpoint of the profile is not a URL"));
            client = client.endpoint(url).map_err(wrong)?;
        } else if let Some(Ok(mode)) = of_profile("ec2_metadata_service_endpoint_mode").map(str::parse) {
            client = client.endpoint_mode(mode);
        }
    }
    let provider = ImdsCredentialsProvider::builder().configure(&settings).imds_client(client.build()).build();
    let asked = timeout(SOURCE_TIMEOUT, provider.provide_credentials()).await;
    let asked: provider::Result =
        asked.unwrap_or_else(|_| Err(provider::error::CredentialsError::provider_timed_out(SOURCE_TIMEOUT)));
    let error = match asked {
        Ok(credentials) => return Ok(credentials),
        Err(error) => error,
    };
    let outcome = exchanges.outcome(|| format!("gave no credentials: {}", chain(&error)));
    let (address, named) = (exchanges.address(), |rest: &str| format!("instance metadata{rest}"));
    let of_address = address.map(|address| format!(" ({address})")).unwrap_or_default();
    match exchanges.last() {
        Some(Outcome::Answered(404)) => {
            let meaning = "the instance has no role, or this is not a metadata service";
            Err(Missed::Absent(named(&format!("{of_address} answered 404: {meaning}"))))
        }
        Some(Outcome::Answered(_)) => Err(Missed::Failed(SourceError::new(named(&format!("{of_address} {outcome}"))))),
        Some(Outcome::TimedOut(_)) => {
            let hint = "in a container on EC2, the hop limit of the instance's metadata must be 2";
            Err(Missed::Absent(named(&format!("{of_address} {outcome} ({hint})"))))
        }
        _ => Err(Missed::Absent(named(&format!("{of_address} {outcome}")))),
    }
}

fn settings(base: &SdkConfig, exchanges: &Exchanges) -> ProviderConfig {
    let mut settings = ProviderConfig::without_region()
        .with_region(base.region().cloned())
        .with_behavior_version(Some(BehaviorVersion::v2026_01_12()));
    if let Some(http) = base.http_client() {
        settings = settings.with_http_client(ObservedClient { http, exchanges: exchanges.clone() });
    }
    if let Some(time) = base.time_source() {
        settings = settings.with_time_source(time);
    }
    settings
}

/// The result of the last request to a service. Clones share it.
#[derive(Clone, Debug, Default)]
struct Exchanges(Arc<Mutex<Option<(String, Outcome)>>>);

#[derive(Clone, Debug)]
enum Outcome {
    Answered(u16),
    /// After this time.
    TimedOut(Option<Duration>),
    /// The reason, in one line.
    Unreachable(String),
}

impl Exchanges {
    fn last(&self) -> Option<Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, outcome)| outcome.clone())
    }

    /// The scheme, host and port of the request.
    fn address(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(address, _)| address.clone())
    }

    /// The end of a sentence that begins with the service; `otherwise` if the request itself succeeded.
    fn outcome(&self, otherwise: impl FnOnce() -> String) -> String {
        match self.last() {
            Some(Outcome::Answered(status)) if !(200..300).contains(&status) => format!("answered {status}"),
            Some(Outcome::TimedOut(Some(limit))) => format!("did not answer within {} s", limit.as_secs_f32()),
            Some(Outcome::TimedOut(None)) => "did not answer in time".to_owned(),
            Some(Outcome::Unreachable(reason)) => format!("cannot be reached: {reason}"),
            Some(Outcome::Answered(_)) | None => otherwise(),
        }
    }
}

/// Records the result of each request.
#[derive(Debug)]
struct ObservedClient {
    http: SharedHttpClient,
    exchanges: Exchanges,
}

impl HttpClient for ObservedClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(ObservedConnector {
            inner: self.http.http_connector(settings, components),
            limit: settings.read_timeout(),
            exchanges: self.exchanges.clone(),
        })
    }
}

#[derive(Clone, Debug)]
struct ObservedConnector {
    inner: SharedHttpConnector,
    limit: Option<Duration>,
    exchanges: Exchanges,
}

impl HttpConnector for ObservedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().parse::<http::Uri>().ok();
        let address = uri.as_ref().and_then(|uri| {
            let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
            Some(format!("{}://{}{port}", uri.scheme_str()?, uri.host()?))
        });
        let (answer, limit, exchanges) = (self.inner.call(request), self.limit, self.exchanges.clone());
        HttpConnectorFuture::new(async move {
            let answer = answer.await;
            let outcome = match &answer {
                Ok(answer) => Outcome::Answered(answer.status().as_u16()),
                Err(error) if error.is_timeout() => Outcome::TimedOut(limit),
                Err(error) => Outcome::Unreachable(chain(error)),
            };
            let known = Some((address.unwrap_or_default(), outcome));
            *exchanges.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
            answer
        })
    }
}
