//! Tests of accepted and refused web configurations, and of the problems.

use std::fmt::Write as _;
use std::path::Path;

use rcgen::{IsCa, KeyPair};
use tempfile::TempDir;

use super::test_certs::{Authority, Issued};
use super::*;
use crate::config::Problem;

/// The hash of `hunter2`.
pub(super) const HASH: &str = "$2b$04$Zyxwvutsrqponmlkjihgfe91EVTbipYuSP7HB4a0NH55cMj08u5tG";

/// A folder with the certificates `server.pem` and `ca.pem`, and the key `server.key`.
pub(super) struct Folder(pub(super) TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new("a test's authority");
        authority.server().write(folder.path(), "server");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file");
        Self(folder)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), content).expect("a file");
    }

    fn load(&self, yaml: impl AsRef<[u8]>) -> Result<WebConfig, Problems> {
        self.write("web.yml", yaml);
        load(&self.0.path().join("web.yml"))
    }

    fn accept(&self, yaml: &str) -> WebConfig {
        self.load(yaml).unwrap_or_else(|problems| panic!("{yaml}\n{problems}"))
    }

    /// The problems, one line each, without the folder and the line.
    fn problems(&self, yaml: impl AsRef<[u8]>) -> Vec<String> {
        let problems = self.load(yaml).expect_err("something is wrong");
        let folder = format!("{}/", self.0.path().display());
        let line = regex_lite::Regex::new("^web\\.yml:[0-9]+:").expect("a pattern");
        let shown = |problem: &Problem| problem.to_string().replace(&folder, "");
        problems.0.iter().map(|problem| line.replace(&shown(problem), "web.yml:").into_owned()).collect()
    }

    /// The problems of a valid TLS section with these additional lines.
    fn tls_problems(&self, lines: &str) -> Vec<String> {
        let problems = self.problems(tls(lines));
        problems
            .iter()
            .map(|line| line.strip_prefix("web.yml: tls_server_config.").unwrap_or(line).to_owned())
            .collect()
    }
}

/// A TLS section with a certificate, a key, and these lines.
fn tls(lines: &str) -> String {
    let mut yaml = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n".to_owned();
    for line in lines.lines() {
        let _ = writeln!(yaml, "  {line}");
    }
    yaml
}

#[test]
fn an_empty_mapping_is_the_default() {
    let folder = Folder::new();
    for yaml in ["{}", "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n", "tls_server_config: {}"] {
        let config = folder.accept(yaml);
        assert!(config.tls.is_none() && config.headers.is_empty() && config.users.is_empty(), "{yaml}");
    }
}

#[test]
fn an_empty_file_is_refused() {
    let folder = Folder::new();
    for yaml in ["", " \n", "# nothing\n", "\u{feff}"] {
        let expected = "web.yml: is empty: it has no keys; write {} if the defaults are meant";
        assert_eq!(folder.problems(yaml), [expected]);
    }
}

#[test]
fn byte_order_marks_are_accepted() {
    let folder = Folder::new();
    for name in ["server.pem", "server.key", "ca.pem"] {
        let pem = std::fs::read_to_string(folder.0.path().join(name)).expect("a file");
        folder.write(name, format!("\u{feff}{pem}"));
    }
    let verified = "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem";
    assert!(folder.accept(&format!("\u{feff}{}", tls(verified))).tls.is_some());
    let utf16: Vec<u8> = "\u{feff}x".encode_utf16().flat_map(u16::to_le_bytes).collect();
    folder.write("server.pem", utf16);
    assert_eq!(folder.tls_problems(""), ["cert_file: \"server.pem\" is UTF-16; save it as UTF-8"]);
}

#[test]
fn all_supported_keys_are_accepted() {
    let folder = Folder::new();
    let config = folder.accept(&format!(
        "{}
http_server_config:
  http2: false
  headers:
    Content-Security-Policy: default-src 'none'
    Strict-Transport-Security: max-age=31536000
    X-Content-Type-Options: nosniff
    X-Frame-Options: deny
    X-XSS-Protection: 0
basic_auth_users:
  alice: {HASH}
  bob: \"{HASH}\"
",
        tls("client_auth_type: RequireAndVerifyClientCert
client_ca_file: ca.pem
client_allowed_sans: [scraper.example, 192.0.2.1]
min_version: TLS12
max_version: TLS13
cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
prefer_server_cipher_suites: false
curve_preferences: [X25519, CurveP256, CurveP384]")
    ));
    let tls = config.tls.expect("TLS");
    assert_eq!(tls.alpn_protocols, [b"http/1.1"]);
    assert!(!tls.ignore_client_order);
    assert_eq!(config.headers.len(), 5);
    assert!(config.headers.iter().any(|(name, value)| name == "x-xss-protection" && value == "0"));
    assert_eq!(config.users.keys().collect::<Vec<_>>(), ["alice", "bob"]);
    assert!(config.users["alice"].matches(b"hunter2"));
}

#[test]
fn a_certificate_and_its_key_can_be_inline() {
    let folder = Folder::new();
    let authority = Authority::new("another");
    let server = authority.server();
    let indented = |pem: &str| format!("    {}\n", pem.trim_end().replace('\n', "\n    "));
    let yaml = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}  client_ca: |\n{}  client_auth_type: VerifyClientCertIfGiven\n",
        indented(&server.certificate_pem),
        indented(&server.key_pem),
        indented(&authority.pem())
    );
    assert!(folder.accept(&yaml).tls.is_some());
}

