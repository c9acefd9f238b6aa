//! Listen addresses, in the spelling of every Prometheus exporter.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// An address to listen on: `:10114` (every interface), `127.0.0.1:0`, `[::1]:9100` or `localhost:9100`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ListenAddress {
    host: Option<Host>,
    port: u16,
}

/// What stands before the port of a [`ListenAddress`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, written in brackets.
    V6(Ipv6Addr),
    /// A name to resolve, in lower case.
    Name(String),
}

impl ListenAddress {
    /// The interface to listen on; `None` for all of them, IPv4 and IPv6.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The TCP port; 0 for one that the system picks.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A text that is not a listen address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a listen address is :PORT or HOST:PORT, with an IPv6 address in brackets")]
pub struct InvalidListenAddress;

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidListenAddress)?;
        // `u16::from_str` takes a plus sign.
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidListenAddress);
        }
        let port = port.parse().map_err(|_| InvalidListenAddress)?;
        let host = if host.is_empty() { None } else { Some(host.parse()?) };
        Ok(Self { host, port })
    }
}

impl FromStr for Host {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(v6) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return v6.parse().map(Self::V6).map_err(|_| InvalidListenAddress);
        }
        if let Ok(v4) = text.parse() {
            return Ok(Self::V4(v4));
        }
        // A last part of digits alone makes it a mistyped IPv4 address, which no resolver would know.
        let last_part = text.rsplit('.').next().unwrap_or_default();
        if is_host_name(text) && !last_part.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self::Name(text.to_ascii_lowercase()))
        } else {
            Err(InvalidListenAddress)
        }
    }
}

/// A DNS name (RFC 1123), with the underscore that container networks allow.
fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl TryFrom<String> for ListenAddress {
    type Error = InvalidListenAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, ":{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_exporters_take_is_read_and_written_back() {
        for text in [":10114", "127.0.0.1:0", "[::1]:9", "[::]:65535", "localhost:9100", "a-b.c_d.example:1"] {
            assert_eq!(text.parse::<ListenAddress>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn no_host_is_every_interface() {
        let address: ListenAddress = ":10114".parse().expect("an address");
        assert_eq!((address.host(), address.port()), (None, 10114));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":",
            "10114",
            "localhost",
            "::1:9",
            "[::1]",
            "[::1:9",
            "::1]:9",
            "[localhost]:9",
            "[]:9",
            ":65536",
            ":-1",
            ":+1",
            ":9 ",
            " :9",
            "a b:9",
            "http://a:9",
            "256.0.0.1:9",
            "1.2.3:9",
            "-a:9",
            "a..b:9",
            "a:9:",
            "é:9",
            "[fe80::1%eth0]:9",
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(InvalidListenAddress), "{text}");
        }
    }
}
