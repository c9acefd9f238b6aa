//! Tests of TLS, logins and headers, and of replacing the configuration.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::sync::Mutex;

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa};
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion,
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::web_config::test_certs::{Authority, Issued};
use crate::config::web_config::{self, WebConfig};
use crate::logging::capture;

type TlsClient = Client<TlsStream<TcpStream>>;

/// Hashes of `hunter2` and of `pässwörd`, each with a low cost.
const HASHES: [&str; 2] = [
    "$2b$04$Zyxwvutsrqponmlkjihgfe91EVTbipYuSP7HB4a0NH55cMj08u5tG",
    "$2b$04$ZyxwvutsrqponmlkjihgfehMSG2WLGZT88dDsKmZhoT9upUD7bWB2",
];

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized";

/// A folder with certificates, and the authority that issued them. Use `ca.pem` as `client_ca_file`.
struct Keys {
    folder: TempDir,
    authority: Authority,
}

impl Keys {
    fn new() -> Self {
        let keys = Self { folder: tempfile::tempdir().expect("a folder"), authority: Authority::new("ours") };
        keys.authority.server().write(keys.folder.path(), "server");
        keys.trust(&[keys.authority.pem()]);
        keys
    }

    fn trust(&self, authorities: &[String]) {
        std::fs::write(self.folder.path().join("ca.pem"), authorities.concat()).expect("a file");
    }

    fn load(&self, yaml: &str) -> WebConfig {
        let path = self.folder.path().join("web.yml");
        std::fs::write(&path, yaml).expect("a file");
        web_config::load(&path).unwrap_or_else(|problems| panic!("{yaml}\n{problems}"))
    }

    /// A configuration with TLS, and these lines in its TLS section.
    fn tls(&self, lines: &[&str]) -> WebConfig {
        self.load(&tls(lines))
    }

    /// The root certificates of a client.
    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate()).expect("an authority");
        roots
    }

    fn client(&self) -> Dial {
        Dial {
            roots: self.roots(),
            provider: aws_lc_rs::default_provider(),
            versions: vec![&TLS12, &TLS13],
            identity: None,
        }
    }
}

fn tls(lines: &[&str]) -> String {
    let mut yaml = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n".to_owned();
    for line in lines {
        let _ = writeln!(yaml, "  {line}");
    }
    yaml
}

fn users(users: &[(&str, &str)]) -> String {
    let mut yaml = "basic_auth_users:\n".to_owned();
    for (name, hash) in users {
        let _ = writeln!(yaml, "  {name}: {hash}");
    }
    yaml
}

/// How a client connects.
#[derive(Clone)]
struct Dial {
    roots: RootCertStore,
    provider: CryptoProvider,
    versions: Vec<&'static SupportedProtocolVersion>,
    identity: Option<Arc<Issued>>,
}

impl Dial {
    fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    fn suites(mut self, suites: &[SupportedCipherSuite]) -> Self {
        self.provider.cipher_suites = suites.to_vec();
        self
    }

    fn curves(mut self, curves: &[&'static dyn SupportedKxGroup]) -> Self {
        self.provider.kx_groups = curves.to_vec();
        self
    }

    fn showing(mut self, identity: &Arc<Issued>) -> Self {
        self.identity = Some(Arc::clone(identity));
        self
    }

    fn config(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(&self.versions)
            .expect("versions and suites fit")
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.certificate.clone()], identity.key())
                .expect("certificate and key fit"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    async fn connect(&self, server: &Server) -> io::Result<TlsClient> {
        connect(server, Arc::new(self.config())).await
    }

    /// The status line of one request on a new connection; an error if the connection is refused.
    async fn get(&self, server: &Server) -> io::Result<String> {
        let mut client = self.connect(server).await?;
        client.0.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
        // With TLS 1.3, a client learns only now that its certificate is refused.
        let mut first = [0];
        client.0.read_exact(&mut first).await?;
        let (status, _) = client.receive().await;
        Ok(format!("{}{status}", char::from(first[0])))
    }

    async fn is_accepted(&self, server: &Server) -> bool {
        let got = timeout(DEADLINE, self.get(server)).await.expect("an answer, or an end");
        assert!(got.as_ref().is_ok_and(|status| status == OK) || got.is_err(), "{got:?}");
        got.is_ok()
    }
}

async fn connect(server: &Server, config: Arc<ClientConfig>) -> io::Result<TlsClient> {
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(server.address).await?;
    Ok(Client(TlsConnector::from(config).connect(name, stream).await?))
}

impl TlsClient {
    /// The certificate of the server.
    fn certificate(&self) -> CertificateDer<'static> {
        let chain = self.0.get_ref().1.peer_certificates().expect("a certificate");
        chain[0].clone().into_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The header of one response to a request with these headers; the body is read and dropped.
    async fn head(&mut self, path: &str, headers: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n")).await;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(timeout(DEADLINE, self.0.read_u8()).await.expect("in time").expect("a response")));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        self.0.read_exact(&mut body).await.expect("the body");
        head
    }