#[test]
fn the_servers_order_of_suites_is_the_default() {
    let folder = Folder::new();
    assert!(folder.accept(&tls("")).tls.expect("TLS").ignore_client_order);
}

#[test]
fn a_key_without_a_value_counts_as_omitted() {
    let folder = Folder::new();
    let lines = "cert:\nclient_auth_type:\nclient_ca_file:\nmin_version:\ncipher_suites:\nclient_allowed_sans:\n";
    assert!(folder.accept(&tls(lines)).tls.is_some());
}

#[test]
fn a_path_is_relative_to_the_file_or_absolute() {
    let folder = Folder::new();
    let path = folder.0.path().display().to_string();
    folder.accept(&format!("tls_server_config: {{cert_file: {path}/server.pem, key_file: ./server.key}}"));
    let problems = folder.problems("tls_server_config: {cert_file: gone.pem, key_file: server.key}");
    let expected =
        "web.yml: tls_server_config.cert_file: \"gone.pem\" cannot be read: No such file or directory (os error 2)";
    assert_eq!(problems, [expected]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let folder = Folder::new();
    let problems = folder.problems(
        "tls_server_config:
  cert_file: gone.pem
  key_file: ca.pem
  min_version: TLS11
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_X]
  color: red
http_server_config:
  http2: true
  headers: {X-Frame-Options: never}
basic_auth_users: {alice: hunter2, bob: 5}
rate_limit: {interval: 1s}
web: 1
",
    );
    let keys: Vec<_> = problems.iter().map(|line| line.split(": ").nth(1).unwrap_or_default()).collect();
    let expected = [
        "tls_server_config.cert_file",
        "tls_server_config.key_file",
        "tls_server_config.min_version",
        "tls_server_config.cipher_suites[0]",
        "tls_server_config.cipher_suites[1]",
        "tls_server_config.color",
        "http_server_config.http2",
        "http_server_config.headers.X-Frame-Options",
        "basic_auth_users.alice",
        "basic_auth_users.bob",
        "rate_limit",
        "web",
    ];
    assert_eq!(keys, expected, "{problems:#?}");
    assert!(!problems.join("\n").contains("hunter2"));
}

#[test]
fn an_unknown_key_is_reported_with_the_nearest_known_one() {
    let folder = Folder::new();
    for (yaml, expected) in [
        ("tls_server_confg: {}", "tls_server_confg: unknown key; did you mean tls_server_config?"),
        ("cert_file: x", "cert_file: unknown key; did you mean tls_server_config.cert_file?"),
        ("basic_auth_user: {}", "basic_auth_user: unknown key; did you mean basic_auth_users?"),
        (
            "tls_server_config: {cert_fiel: x, key_file: server.key}",
            "tls_server_config.cert_fiel: unknown key; did you mean tls_server_config.cert_file?",
        ),
        (
            "http_server_config: {headers: {x-frame-options: deny}}",
            "http_server_config.headers.x-frame-options: unknown key; did you mean http_server_config.headers.X-Frame-Options?",
        ),
        (
            "http_server_config: {headers: {Server: x}}",
            "http_server_config.headers.Server: unknown key; known here: Content-Security-Policy, \
             Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection",
        ),
        (
            "colour: x",
            "colour: unknown key; known here: tls_server_config, http_server_config, basic_auth_users, rate_limit",
        ),
    ] {
        assert_eq!(folder.problems(yaml), [format!("web.yml: {expected}")]);
    }
}

