//! The HTTPS client for all requests: proxies, connection pools, and the size limit of answers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_iot::config::http::HttpRequest;
use aws_sdk_iot::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::pool::{self, ConnectionPool};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper_util::client::proxy::matcher::Matcher;

/// The largest answer, in bytes: far above any real one (a page of 250 jobs has about 100 KB), and harmless for
/// memory.
const MAX_ANSWER: usize = 16 << 20;

/// How long an idle connection is kept. Shorter than the timeouts of firewalls and load balancers; many drop a
/// connection silently after 60 s or more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The interval of the kernel's probes on a silent connection.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// An answer larger than [`MAX_ANSWER`].
#[derive(Debug, thiserror::Error)]
#[error("the answer is larger than {MAX_ANSWER} bytes")]
pub(super) struct TooLarge;

/// Whether requests go through a proxy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proxies {
    /// The proxies of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, except for addresses of this machine: see
    /// [`is_of_this_machine`].
    FromEnvironment,
    /// No proxy.
    None,
}

/// An HTTPS client that trusts the certificates in `trust`. All its users share its connections.
pub(super) fn client(proxies: Proxies, trust: TrustStore) -> SharedHttpClient {
    SharedHttpClient::new(Https(Arc::new(Shared { proxies, trust, pools: Arc::default() })))
}

/// The proxy of the environment for a URL, by the rules of the client: host and port; `None` if it is called directly.
pub(super) fn proxy_of(url: &http::Uri) -> Option<String> {
    if is_of_this_machine(url.host()?) {
        return None;
    }
    let proxy = Matcher::from_env().intercept(url)?;
    let default_port = if proxy.uri().scheme_str() == Some("https") { 443 } else { 80 };
    Some(format!("{}:{}", proxy.uri().host()?, proxy.uri().port_u16().unwrap_or(default_port)))
}

#[derive(Debug)]
struct Https(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    proxies: Proxies,
    trust: TrustStore,
    pools: Arc<Pools>,
}

impl HttpClient for Https {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(HttpsConnector {
            shared: Arc::clone(&self.0),
            settings: settings.clone(),
            components: components.clone(),
        })
    }
}

/// The connection pool of each origin, such as `https://iot.eu-west-1.amazonaws.com`.
#[derive(Debug, Default)]
struct Pools(Mutex<HashMap<String, Pool>>);

/// Connections without a failed request.
#[derive(Clone, Debug)]
struct Pool {
    client: pool::Client,
    /// Distinguishes this pool from its replacement.
    identity: Arc<()>,
}

impl Pools {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
struct HttpsConnector {
    shared: Arc<Shared>,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpsConnector {
    /// The pool of an origin. Creates one if there is none.
    fn pool(&self, origin: &str, host: &str) -> Result<Pool, BoxError> {
        let mut pools = self.shared.pools.lock();
        if let Some(pool) = pools.get(origin) {
            return Ok(pool.clone());
        }
        let proxies = match self.shared.proxies {
            Proxies::FromEnvironment if !is_of_this_machine(host) => ProxyConfig::from_env(),
            _ => ProxyConfig::disabled(),
        };
        let mut builder = ConnectionPool::builder()
            .idle_timeout(IDLE_TIMEOUT)
            .tcp_keepalive(TCP_KEEPALIVE)
            .proxy_config(proxies)
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .tls_context(TlsContext::builder().with_trust_store(self.shared.trust.clone()).build()?);
        builder.set_sleep_impl(self.components.sleep_impl());
        let pool = Pool { client: pool::Client::new(&builder.build_https()?)?, identity: Arc::default() };
        pools.insert(origin.to_owned(), pool.clone());
        Ok(pool)
    }
}

impl HttpConnector for HttpsConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Some((origin, host)) = origin(request.uri()) else {
            return HttpConnectorFuture::ready(Err(ConnectorError::user("the request's URL has no host".into())));
        };
        let pool = match self.pool(&origin, &host) {
            Ok(pool) => pool,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::other(error, None))),
        };
        let answer = pool.client.http_connector(&self.settings, &self.components).call(request);
        let unanswered = Unanswered { pools: Arc::clone(&self.shared.pools), origin, identity: pool.identity };
        HttpConnectorFuture::new(async {
            let answer = answer.await?;
            unanswered.answered();
            Ok(answer)
        })
    }
}

/// A request without an answer so far. Dropping it replaces the pool: a firewall that drops one connection silently
/// has probably dropped the others of the pool, too.
struct Unanswered {
    pools: Arc<Pools>,
    origin: String,
    identity: Arc<()>,
}

impl Unanswered {
    fn answered(mut self) {
        self.origin.clear();
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let mut pools = self.pools.lock();
        if pools.get(&self.origin).is_some_and(|pool| Arc::ptr_eq(&pool.identity, &self.identity)) {
            pools.remove(&self.origin);
        }
    }
}

/// Scheme, host and port of a URL, and the host alone.
fn origin(url: &str) -> Option<(String, String)> {
    let url: http::Uri = url.parse().ok()?;
    let (scheme, authority) = (url.scheme()?, url.authority()?);
    Some((format!("{scheme}://{authority}"), authority.host().to_owned()))
}

/// Whether a host is reachable only from this machine: a loopback or link-local address, or the metadata service of
/// EC2 or EKS by IPv6 (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html>,
/// <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html>). A proxy could not reach the same
/// host, and would see the token of a container in clear.
fn is_of_this_machine(host: &str) -> bool {
    const METADATA_V6: [Ipv6Addr; 2] =
        [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)];
    let address =
        host.trim_start_matches('[').trim_end_matches(']').parse().map(|address: IpAddr| address.to_canonical());
    match address {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unicast_link_local() || METADATA_V6.contains(&address)
        }
        Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}

/// Wraps `http` to read answers to their end, up to [`MAX_ANSWER`].
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

/// Reads an answer to its end, so that the SDK parses only answers within the limit.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_and_loopback_are_of_this_machine() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "127.0.0.1",
            "localhost",
            "LOCALHOST.",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
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

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |url| origin(url).map(|(origin, host)| format!("{origin} {host}"));
        assert_eq!(origin("https://a.test/jobs?x=1").as_deref(), Some("https://a.test a.test"));
        assert_eq!(origin("http://[::1]:8080/").as_deref(), Some("http://[::1]:8080 [::1]"));
        assert_eq!(origin("/jobs"), None);
    }
}
