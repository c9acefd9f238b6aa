//! For tests: generators of hostile data, and strict parsers of the results.
//!
//! The properties that use it are in modules named `proptests`, or have `proptest` in their names, so that one filter
//! runs all of them: `PROPTEST_CASES=1000000 cargo test --release --lib proptest`.

pub(crate) mod answers;
pub(crate) mod exposition;
pub(crate) mod page;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A folder for files: in memory if the system supports it, because a million files on a disk take an hour.
pub(crate) fn folder() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

/// The number of inputs of a property: `PROPTEST_CASES`, else this default.
pub(crate) fn cases(by_default: u32) -> ProptestConfig {
    of(asked().unwrap_or(by_default))
}

/// The same for properties that start a whole exporter for each input: a hundredth of the number.
pub(crate) fn cases_of_whole_exporters(by_default: u32) -> ProptestConfig {
    of(asked().map_or(by_default, |cases| cases.div_ceil(100)))
}

fn asked() -> Option<u32> {
    std::env::var_os("PROPTEST_CASES").map(|_| ProptestConfig::default().cases)
}

/// A failure is kept as a named test, not in a file of seeds.
fn of(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

/// Texts that can escape from quotes, lines, markup, terminals and parsers.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "\\",
    "\\\"",
    "\\n",
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\0",
    "\u{1}",
    "\u{7f}",
    "\u{85}",
    "\u{9b}31m",
    "\u{1b}[2J\u{1b}]0;x\u{7}",
    "\u{2028}",
    "\u{202e}",
    "\u{2066}",
    "\u{200b}",
    "\u{feff}",
    "\u{fffd}",
    "\u{ffff}",
    "\u{10ffff}",
    "\u{301}\u{301}\u{301}",
    "\"} 1\n# EOF\n",
    "\n# TYPE aws_iot_jobs counter\naws_iot_jobs 7\n",
    "{a=\"b\"}",
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=y>",
    "\" onmouseover=\"x",
    "<!--",
    "]]>",
    "&lt;",
    "&#0;",
    "<none>",
    "<other>",
    "<unknown>",
    "${x}",
    "{}",
    "%s%n",
    "%00",
    "../..",
    "?a=b#c",
    ",",
    ";",
    "=",
    ": ",
    " ",
    "é",
    "𝕏",
    "IN_PROGRESS",
    "http://user:hunter2@host/",
];

/// A hostile text.
pub(crate) fn text() -> impl Strategy<Value = String> + Clone {
    let piece = prop_oneof![
        6 => select(PIECES).prop_map(str::to_owned),
        2 => "[a-zA-Z0-9_.:-]{1,12}",
        1 => any::<char>().prop_map(String::from),
    ];
    let pieces = vec(piece, 0..5).prop_map(|pieces| pieces.concat());
    prop_oneof![150 => pieces.clone(), 1 => (pieces, 1_usize..2000).prop_map(|(text, times)| text.repeat(times))]
}

/// One way to damage bytes.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Cut(Index),
    Drop(Index, usize),
    Put(Index, Vec<u8>),
    Set(Index, u8),
    Again(Index, usize),
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let junk: &[&[u8]] = &[
        b"\0",
        b"\xff",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"\xf0\x9f",
        b"\"",
        b"\\",
        b"\\u",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b"\n  ",
        b"'",
        b"#",
        b"- ",
        b"!",
        b"&a ",
        b"*a",
        b"null",
        b"1e999",
        b"-",
        b"\xef\xbb\xbf",
        b"%",
        b"|",
        b">",
        b"\t",
        b"\r",
        b"---\n",
    ];
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), 1_usize..40).prop_map(|(at, length)| Damage::Drop(at, length)),
        (any::<Index>(), select(junk)).prop_map(|(at, junk)| Damage::Put(at, junk.to_vec())),
        (any::<Index>(), vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Damage::Put(at, bytes)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<Index>(), 1_usize..200).prop_map(|(at, length)| Damage::Again(at, length)),
    ]
}

/// Applies all damages to `bytes`.
pub(crate) fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match damage {
            Damage::Cut(at) => bytes.truncate(place(at)),
            Damage::Drop(at, length) => {
                let at = place(at);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Damage::Put(at, junk) => {
                let at = place(at);
                bytes.splice(at..at, junk.iter().copied());
            }
            Damage::Set(at, byte) => {
                let at = place(at);
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
            Damage::Again(at, length) => {
                let at = place(at);
                let piece = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// The fault of a text that must fit on one line of a log, a terminal or a page.
pub(crate) fn fault_of_line(line: &str, max_chars: usize) -> Option<String> {
    // Characters that move the cursor, end a line or change the text direction.
    let is_bad = |c: &char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if let Some(bad) = line.chars().find(is_bad) {
        return Some(format!("{bad:?} in {line:?}"));
    }
    let length = line.chars().count();
    (length > max_chars || length == 0).then(|| format!("{length} characters: {line:?}"))
}

#[test]
fn an_invalid_line_is_detected() {
    assert_eq!(fault_of_line("an é", 4), None);
    for bad in ["", "a\nb", "a\u{85}b", "\u{1b}[0m", "\u{2028}", "\u{202e}", "12345"] {
        assert!(fault_of_line(bad, 4).is_some(), "{bad:?}");
    }
}