#[test]
fn unsupported_values_are_refused_by_name() {
    let folder = Folder::new();
    let refused = |yaml: &str| folder.problems(yaml).join("\n");
    assert_eq!(
        refused("rate_limit: {interval: 1s, burst: 5}"),
        "web.yml: rate_limit: is not supported: this exporter has no rate limit; remove it"
    );
    assert_eq!(
        refused("http_server_config: {http2: true}"),
        "web.yml: http_server_config.http2: \"true\" is not supported: this exporter serves HTTP/1.1; remove it, or write false"
    );
    for (lines, expected) in [
        ("min_version: TLS10", "min_version: \"TLS10\" is not supported; TLS12 and TLS13 are"),
        ("max_version: TLS11", "max_version: \"TLS11\" is not supported; TLS12 and TLS13 are"),
        (
            "curve_preferences: [CurveP521]",
            "curve_preferences[0]: \"CurveP521\" is not supported; CurveP256, CurveP384 and X25519 are",
        ),
    ] {
        assert_eq!(folder.tls_problems(lines), [expected]);
    }
    for suite in [
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
        "TLS_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    ] {
        let expected = format!(
            "cipher_suites[0]: \"{suite}\" is not supported: suites with CBC, RC4 or without an ephemeral key exchange are too weak"
        );
        assert_eq!(folder.tls_problems(&format!("cipher_suites: [{suite}]")), [expected]);
    }
}

#[test]
fn invalid_values_are_reported_with_the_accepted_ones() {
    let folder = Folder::new();
    for (lines, expected) in [
        ("min_version: TLS14", "min_version: \"TLS14\" is not one of TLS12, TLS13; did you mean TLS12?"),
        ("min_version: 1.2", "min_version: \"1.2\" is not one of TLS12, TLS13"),
        ("min_version: TLS13\nmax_version: TLS12", "min_version: is above max_version, so no version is left"),
        ("prefer_server_cipher_suites: 'yes'", "prefer_server_cipher_suites: \"yes\" is not true or false"),
        (
            "cipher_suites: TLS_AES_128_GCM_SHA256",
            "cipher_suites: \"TLS_AES_128_GCM_SHA256\" is not a list; write [ ] around it",
        ),
        ("curve_preferences: [P256]", "curve_preferences[0]: \"P256\" is not one of CurveP256, CurveP384, X25519"),
        (
            "curve_preferences: [CurveP255]",
            "curve_preferences[0]: \"CurveP255\" is not one of CurveP256, CurveP384, X25519; did you mean CurveP256?",
        ),
        (
            "client_auth_type: RequireAndVerify",
            "client_auth_type: \"RequireAndVerify\" is not one of NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert, RequireClientCert",
        ),
        (
            "max_version: TLS12\ncipher_suites: [TLS_AES_128_GCM_SHA256]",
            "cipher_suites: has no suite of a version from min_version to max_version",
        ),
    ] {
        assert_eq!(folder.tls_problems(lines), [expected]);
    }
    assert!(
        folder.tls_problems("cipher_suites: [TLS_AES_128_GCM_SHA255]")[0]
            .ends_with("; did you mean TLS_AES_128_GCM_SHA256?")
    );
    assert_eq!(
        folder.problems("tls_server_config: 5")[0].split(';').next(),
        Some("web.yml: tls_server_config: is a single value, not a section")
    );
    assert_eq!(folder.problems("- a")[0], "web.yml: is a list, not sections with keys");
}

#[test]
fn tls_needs_a_certificate_and_a_key() {
    let folder = Folder::new();
    let missing = |key: &str, inline: &str| {
        format!("web.yml: tls_server_config.{key}: is missing, and so is {inline}: TLS needs a certificate and its key")
    };
    let (cert, key) = (missing("cert_file", "cert"), missing("key_file", "key"));
    assert_eq!(folder.problems("tls_server_config: {min_version: TLS12}"), [cert.clone(), key.clone()]);
    assert_eq!(folder.problems("tls_server_config: {cert_file: server.pem}"), [key]);
    assert_eq!(folder.problems("tls_server_config: {key_file: server.key}"), [cert]);
    let both = folder.tls_problems("cert: x\nkey: x");
    let expected = [
        "cert: cannot be combined with cert_file; give one of the two",
        "key: cannot be combined with key_file; give one of the two",
    ];
    assert_eq!(both, expected);
    let empty = folder.problems("tls_server_config: {cert_file: '', key_file: server.key}");
    assert_eq!(
        empty,
        ["web.yml: tls_server_config.cert_file: the value (a secret, not shown) is empty; give the path of a file"]
    );
    for key in ["-----BEGIN PRIVATE KEY----- hunter2", "hunter2\\nhunter2"] {
        let misplaced = folder.problems(format!("tls_server_config: {{cert_file: server.pem, key_file: \"{key}\"}}"));
        let expected = "the value (a secret, not shown) is not a path; the content of the file belongs in key";
        assert_eq!(misplaced, [format!("web.yml: tls_server_config.key_file: {expected}")]);
    }
}