    async fn status(&mut self, path: &str, headers: &str) -> String {
        self.head(path, headers).await.lines().next().unwrap_or_default().to_owned()
    }
}

fn login(name: &str, password: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("authorization: Basic {encoded}\r\n")
}

/// A server that returns the headers of each request, with two public paths.
async fn serve_with(config: WebConfig) -> (Server, Arc<AccessControl>) {
    serve_within(config, Limits::default()).await
}

async fn serve_within(config: WebConfig, limits: Limits) -> (Server, Arc<AccessControl>) {
    let access_control = Arc::new(AccessControl::new(config, &["/-/healthy", "/-/ready"]));
    let handler = handler(async |request: Request| {
        let mut response = Response::new(format!("{:?}", request.headers()).into());
        response.headers_mut().insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("sameorigin"));
        response
    });
    (Server::on(listener().await.with_access_control(&access_control), limits, handler), access_control)
}

#[tokio::test]
async fn https_is_served_and_http_2_is_not() {
    let keys = Keys::new();
    let (server, access_control) = serve_with(keys.tls(&[])).await;
    assert!(access_control.tls().is_some());
    let mut client = keys.client().connect(&server).await.expect("a handshake");
    assert_eq!(client.0.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(client.get().await.0, OK);
    assert_eq!(client.get().await.0, OK, "the connection is kept");
}

#[tokio::test]
async fn a_client_that_offers_http_2_only_is_refused() {
    let keys = Keys::new();
    let (server, _) = serve_with(keys.tls(&[])).await;
    let mut config = keys.client().config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    connect(&server, Arc::new(config)).await.err().expect("no protocol in common");
    let mut config = keys.client().config();
    config.alpn_protocols = Vec::new();
    connect(&server, Arc::new(config)).await.expect("a client without ALPN is accepted");
}

#[tokio::test]
async fn each_policy_accepts_its_certificates() {
    let keys = Keys::new();
    let good = Arc::new(keys.authority.client(&["scraper.example"]));
    let stranger = Arc::new(Authority::new("theirs").client(&["scraper.example"]));
    let expired = Arc::new(keys.authority.issue(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1)));
    let early = Arc::new(keys.authority.issue(|params| params.not_before = rcgen::date_time_ymd(3000, 1, 1)));
    let server_only =
        Arc::new(keys.authority.issue(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]));
    let bad = [stranger, expired, early, server_only];
    for (policy, without, with_bad) in [
        ("NoClientCert", true, true),
        ("RequestClientCert", true, true),
        ("RequireAnyClientCert", false, true),
        ("RequireClientCert", false, true),
        ("VerifyClientCertIfGiven", true, false),
        ("RequireAndVerifyClientCert", false, false),
    ] {
        let policy_line = format!("client_auth_type: {policy}");
        let lines = [policy_line.as_str(), "client_ca_file: ca.pem"];
        let (server, _) = serve_with(keys.tls(&lines[..if policy == "NoClientCert" { 1 } else { 2 }])).await;
        for version in [&TLS12, &TLS13] {
            let client = || keys.client().version(version);
            assert_eq!(client().is_accepted(&server).await, without, "{policy} {version:?} without a certificate");
            assert!(client().showing(&good).is_accepted(&server).await, "{policy} {version:?} with a good one");
            for (number, bad) in bad.iter().enumerate() {
                let accepted = client().showing(bad).is_accepted(&server).await;
                assert_eq!(accepted, with_bad, "{policy} {version:?} with bad one {number}");
            }
        }
    }
}

