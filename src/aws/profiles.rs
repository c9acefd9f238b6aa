//! The AWS shared configuration files, `~/.aws/config` and `~/.aws/credentials`.
//!
//! They are read here, and the SDK gets their contents. The SDK's own reader treats a byte-order mark as content and a
//! UTF-16 file as empty, and its errors do not name the file.

use std::collections::HashMap;
use std::error::Error as _;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use aws_config::profile::{self, ProfileSet};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_runtime::fs_util::{Os, home_dir};
use aws_types::os_shim_internal::{Env, Fs};

use super::error::one_line;
use super::trust;
use crate::config::{self, AwsProfiles, FileError};

/// The profile that is used by default.
pub(super) const DEFAULT: &str = "default";

const CA_BUNDLE: &str = "ca_bundle";

/// Reads the profiles that the SDK would find with these environment variables. Empty variables count as unset.
#[must_use]
pub(crate) fn read(environment: &[(String, String)]) -> AwsProfiles {
    let profiles = SharedFiles::read(environment.iter().cloned()).profiles();
    let variable = |name: &str| {
        let value = environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.trim().is_empty())
    };
    let bundles = profiles.properties.iter().filter(|((_, property), _)| property == CA_BUNDLE);
    let trust = trust::problems(variable, bundles.map(|((profile, _), path)| (profile.as_str(), path.as_str())));
    AwsProfiles { trust, ..profiles }
}

/// The folder of `~`.
pub(super) fn home() -> Option<String> {
    home_dir(&Env::real(), Os::real())
}

/// Faults of the files, and of the selected profile.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// One line each.
    pub(super) lines: Vec<String>,
    /// Whether the profile is missing.
    pub(super) missing: bool,
    /// Whether a file cannot be parsed. The SDK then uses neither file.
    pub(super) unparsable: bool,
}

/// Both files. They contain secrets, so this does not implement `Debug`.
pub(super) struct SharedFiles {
    files: [SharedFile; 2],
    aws_profile: Option<String>,
}

impl SharedFiles {
    /// Reads the files that the process environment names.
    pub(super) fn of_process() -> Self {
        // Like the SDK, ignores variables that are not UTF-8.
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self::read(std::env::vars_os().filter_map(text))
    }

