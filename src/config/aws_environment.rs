//! Checks the AWS settings of the environment before the exporter calls AWS.

use std::collections::{BTreeMap, BTreeSet};

use super::cursor::Cursor;
use super::problem::{Problem, abridged};
use super::rules::specs;
use super::schema::{Config, Target};
use super::sources::Sources;
use super::syntax::{ENDPOINT_URL, has_host, is_endpoint_url, partition_of_arn, partition_of_region, region_error};

/// Each variable is read in upper or lower case; the last one is the fallback for the others.
const PROXY_VARIABLES: [[&str; 2]; 3] =
    [["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];

/// Other schemes of proxy URLs. An unknown scheme can be a part of a password, so problems do not repeat it.
const KNOWN_SCHEMES: [&str; 5] = ["ftp", "socks4", "socks4a", "socks5", "socks5h"];

/// The content of the AWS configuration files that a configuration is checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsProfiles {
    /// The files that were searched; for missing ones, with the reason.
    pub searched: Vec<String>,
    /// The names of the profiles.
    pub names: BTreeSet<String>,
    /// Files that cannot be read or parsed, one sentence each, without their content.
    pub problems: Vec<String>,
    /// The values of [`Self::PROPERTIES`], by profile and property.
    pub properties: BTreeMap<(String, String), String>,
    /// Sources of trusted certificates without a usable one.
    pub trust: Vec<TrustProblem>,
}

/// A source of trusted certificates without a usable one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustProblem {
    /// The variable or the files that name the source.
    pub source: String,
    /// The file and its fault.
    pub reason: String,
    /// The profile that uses it, if only one does.
    pub profile: Option<String>,
    /// Whether it is the system's own source, which no variable replaces.
    pub is_of_system: bool,
}

impl TrustProblem {
    /// A problem of all targets whose profile names no certificates.
    #[must_use]
    pub fn new(source: &str, reason: String) -> Self {
        Self { source: source.to_owned(), reason, profile: None, is_of_system: false }
    }
}

impl AwsProfiles {
    /// The properties that are collected.
    pub const PROPERTIES: [&str; 4] = ["ca_bundle", "endpoint_url", "region", "source_profile"];

    pub(super) fn property(&self, profile: &str, property: &str) -> Option<&str> {
        self.properties.get(&(profile.to_owned(), property.to_owned())).map(String::as_str)
    }
}

/// Reports unusable variables, proxies and AWS profiles that targets would use.
pub(super) fn check(sources: &Sources, profiles: &AwsProfiles, config: &Config, root: &Cursor<'_>) -> Vec<Problem> {
    let specs = specs(config, root);
    let is_used = |keys: &[&str]| specs.iter().any(|(_, at)| at.omits(keys));
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    let region = region.into_iter().find_map(|name| Some((name, sources.variable(name)?)));
    let profile = sources.variable("AWS_PROFILE").filter(|_| is_used(&["profile"]));
    let mut problems = Vec::new();
    if let Some((name, region)) = region.filter(|_| is_used(&["region", "regions"])) {
        let reason = region_error(region).map(|reason| format!("\"{}\" {reason}", abridged(region)));
        problems.extend(reason.map(|reason| Problem::of_source(name, None, reason)));
    }
    if is_used(&["endpoint_url"]) {
        problems.extend(endpoint_problems(sources));
    }
    if let Some(reason) = profile.and_then(|name| profile_error(name, profiles)) {
        problems.push(Problem::of_source("AWS_PROFILE", None, reason));
    }
    let of_environment = region.map(|(_, region)| region).or_else(|| profiles.property(profile?, "region"));
    for (spec, at) in &specs {
        if let Some(reason) = spec.profile.as_deref().and_then(|name| profile_error(name, profiles)) {
            at.key("profile").report(reason);
        }
        // A target's own profile precedes the environment.
        let of_profile = spec.profile.as_deref().and_then(|name| profiles.property(name, "region"));
        check_partitions(spec, at, of_profile.or(of_environment));
    }
    // Without a named profile, the SDK ignores unusable files.
    if profile.is_some() || specs.iter().any(|(spec, _)| spec.profile.is_some()) {
        problems.extend(profiles.problems.iter().map(|problem| Problem::of_source("AWS configuration", None, problem)));
    }
    problems.extend(proxy_problems(sources));
    problems.extend(trust_problems(sources, profiles, &specs));
    problems
}

