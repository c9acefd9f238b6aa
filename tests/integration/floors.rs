//! The one-way data flow: a module uses only what stands to its right.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// As `src/lib.rs` lists them, the top floor first.
const FLOORS: &[&str] = &[
    "main",
    "cli",
    "daemon",
    "web",
    "collector",
    "simulator",
    "aws",
    "metrics",
    "http",
    "logging",
    "config",
    "clock",
    "build_info",
    "jobs",
    "proptests",
];

/// What only one or two modules may know.
const SECLUDED: &[(&str, &[&str])] = &[
    ("aws_sdk_", &["aws"]),
    ("aws_config", &["aws"]),
    ("aws_runtime", &["aws"]),
    ("aws_smithy_", &["aws"]),
    ("aws_types", &["aws"]),
    ("rustls_native_certs", &["aws"]),
    ("rustix", &["aws", "http", "metrics"]),
    // The simulator serves connections itself, since the exporter's server can't break one.
    // `aws` asks hyper-util which proxy the SDK's client uses.
    ("hyper", &["http", "simulator", "aws"]),
    ("figment", &["config"]),
    ("tokio_rustls", &["http"]),
    ("sd_notify", &["daemon"]),
    ("webpki", &["config"]),
    ("indicatif", &["cli"]),
    ("bcrypt", &["config"]),
    ("secrecy", &["config"]),
    ("socket2", &["http"]),
    ("regex_lite", &["jobs", "config"]),
    ("saphyr_parser", &["config"]),
    ("x509_parser", &["config"]),
    ("prometheus_client", &["metrics"]),
    ("maud", &["web"]),
];

/// All source files: the path of the module that each is, the file, and its tokens.
fn sources() -> Vec<(Vec<String>, PathBuf, TokenStream)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![src.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let inside = path.strip_prefix(&src).expect("below src").with_extension("");
            let module = inside.iter().map(|name| name.to_string_lossy().into_owned()).filter(|name| name != "mod");
            let module: Vec<String> = module.collect();
            let text = std::fs::read_to_string(&path).expect("a source file");
            assert!(!text.contains("#[path"), "{}: a module stands where its name says", path.display());
            let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            sources.push((module, path, tokens));
        }
    }
    sources
}

fn floor(module: &str) -> usize {
    let floor = FLOORS.iter().position(|known| *known == module);
    floor.unwrap_or_else(|| panic!("{module} stands on no floor: add it to FLOORS and to src/lib.rs"))
}

/// The paths that tokens of the module `at` have into this crate, from the root of the crate. The root itself is empty.
fn paths(tokens: TokenStream, at: &[String]) -> Vec<Vec<String>> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut paths_found, mut rest) = (Vec::new(), &tokens[..]);
    while let [token, after @ ..] = rest {
        rest = after;
        match (token, rest) {
            (TokenTree::Ident(keyword), [TokenTree::Ident(name), TokenTree::Group(body), after @ ..])
                if keyword == "mod" =>
            {
                paths_found.extend(paths(body.stream(), &[at, &[name.to_string()]].concat()));
                rest = after;
            }
            (TokenTree::Ident(start), _) => {
                let base = match start.to_string().as_str() {
                    "crate" | "aws_iot_jobs_exporter" => &[],
                    "self" => at,
                    "super" => at.split_last().map_or(at, |(_, parent)| parent),
                    _ => continue,
                };
                if is_path(rest) {
                    rest = follow(base.to_vec(), rest, &mut paths_found);
                } else if matches!(rest, [TokenTree::Ident(next), ..] if next == "as") {
                    paths_found.push(base.to_vec());
                }
            }
            (TokenTree::Group(group), _) => paths_found.extend(paths(group.stream(), at)),
            _ => {}
        }
    }
    paths_found
}

/// Whether a path goes on with `::`.
fn is_path(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(one), TokenTree::Punct(two), ..] if one.as_char() == ':' && two.as_char() == ':')
}

