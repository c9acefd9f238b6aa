//! One connection: its TLS handshake and its requests. Each request is authorized, read within limits, and answered by
//! the handler.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use ::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::security::{self, ListenerPolicy};
use super::timeouts::{ConnectionState, TimeoutStream};
use super::{Handler, Limits, Request, Response, ResponseBody, status_response};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The buffers of a connection. With hyper's default, 512 connections could take 200 MB.
const BUFFER_BYTES: usize = 16 * 1024;

/// Serves the connections of one listener.
#[derive(Clone)]
pub(super) struct Protocol {
    pub(super) limits: Limits,
    pub(super) handler: Handler,
    pub(super) policy: ListenerPolicy,
}

impl Protocol {
    /// Serves `stream` until either side closes it. When it is too old, or `stopped` resolves, the current request is
    /// its last.
    ///
    /// # Errors
    /// If the handshake fails, or the connection breaks or times out.
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        state: ConnectionState,
        stopped: impl Future<Output = ()>,
    ) -> Result<(), BoxError> {
        let too_old = sleep(self.limits.max_connection_age);
        let mut ends = pin!(async {
            tokio::select! {
                () = stopped => {}
                () = too_old => {}
            }
        });
        let tls = self.policy.access_control.tls();
        if tls.is_some() {
            state.input_exhausted();
        }
        let stream = tokio::select! {
            stream = security::handshake(stream, tls, self.limits.header_timeout) => stream?,
            () = &mut ends => return Ok(()),
        };
        let io = TokioIo::new(TimeoutStream::new(stream, state.clone(), &self.limits));
        let http1 = self.http1();
        let service = service_fn(move |request| Arc::clone(&self).respond(request, peer, state.clone()));
        let mut connection = pin!(http1.serve_connection(io, service));
        tokio::select! {
            ended = &mut connection => return Ok(ended?),
            () = ends => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }

    fn http1(&self) -> http1::Builder {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // See `timeouts`.
            .header_read_timeout(self.limits.idle_timeout)
            // A client that has closed its side still gets its response (RFC 9112, section 9.6).
            .half_close(true)
            .max_header_size(self.limits.max_header_bytes)
            .max_buf_size(BUFFER_BYTES);
        http1
    }

    async fn respond(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        peer: SocketAddr,
        state: ConnectionState,
    ) -> Result<hyper::Response<ResponseBody>, BoxError> {
        state.request_started();
        let (mut head, body) = request.into_parts();
        let mut response = match self.policy.authorize(&mut head, peer).await {
            Err(refusal) if body.is_end_stream() => refusal,
            // The body of a request that is not authorized is not read.
            Err(refusal) => closing(refusal, &state),
            Ok(()) => match read_body(body, &self.limits).await {
                Ok(body) => {
                    head.extensions.insert(peer);
                    (self.handler)(Request::from_parts(head, body)).await
                }
                Err(BodyError::TooLarge) => closing(status_response(StatusCode::PAYLOAD_TOO_LARGE), &state),
                Err(BodyError::TooSlow) => closing(status_response(StatusCode::REQUEST_TIMEOUT), &state),
                Err(BodyError::Broken(error)) => return Err(error),
            },
        };
        self.policy.access_control.add_headers(response.headers_mut());
        Ok(response.map(|body| body.tracked_by(state)))
    }
}

/// Why the body of a request could not be read.
enum BodyError {
    TooLarge,
    TooSlow,
    /// The client has disconnected, or its framing is wrong.
    Broken(BoxError),
}

async fn read_body(body: Incoming, limits: &Limits) -> Result<Bytes, BodyError> {
    // A body with a Content-Length above the limit is refused without reading it.
    if body.size_hint().lower() > u64::try_from(limits.max_body_bytes).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge);
    }
    let whole = Limited::new(body, limits.max_body_bytes).collect();
    match timeout(limits.body_timeout, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(error)) => Err(BodyError::Broken(error)),
        Err(_elapsed) => Err(BodyError::TooSlow),
    }
}

/// Makes `response` the last one of its connection, because the unread rest of a body precedes the next request.
fn closing(mut response: Response, state: &ConnectionState) -> Response {
    state.request_refused();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
