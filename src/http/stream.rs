//! The bytes of a connection, in the clear or by TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What somebody hears who speaks HTTP where HTTPS is spoken, in a form that every client shows.
const NOT_HTTPS: &[u8] = b"HTTP/1.0 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\n\r\nThis port speaks HTTPS, and the request was HTTP.\n";

/// A connection that is ready for HTTP.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Makes `stream` ready: with a TLS configuration by a handshake, which may take as long as `limit`.
    ///
    /// # Errors
    /// Where the handshake fails, or takes too long.
    pub(super) async fn open(stream: TcpStream, tls: Option<Arc<ServerConfig>>, limit: Duration) -> io::Result<Self> {
        let Some(config) = tls else { return Ok(Self::Plain(stream)) };
        let too_long = |_| io::Error::new(io::ErrorKind::TimedOut, "the client does not finish its handshake");
        timeout(limit, handshake(stream, config)).await.map_err(too_long)?
    }
}

async fn handshake(mut stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // A handshake begins with 22 (RFC 8446, section 5.1), and a request with the letters of its method.
    if first[0].is_ascii_uppercase() {
        // What is not read would turn the end of the connection into a reset, and that can overtake the answer.
        let _ = stream.read(&mut [0; 4096]).await?;
        stream.write_all(NOT_HTTPS).await?;
        stream.shutdown().await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks HTTP where HTTPS is spoken"));
    }
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Calls the same method on the stream within.
macro_rules! either {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match $self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, poll_write, cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write_vectored, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown, cx)
    }
}
