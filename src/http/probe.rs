//! Asking a server that runs beside this program, in plain HTTP, whether it answers a path with 200.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

/// More than the first line of an answer can be.
const LONGEST: usize = 1024;

/// Why a server is not taken for well.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It can't be reached, or does not answer in time.
    #[error("{address} does not answer: {source}")]
    Silent {
        /// What was asked.
        address: SocketAddr,
        /// What came of it.
        source: io::Error,
    },
    /// What it answers is not HTTP.
    #[error("{0} does not answer in plain HTTP")]
    Unintelligible(SocketAddr),
    /// It answers with another status than 200.
    #[error("{address} answers {status}")]
    Unwell {
        /// What was asked.
        address: SocketAddr,
        /// What it answered.
        status: u16,
    },
}

/// Asks `address` for `path`, and takes no longer than about `patience`, however slowly it answers.
///
/// # Errors
/// Where the answer is not 200.
pub fn probe(address: SocketAddr, path: &str, patience: Duration) -> Result<(), ProbeError> {
    let answer = ask(address, path, patience).map_err(|source| ProbeError::Silent { address, source })?;
    match status(&answer) {
        Some(200) => Ok(()),
        Some(status) => Err(ProbeError::Unwell { address, status }),
        None => Err(ProbeError::Unintelligible(address)),
    }
}

/// The beginning of the answer, with the whole of its first line where that is not too long.
fn ask(address: SocketAddr, path: &str, patience: Duration) -> io::Result<Vec<u8>> {
    let begun = Instant::now();
    let left = || patience.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()).ok_or(ErrorKind::TimedOut);
    let mut socket = TcpStream::connect_timeout(&address, left()?)?;
    socket.set_write_timeout(Some(left()?))?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; LONGEST];
    while answer.len() < LONGEST && !answer.contains(&b'\n') {
        socket.set_read_timeout(Some(left()?))?;
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What a timeout of a socket is called differs by system.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// The status in the first line of an answer.
fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.trim_end().split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    // `u16::from_str` takes a plus sign.
    words.next().filter(|status| status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What becomes of a probe that is answered like this, byte by byte.
    fn answered(answer: &'static [u8]) -> Result<(), ProbeError> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a connection");
            let mut request = [0; LONGEST];
            let read = socket.read(&mut request).expect("a request");
            for byte in answer {
                // Whoever has heard enough hangs up.
                let _ = socket.write_all(&[*byte]);
            }
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let outcome = probe(address, "/-/healthy", Duration::from_secs(10));
        let request = server.join().expect("a server");
        assert!(request.starts_with("GET /-/healthy HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        outcome
    }

    #[test]
    fn only_200_is_well() {
        assert!(answered(b"HTTP/1.1 200 OK\r\n\r\nHealthy.\n").is_ok());
        assert!(answered(b"HTTP/1.0 200\n").is_ok());
        for (answer, status) in
            [(&b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..], 503), (b"HTTP/1.1 204 \r\n\r\n", 204)]
        {
            assert!(matches!(answered(answer), Err(ProbeError::Unwell { status: told, .. }) if told == status));
        }
    }

    #[test]
    fn what_is_no_http_is_not_well() {
        let long: &[u8] = &[b'x'; 4 * LONGEST];
        for answer in
            [&b""[..], b"\x15\x03\x01\x00\x02\x02\x46", b"HTTP/2 200\r\n", b"HTTP/1.1 +20\r\n", b"HTTP/1.1\r\n", long]
        {
            assert!(matches!(answered(answer), Err(ProbeError::Unintelligible(_))), "{answer:?}");
        }
    }

    #[test]
    fn nobody_and_somebody_who_never_answers_are_not_well() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let Err(ProbeError::Silent { source, .. }) = probe(address, "/", Duration::from_millis(50)) else {
            panic!("an answer out of nowhere")
        };
        assert_eq!(source.kind(), ErrorKind::TimedOut);
        drop(listener);
        let Err(ProbeError::Silent { source, .. }) = probe(address, "/", Duration::from_secs(10)) else {
            panic!("an answer of nobody")
        };
        assert_eq!(source.kind(), ErrorKind::ConnectionRefused);
    }
}