    pub(super) fn read(environment: impl Iterator<Item = (String, String)>) -> Self {
        let environment = Env::from(environment.filter(|(_, value)| !value.is_empty()).collect::<HashMap<_, _>>());
        let files = [
            (EnvConfigFileKind::Config, "AWS_CONFIG_FILE", "~/.aws/config"),
            (EnvConfigFileKind::Credentials, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        ];
        Self {
            files: files.map(|(kind, variable, default)| {
                let path = environment.get(variable).unwrap_or_else(|_| default.to_owned());
                SharedFile::read(kind, PathBuf::from(path), &environment)
            }),
            aws_profile: environment.get("AWS_PROFILE").ok(),
        }
    }

    /// The selected profile: that of the target, else `AWS_PROFILE`. `None` if the default profile is used without
    /// being named.
    pub(super) fn named_profile<'a>(&'a self, of_target: Option<&'a str>) -> Option<&'a str> {
        of_target.or(self.aws_profile.as_deref())
    }

    /// The files for the SDK. Unusable files are empty, as when the SDK reads them itself: other sources of
    /// credentials still work then.
    pub(super) fn for_sdk(&self) -> EnvConfigFiles {
        let [config, credentials] = &self.files;
        EnvConfigFiles::builder()
            .with_contents(config.kind, config.text())
            .with_contents(credentials.kind, credentials.text())
            .build()
    }

    /// All sections of both files; `None` if a file cannot be parsed.
    pub(super) fn sections(&self) -> Option<ProfileSet> {
        let (files, environment) = (Fs::from_raw_map(HashMap::new()), Env::from_slice(&[]));
        without_waiting(profile::load(&files, &environment, &self.for_sdk(), None))?.ok()
    }

    /// The files, as an operator knows them.
    pub(super) fn searched(&self) -> Vec<String> {
        self.files.iter().map(SharedFile::label).collect()
    }

    /// Why nothing was found in `profile`, or in the default profile if it is `None`.
    pub(super) fn faults(&self, profile: Option<&str>) -> Faults {
        let AwsProfiles { searched, names, problems: mut lines, .. } = self.profiles();
        let missing = profile.filter(|name| !names.contains(*name));
        lines.extend(missing.map(|name| format!("profile {name:?} not found in {}", searched.join(", "))));
        let unparsable = self.files.iter().any(|file| file.parsed().is_err());
        Faults { lines, missing: missing.is_some(), unparsable }
    }

    /// The CA bundle of a profile.
    pub(super) fn ca_bundle(&self, profile: &str) -> Option<PathBuf> {
        self.profiles().properties.remove(&(profile.to_owned(), CA_BUNDLE.to_owned())).map(PathBuf::from)
    }

    fn profiles(&self) -> AwsProfiles {
        let mut profiles = AwsProfiles::default();
        // The SDK merges the files in this order, property by property.
        for file in &self.files {
            profiles.searched.push(file.label());
            if let Content::Unusable(problem) = &file.content {
                profiles.problems.push(problem.clone());
            }
            match file.parsed() {
                Ok(found) => {
                    for name in found.profiles() {
                        profiles.names.insert(name.to_owned());
                        for property in AwsProfiles::PROPERTIES {
                            let value = found.get_profile(name).and_then(|profile| profile.get(property));
                            let key = (name.to_owned(), property.to_owned());
                            profiles.properties.extend(value.map(|value| (key, value.to_owned())));
                        }
                    }
                }
                Err(problem) => profiles.problems.push(problem),
            }
        }
        profiles
    }
}

struct SharedFile {
    kind: EnvConfigFileKind,
    path: PathBuf,
    content: Content,
}

enum Content {
    /// The text, without a byte-order mark.
    Text(String),
    Missing,
    /// The path begins with `~`, and `HOME` is not set.
    HomeNotSet,
    /// The reason, in one line.
    Unusable(String),
}

impl SharedFile {
    fn read(kind: EnvConfigFileKind, path: PathBuf, environment: &Env) -> Self {
        let path = match path.strip_prefix("~") {
            Ok(below_home) => match home_dir(environment, Os::real()) {
                Some(home) => Path::new(&home).join(below_home),
                None => return Self { kind, path, content: Content::HomeNotSet },
            },
            Err(_) => path,
        };
        let path = std::path::absolute(&path).unwrap_or(path);
        let content = Content::read(&path);
        Self { kind, path, content }
    }

    fn text(&self) -> &str {
        match &self.content {
            Content::Text(text) => text,
            Content::Missing | Content::HomeNotSet | Content::Unusable(_) => "",
        }
    }

    /// The path, as an operator knows it.
    fn label(&self) -> String {
        let path = one_line(&self.path.to_string_lossy());
        match self.content {
            Content::Text(_) | Content::Unusable(_) => path,
            Content::Missing => format!("{path} (does not exist)"),
            Content::HomeNotSet => format!("{path} (HOME is not set)"),
        }
    }

    /// The profiles of this file, by the SDK's parser.
    fn parsed(&self) -> Result<ProfileSet, String> {
        // Parsed from memory, with the real path for the parser's errors.
        let files = Fs::from_raw_map(HashMap::from([(self.path.clone().into(), self.text().as_bytes().to_vec())]));
        let source = EnvConfigFiles::builder().with_file(self.kind, &self.path).build();
        match without_waiting(profile::load(&files, &Env::from_slice(&[]), &source, None)) {
            Some(Ok(profiles)) => Ok(profiles),
            // The error itself has no details; its cause names the file and the line.
            Some(Err(error)) => Err(one_line(&error.source().unwrap_or(&error).to_string())),
            None => Err(one_line(&format!("cannot parse {}", self.path.display()))),
        }
    }
}

impl Content {
    fn read(path: &Path) -> Self {
        match config::read_text(path) {
            Ok(text) => Self::Text(text),
            Err(FileError::Io(error)) if error.kind() == ErrorKind::NotFound => Self::Missing,
            Err(error) => Self::Unusable(one_line(&format!("{} {error}", path.display()))),
        }
    }
}

/// The output of a future that never waits: the SDK's parser is async, but reads from memory here.
fn without_waiting<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMISECRETKEY";