/// The problems of certificates that targets use, each once.
fn trust_problems(sources: &Sources, profiles: &AwsProfiles, specs: &[(&Target, Cursor<'_>)]) -> Vec<Problem> {
    let of_environment = sources.variable("AWS_PROFILE").unwrap_or("default");
    let is_plain = |url: &str| url.starts_with("http://");
    let all_are_plain = sources.variable("AWS_ENDPOINT_URL").is_some_and(is_plain);
    let has = |target: &Target, problem: &TrustProblem| {
        let profile = target.profile.as_deref().unwrap_or(of_environment);
        match &problem.profile {
            Some(of) => of == profile,
            None if sources.variable("AWS_CA_BUNDLE").is_some() => true,
            None if profiles.property(profile, "ca_bundle").is_some() => false,
            // An endpoint in plain HTTP, such as that of an emulator, needs none.
            None => !(problem.is_of_system && target.endpoint_url.as_deref().map_or(all_are_plain, is_plain)),
        }
    };
    let found = profiles.trust.iter().filter(|problem| specs.iter().any(|(target, _)| has(target, problem)));
    found.map(|problem| Problem::of_source(&problem.source, None, &problem.reason)).collect()
}

fn endpoint_problems(sources: &Sources) -> impl Iterator<Item = Problem> {
    let are_ignored = sources.variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == Some("true");
    let is_wrong = move |name: &&str| !are_ignored && sources.variable(name).is_some_and(|url| !is_endpoint_url(url));
    let names = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_IOT", "AWS_ENDPOINT_URL_STS"].into_iter().filter(is_wrong);
    names.map(|name| Problem::of_source(name, None, format!("is not {ENDPOINT_URL}")))
}

/// Why the properties of a profile are unusable; `None` if they are valid.
fn profile_error(name: &str, profiles: &AwsProfiles) -> Option<String> {
    let (searched, shown) = (profiles.searched.join(", "), abridged(name));
    let is_missing = |name: &str| !profiles.names.contains(name) && name != "default";
    if is_missing(name) {
        return Some(format!("profile \"{shown}\" not found in {searched}"));
    }
    if let Some(source) = profiles.property(name, "source_profile").filter(|source| is_missing(source)) {
        return Some(format!("source_profile \"{}\" of profile \"{shown}\" not found in {searched}", abridged(source)));
    }
    if profiles.property(name, "endpoint_url").is_some_and(|url| !is_endpoint_url(url)) {
        return Some(format!("endpoint_url of profile \"{shown}\" is not {ENDPOINT_URL}"));
    }
    let region = profiles.property(name, "region")?;
    region_error(region).map(|reason| format!("region of profile \"{shown}\": \"{}\" {reason}", abridged(region)))
}

/// Reports roles in another partition than the regions of their target; `found` is the region if the target has none
/// of its own.
fn check_partitions(spec: &Target, at: &Cursor<'_>, found: Option<&str>) {
    let regions = spec.regions.iter().chain(&spec.region).map(String::as_str);
    let found = found.filter(|_| at.omits(&["region", "regions"]));
    for region in regions.chain(found).filter(|region| region_error(region).is_none()) {
        for arn in spec.role_arns.iter().chain(&spec.role_arn) {
            let (own, of_region) = (partition_of_arn(arn).unwrap_or_default(), partition_of_region(region));
            if own != of_region {
                let key = if spec.role_arns.is_empty() { "role_arn" } else { "role_arns" };
                at.key(key).report(format!(
                    "is a role in partition {own}, but region {region} is in {of_region}; a role works in its own partition only"
                ));
            }
        }
    }
}

fn proxy_problems(sources: &Sources) -> impl Iterator<Item = Problem> {
    let proxy = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, sources.variable(name)?)));
    let [http, https, all] = PROXY_VARIABLES.map(proxy);
    let all = all.filter(|_| http.is_none() || https.is_none());
    let used = [http, https, all].into_iter().flatten();
    used.filter_map(|(name, url)| Some(Problem::of_source(name, None, proxy_error(url)?)))
}

/// Why a proxy is unusable; `None` if it is valid. The URL can contain a password, so it is not repeated.
fn proxy_error(url: &str) -> Option<String> {
    // Without a scheme, it is http.
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let scheme = with_scheme.split("://").next().unwrap_or_default().to_ascii_lowercase();
    if !["http", "https"].contains(&scheme.as_str()) {
        let known = KNOWN_SCHEMES.into_iter().find(|known| *known == scheme).map(|known| format!(" \"{known}\""));
        return Some(format!("has the scheme{}; only http and https proxies are supported", known.unwrap_or_default()));
    }
    let is_url = with_scheme.parse::<http::Uri>().is_ok_and(|uri| has_host(&uri));
    (!is_url).then(|| {
        "is not a URL such as http://proxy:3128 (value not shown); in user names and passwords, write other characters than \
         letters and digits as %XX"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url_with_http_or_https_or_no_scheme() {
        for url in [
            "http://proxy:3128",
            "https://u:p@proxy",
            "proxy:3128",
            "HTTP://proxy",
            "http://[::1]:3128/",
            "http://u:%C3%BC@p",
        ] {
            assert_eq!(proxy_error(url), None, "{url}");
        }
        for url in ["ftp://proxy:21", "socks5://proxy:1080", "u:hunter2://x@proxy:3128"] {
            assert!(!proxy_error(url).unwrap_or_default().contains("hunter2"));
            assert!(proxy_error(url).is_some_and(|reason| reason.contains("only http and https")), "{url}");
        }
        for url in ["http://u:hunter2 ü@proxy", "http://", "http://proxy:port", "http://a b"] {
            let reason = proxy_error(url).expect(url);
            assert!(reason.starts_with("is not a URL") && !reason.contains("hunter2"), "{reason}");
        }
    }
}
