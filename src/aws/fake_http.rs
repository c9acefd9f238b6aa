//! For tests: an HTTP client with scripted answers, without sockets.

use std::future::ready;
use std::sync::Arc;

use aws_smithy_types::body::SdkBody;
use http::HeaderValue;

use super::*;
use crate::proptests::answers::Answer;

/// Converts an answer as the real client does: headers that HTTP cannot transport are dropped.
fn response(Answer { status, headers, body }: Answer) -> http::Response<SdkBody> {
    let mut response = http::Response::new(SdkBody::from(body));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Client options that answer each request by its path.
pub(crate) fn options(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> ClientOptions {
    ClientOptions {
        http: fake_connector::client(move |request| ready(Ok(response(answer(request.uri().path()))))),
        ..ClientOptions::local("AKIATESTTESTTESTTEST", "secret")
    }
}

/// A target with a configured account.
pub(crate) fn target() -> Target {
    Target {
        name: Some("t".to_owned()),
        region: Some("eu-west-1".to_owned()),
        account_id: AccountId::parse("012345678901").ok(),
        endpoint_url: Some("http://simulator.test".to_owned()),
        ..Target::default()
    }
}

/// A connection to such a client. The environment is read once for all tests, because that takes longer than
/// everything else.
pub(super) async fn connection(options: &ClientOptions, counters: Arc<TargetCounters>) -> Connection {
    open(options, None, counters).await
}

/// The same, with the credentials of the test.
pub(super) async fn connection_with(
    options: &ClientOptions,
    credentials: Credentials,
    counters: Arc<TargetCounters>,
) -> Connection {
    open(options, Some(credentials), counters).await
}

async fn open(options: &ClientOptions, credentials: Option<Credentials>, counters: Arc<TargetCounters>) -> Connection {
    static FOUND: tokio::sync::OnceCell<Resolved> = tokio::sync::OnceCell::const_new();
    let found = FOUND.get_or_init(|| async {
        let nothing = self::options(|_| Answer::good(""));
        resolve(&target(), &nothing, Clock::system()).await.expect("a target")
    });
    let Resolved { sdk, clock, region, target, .. } = found.await;
    let mut sdk = sdk.to_builder().http_client(http_client::bounded(options.http.clone()));
    if let Some(credentials) = credentials {
        sdk = sdk.credentials_provider(SharedCredentialsProvider::new(credentials));
    }
    let (sdk, credential_requests) = (sdk.build(), CredentialRequests::default());
    let (clock, region, target) = (*clock, region.clone(), target.clone());
    let resolved = Resolved { sdk, clock, region, target, credential_requests, found_in: FoundIn::default() };
    Connection::open(resolved, &Arc::new(RateLimiters::new(1000.0)), counters)
}
