//! One connection: its requests' bodies are read within bounds, then the handler answers.

use std::net::SocketAddr;

use ::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::patience::{Patient, Phase};
use super::{Handler, Limits, Response};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// hyper refuses, by a panic, to work with a smaller buffer.
const SMALLEST_BUFFER: usize = 8192;

/// Everything that connections have in common.
pub(super) struct Protocol {
    http1: http1::Builder,
    limits: Limits,
    handler: Handler,
}

impl Protocol {
    pub(super) fn new(limits: Limits, handler: Handler) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // Runs from the end of a response to the end of the next header: see `patience`.
            .header_read_timeout(limits.idle_timeout)
            .max_buf_size(limits.max_header_bytes.max(SMALLEST_BUFFER));
        Self { http1, limits, handler }
    }

    /// The future that serves `stream` until either side closes it, or `graceful` tells it to finish.
    pub(super) fn serve<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = hyper::Result<()>> + use<S>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let phase = Phase::fresh();
        let io = TokioIo::new(Patient::new(stream, phase.clone(), &self.limits));
        let (limits, handler) = (self.limits.clone(), self.handler.clone());
        let service = service_fn(move |request| respond(request, peer, phase.clone(), limits.clone(), handler.clone()));
        graceful.watch(self.http1.serve_connection(io, service))
    }
}

async fn respond(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    phase: Phase,
    limits: Limits,
    handler: Handler,
) -> Result<hyper::Response<Full<Bytes>>, BoxError> {
    phase.header_is_complete();
    let (mut head, body) = request.into_parts();
    let response = match read_whole(body, &limits).await {
        Ok(body) => {
            head.extensions.insert(peer);
            handler(super::Request::from_parts(head, body)).await
        }
        Err(BodyFault::TooLarge) => refusal(StatusCode::PAYLOAD_TOO_LARGE),
        Err(BodyFault::TooSlow) => refusal(StatusCode::REQUEST_TIMEOUT),
        Err(BodyFault::Broken(error)) => return Err(error),
    };
    phase.response_is_ready();
    Ok(response.map(Full::new))
}

/// Why a request has no whole body.
enum BodyFault {
    TooLarge,
    TooSlow,
    /// It ended early, or its framing is wrong: there is nobody left to answer.
    Broken(BoxError),
}

async fn read_whole(body: Incoming, limits: &Limits) -> Result<Bytes, BodyFault> {
    // A length that is announced needs no reading to be refused.
    if body.size_hint().lower() > u64::try_from(limits.max_body_bytes).unwrap_or(u64::MAX) {
        return Err(BodyFault::TooLarge);
    }
    let whole = Limited::new(body, limits.max_body_bytes).collect();
    match timeout(limits.body_timeout, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyFault::TooLarge),
        Ok(Err(error)) => Err(BodyFault::Broken(error)),
        Err(_elapsed) => Err(BodyFault::TooSlow),
    }
}

/// A refusal closes the connection, because the rest of the body still stands between this request and the next.
fn refusal(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::from_static(status.canonical_reason().unwrap_or_default().as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