#[test]
fn a_file_with_the_wrong_content_is_reported() {
    let folder = Folder::new();
    let server = std::fs::read_to_string(folder.0.path().join("server.pem")).expect("a file");
    let key = std::fs::read_to_string(folder.0.path().join("server.key")).expect("a file");
    folder.write("empty", "");
    folder.write("binary", [0, 159, 146, 150]);
    folder.write("cut.pem", &server[..server.len() - 40]);
    folder.write("cut.key", &key[..key.len() - 40]);
    folder.write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    folder.write("garbage.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    folder.write("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    folder.write(
        "old.key",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    folder.write("bad64.key", "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n");
    folder.write("other.key", KeyPair::generate().expect("a key").serialize_pem());
    folder.write("large.key", vec![b'x'; 2 << 20]);
    for (cert, key, at, reason) in [
        ("empty", "server.key", "cert_file", "has no certificate"),
        ("binary", "server.key", "cert_file", "has no certificate"),
        ("server.key", "server.key", "cert_file", "has no certificate"),
        ("cut.pem", "server.key", "cert_file", "is not PEM: a section has no -----END line"),
        ("garbage.pem", "server.key", "cert_file", "has a first certificate that cannot be read"),
        ("server.pem", "empty", "key_file", "has no private key"),
        ("server.pem", "server.pem", "key_file", "has no private key"),
        ("server.pem", "cut.key", "key_file", "is not PEM: a section has no -----END line"),
        ("server.pem", "garbage.key", "key_file", "has a key that cannot be used"),
        ("server.pem", "encrypted.key", "key_file", "has an encrypted key"),
        ("server.pem", "old.key", "key_file", "has an encrypted key"),
        ("server.pem", "bad64.key", "key_file", "is not PEM: a section is not base64"),
        (
            "server.pem",
            "other.key",
            "key_file",
            "is not the key of the first certificate in tls_server_config.cert_file",
        ),
        ("server.pem", "large.key", "key_file", "\"large.key\" is larger than 1048576 bytes"),
        ("server.pem", ".", "key_file", "\".\" cannot be read: Is a directory"),
    ] {
        let problems = folder.problems(format!("tls_server_config: {{cert_file: {cert}, key_file: {key}}}"));
        let expected = format!("web.yml: tls_server_config.{at}: {reason}");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?} {expected}");
        assert!(!problems[0].contains("hunter2"), "{problems:?}");
    }
}

#[test]
fn keys_for_client_certificates_must_be_consistent() {
    let folder = Folder::new();
    folder.write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for policy in [
        "RequestClientCert",
        "RequireAnyClientCert",
        "RequireClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] {
        folder.accept(&tls(&format!("client_auth_type: {policy}\nclient_ca_file: ca.pem")));
    }
    for policy in ["NoClientCert", "RequestClientCert", "RequireAnyClientCert"] {
        folder.accept(&tls(&format!("client_auth_type: {policy}")));
    }
    for (lines, expected) in [
        (
            "client_ca_file: ca.pem",
            "client_ca_file: has no effect with client_auth_type NoClientCert; set a type that asks for certificates",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert",
            "client_ca_file: is missing, and so is client_ca: client_auth_type asks for verification",
        ),
        (
            "client_auth_type: VerifyClientCertIfGiven",
            "client_ca_file: is missing, and so is client_ca: client_auth_type asks for verification",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: server.key",
            "client_ca_file: has no certificate; it must be PEM, with -----BEGIN CERTIFICATE-----",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: garbage.pem",
            "client_ca_file: has an unreadable certificate, number 1",
        ),
        (
            "client_auth_type: RequireAnyClientCert\nclient_allowed_sans: []",
            "client_allowed_sans: is empty; leave it out for the default",
        ),
    ] {
        assert_eq!(folder.tls_problems(lines), [expected]);
    }
    for policy in ["NoClientCert", "RequestClientCert", "VerifyClientCertIfGiven\nclient_ca_file: ca.pem"] {
        let problems = folder.tls_problems(&format!("client_auth_type: {policy}\nclient_allowed_sans: [a]"));
        assert!(
            problems.len() == 1 && problems[0].starts_with("client_allowed_sans: has no effect on clients without"),
            "{problems:?}"
        );
    }
}

#[test]
fn a_self_signed_server_certificate_is_accepted() {
    let folder = Folder::new();
    Issued::self_signed(IsCa::NoCa, |_| {}).write(folder.0.path(), "own");
    folder.accept("tls_server_config: {cert_file: own.pem, key_file: own.key}");
}

#[test]
fn headers_have_the_values_of_the_format() {
    let folder = Folder::new();
    let problem = |header: &str| {
        let problems = folder.problems(format!("http_server_config: {{headers: {{{header}}}}}"));
        problems.join("\n").replace("web.yml: http_server_config.headers.", "")
    };
    assert_eq!(
        problem("X-Frame-Options: DENY"),
        "X-Frame-Options: \"DENY\" is not one of deny, sameorigin; did you mean deny?"
    );
    assert_eq!(problem("X-Content-Type-Options: x"), "X-Content-Type-Options: \"x\" is not one of nosniff");
    for value in ["\"a\\nb\"", "\"ä\"", "\"\\0\""] {
        assert!(
            problem(&format!("Content-Security-Policy: {value}"))
                .ends_with("is not the value of a header: ASCII on one line")
        );
    }
    let blank = folder.accept("http_server_config: {headers: {X-Frame-Options: '', Content-Security-Policy: }}");
    assert!(blank.headers.is_empty(), "a blank header is none");
}

#[test]
fn a_user_is_a_name_with_a_hash() {
    let folder = Folder::new();
    let problem = |users: &str| folder.problems(format!("basic_auth_users: {users}")).join("\n");
    for (users, expected) in [
        ("{alice: hunter2}", "basic_auth_users.alice: the value (a secret, not shown) is not the bcrypt hash"),
        ("{alice: }", "basic_auth_users.alice: has no value; write the bcrypt hash"),
        ("{alice: 12345}", "basic_auth_users.alice: the value (a secret, not shown) is not the bcrypt hash"),
        ("{alice: [hunter2]}", "basic_auth_users.alice: a list is not the bcrypt hash"),
        ("{'a:b': hunter2}", "basic_auth_users.\"a…\": has a colon in the name"),
        ("[alice]", "basic_auth_users: is a list, not a mapping; write NAME: VALUE for each"),
    ] {
        let problem = problem(users);
        assert!(problem.starts_with(&format!("web.yml: {expected}")) && !problem.contains("hunter2"), "{problem}");
    }
    // With a forgotten blank, the hash is in the name.
    let problem = problem(&format!("{{'alice:{HASH}'}}"));
    assert!(!problem.contains("Zyx"), "{problem}");
}

#[test]
fn an_invalid_or_missing_file_is_reported() {
    let folder = Folder::new();
    assert!(folder.problems("tls_server_config: [").join("\n").starts_with("web.yml: is not YAML: "));
    assert_eq!(folder.problems(b"a: \xff"), ["web.yml: is not UTF-8; the first invalid byte is number 4"]);
    let twice = folder.problems("basic_auth_users: {}\nbasic_auth_users: {}\n");
    assert_eq!(twice, ["web.yml: basic_auth_users: is given twice; keep one"]);
    let gone = load(Path::new("/nonexistent/web.yml")).expect_err("no such file").to_string();
    assert_eq!(gone, "/nonexistent/web.yml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_changed_file_differs_from_an_unchanged_one() {
    let folder = Folder::new();
    let yaml = format!("{}basic_auth_users: {{alice: {HASH}}}\n", tls(""));
    let first = folder.accept(&yaml);
    assert_eq!(first, folder.accept(&yaml));
    assert_ne!(first, folder.accept(&yaml.replace("alice", "carol")));
    Authority::new("another").server().write(folder.0.path(), "server");
    assert_ne!(first, folder.accept(&yaml), "the certificate is another");
    assert_eq!(WebConfig::default(), WebConfig::default());
}

#[test]
fn no_secret_is_shown() {
    let folder = Folder::new();
    let config = folder.accept(&format!("{}basic_auth_users: {{alice: {HASH}}}\n", tls("")));
    let shown = format!("{config:?} {:?}", config.users);
    assert!(!shown.contains("$2b$") && !shown.contains("Zyx"), "{shown}");
}

#[test]
fn a_password_in_a_url_is_never_repeated() {
    let folder = Folder::new();
    let url = "\"https://me:hunter2@host/\"";
    for line in ["client_ca_file", "client_auth_type", "min_version"] {
        let reported = folder.tls_problems(&format!("{line}: {url}"));
        assert!(reported[0].starts_with(line) && !reported.concat().contains("hunter2"), "{reported:#?}");
    }
    let reported = folder.tls_problems(&format!("cipher_suites: [{url}]"));
    assert!(reported[0].starts_with("cipher_suites[0]") && !reported.concat().contains("hunter2"), "{reported:#?}");
}