    /// A home folder with these files in `.aws`.
    fn home(files: &[(&str, &[u8])]) -> TempDir {
        let home = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(home.path().join(".aws")).expect("a folder");
        for (name, content) in files {
            std::fs::write(home.path().join(".aws").join(name), content).expect("a written file");
        }
        home
    }

    fn variables(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn read_in(home: &TempDir) -> AwsProfiles {
        read(&variables(&[("HOME", &home.path().to_string_lossy())]))
    }

    fn path(home: &TempDir, name: &str) -> String {
        home.path().join(".aws").join(name).display().to_string()
    }

    fn names(profiles: &AwsProfiles) -> Vec<&str> {
        profiles.names.iter().map(String::as_str).collect()
    }

    fn utf_16(text: &str, unit: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
        std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(unit).collect()
    }

    #[test]
    fn profiles_of_both_files_are_found() {
        let home = home(&[
            ("config", b"[default]\nregion = eu-west-1\n[profile a]\nendpoint_url = http://config.test\n[profile b]\n"),
            ("credentials", b"[a]\nendpoint_url = http://credentials.test\n[c]\naws_access_key_id = x\n"),
        ]);
        let profiles = read_in(&home);
        assert_eq!(names(&profiles), ["a", "b", "c", "default"]);
        assert_eq!(profiles.searched, [path(&home, "config"), path(&home, "credentials")]);
        let url = (("a".to_owned(), "endpoint_url".to_owned()), "http://credentials.test".to_owned());
        assert!(profiles.properties.into_iter().any(|property| property == url), "as the SDK merges them");
        assert_eq!(profiles.problems, [""; 0]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let home =
            home(&[("config", b"\xEF\xBB\xBF[profile a]\r\nregion = x\r\n"), ("credentials", b"\xEF\xBB\xBF[b]\n")]);
        let profiles = read_in(&home);
        assert_eq!((names(&profiles), profiles.problems.len()), (vec!["a", "b"], 0));
    }

    #[test]
    fn only_the_first_mark_is_skipped() {
        let home = home(&[("config", b"\xEF\xBB\xBF\xEF\xBB\xBF[profile a]\n")]);
        let profiles = read_in(&home);
        assert_eq!((names(&profiles), profiles.problems.len()), (vec![], 1));
    }

    #[test]
    fn a_utf_16_file_is_reported() {
        for unit in [u16::to_le_bytes, u16::to_be_bytes] {
            let home = home(&[("config", &utf_16("[profile a]\n", unit)), ("credentials", b"[b]\n")]);
            let profiles = read_in(&home);
            assert_eq!(names(&profiles), ["b"]);
            assert_eq!(profiles.problems, [format!("{} is UTF-16; save it as UTF-8", path(&home, "config"))]);
        }
    }

    #[test]
    fn other_encodings_are_reported() {
        let home = home(&[("credentials", b"[b]\n# caf\xE9\n")]);
        let problem = format!("{} is not UTF-8; the first invalid byte is number 10", path(&home, "credentials"));
        assert_eq!(read_in(&home).problems, [problem]);
    }

    #[test]
    fn files_that_do_not_exist_are_no_problem() {
        let home = home(&[]);
        let profiles = read_in(&home);
        let [config, credentials] =
            ["config", "credentials"].map(|name| format!("{} (does not exist)", path(&home, name)));
        assert_eq!(profiles, AwsProfiles { searched: vec![config, credentials], ..AwsProfiles::default() });
    }

    #[test]
    fn without_home_no_file_is_read() {
        for environment in [variables(&[]), variables(&[("HOME", "")])] {
            let searched = ["~/.aws/config (HOME is not set)", "~/.aws/credentials (HOME is not set)"];
            let searched = searched.map(str::to_owned).to_vec();
            assert_eq!(read(&environment), AwsProfiles { searched, ..AwsProfiles::default() });
        }
    }

    #[test]
    fn variables_name_other_files_unless_they_are_empty() {
        let home = home(&[("config", b"[profile a]\n"), ("credentials", b"[b]\n"), ("other", b"[profile c]\n")]);
        let folder = home.path().to_string_lossy().into_owned();
        for (config, found) in [
            (path(&home, "other"), vec!["b", "c"]),
            ("~/.aws/other".to_owned(), vec!["b", "c"]),
            (String::new(), vec!["a", "b"]),
            ("/dev/null".to_owned(), vec!["b"]),
        ] {
            let environment =
                variables(&[("HOME", &folder), ("AWS_CONFIG_FILE", &config), ("AWS_SHARED_CREDENTIALS_FILE", "")]);
            assert_eq!(names(&read(&environment)), found, "{config}");
        }
    }

    #[test]
    fn a_relative_path_is_shown_in_full() {
        let profiles = read(&variables(&[("AWS_CONFIG_FILE", "nonexistent/config")]));
        let folder = std::env::current_dir().expect("a current folder");
        assert_eq!(profiles.searched[0], format!("{}/nonexistent/config (does not exist)", folder.display()));
    }

    #[test]
    fn a_path_that_is_not_a_file_is_reported() {
        let home = home(&[]);
        let folder = home.path().to_string_lossy();
        let profiles = read(&variables(&[("AWS_CONFIG_FILE", &folder), ("HOME", &folder)]));
        assert!(profiles.problems[0].starts_with(&format!("{folder} cannot be read: ")), "{:?}", profiles.problems);
    }

    #[test]
    fn the_size_of_a_file_is_limited() {
        let profiles = read(&variables(&[("AWS_CONFIG_FILE", "/dev/zero")]));
        assert_eq!(profiles.problems, ["/dev/zero is larger than 1048576 bytes, the limit for a configuration"]);
        let mut full = b"[profile a]\n".to_vec();
        full.resize(1 << 20, b'\n');
        assert_eq!(names(&read_in(&home(&[("config", &full)]))), ["a"]);
    }

    #[test]
    fn a_parse_error_names_file_and_line_without_the_content() {
        for content in [
            format!("{SECRET}\n"),
            format!("[a]\n{SECRET}\n"),
            format!("[{SECRET}\n"),
            format!("[a]\n= {SECRET}\n"),
            format!("[a]\nb =\n  {SECRET}\n"),
            format!("[a]\n {SECRET}\n"),
        ] {
            let home = home(&[("config", b"[profile b]\n"), ("credentials", content.as_bytes())]);
            let profiles = read_in(&home);
            let [problem] = &profiles.problems[..] else { panic!("{content}: {:?}", profiles.problems) };
            assert!(
                problem.starts_with(&format!("error parsing {} on line ", path(&home, "credentials"))),
                "{problem}"
            );
            assert!(!problem.contains(SECRET) && !problem.contains('\n'), "{problem}");
            assert_eq!(names(&profiles), ["b"]);
        }
    }

    #[test]
    fn a_missing_profile_is_reported_with_the_files() {
        let home = home(&[("config", b"[profile a]\n")]);
        let folder = home.path().to_string_lossy().into_owned();
        let files = |aws_profile: &str| {
            SharedFiles::read(variables(&[("HOME", &folder), ("AWS_PROFILE", aws_profile)]).into_iter())
        };
        let (config, credentials) = (path(&home, "config"), path(&home, "credentials"));
        let missing = |name: &str| Faults {
            lines: vec![format!("profile \"{name}\" not found in {config}, {credentials} (does not exist)")],
            missing: true,
            unparsable: false,
        };
        let of_environment = files("b");
        assert_eq!(of_environment.named_profile(None), Some("b"));
        assert_eq!(of_environment.named_profile(Some("a")), Some("a"));
        assert_eq!(of_environment.faults(Some("b")), missing("b"));
        assert_eq!(of_environment.faults(Some("a")), Faults::default());
        assert_eq!(files("").named_profile(None), None);
        assert_eq!(files("").faults(None), Faults::default(), "a missing default profile is no fault");
    }
}
