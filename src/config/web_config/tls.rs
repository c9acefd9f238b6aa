//! The section `tls_server_config`, up to what rustls serves with.
//!
//! rustls has TLS 1.2 and 1.3, and of the suites and curves those that are not known to be weak. Everything else that
//! the format knows is refused by its name.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::clients::{ClientAuth, Clients};
use super::document::Section;

/// The versions, by the format's names, older ones first.
static VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLS12", &TLS12), ("TLS13", &TLS13)];

/// The suites, by their registered names, which are Go's: <https://www.iana.org/assignments/tls-parameters>.
static SUITES: [(&str, SupportedCipherSuite); 9] = [
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
static CURVES: [(&str, &dyn SupportedKxGroup); 3] =
    [("CurveP256", kx_group::SECP256R1), ("CurveP384", kx_group::SECP384R1), ("X25519", kx_group::X25519)];

/// The policies for client certificates, by Go's names, and the name that the exporter-toolkit had for one of them.
const CLIENT_AUTH: [(&str, ClientAuth); 6] = [
    ("NoClientCert", ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
    ("RequireClientCert", ClientAuth::RequireAny),
];

/// What HTTP is called in a handshake; the only protocol that is served (RFC 7301, section 6).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Reads the section; `None` where it is empty, and where something in it is wrong.
pub(super) fn read(mut section: Section<'_>) -> Option<Arc<ServerConfig>> {
    if section.is_empty() {
        return None;
    }
    // All of them are read before anything is made of them, so that everything wrong is told at once.
    let identity = identity(&mut section);
    let clients = clients(&mut section);
    let versions = versions(&mut section);
    let suites = suites(&mut section, &versions);
    let curves = section.words("curve_preferences", &CURVES, lacking_curve);
    let servers_order = section.truth("prefer_server_cipher_suites");
    if !section.is_flawless() {
        return None;
    }
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = suites;
    if !curves.is_empty() {
        provider.kx_groups = curves;
    }
    let settings = Settings { identity: identity?, clients, versions, servers_order: servers_order.unwrap_or(true) };
    match settings.build(provider) {
        Ok(config) => Some(Arc::new(config)),
        Err(error) => {
            section.tell("cert_file", format!("can't be served with: {error}"));
            None
        }
    }
}

struct Settings {
    identity: CertifiedKey,
    clients: Option<Clients>,
    versions: Vec<&'static SupportedProtocolVersion>,
    servers_order: bool,
}

impl Settings {
    fn build(self, provider: CryptoProvider) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&self.versions)?;
        let verifier = match self.clients {
            Some(clients) => Arc::new(clients),
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let resolver = Arc::new(SingleCertAndKey::from(self.identity));
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        config.ignore_client_order = self.servers_order;
        // A session that is taken up again carries a client's certificate past its end. A scraper keeps its connection,
        // so that there is little to gain from it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

/// The server's certificate with its key.
fn identity(section: &mut Section<'_>) -> Option<CertifiedKey> {
    let certificates = section.bytes("cert", "cert_file", false);
    let key = section.bytes("key", "key_file", true);
    if section.tells_all() {
        for (inline, file) in [("cert", "cert_file"), ("key", "key_file")] {
            if !section.has(inline) && !section.has(file) {
                section.tell(file, format!("is missing, and so is {inline}: TLS needs a certificate and its key"));
            }
        }
    }
    let chain = certificates.and_then(|(name, pem)| Some((name, chain(section, name, &pem)?)));
    let key = key.and_then(|(name, pem)| Some((name, private_key(section, name, &pem)?)));
    let ((certificate_name, chain), (key_name, key)) = (chain?, key?);
    let Ok(key) = aws_lc_rs::default_provider().key_provider.load_private_key(key) else {
        section.tell(key_name, "holds a key that can't be used; RSA from 2048 bits on, ECDSA and Ed25519 can");
        return None;
    };
    let identity = CertifiedKey::new(chain, key);
    if identity.keys_match().is_err() {
        section.tell(key_name, format!("is not the key of the first certificate in {certificate_name}"));
        return None;
    }
    Some(identity)
}

/// Certificates, the first of which can be served.
fn chain(section: &mut Section<'_>, name: &str, pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let chain = certificates(section, name, pem)?;
    if !matches!(chain.first().map(ParsedCertificate::try_from), Some(Ok(_))) {
        section.tell(name, "holds a first certificate that can't be read; it must be one of X.509 version 3");
        return None;
    }
    Some(chain)
}

/// All certificates of a PEM text, at least one.
fn certificates(section: &mut Section<'_>, name: &str, pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        Ok(_) => {
            section.tell(name, "holds no certificate; it must be PEM, with -----BEGIN CERTIFICATE-----");
            None
        }
        Err(error) => {
            section.tell(name, pem_fault(&error));
            None
        }
    }
}

fn private_key(section: &mut Section<'_>, name: &str, pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    let error = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => return Some(key),
        Err(error) => error,
    };
    let is_encrypted = [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| pem.windows(mark.len()).any(|window| window == *mark));
    let reason = match error {
        _ if is_encrypted => "holds an encrypted key; there is nobody to ask for its password, so decrypt it",
        pem::Error::NoItemsFound => "holds no private key; it must be PEM, with -----BEGIN PRIVATE KEY-----",
        error => pem_fault(&error),
    };
    section.tell(name, reason);
    None
}

