//! Any web configuration is accepted, or refused with readable problems without secrets.

use std::cell::RefCell;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tempfile::TempDir;

use super::tests::{Folder, HASH};
use super::*;
use crate::proptests::{Damage, cases, damage, damaged, fault_of_line, folder, text};

/// The longest problem, in characters.
const MAX_PROBLEM: usize = 10_000;

/// The value of all secrets here, except the hash.
const SECRET: &str = "s3cr3t";

/// Certificates and keys, generated once.
static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

thread_local! {
    /// A folder for arbitrary files, one for all inputs of a thread.
    static ANY: RefCell<TempDir> = RefCell::new(folder());
}

/// Parses a text as [`load`] parses a file.
fn read_text(text: &str) -> Result<WebConfig, Problems> {
    read(&FOLDER.0.path().join("web.yml"), text)
}

/// Parses bytes as [`load`] parses those of a file.
fn read_bytes(bytes: Vec<u8>) -> Result<WebConfig, Problems> {
    match String::from_utf8(bytes) {
        Ok(text) => read_text(&text),
        Err(bytes) => {
            let path = ANY.with_borrow(|folder| folder.path().join("web.yml"));
            std::fs::write(&path, bytes.as_bytes()).expect("a file");
            load(&path)
        }
    }
}

fn fault(read: &Result<WebConfig, Problems>) -> Option<String> {
    match read {
        Ok(config) => {
            let are_headers_right = config.headers.iter().all(|(_, value)| value.to_str().is_ok());
            let are_users_right = config.users.keys().all(|name| !name.contains(':'));
            let shown = format!("{config:?} {:?}", config.users);
            (!are_headers_right || !are_users_right || shown.contains("$2b$")).then_some(shown)
        }
        Err(problems) => problems.0.iter().find_map(|problem| fault_of_line(&problem.to_string(), MAX_PROBLEM)),
    }
}

fn fault_of_secrecy(read: &Result<WebConfig, Problems>) -> Option<String> {
    let reported = read.as_ref().err()?.to_string();
    [SECRET, "Zyxwvutsrqponmlkjihgfe", "hunter2"].iter().any(|secret| reported.contains(secret)).then_some(reported)
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON, and so YAML")
}

/// A key with valid values, some of which contain a secret.
type Row = (&'static str, &'static str, &'static [&'static str]);

const ROWS: &[Row] = &[
    ("tls_server_config", "cert_file", &["server.pem"]),
    ("tls_server_config", "key_file", &["server.key"]),
    ("tls_server_config", "client_ca_file", &["ca.pem", "\"./ca.pem\""]),
    (
        "tls_server_config",
        "client_auth_type",
        &["RequireAndVerifyClientCert", "NoClientCert", "VerifyClientCertIfGiven", "RequestClientCert"],
    ),
    ("tls_server_config", "client_allowed_sans", &["[a.test, 127.0.0.1]", "[]"]),
    ("tls_server_config", "min_version", &["TLS12", "TLS13", "TLS10"]),
    ("tls_server_config", "max_version", &["TLS13", "TLS12"]),
    (
        "tls_server_config",
        "cipher_suites",
        &["[TLS_AES_128_GCM_SHA256]", "[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]", "[TLS_RSA_WITH_AES_128_CBC_SHA]"],
    ),
    ("tls_server_config", "curve_preferences", &["[X25519, CurveP256]", "[CurveP521]"]),
    ("tls_server_config", "prefer_server_cipher_suites", &["true", "false"]),
    ("tls_server_config", "key", &["s3cr3t", "\"-----BEGIN PRIVATE KEY-----\\ns3cr3t\\n-----END PRIVATE KEY-----\""]),
    ("tls_server_config", "cert", &["\"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\"", "x"]),
    ("http_server_config", "http2", &["false", "true"]),
    ("headers", "X-Frame-Options", &["deny", "sameorigin", "DENY"]),
    ("headers", "X-Content-Type-Options", &["nosniff"]),
    ("headers", "X-XSS-Protection", &["0", "\"1; mode=block\""]),
    ("headers", "Content-Security-Policy", &["\"default-src 'none'\"", "\"\""]),
    ("headers", "Strict-Transport-Security", &["max-age=1"]),
    ("basic_auth_users", "alice", &[HASH]),
    ("basic_auth_users", "\"bob \\\"é\\\"\"", &[HASH]),
    (
        "basic_auth_users",
        "carol",
        &["s3cr3t", "\"s3cr3t:s3cr3t\"", "[s3cr3t]", "!!int s3cr3t", "\"s3cr3t \\n\\u2028\""],
    ),
    ("", "rate_limit", &["{interval: 1s}"]),
];