/// Follows a path from `path` to its ends, of which a list in braces has several, and returns the tokens after it.
fn follow<'t>(mut path: Vec<String>, mut rest: &'t [TokenTree], ends: &mut Vec<Vec<String>>) -> &'t [TokenTree] {
    while is_path(rest) {
        let (colons, after) = rest.split_at(2);
        match after.first() {
            Some(TokenTree::Ident(name)) if name == "super" => drop(path.pop()),
            Some(TokenTree::Ident(name)) if name == "self" => {}
            Some(TokenTree::Ident(name)) => path.push(name.to_string()),
            Some(TokenTree::Group(list)) => {
                let list: Vec<TokenTree> = list.stream().into_iter().collect();
                let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',');
                for item in list.split(is_comma).filter(|item| !item.is_empty()) {
                    follow(path.clone(), &[colons, item].concat(), ends);
                }
                return &after[1..];
            }
            // `*`, or the `<` of a type.
            _ => break,
        }
        rest = &after[1..];
    }
    ends.push(path);
    rest
}

/// The modules right below the root that a file uses besides its own.
fn used(module: &[String], path: &Path, tokens: &TokenStream) -> BTreeSet<String> {
    let first = |path_found: Vec<String>| {
        let first = path_found.into_iter().next();
        first.unwrap_or_else(|| panic!("{} names the root of the crate: name its modules", path.display()))
    };
    paths(tokens.clone(), module).into_iter().map(first).filter(|used| *used != module[0]).collect()
}

#[test]
fn no_spelling_of_a_path_escapes_the_reader() {
    let at = ["jobs".to_owned(), "tally".to_owned()];
    let first = |code: &str| -> Vec<String> {
        let found = paths(code.parse().expect("tokens"), &at);
        found.iter().map(|path| path.join("::")).collect()
    };
    for (code, expected) in [
        ("use crate::web::Site;", &["web::Site"][..]),
        ("use crate::{web::{self, page::*}, clock};", &["web", "web::page", "clock"]),
        ("use {crate::web, super::job};", &["web", "jobs::job"]),
        ("use super::super::web as pages;", &["web"]),
        ("use super::{super::web, job};", &["web", "jobs::job"]),
        ("use self::super::super::web;", &["web"]),
        ("mod tests { use super::super::super::web::Site; use super::*; }", &["web::Site", "jobs::tally"]),
        (
            "fn f(x: Vec<crate::web::Site>) -> u8 { assert!(super::super::web::f::<crate::aws::A>(x)); 1 }",
            &["web::Site", "web::f", "aws::A"],
        ),
        ("macro_rules! m { () => { $crate::web::f() } }", &["web::f"]),
        ("use crate as root; use super::super as root;", &["", ""]),
        ("use crate::*; use crate::{self as root};", &["", ""]),
        ("pub(crate) fn f(&self) { self.x(Self::y, \"crate::web\") } // crate::web", &[]),
    ] {
        assert_eq!(first(code), expected, "{code}");
    }
}

#[test]
fn a_module_uses_only_modules_to_its_right() {
    for (module, path, tokens) in sources().iter().filter(|(module, ..)| module[0] != "lib") {
        let own = &module[0];
        for used in used(module, path, tokens) {
            assert!(floor(&used) > floor(own), "{}: {own} uses {used}, which is not to its right", path.display());
        }
    }
}

#[test]
fn only_the_command_line_depends_on_the_simulator() {
    for (module, path, tokens) in sources() {
        if !matches!(module[0].as_str(), "cli" | "simulator" | "lib") {
            assert!(!used(&module, &path, &tokens).contains("simulator"), "{} uses the simulator", path.display());
        }
    }
}

/// All names in tokens, without those in texts and comments.
fn names(tokens: TokenStream) -> BTreeSet<String> {
    let names = tokens.into_iter().flat_map(|token| match token {
        TokenTree::Ident(name) => BTreeSet::from([name.to_string()]),
        TokenTree::Group(group) => names(group.stream()),
        _ => BTreeSet::new(),
    });
    names.collect()
}

#[test]
fn each_library_is_known_only_where_it_belongs() {
    for (module, path, tokens) in sources() {
        let names = names(tokens);
        for (library, knowers) in SECLUDED {
            let is_named = names.iter().any(|name| name.contains(library));
            assert!(!is_named || knowers.contains(&&*module[0]), "{} knows {library}", path.display());
        }
    }
}
