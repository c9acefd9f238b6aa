//! One connection: its requests' bodies are read within bounds, then the replier decides what becomes of them.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::door::Door;
use super::patience::{Patient, Phase};
use super::{Body, Limits, Replier, Reply, Response};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// hyper refuses, by a panic, to work with a smaller buffer.
const SMALLEST_BUFFER: usize = 8192;

/// Everything that connections have in common.
pub(super) struct Protocol {
    http1: http1::Builder,
    limits: Limits,
    replier: Replier,
    door: Arc<Door>,
}

impl Protocol {
    pub(super) fn new(limits: Limits, replier: Replier, door: Arc<Door>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // Runs from the end of a response to the end of the next header: see `patience`.
            .header_read_timeout(limits.idle_timeout)
            .max_buf_size(limits.max_header_bytes.max(SMALLEST_BUFFER));
        Self { http1, limits, replier, door }
    }

    /// The future that serves `stream` until either side closes it, or `graceful` tells it to finish.
    pub(super) fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = hyper::Result<()>> + use<> {
        let phase = Phase::fresh();
        let io = TokioIo::new(Patient::new(stream, phase.clone(), TcpStream::set_zero_linger, &self.limits));
        let (limits, replier, door) = (self.limits.clone(), self.replier.clone(), self.door.clone());
        let service = service_fn(move |request| {
            respond(request, peer, phase.clone(), limits.clone(), replier.clone(), door.clone())
        });
        graceful.watch(self.http1.serve_connection(io, service))
    }
}

async fn respond(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    phase: Phase,
    limits: Limits,
    replier: Replier,
    door: Arc<Door>,
) -> Result<hyper::Response<Sending>, BoxError> {
    phase.header_is_complete();
    let (mut head, body) = request.into_parts();
    let reply = match read_whole(body, &limits).await {
        Ok(body) => {
            head.extensions.insert(peer);
            replier(super::Request::from_parts(head, body)).await
        }
        Err(BodyFault::TooLarge) => refusal(StatusCode::PAYLOAD_TOO_LARGE).into(),
        Err(BodyFault::TooSlow) => refusal(StatusCode::REQUEST_TIMEOUT).into(),
        Err(BodyFault::Broken(error)) => return Err(error),
    };
    match reply {
        Reply::Response(response) => {
            phase.response_is_ready();
            return Ok(response.map(|body| Sending { body, phase }));
        }
        Reply::Hang => debug!(%peer, "leaving a request without a response"),
        Reply::Reset => phase.reset(),
        Reply::Refuse(pause) => {
            door.close_for(pause);
            phase.reset();
        }
    }
    // The end of the connection ends this: the client's, the drain's, or the one that was just asked for.
    pending().await
}

/// A body on its way to its client. Where it fails, the connection is closed once what came before is sent: an error
/// told to hyper would throw that away.
struct Sending {
    body: Body,
    phase: Phase,
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => Poll::Ready(None),
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(_)) => {
                self.phase.close();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