#[tokio::test]
async fn every_policy_requires_the_key_of_the_certificate() {
    let keys = Keys::new();
    let good = keys.authority.client(&[]);
    for policy in ["RequestClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
    {
        let policy = format!("client_auth_type: {policy}");
        let (server, _) = serve_with(keys.tls(&[&policy, "client_ca_file: ca.pem"])).await;
        for version in [&TLS12, &TLS13] {
            let dial = keys.client().version(version);
            let mut config = dial.config();
            // rustls refuses to pair the two.
            let key = aws_lc_rs::default_provider().key_provider.load_private_key(keys.authority.client(&[]).key());
            let pair = rustls::sign::CertifiedKey::new(vec![good.certificate.clone()], key.expect("a key"));
            config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(pair));
            let accepted = async {
                let mut client = connect(&server, Arc::new(config)).await?;
                client.0.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
                client.0.read_u8().await
            };
            timeout(DEADLINE, accepted).await.expect("in time").expect_err(&policy);
        }
    }
}

#[tokio::test]
async fn a_certificate_needs_one_of_the_allowed_names() {
    let keys = Keys::new();
    let names = "client_allowed_sans: [scraper.example, 192.0.2.1]";
    for policy in ["RequireAnyClientCert", "RequireAndVerifyClientCert"] {
        let policy = format!("client_auth_type: {policy}");
        let (server, _) = serve_with(keys.tls(&[&policy, "client_ca_file: ca.pem", names])).await;
        for (certificate, expected) in [
            (keys.authority.client(&["scraper.example"]), true),
            (keys.authority.client(&["other.example", "scraper.example"]), true),
            (keys.authority.client(&["other.example"]), false),
            (keys.authority.client(&["*.example"]), false),
            (keys.authority.client(&[]), false),
        ] {
            let dial = keys.client().showing(&Arc::new(certificate));
            assert_eq!(dial.is_accepted(&server).await, expected, "{policy}");
        }
    }
}

#[tokio::test]
async fn a_trusted_certificate_is_accepted_and_issues_only_if_it_is_an_authority() {
    type Change = fn(&mut CertificateParams);
    let keys = Keys::new();
    let server_only: Change = |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let expired: Change = |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let lines = ["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem"];
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        for (change, expected) in [((|_| {}) as Change, true), (server_only, false), (expired, false)] {
            let own = Arc::new(Issued::self_signed(is_ca, change));
            keys.trust(std::slice::from_ref(&own.certificate_pem));
            let (server, _) = serve_with(keys.tls(&lines)).await;
            assert_eq!(keys.client().showing(&own).is_accepted(&server).await, expected, "{is_ca:?}");
        }
    }
    // A certificate of an authority, alone and together with the authority.
    let issued = Arc::new(keys.authority.client(&[]));
    let other = Arc::new(keys.authority.client(&[]));
    for authorities in
        [vec![issued.certificate_pem.clone()], vec![keys.authority.pem(), issued.certificate_pem.clone()]]
    {
        keys.trust(&authorities);
        let (server, _) = serve_with(keys.tls(&lines)).await;
        assert!(keys.client().showing(&issued).is_accepted(&server).await);
        assert_eq!(keys.client().showing(&other).is_accepted(&server).await, authorities.len() == 2);
    }
    // A certificate that is no authority cannot issue others.
    let end = Issued::self_signed(IsCa::ExplicitNoCa, |_| {});
    keys.trust(std::slice::from_ref(&end.certificate_pem));
    let (server, _) = serve_with(keys.tls(&lines)).await;
    let forged = Arc::new(end.sign());
    assert!(!keys.client().showing(&forged).is_accepted(&server).await);
}

#[tokio::test]
async fn only_the_configured_versions_are_negotiated() {
    let keys = Keys::new();
    for (lines, with_12, with_13) in [
        (&[][..], true, true),
        (&["min_version: TLS13"], false, true),
        (&["max_version: TLS12"], true, false),
        (&["min_version: TLS12", "max_version: TLS13"], true, true),
        (&["min_version: TLS13", "max_version: TLS13"], false, true),
    ] {
        let (server, _) = serve_with(keys.tls(lines)).await;
        assert_eq!(keys.client().version(&TLS12).is_accepted(&server).await, with_12, "{lines:?}");
        assert_eq!(keys.client().version(&TLS13).is_accepted(&server).await, with_13, "{lines:?}");
        let client = keys.client().connect(&server).await.expect("a handshake");
        let best = if with_13 { ProtocolVersion::TLSv1_3 } else { ProtocolVersion::TLSv1_2 };
        assert_eq!(client.0.get_ref().1.protocol_version(), Some(best));
    }
}

