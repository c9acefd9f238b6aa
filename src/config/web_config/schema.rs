//! Defines every key of the web configuration. The format is that of the exporter-toolkit.

use std::collections::BTreeMap;

use http::HeaderValue;
use rustls::SupportedCipherSuite;
use serde_json::json;

use super::clients::ClientAuth;
use super::tls;
use super::users::{PasswordHash, user_name_error};
use crate::config::cursor::suggest;
use crate::config::key::{define_section, list, mapping, not_empty, section, unsupported};
use crate::config::secret::Secret;
use crate::config::value::{Scalar, boolean, word, word_or_refusal};

define_section! {
    /// A web configuration file.
    pub(in crate::config) struct WebFile {
        /// TLS and client certificates. Without it: plain HTTP.
        pub(super) tls_server_config: TlsServerConfig => section();
        /// Protocol and headers.
        pub(super) http_server_config: HttpServerConfig => section();
        /// The users of basic authentication, each with the bcrypt hash of a password. Without any, everybody has access.
        pub(super) basic_auth_users: BTreeMap<String, PasswordHash> => mapping(user_name_error, "NAME", password_hash());
        /// The exporter-toolkit's rate limit. Not supported.
        _rate_limit = "rate_limit": () => unsupported("is not supported: this exporter has no rate limit; remove it");
    }
}

define_section! {
    /// TLS and client certificates.
    pub(super) struct TlsServerConfig {
        /// File with the certificate in PEM, and those of its issuers. A relative path starts at the web configuration's folder.
        pub(super) cert_file: Option<Secret> => path("cert").optional();
        /// File with the private key in PEM.
        pub(super) key_file: Option<Secret> => path("key").optional();
        /// The certificate itself, instead of `cert_file`.
        pub(super) cert: Option<Secret> => pem().optional();
        /// The private key itself, instead of `key_file`.
        pub(super) key: Option<Secret> => pem().optional();
        /// Which certificates clients must have. The default is `NoClientCert`.
        pub(super) client_auth_type: Option<ClientAuth> => word(&tls::CLIENT_AUTH).optional();
        /// File with the certificates of the authorities that issue client certificates.
        pub(super) client_ca_file: Option<Secret> => path("client_ca").optional();
        /// Those certificates themselves, instead of `client_ca_file`.
        pub(super) client_ca: Option<Secret> => pem().optional();
        /// Subject alternative names, of which a client's certificate must have one.
        pub(super) client_allowed_sans: Vec<String> => not_empty(list(name()));
        /// The lowest TLS version: `TLS12` or `TLS13`.
        pub(super) min_version: usize => version().default("TLS12");
        /// The highest TLS version: `TLS12` or `TLS13`.
        pub(super) max_version: usize => version().default("TLS13");
        /// Cipher suites of TLS 1.2 and 1.3, by their registered names. Without them: all that are not known to be weak.
        pub(super) cipher_suites: Vec<SupportedCipherSuite> => list(cipher_suite());
        /// Whether the server's order of cipher suites counts.
        pub(super) prefer_server_cipher_suites: bool => boolean().default("true");
        /// Curves for the key exchange. Without them: `X25519MLKEM768`, `X25519`, `CurveP256` and `CurveP384`.
        pub(super) curve_preferences: Vec<&'static str> => list(curve());
    }
}

define_section! {
    /// Protocol and headers.
    pub(super) struct HttpServerConfig {
        /// HTTP/2, which is not supported: scrapers use HTTP/1.1.
        _http2 = "http2": bool => http1().default("false");
        /// Headers that every response gets.
        pub(super) headers: Headers => section();
    }
}

