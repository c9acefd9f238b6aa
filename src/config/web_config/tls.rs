//! Converts the section `tls_server_config` to rustls.
//!
//! rustls has TLS 1.2 and 1.3, and only suites and curves without known weaknesses. All other values of the format are
//! refused by name.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::Files;
use super::clients::{ClientAuth, Clients};
use super::schema::TlsServerConfig;
use crate::config::cursor::Cursor;

/// The versions, by their names in the format, oldest first.
pub(super) static VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLS12", &TLS12), ("TLS13", &TLS13)];

/// The suites, by their registered names, which Go also uses: <https://www.iana.org/assignments/tls-parameters>.
pub(super) static SUITES: [(&str, SupportedCipherSuite); 9] = [
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The curves, by Go's names: <https://pkg.go.dev/crypto/tls#CurveID>.
pub(super) static CURVES: [(&str, &dyn SupportedKxGroup); 3] =
    [("CurveP256", kx_group::SECP256R1), ("CurveP384", kx_group::SECP384R1), ("X25519", kx_group::X25519)];

/// The policies for client certificates, by Go's names, and an older name of the exporter-toolkit for one of them.
pub(super) const CLIENT_AUTH: [(&str, ClientAuth); 6] = [
    ("NoClientCert", ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
    ("RequireClientCert", ClientAuth::RequireAny),
];

/// HTTP/1.1 in a handshake (RFC 7301, section 6).
const HTTP_1_1: &[u8] = b"http/1.1";

/// The TLS settings; `None` if the section is empty or invalid.
pub(super) fn server_config(spec: &TlsServerConfig, at: &Cursor<'_>, files: &mut Files) -> Option<Arc<ServerConfig>> {
    if at.entries().is_empty() {
        return None;
    }
    // All parts are read before any is used, so that all problems are reported at once.
    let identity = identity(spec, at, files);
    let clients = clients(spec, at, files);
    let versions = versions(spec, at);
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = suites(spec, at, &versions);
    if !spec.curve_preferences.is_empty() {
        let find = |name: &&str| CURVES.iter().find(|(known, _)| known == name).map(|(_, curve)| *curve);
        provider.kx_groups = spec.curve_preferences.iter().filter_map(find).collect();
    }
    if !at.is_valid() {
        return None;
    }
    match build(provider, identity?, clients, &versions) {
        Ok(mut config) => {
            config.ignore_client_order = spec.prefer_server_cipher_suites;
            Some(Arc::new(config))
        }
        Err(error) => {
            at.key("cert_file").report(format!("cannot be served with: {error}"));
            None
        }
    }
}

fn build(
    provider: CryptoProvider,
    identity: CertifiedKey,
    clients: Option<Clients>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)?;
    let verifier = match clients {
        Some(clients) => Arc::new(clients),
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let resolver = Arc::new(SingleCertAndKey::from(identity));
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    // A resumed session would outlive the client's certificate. Scrapers keep their connections, so resumption gains
    // little.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The server's certificate with its key.
fn identity(spec: &TlsServerConfig, at: &Cursor<'_>, files: &mut Files) -> Option<CertifiedKey> {
    for (inline, file) in [("cert", "cert_file"), ("key", "key_file")] {
        if at.omits(&[inline, file]) {
            at.key(file).report(format!("is missing, and so is {inline}: TLS needs a certificate and its key"));
        }
    }
    let certificates = files.pem(at, ("cert", &spec.cert), ("cert_file", &spec.cert_file));
    let key = files.pem(at, ("key", &spec.key), ("key_file", &spec.key_file));
    let chain = certificates.and_then(|(cursor, pem)| Some((chain(&cursor, &pem)?, cursor)));
    let key = key.and_then(|(cursor, pem)| Some((private_key(&cursor, &pem)?, cursor)));
    let ((chain, certificate_cursor), (key, key_cursor)) = (chain?, key?);
    let Ok(key) = aws_lc_rs::default_provider().key_provider.load_private_key(key) else {
        key_cursor.report("has a key that cannot be used; RSA from 2048 bits on, ECDSA and Ed25519 can");
        return None;
    };
    let identity = CertifiedKey::new(chain, key);
    if identity.keys_match().is_err() {
        key_cursor.report(format!("is not the key of the first certificate in {}", certificate_cursor.path));
        return None;
    }
    Some(identity)
}

/// A certificate chain with a usable first certificate.
fn chain(at: &Cursor<'_>, pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let chain = certificates(at, pem)?;
    if !matches!(chain.first().map(ParsedCertificate::try_from), Some(Ok(_))) {
        at.report("has a first certificate that cannot be read; it must be X.509 version 3");
        return None;
    }
    Some(chain)
}

/// All certificates of a PEM text, at least one.
fn certificates(at: &Cursor<'_>, pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        Ok(_) => {
            at.report("has no certificate; it must be PEM, with -----BEGIN CERTIFICATE-----");
            None
        }
        Err(error) => {
            at.report(pem_error(&error));
            None
        }
    }
}

fn private_key(at: &Cursor<'_>, pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    let error = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => return Some(key),
        Err(error) => error,
    };
    let is_encrypted = [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| pem.windows(mark.len()).any(|window| window == *mark));
    at.report(match error {
        _ if is_encrypted => "has an encrypted key; decrypt it, because the exporter cannot ask for its password",
        pem::Error::NoItemsFound => "has no private key; it must be PEM, with -----BEGIN PRIVATE KEY-----",
        error => pem_error(&error),
    });
    None
}