#[tokio::test]
async fn only_the_configured_suites_are_negotiated() {
    let keys = Keys::new();
    let (aes128, aes256) =
        (suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    let (aes128_13, aes256_13) = (suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_AES_256_GCM_SHA384);
    for (named, spoken) in [
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", [true, false, true, true]),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384", [true, false, false, true]),
        ("TLS_AES_128_GCM_SHA256", [false, false, true, false]),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", [false, false, true, true]),
    ] {
        let (server, _) = serve_with(keys.tls(&[&format!("cipher_suites: [{named}]")])).await;
        let offers = [(aes128, &TLS12), (aes256, &TLS12), (aes128_13, &TLS13), (aes256_13, &TLS13)];
        for ((suite, version), expected) in offers.into_iter().zip(spoken) {
            let dial = keys.client().version(version).suites(&[suite]);
            assert_eq!(dial.is_accepted(&server).await, expected, "{named} {suite:?}");
        }
    }
}

#[tokio::test]
async fn the_server_or_the_client_orders_the_suites() {
    let keys = Keys::new();
    let named = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]";
    let clients = [suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    for (line, expected) in
        [("prefer_server_cipher_suites: true", clients[1]), ("prefer_server_cipher_suites: false", clients[0])]
    {
        let (server, _) = serve_with(keys.tls(&[named, line])).await;
        let client = keys.client().version(&TLS12).suites(&clients).connect(&server).await.expect("a handshake");
        assert_eq!(client.0.get_ref().1.negotiated_cipher_suite(), Some(expected));
    }
}

#[tokio::test]
async fn only_the_configured_curves_are_negotiated() {
    let keys = Keys::new();
    let (server, _) = serve_with(keys.tls(&["curve_preferences: [CurveP384]"])).await;
    for version in [&TLS12, &TLS13] {
        let dial = keys.client().version(version);
        assert!(!dial.clone().curves(&[kx_group::X25519, kx_group::SECP256R1]).is_accepted(&server).await);
        let client = dial.curves(&[kx_group::X25519, kx_group::SECP384R1]).connect(&server).await.expect("a handshake");
        let group = client.0.get_ref().1.negotiated_key_exchange_group().expect("a curve");
        assert_eq!(group.name(), kx_group::SECP384R1.name());
    }
}