define_section! {
    /// The headers that the exporter-toolkit allows. An empty one is not sent.
    pub(super) struct Headers {
        /// The header `Content-Security-Policy`.
        pub(super) content_security_policy = "Content-Security-Policy": Option<HeaderValue> => header(&[]).default("");
        /// The header `Strict-Transport-Security`.
        pub(super) strict_transport_security = "Strict-Transport-Security": Option<HeaderValue> => header(&[]).default("");
        /// The header `X-Content-Type-Options`: `nosniff`.
        pub(super) x_content_type_options = "X-Content-Type-Options": Option<HeaderValue> => header(&["nosniff"]).default("");
        /// The header `X-Frame-Options`: `deny` or `sameorigin`.
        pub(super) x_frame_options = "X-Frame-Options": Option<HeaderValue> => header(&["deny", "sameorigin"]).default("");
        /// The header `X-XSS-Protection`.
        pub(super) x_xss_protection = "X-XSS-Protection": Option<HeaderValue> => header(&[]).default("");
    }
}

fn password_hash() -> Scalar<PasswordHash> {
    let mut hash = Scalar::new("the bcrypt hash of a password", json!({ "type": "string" }), PasswordHash::parse);
    hash.is_secret = true;
    hash
}

/// A path. Its text is never shown: by mistake it can be the key itself, which belongs in `inline`, or a URL with a
/// password.
fn path(inline: &'static str) -> Scalar<Secret> {
    let schema = json!({ "type": "string", "minLength": 1 });
    Scalar::new("the path of a file", schema, move |text| match text {
        "" => Err("is empty; give the path of a file".to_owned()),
        _ if text.contains("-----BEGIN") || text.contains('\n') => {
            Err(format!("is not a path; the content of the file belongs in {inline}"))
        }
        _ if text.contains("://") => Err("is a URL; give the path of a file".to_owned()),
        _ => Ok(text.to_owned()),
    })
    .secret()
}

fn pem() -> Scalar<Secret> {
    Scalar::new("PEM", json!({ "type": "string" }), |text| Ok(text.to_owned())).secret()
}

fn name() -> Scalar<String> {
    Scalar::new("a name", json!({ "type": "string" }), |text| Ok(text.to_owned()))
}

fn version() -> Scalar<usize> {
    let [(oldest, _), (newest, _)] = tls::VERSIONS;
    word_or_refusal(&[(oldest, 0), (newest, 1)], |text| {
        matches!(text, "TLS10" | "TLS11").then_some("is not supported; TLS12 and TLS13 are")
    })
}

fn cipher_suite() -> Scalar<SupportedCipherSuite> {
    word_or_refusal(&tls::SUITES, |text| {
        let is_weak =
            text.starts_with("TLS_RSA_") || ["_CBC_", "_RC4_", "_3DES_"].iter().any(|part| text.contains(part));
        is_weak.then_some("is not supported: suites with CBC, RC4 or without an ephemeral key exchange are too weak")
    })
}

fn curve() -> Scalar<&'static str> {
    word_or_refusal(&tls::CURVES.map(|(name, _)| (name, name)), |text| {
        (text == "CurveP521").then_some("is not supported; CurveP256, CurveP384 and X25519 are")
    })
}

fn http1() -> Scalar<bool> {
    let boolean = boolean();
    Scalar::new("false", json!({ "enum": [false] }), move |text| {
        if boolean.parse(text)? {
            return Err("is not supported: this exporter serves HTTP/1.1; remove it, or write false".to_owned());
        }
        Ok(false)
    })
}

/// A header with one of `values`, or with any value if there are none.
fn header(values: &'static [&'static str]) -> Scalar<Option<HeaderValue>> {
    let accepted =
        if values.is_empty() { "the value of a header".to_owned() } else { format!("one of {}", values.join(", ")) };
    Scalar::new(accepted, json!({ "type": ["string", "integer"] }), move |text| {
        if text.trim().is_empty() {
            return Ok(None);
        }
        if !values.is_empty() && !values.contains(&text) {
            let hint = suggest(text, values.iter().copied()).map(|value| format!("; did you mean {value}?"));
            return Err(format!("is not one of {}{}", values.join(", "), hint.unwrap_or_default()));
        }
        // Browsers interpret text other than ASCII differently.
        let value = HeaderValue::try_from(text).ok().filter(|value| value.to_str().is_ok());
        value.map(Some).ok_or_else(|| "is not the value of a header: ASCII on one line".to_owned())
    })
}