/// What is wrong with a PEM text. The error's own words repeat lines of it, which may be those of a key.
fn pem_fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "is not PEM: a section has no -----END line",
        pem::Error::IllegalSectionStart { .. } => "is not PEM: a -----BEGIN line has no end",
        pem::Error::Base64Decode(_) => "is not PEM: a section is not base64",
        _ => "is not PEM",
    }
}

/// What a client's certificate is held against; `None` where none is asked for.
fn clients(section: &mut Section<'_>) -> Option<Clients> {
    let policy = section.word("client_auth_type", &CLIENT_AUTH);
    let authorities = section.bytes("client_ca", "client_ca_file", false);
    let authorities = authorities.and_then(|(name, pem)| Some((name, certificates(section, name, &pem)?)));
    let names = section.list("client_allowed_sans").map(|names| names.into_iter().map(|(_, name)| name).collect());
    // A policy that is not known is told of already, and says nothing of what belongs beside it.
    if policy.is_some() || (!section.has("client_auth_type") && section.tells_all()) {
        fit_together(section, policy.unwrap_or(ClientAuth::None));
    }
    let policy = policy.filter(|policy| *policy != ClientAuth::None)?;
    let (name, certificates) = authorities.unzip();
    match Clients::new(policy, &certificates.unwrap_or_default(), names) {
        Ok(clients) => Some(clients),
        Err(number) => {
            section.tell(name?, format!("holds certificates of which number {number} can't be read"));
            None
        }
    }
}

/// Tells where a policy for client certificates lacks something, and where something stands beside it that it has no
/// use for.
fn fit_together(section: &mut Section<'_>, policy: ClientAuth) {
    match ["client_ca", "client_ca_file"].into_iter().find(|name| section.has(name)) {
        Some(name) if policy == ClientAuth::None => {
            section.tell(name, "is of no use where client_auth_type is NoClientCert; give a policy that asks for one");
        }
        // Go would take every public authority that the system trusts, which is hardly what was meant.
        None if policy.verifies() && section.tells_all() => {
            section.tell("client_ca_file", "is missing, and so is client_ca: client_auth_type asks for verification");
        }
        _ => {}
    }
    let names = "client_allowed_sans";
    if section.has(names) && !policy.requires() {
        section.tell(names, "is of no use for a client without a certificate: client_auth_type has to require one");
    } else if section.is_empty_list(names) {
        section.tell(names, "is empty, so that no client could connect; leave it out to let all of them");
    }
}

/// The versions from the lowest to the highest that are allowed.
fn versions(section: &mut Section<'_>) -> Vec<&'static SupportedProtocolVersion> {
    let mut version = |name, default| {
        let text = section.text(name)?;
        if matches!(text.as_str(), "TLS10" | "TLS11") {
            section.is_not(name, &text, "supported; TLS12 and TLS13 are");
            return Some(default);
        }
        let index = VERSIONS.iter().position(|(known, _)| *known == text);
        if index.is_none() {
            section.is_not(name, &text, "one of TLS12, TLS13");
        }
        index
    };
    let last = VERSIONS.len() - 1;
    let (min, max) = (version("min_version", 0).unwrap_or(0), version("max_version", last).unwrap_or(last));
    if min > max {
        section.tell("min_version", "is above max_version, so that no version is left");
    }
    VERSIONS.get(min..=max).unwrap_or_default().iter().map(|(_, version)| *version).collect()
}

fn suites(section: &mut Section<'_>, versions: &[&SupportedProtocolVersion]) -> Vec<SupportedCipherSuite> {
    let mut suites = section.words("cipher_suites", &SUITES, lacking_suite);
    if suites.is_empty() {
        return aws_lc_rs::default_provider().cipher_suites;
    }
    // The list is about the versions up to 1.2, and 1.3 has all of its own; but where some of those are named, the rest
    // was hardly meant.
    if suites.iter().all(|suite| suite.tls13().is_none()) {
        let defaults = aws_lc_rs::default_provider().cipher_suites;
        suites.extend(defaults.into_iter().filter(|suite| suite.tls13().is_some()));
    }
    if !suites.iter().any(|suite| versions.contains(&suite.version())) {
        section.tell("cipher_suites", "names no suite of a version from min_version to max_version");
    }
    suites
}

/// What there is to say about a suite that Go has and rustls has not.
fn lacking_suite(name: &str) -> Option<String> {
    let weak = name.starts_with("TLS_RSA_") || ["_CBC_", "_RC4_", "_3DES_"].iter().any(|part| name.contains(part));
    weak.then(|| "is not supported: suites with CBC, RC4 or without an ephemeral key exchange are too weak".to_owned())
}

fn lacking_curve(name: &str) -> Option<String> {
    (name == "CurveP521").then(|| "is not supported; CurveP256, CurveP384 and X25519 are".to_owned())
}
