//! What the exporter will find in the environment when it calls AWS, checked before it does.

use super::cursor::Cursor;
use super::problem::{Problem, abridged};
use super::rules::specs;
use super::schema::Config;
use super::sources::{AwsProfiles, Sources};
use super::syntax::{ENDPOINT_URL, has_host, is_endpoint_url, partition_of_arn, partition_of_region, region_error};

/// Each is read in capitals or in small letters; the last stands in for the others.
const PROXY_VARIABLES: [[&str; 2]; 3] =
    [["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];

/// What a proxy URL can begin with elsewhere. Other words can be a part of a password.
const KNOWN_SCHEMES: [&str; 5] = ["ftp", "socks4", "socks4a", "socks5", "socks5h"];

/// Reports what targets would take from variables, proxies and AWS profiles and could not use.
pub(super) fn check(sources: &Sources, profiles: &AwsProfiles, config: &Config, root: &Cursor<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let specs = specs(config, root);
    let of_environment =
        ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| Some((name, sources.variable(name)?)));
    if let Some((name, region)) = of_environment
        && specs.iter().any(|(_, at)| at.omits(&["region", "regions"]))
        && let Some(reason) = region_error(region)
    {
        problems.push(Problem::of_source(name, None, format!("\"{}\" {reason}", abridged(region))));
    }
    let ignored = sources.variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == Some("true");
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_IOT", "AWS_ENDPOINT_URL_STS"] {
        let is_used = !ignored && specs.iter().any(|(_, at)| at.omits(&["endpoint_url"]));
        if is_used && sources.variable(name).is_some_and(|url| !is_endpoint_url(url)) {
            problems.push(Problem::of_source(name, None, format!("is not {ENDPOINT_URL}")));
        }
    }
    let own = sources.variable("AWS_PROFILE").filter(|_| specs.iter().any(|(_, at)| at.omits(&["profile"])));
    let named = specs.iter().filter_map(|(spec, at)| Some((spec.profile.as_deref()?, Some(at.key("profile")))));
    let named: Vec<_> = named.chain(own.map(|name| (name, None))).collect();
    let searched = profiles.searched.join(", ");
    for (name, place) in &named {
        let is_missing = |name: &str| !profiles.names.contains(name) && name != "default";
        let source = profiles.property(name, "source_profile").filter(|source| is_missing(source));
        let region = profiles.property(name, "region").and_then(|region| Some((region, region_error(region)?)));
        let shown = abridged(name);
        let reason = if is_missing(name) {
            format!("profile \"{shown}\" not found in {searched}")
        } else if let Some(source) = source {
            format!("source_profile \"{}\" of profile \"{shown}\" not found in {searched}", abridged(source))
        } else if profiles.property(name, "endpoint_url").is_some_and(|url| !is_endpoint_url(url)) {
            format!("endpoint_url of profile \"{shown}\" is not {ENDPOINT_URL}")
        } else if let Some((region, reason)) = region {
            format!("region of profile \"{shown}\": \"{}\" {reason}", abridged(region))
        } else {
            continue;
        };
        match place {
            Some(place) => place.report(reason),
            None => problems.push(Problem::of_source("AWS_PROFILE", None, reason)),
        }
    }
    // Without a named profile, the SDK does without the files.
    if !named.is_empty() {
        problems.extend(profiles.problems.iter().map(|problem| Problem::of_source("AWS configuration", None, problem)));
    }
    for (spec, at) in &specs {
        let regions = spec.regions.iter().chain(&spec.region).map(String::as_str);
        // A target's own profile comes before the environment, and that before the profile of the environment.
        let of_profile = |name: Option<&str>| name.and_then(|name| profiles.property(name, "region"));
        let found = of_profile(spec.profile.as_deref())
            .or(of_environment.map(|(_, region)| region))
            .or_else(|| of_profile(own))
            .filter(|_| at.omits(&["region", "regions"]));
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
    let proxy = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, sources.variable(name)?)));
    let [http, https, all] = PROXY_VARIABLES.map(proxy);
    let all = all.filter(|_| http.is_none() || https.is_none());
    for (name, url) in [http, https, all].into_iter().flatten() {
        problems.extend(proxy_error(url).map(|reason| Problem::of_source(name, None, reason)));
    }
    problems
}

/// Why a proxy cannot be used; `None` if it can. The URL can hold a password and is not repeated.
fn proxy_error(url: &str) -> Option<String> {
    // Without a scheme, http is meant.
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