#[tokio::test]
async fn sessions_are_not_resumed() {
    let keys = Keys::new();
    let (server, _) = serve_with(keys.tls(&[])).await;
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(keys.client().version(version).config());
        for _ in 0..2 {
            let mut client = connect(&server, config.clone()).await.expect("a handshake");
            client.get().await;
            assert_eq!(client.0.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn only_public_paths_need_no_login() {
    let keys = Keys::new();
    let (server, _) = serve_with(keys.load(&users(&[("alice", HASHES[0])]))).await;
    let mut client = server.connect().await;
    for (path, headers, expected) in [
        ("/", String::new(), UNAUTHORIZED),
        ("/metrics", login("alice", "hunter3"), UNAUTHORIZED),
        ("/metrics", login("bob", "hunter2"), UNAUTHORIZED),
        ("/metrics", login("alice", "hunter2"), OK),
        ("/metrics", login("alice", "hunter2"), OK),
        ("/metrics", login("alice", "hunter3"), UNAUTHORIZED),
        ("/-/healthy", String::new(), OK),
        ("/-/ready?x=1", String::new(), OK),
        ("/-/healthy", login("alice", "hunter3"), OK),
        ("/-/healthy/", String::new(), UNAUTHORIZED),
        ("/-/reload", String::new(), UNAUTHORIZED),
        ("/%2D/healthy", String::new(), UNAUTHORIZED),
        ("//-/healthy", String::new(), UNAUTHORIZED),
        ("/metrics?/-/healthy", String::new(), UNAUTHORIZED),
        ("/metrics/../-/healthy", String::new(), UNAUTHORIZED),
        ("http://test/-/healthy", String::new(), OK),
        ("http://test/metrics#/-/healthy", String::new(), UNAUTHORIZED),
    ] {
        assert_eq!(client.status(path, &headers).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_refusal_requests_a_login() {
    let keys = Keys::new();
    let (server, _) = serve_with(keys.load(&users(&[("alice", HASHES[0])]))).await;
    let head = server.connect().await.head("/", "").await;
    assert!(head.contains("www-authenticate: Basic realm=\"aws-iot-jobs-exporter\", charset=\"UTF-8\"\r\n"), "{head}");
}

#[tokio::test]
async fn credentials_do_not_reach_the_handler() {
    let keys = Keys::new();
    let (server, _) = serve_with(keys.load(&users(&[("alice", HASHES[0])]))).await;
    let mut client = server.connect().await;
    client.send(&format!("GET / HTTP/1.1\r\nhost: test\r\n{}\r\n", login("alice", "hunter2"))).await;
    let (status, seen) = client.receive().await;
    assert_eq!(status, OK);
    assert!(seen.contains("host") && !seen.to_lowercase().contains("authorization"), "{seen}");
}

#[tokio::test]
async fn the_body_of_an_unauthorized_request_is_not_read() {
    let keys = Keys::new();
    let (server, _) = serve_with(keys.load(&users(&[("alice", HASHES[0])]))).await;
    let mut client = server.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n0123456789").await;
    assert_eq!(client.receive().await.0, UNAUTHORIZED);
    client.closed().await;
}

#[tokio::test]
async fn configured_headers_are_in_every_response_and_replace_those_of_the_handler() {
    let keys = Keys::new();
    let headers = "http_server_config: {headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=60}}\n";
    let (server, _) = serve_with(keys.load(&(headers.to_owned() + &users(&[("alice", HASHES[0])])))).await;
    for (path, login, status) in [("/", login("alice", "hunter2"), OK), ("/", String::new(), UNAUTHORIZED)] {
        let head = server.connect().await.head(path, &login).await;
        assert!(head.starts_with(status), "{head}");
        assert_eq!(head.matches("x-frame-options: ").count(), 1, "{head}");
        assert!(head.contains("x-frame-options: deny\r\n"), "{head}");
        assert!(head.contains("strict-transport-security: max-age=60\r\n"), "{head}");
    }
    let mut client = server.connect().await;
    client
        .send(&format!("POST / HTTP/1.1\r\nhost: test\r\n{}content-length: 1000000\r\n\r\n", login("alice", "hunter2")))
        .await;
    let (rest, _) = client.rest().await;
    let head = String::from_utf8_lossy(&rest);
    assert!(head.starts_with("HTTP/1.1 413 ") && head.contains("x-frame-options: deny\r\n"), "{head}");
}

#[tokio::test]
async fn a_new_configuration_applies_to_new_connections_and_next_requests() {
    let keys = Keys::new();
    let (server, access_control) = serve_with(keys.load(&(tls(&[]) + &users(&[("alice", HASHES[0])])))).await;
    let mut old = keys.client().connect(&server).await.expect("a handshake");
    assert_eq!(old.status("/", &login("alice", "hunter2")).await, OK);

    let before = old.certificate();
    keys.authority.server().write(keys.folder.path(), "server");
    let headers = "http_server_config: {headers: {X-XSS-Protection: 0}}\n";
    let changed = [("alice", HASHES[1]), ("bob", HASHES[0])];
    access_control.replace(keys.load(&(tls(&["min_version: TLS13"]) + headers + &users(&changed))));

    assert_eq!(old.status("/", &login("alice", "hunter2")).await, UNAUTHORIZED, "its cached password is gone");
    assert_eq!(old.status("/", &login("alice", "pässwörd")).await, OK);
    assert!(old.head("/", &login("bob", "hunter2")).await.contains("x-xss-protection: 0\r\n"));
    let mut new = keys.client().connect(&server).await.expect("a handshake");
    assert_ne!(new.certificate(), before);
    assert_eq!(new.status("/", &login("bob", "hunter2")).await, OK);
    assert!(keys.client().version(&TLS12).connect(&server).await.is_err());

    access_control.replace(keys.load(&tls(&[])));
    assert_eq!(old.status("/", "").await, OK, "no login is needed");
    assert_eq!(new.status("/", "").await, OK);
}

#[tokio::test]
async fn a_new_configuration_does_not_affect_a_current_request() {
    let keys = Keys::new();
    let access_control = Arc::new(AccessControl::new(keys.tls(&[]), &[]));
    let (waits, entered, leave) = waiting_handler();
    let server = Server::on(listener().await.with_access_control(&access_control), Limits::default(), waits);
    let mut client = keys.client().connect(&server).await.expect("a handshake");
    client.hang().await;
    entered.notified().await;
    access_control.replace(keys.load(&users(&[("alice", HASHES[0])])));
    leave.notify_one();
    assert_eq!(client.receive().await.1, "finished");
}

#[tokio::test]
async fn tls_can_be_switched_on_and_off_for_new_connections() {
    let keys = Keys::new();
    let (server, access_control) = serve_with(WebConfig::default()).await;
    assert!(access_control.tls().is_none());
    let mut plain = server.connect().await;
    assert_eq!(plain.get().await.0, OK);
    access_control.replace(keys.tls(&[]));
    let mut locked = keys.client().connect(&server).await.expect("a handshake");
    assert_eq!(locked.get().await.0, OK);
    assert_eq!(plain.get().await.0, OK, "what is open stays");
    access_control.replace(WebConfig::default());
    assert_eq!(server.connect().await.get().await.0, OK);
    assert_eq!(locked.get().await.0, OK);
}

#[tokio::test]
async fn another_listener_serves_only_the_probes() {
    let keys = Keys::new();
    let access_control =
        Arc::new(AccessControl::new(keys.load(&(tls(&[]) + &users(&[("alice", HASHES[0])]))), &["/-/healthy"]));
    let (main, probes) =
        (listener().await.with_access_control(&access_control), listener().await.only_paths(&["/-/healthy"]));
    let [main_address, probe_address] = [main.local_addr(), probes.local_addr()];
    let serving = tokio::spawn(serve(vec![main, probes], Limits::default(), echo(), std::future::pending()));
    let mut probe = Client(TcpStream::connect(probe_address).await.expect("a connection"));
    assert_eq!(probe.status("/-/healthy", "").await, OK);
    for path in ["/", "/metrics", "/-/reload", "/-/healthy/"] {
        assert_eq!(probe.status(path, &login("alice", "hunter2")).await, "HTTP/1.1 404 Not Found", "{path}");
    }
    let mut main = Client(TcpStream::connect(main_address).await.expect("a connection"));
    main.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let (answer, _) = main.rest().await;
    assert!(answer.starts_with(b"HTTP/1.0 400 Bad Request\r\n"), "{}", String::from_utf8_lossy(&answer));
    serving.abort();
}

#[tokio::test]
async fn http_on_a_tls_port_gets_an_explanation() {
    let keys = Keys::new();
    let (server, _) = serve_with(keys.tls(&[])).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let (answer, error) = client.rest().await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.0 400 ") && answer.ends_with("speaks HTTPS, and the request was HTTP.\n"),
        "{answer}"
    );
    assert_eq!(error, None);
}

#[tokio::test]
async fn an_incomplete_handshake_times_out() {
    let keys = Keys::new();
    let limits = Limits { header_timeout: SHORT, ..Limits::default() };
    let (server, _) = serve_within(keys.tls(&[]), limits).await;
    // Nothing, and the start of a record that never ends.
    for start in ["", "\u{16}", "\u{16}\u{3}\u{1}\u{1}\u{0}\u{1}"] {
        let mut client = server.connect().await;
        client.send(start).await;
        client.closed().await;
    }
    // After the handshake, the header has the same limit.
    let mut client = keys.client().connect(&server).await.expect("a handshake");
    client.send("GET / HTTP/1.1\r\n").await;
    client.closed().await;
}

#[tokio::test]
async fn failed_handshakes_do_not_affect_the_next_one() {
    let keys = Keys::new();
    let lines = ["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem"];
    let (server, _) = serve_with(keys.tls(&lines)).await;
    let good = Arc::new(keys.authority.client(&[]));
    for _ in 0..20 {
        let mut garbage = server.connect().await;
        garbage.0.write_all(&[0x16, 0x03, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5]).await.expect("the server reads");
        garbage.closed().await;
        drop(server.connect().await);
        assert!(!keys.client().is_accepted(&server).await);
    }
    assert!(keys.client().showing(&good).is_accepted(&server).await);
}

#[tokio::test]
async fn handshakes_count_as_connections_and_are_evicted() {
    let keys = Keys::new();
    let limits = Limits { max_connections: 4, header_timeout: 2 * DEADLINE, ..Limits::default() };
    let (server, _) = serve_within(keys.tls(&[]), limits).await;
    let mut closed = JoinSet::new();
    for n in 0..20 {
        let mut client = server.connect().await;
        if n % 2 == 0 {
            client.send("\u{16}\u{3}\u{1}").await;
        }
        closed.spawn(async move { client.closed().await });
    }
    assert!(keys.client().is_accepted(&server).await);
    // At most three of them are left beside the one that was accepted.
    for _ in 0..17 {
        closed.join_next().await.expect("a connection").expect("it is closed");
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_handshakes_and_closes_idle_connections() {
    let keys = Keys::new();
    let limits = Limits { header_timeout: 2 * DEADLINE, drain: 2 * DEADLINE, ..Limits::default() };
    let (server, _) = serve_within(keys.tls(&[]), limits).await;
    let mut handshaking = server.connect().await;
    handshaking.send("\u{16}\u{3}\u{1}").await;
    let mut idle = keys.client().connect(&server).await.expect("a handshake");
    idle.get().await;
    server.stop().await;
    handshaking.closed().await;
    assert_eq!(idle.rest().await.1, None, "TLS is closed as it should be");
}

#[tokio::test]
async fn a_slow_reader_gets_the_whole_response() {
    let keys = Keys::new();
    let access_control = Arc::new(AccessControl::new(keys.tls(&[]), &[]));
    let size = 20 << 20;
    let large = handler(move |_| std::future::ready(Response::new("x".repeat(size).into())));
    let server = Server::on(listener().await.with_access_control(&access_control), Limits::default(), large);
    let mut client = keys.client().connect(&server).await.expect("a handshake");
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    // Time for the server to fill the socket.
    sleep(SHORT).await;
    assert_eq!(client.receive().await.1.len(), size);
    assert_eq!(client.get().await.1.len(), size, "and the connection goes on");
}

#[tokio::test]
async fn a_client_that_does_not_read_times_out_with_tls_too() {
    let keys = Keys::new();
    let access_control = Arc::new(AccessControl::new(keys.tls(&[]), &[]));
    let large = handler(move |_| std::future::ready(Response::new("x".repeat(20 << 20).into())));
    let limits = Limits { write_timeout: SHORT, drain: 2 * DEADLINE, ..Limits::default() };
    let server = Server::on(listener().await.with_access_control(&access_control), limits, large);
    let mut client = keys.client().connect(&server).await.expect("a handshake");
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    client.0.get_ref().0.readable().await.expect("the beginning of a response");
    // Only the timeout ends the response before the drain does.
    server.stop().await;
    let (rest, error) = client.rest().await;
    assert!(error.is_some() && rest.len() < 20 << 20, "{} bytes", rest.len());
}

#[tokio::test]
async fn too_many_attempts_of_one_client_get_429() {
    let keys = Keys::new();
    // With this cost, a check takes long enough for other requests to queue.
    let slow = "$2y$07$abcdefghijklmnopqrstuuoCFslU7dw272MCneTuBwIV3dpl7.DYm";
    let (server, _) = serve_with(keys.load(&users(&[("alice", slow)]))).await;
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = server.connect().await;
        client.send(&format!("GET / HTTP/1.1\r\nhost: test\r\n{}\r\n", login("alice", &n.to_string()))).await;
        clients.push(client);
    }
    let mut statuses = BTreeSet::new();
    for mut client in clients {
        statuses.insert(client.receive().await.0);
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [UNAUTHORIZED, "HTTP/1.1 429 Too Many Requests"]);
    assert_eq!(server.connect().await.status("/", &login("alice", "hunter2")).await, OK, "later, it is checked again");
}

/// More than the buffers of both sockets.
const LARGE: usize = 3_000_000;

#[tokio::test]
async fn a_large_body_without_a_login_is_answered_with_401() {
    let keys = Keys::new();
    let (plain, _) = serve_with(keys.load(&users(&[("alice", HASHES[0])]))).await;
    let (encrypted, _) = serve_with(keys.load(&(tls(&[]) + &users(&[("alice", HASHES[0])])))).await;
    for _ in 0..5 {
        plain.connect().await.post_large_is_refused(UNAUTHORIZED).await;
        keys.client().connect(&encrypted).await.expect("a handshake").post_large_is_refused(UNAUTHORIZED).await;
    }
}

#[tokio::test]
async fn an_expired_authority_issues_nothing() {
    let keys = Keys::new();
    let lines = ["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem"];
    let expired = Authority::with("expired", |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let early = Authority::with("early", |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    keys.trust(&[expired.pem(), early.pem(), keys.authority.pem()]);
    let (server, _) = serve_with(keys.tls(&lines)).await;
    for (authority, expected) in [(&expired, false), (&early, false), (&keys.authority, true)] {
        let client = Arc::new(authority.client(&[]));
        assert_eq!(keys.client().showing(&client).is_accepted(&server).await, expected);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends a large body completely before it reads, as simple clients do.
    async fn post_large_is_refused(&mut self, status: &str) {
        self.send(&format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {LARGE}\r\n\r\n")).await;
        for _ in 0..LARGE / 10_000 {
            self.send(&"x".repeat(10_000)).await;
        }
        assert_eq!(self.receive().await.0, status);
    }
}

#[tokio::test]
async fn a_revoked_client_certificate_works_until_its_connection_is_too_old() {
    let keys = Keys::new();
    let limits = Limits { max_connection_age: 4 * SHORT, ..Limits::default() };
    let lines = ["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem"];
    let (server, access_control) = serve_within(keys.tls(&lines), limits).await;
    let dial = keys.client().showing(&Arc::new(keys.authority.client(&[])));
    let mut client = dial.connect(&server).await.expect("a handshake");
    assert_eq!(client.get().await.0, OK);
    keys.trust(&[Authority::new("another").pem()]);
    access_control.replace(keys.tls(&lines));
    client.closed().await;
    assert!(!dial.is_accepted(&server).await);
}

#[test]
fn failed_logins_are_counted_and_logged_once_a_minute_for_each_reason() {
    let keys = Keys::new();
    let counted: Arc<Mutex<Vec<&str>>> = Arc::default();
    let count = Arc::clone(&counted);
    let access_control = AccessControl::new(keys.load(&users(&[("alice", HASHES[0])])), &[])
        .on_login_failure(move |failure| count.lock().expect("no panic").push(failure.as_str()));
    let is_accepted = async |headers: &str| {
        let value = headers.strip_prefix("authorization: ").map(str::trim);
        let request =
            value.into_iter().fold(::http::Request::get("/"), |request, value| request.header("authorization", value));
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        access_control.authorize(&mut head, ([192, 0, 2, 1], 5).into()).await.is_ok()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let log = capture();
    runtime.expect("a runtime").block_on(async {
        for _ in 0..3 {
            assert!(!is_accepted(&login("alice", "hunter3")).await);
        }
        assert!(is_accepted(&login("alice", "hunter2")).await);
        assert!(!is_accepted("").await);
        sleep(Duration::from_secs(59)).await;
        assert!(!is_accepted(&login("bob", "hunter2")).await);
        sleep(Duration::from_secs(1)).await;
        assert!(!is_accepted("authorization: Bearer x").await);
    });
    let log = log.take();
    let lines: Vec<&str> =
        log.iter().filter_map(|line| line.split_once(" WARN ").map(|(_, line)| line.trim())).collect();
    let line = |reason, count| format!("logins failed reason=\"{reason}\" count={count} last_peer=192.0.2.1");
    assert_eq!(lines, [line("wrong_credentials", 1), line("no_credentials", 1), line("wrong_credentials", 4)]);
    let wrong = counted.lock().expect("no panic").iter().filter(|reason| **reason == "wrong_credentials").count();
    assert_eq!((counted.lock().expect("no panic").len(), wrong), (6, 5));
}
