//! For tests and benchmarks: an HTTP client of the SDK without sockets. The unit tests, the integration tests and the
//! benchmarks share this file.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::HttpError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;

/// An answer, or the fault of the connection.
pub(crate) type Outcome = Result<http::Response<SdkBody>, ConnectorError>;

type Answer = dyn Fn(http::Request<Bytes>) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync;

/// A client whose requests are answered by `answer`.
pub(crate) fn client<F>(answer: impl Fn(http::Request<Bytes>) -> F + Send + Sync + 'static) -> SharedHttpClient
where
    F: Future<Output = Outcome> + Send + 'static,
{
    SharedHttpClient::new(FakeConnector(Arc::new(move |request| Box::pin(answer(request)))))
}

#[derive(Clone)]
struct FakeConnector(Arc<Answer>);

impl fmt::Debug for FakeConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeConnector")
    }
}

impl HttpClient for FakeConnector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for FakeConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self(answer) = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let request = request.map(|body| Bytes::copy_from_slice(body.bytes().unwrap_or_default()));
            let response = answer(request).await?;
            response.try_into().map_err(|error: HttpError| ConnectorError::other(error.into(), None))
        })
    }
}