/// A value that is mostly invalid.
fn odd() -> impl Strategy<Value = String> {
    let raw: &[&str] = &[
        "",
        "~",
        "true",
        "5",
        "1e999",
        "[]",
        "{}",
        "[~]",
        "{a: b}",
        "[[a]]",
        "!x y",
        "&a x",
        "*a",
        "{<<: 5}",
        "TLS12",
        "server.pem",
        "server.key",
        "/dev/null",
        "/",
        "nowhere",
        "\"\\0\"",
        "\"a\\nb\"",
        "[a, a]",
        "{a: 1, a: 2}",
        "\"open",
        "0x10",
    ];
    prop_oneof![
        3 => select(raw).prop_map(str::to_owned),
        2 => text().prop_map(|text| quoted(&text)),
        1 => text(),
        1 => vec(text().prop_map(|text| quoted(&text)), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
    ]
}

/// A document of known keys. Some are missing, repeated, misspelt, or have the value of another key.
fn document() -> impl Strategy<Value = String> {
    let value = prop_oneof![12 => any::<Index>().prop_map(Ok), 1 => odd().prop_map(Err)];
    let misspelt = proptest::option::weighted(0.04, prop_oneof![Just("s".to_owned()), text()]);
    let entry = (any::<Index>(), value, misspelt);
    (any::<[bool; 3]>(), vec(entry, 0..7)).prop_map(|([without_tls, ..], entries)| {
        let mut sections: Vec<(&str, Vec<String>)> =
            ["tls_server_config", "headers", "basic_auth_users", "http_server_config", ""]
                .map(|name| (name, Vec::new()))
                .into();
        if !without_tls {
            sections[0].1.extend(["cert_file: server.pem".to_owned(), "key_file: server.key".to_owned()]);
        }
        for (row, value, misspelt) in entries {
            let (section, name, values) = row.get(ROWS);
            let value = match value {
                Ok(which) => (*which.get(values)).to_owned(),
                // A value for a secret key is a secret.
                Err(_) if *section == "basic_auth_users" || *name == "key" => SECRET.to_owned(),
                Err(odd) => odd,
            };
            let name = match misspelt {
                Some(more) if more == "s" => format!("{name}s"),
                Some(other) => quoted(&other),
                None => (*name).to_owned(),
            };
            let is_given = |entry: &String| entry.starts_with(&format!("{name}: "));
            for (_, entries) in sections.iter_mut().filter(|(known, _)| known == section) {
                // Few keys are repeated; otherwise nearly every document would be refused for that.
                if !entries.iter().any(is_given) || value.is_empty() {
                    entries.push(format!("{name}: {value}"));
                }
            }
        }
        let inside = |wanted: &str| {
            let entries = sections.iter().find(|(name, _)| *name == wanted).map(|(_, entries)| entries.join(", "));
            entries.unwrap_or_default()
        };
        let mut http = inside("http_server_config");
        if !inside("headers").is_empty() {
            http = format!("headers: {{{}}}{}{http}", inside("headers"), if http.is_empty() { "" } else { ", " });
        }
        format!(
            "tls_server_config: {{{}}}\nhttp_server_config: {{{http}}}\nbasic_auth_users: {{{}}}\n{}\n",
            inside("tls_server_config"),
            inside("basic_auth_users"),
            inside("")
        )
    })
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn any_bytes_are_accepted_or_refused(
        bytes in prop_oneof![vec(any::<u8>(), 0..200), text().prop_map(String::into_bytes), odd().prop_map(String::into_bytes)],
    ) {
        prop_assert_eq!(fault(&read_bytes(bytes)), None);
    }

    #[test]
    fn any_document_of_known_keys_is_accepted_or_refused_in_short_lines_without_a_secret(text in document()) {
        let read = read_text(&text);
        prop_assert_eq!(fault(&read), None);
        prop_assert_eq!(fault_of_secrecy(&read), None);
    }

    #[test]
    fn any_damaged_document_is_accepted_or_refused_in_short_lines(
        text in document(), damages in vec(damage(), 1..5),
    ) {
        prop_assert_eq!(fault(&read_bytes(damaged(text.into_bytes(), &damages))), None);
    }

    #[test]
    fn any_bytes_for_a_certificate_or_a_key_are_accepted_or_refused(
        bytes in vec(any::<u8>(), 0..200), damages in prop_oneof![Just(Vec::<Damage>::new()), vec(damage(), 1..4)],
        as_key: bool, of_real_one: bool,
    ) {
        let armour = if as_key { "PRIVATE KEY" } else { "CERTIFICATE" };
        let file = FOLDER.0.path().join(if as_key { "server.key" } else { "server.pem" });
        let pem = if of_real_one {
            std::fs::read(file).expect("a file")
        } else {
            format!("-----BEGIN {armour}-----\n{}\n-----END {armour}-----\n", STANDARD.encode(&bytes)).into_bytes()
        };
        let pem = String::from_utf8_lossy(&damaged(pem, &damages)).into_owned();
        let reading = |section: Vec<(&str, String)>| {
            let keys: Vec<_> = section.into_iter().map(|(key, value)| format!("{key}: {}", quoted(&value))).collect();
            read_text(&format!("tls_server_config: {{{}}}", keys.join(", ")))
        };
        let (cert_file, key_file) = (("cert_file", "server.pem".to_owned()), ("key_file", "server.key".to_owned()));
        for section in [
            vec![cert_file.clone(), key_file.clone(), ("client_ca", pem.clone())],
            vec![("cert", pem.clone()), key_file],
            vec![cert_file, ("key", pem.clone())],
        ] {
            prop_assert_eq!(fault(&reading(section)), None);
        }
    }
}

/// Ensures that not only the first checks are tested.
#[test]
fn many_generated_documents_are_accepted() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let texts = (0..200).map(|_| document().new_tree(&mut runner).expect("a document").current());
    let taken = texts.filter(|text| read_text(text).is_ok()).count();
    assert!((20..180).contains(&taken), "{taken} of 200");
}