/// The fault of a PEM text. The error's own message repeats lines of it, which can be a key.
fn pem_error(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "is not PEM: a section has no -----END line",
        pem::Error::IllegalSectionStart { .. } => "is not PEM: a -----BEGIN line has no end",
        pem::Error::Base64Decode(_) => "is not PEM: a section is not base64",
        _ => "is not PEM",
    }
}

/// The verifier of client certificates; `None` if clients need none.
fn clients(spec: &TlsServerConfig, at: &Cursor<'_>, files: &mut Files) -> Option<Clients> {
    let authorities = files.pem(at, ("client_ca", &spec.client_ca), ("client_ca_file", &spec.client_ca_file));
    let authorities = authorities.and_then(|(cursor, pem)| Some((certificates(&cursor, &pem)?, cursor)));
    let policy = spec.client_auth_type.unwrap_or_default();
    if spec.client_auth_type.is_some() || at.omits(&["client_auth_type"]) {
        check_policy(policy, at);
    }
    if policy == ClientAuth::None {
        return None;
    }
    let names = (!spec.client_allowed_sans.is_empty()).then(|| spec.client_allowed_sans.iter().cloned().collect());
    let (certificates, cursor) = authorities.unzip();
    match Clients::new(policy, &certificates.unwrap_or_default(), names) {
        Ok(clients) => Some(clients),
        Err(number) => {
            cursor?.report(format!("has an unreadable certificate, number {number}"));
            None
        }
    }
}

/// Reports keys that a policy for client certificates needs, and keys that have no effect with it.
fn check_policy(policy: ClientAuth, at: &Cursor<'_>) {
    let authority = ["client_ca", "client_ca_file"].into_iter().find(|name| at.key(name).is_given());
    match authority {
        Some(name) if policy == ClientAuth::None => {
            at.key(name)
                .report("has no effect with client_auth_type NoClientCert; set a type that asks for certificates");
        }
        // Go would trust all public authorities of the system, which is rarely intended.
        None if policy.verifies() && at.omits(&["client_ca", "client_ca_file"]) => {
            at.key("client_ca_file").report("is missing, and so is client_ca: client_auth_type asks for verification");
        }
        _ => {}
    }
    let names = at.key("client_allowed_sans");
    if names.is_given() && !policy.requires() {
        names.report("has no effect on clients without a certificate: client_auth_type must require one");
    }
}

/// The versions from the lowest to the highest.
fn versions(spec: &TlsServerConfig, at: &Cursor<'_>) -> Vec<&'static SupportedProtocolVersion> {
    if spec.min_version > spec.max_version {
        at.key("min_version").report("is above max_version, so no version is left");
    }
    let versions = VERSIONS.get(spec.min_version..=spec.max_version).unwrap_or_default();
    versions.iter().map(|(_, version)| *version).collect()
}

fn suites(
    spec: &TlsServerConfig,
    at: &Cursor<'_>,
    versions: &[&SupportedProtocolVersion],
) -> Vec<SupportedCipherSuite> {
    let mut suites = spec.cipher_suites.clone();
    let defaults = aws_lc_rs::default_provider().cipher_suites;
    if suites.is_empty() {
        return defaults;
    }
    // In Go, the list only affects TLS 1.2, and TLS 1.3 has all its suites. If the list names a suite of TLS 1.3, only
    // the named ones are used.
    if suites.iter().all(|suite| suite.tls13().is_none()) {
        suites.extend(defaults.into_iter().filter(|suite| suite.tls13().is_some()));
    }
    if !suites.iter().any(|suite| versions.contains(&suite.version())) && !versions.is_empty() {
        at.key("cipher_suites").report("has no suite of a version from min_version to max_version");
    }
    suites
}
