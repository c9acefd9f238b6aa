//! The credentials of a profile: their source, and the roles to assume.
//!
//! The rules are those of the SDK and of AWS's other tools.

use std::fmt;

use aws_config::profile::{Profile, ProfileSet};
use aws_credential_types::Credentials;

use super::roles::Role;
use crate::config::Secret;

/// The source of a profile's credentials, and the roles to assume.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) source: CredentialsSource,
    /// The profile with the source.
    pub(super) source_profile: String,
    /// The roles with their profiles, in the order of assumption.
    pub(super) roles: Vec<(String, Role)>,
}

#[derive(Clone, Debug)]
pub(super) enum CredentialsSource {
    Keys(Credentials),
    /// `credential_process`. Its arguments can be secrets.
    Process(Secret),
    WebIdentity {
        role: Role,
        token_file: String,
    },
    Sso(SsoRole),
    Environment,
    Container,
    Instance,
}

impl fmt::Display for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys(_) => "the access key",
            Self::Process(_) => "credential_process",
            Self::WebIdentity { .. } => "the web identity",
            Self::Sso(_) => "IAM Identity Center",
            Self::Environment => "credential_source Environment",
            Self::Container => "credential_source EcsContainer",
            Self::Instance => "credential_source Ec2InstanceMetadata",
        })
    }
}

/// A role that IAM Identity Center grants to a user who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SsoRole {
    /// `None` in legacy profiles. Their tokens cannot be renewed.
    pub(super) session: Option<String>,
    pub(super) start_url: String,
    pub(super) region: String,
    pub(super) account_id: String,
    pub(super) role_name: String,
}

/// A fault of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) profile: String,
    /// The end of a sentence that begins with the profile.
    pub(super) text: String,
}

/// The chain of the profile `name`; `None` if it has no credentials or does not exist.
pub(super) fn chain(profiles: &ProfileSet, name: &str) -> Result<Option<Chain>, Fault> {
    let Some(mut profile) = profiles.get_profile(name) else { return Ok(None) };
    let (mut names, mut roles) = (Vec::new(), Vec::new());
    loop {
        let name = profile.name().to_owned();
        let fault = |text: String| Fault { profile: name.clone(), text };
        names.push(name.clone());
        let chain = |source, roles: Vec<_>| {
            let roles = roles.into_iter().rev().collect();
            Ok(Some(Chain { source, source_profile: name.clone(), roles }))
        };
        // Keys of a source_profile take precedence over its other settings.
        if names.len() > 1
            && let Ok(Some(keys)) = keys(profile)
        {
            return chain(CredentialsSource::Keys(keys), roles);
        }
        let Some(role) = role(profile).map_err(fault)? else {
            return match (source(profiles, profile).map_err(fault)?, names.len()) {
                (Some(source), _) => chain(source, roles),
                (None, 1) => Ok(None),
                (None, _) => Err(fault("has no credentials, and is the source_profile of another one".to_owned())),
            };
        };
        roles.push((name.clone(), role));
        match (profile.get("source_profile"), profile.get("credential_source")) {
            (Some(_), Some(_)) => return Err(fault("has both source_profile and credential_source".to_owned())),
            (None, None) => {
                return Err(fault("has role_arn, and neither source_profile nor credential_source".to_owned()));
            }
            (Some(next), None) if next != name => {
                if names.iter().any(|seen| seen == next) {
                    return Err(fault(format!("has source_profile {next:?}, which leads back to it")));
                }
                let missing = || fault(format!("has source_profile {next:?}, which does not exist"));
                profile = profiles.get_profile(next).ok_or_else(missing)?;
            }
            // The profile itself has the source.
            _ => {
                let missing = || fault("has role_arn, and no credentials to assume it with".to_owned());
                return chain(source(profiles, profile).map_err(fault)?.ok_or_else(missing)?, roles);
            }
        }
    }
}

/// The role that a profile assumes with the credentials of another source.
fn role(profile: &Profile) -> Result<Option<Role>, String> {
    let Some(arn) = profile.get("role_arn").filter(|_| profile.get("web_identity_token_file").is_none()) else {
        return Ok(None);
    };
    if profile.get("mfa_serial").is_some() {
        let text = "has mfa_serial, but the exporter cannot enter a code: remove mfa_serial, and use a role that does not \
                    require MFA";
        return Err(text.to_owned());
    }
    Ok(Some(Role {
        arn: arn.to_owned(),
        session_name: profile.get("role_session_name").map(str::to_owned),
        external_id: profile.get("external_id").map(Secret::new),
        duration_seconds: duration(profile)?,
    }))
}

/// The session duration, within the limits of STS
/// (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>, `DurationSeconds`).
fn duration(profile: &Profile) -> Result<Option<i32>, String> {
    let Some(text) = profile.get("duration_seconds") else { return Ok(None) };
    let seconds = text.trim().parse().ok().filter(|seconds| (900..=43_200).contains(seconds));
    seconds.map(Some).ok_or_else(|| "has duration_seconds that is not a number from 900 to 43200".to_owned())
}

/// The profile's own source.
fn source(profiles: &ProfileSet, profile: &Profile) -> Result<Option<CredentialsSource>, String> {
    if let Some(name) = profile.get("credential_source") {
        let known = [
            ("environment", CredentialsSource::Environment),
            ("ecscontainer", CredentialsSource::Container),
            ("ec2instancemetadata", CredentialsSource::Instance),
        ];
        let source = known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, source)| source);
        let unknown =
            || format!("has credential_source {name:?}; it can be Environment, EcsContainer or Ec2InstanceMetadata");
        return source.map(Some).ok_or_else(unknown);
    }
    if let (Some(arn), Some(token_file)) = (profile.get("role_arn"), profile.get("web_identity_token_file")) {
        let role = Role {
            arn: arn.to_owned(),
            session_name: profile.get("role_session_name").map(str::to_owned),
            external_id: None,
            duration_seconds: duration(profile)?,
        };
        return Ok(Some(CredentialsSource::WebIdentity { role, token_file: token_file.to_owned() }));
    }
    if let Some(role) = sso(profiles, profile)? {
        return Ok(Some(CredentialsSource::Sso(role)));
    }
    if profile.get("login_session").is_some() {
        return Err("has login_session, which the exporter does not support: use another source".to_owned());
    }
    if let Some(command) = profile.get("credential_process") {
        return Ok(Some(CredentialsSource::Process(Secret::new(command))));
    }
    Ok(keys(profile)?.map(CredentialsSource::Keys))
}

fn keys(profile: &Profile) -> Result<Option<Credentials>, String> {
    let token = profile.get("aws_session_token").map(str::to_owned);
    match (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Ok(Some(Credentials::new(id, secret, token, None, "profile"))),
        (Some(_), None) => Err("has aws_access_key_id without aws_secret_access_key".to_owned()),
        (None, Some(_)) => Err("has aws_secret_access_key without aws_access_key_id".to_owned()),
        (None, None) => Ok(None),
    }
}

fn sso(profiles: &ProfileSet, profile: &Profile) -> Result<Option<SsoRole>, String> {
    const KEYS: [&str; 5] = ["sso_account_id", "sso_region", "sso_role_name", "sso_start_url", "sso_session"];
    let [account_id, mut region, role_name, mut start_url, session] = KEYS.map(|key| profile.get(key));
    if [account_id, region, role_name, start_url, session].iter().all(Option::is_none) {
        return Ok(None);
    }
    if let Some(name) = session {
        if region.is_some() || start_url.is_some() {
            return Err("has sso_session, so sso_region and sso_start_url belong into that session".to_owned());
        }
        let session = profiles.sso_session(name);
        let session = session.ok_or_else(|| format!("has sso_session {name:?}, which does not exist"))?;
        (region, start_url) = (session.get("sso_region"), session.get("sso_start_url"));
    }
    let given = |value: Option<&str>, key: &str| value.map(str::to_owned).ok_or_else(|| format!("has no {key}"));
    Ok(Some(SsoRole {
        session: session.map(str::to_owned),
        start_url: given(start_url, "sso_start_url")?,
        region: given(region, "sso_region")?,
        account_id: given(account_id, "sso_account_id")?,
        role_name: given(role_name, "sso_role_name")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::profiles::SharedFiles;

    fn chain_of(name: &str, config: &str) -> Result<Option<Chain>, Fault> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), config).expect("a written file");
        let variables = [("AWS_CONFIG_FILE".to_owned(), file.path().display().to_string())];
        chain(&SharedFiles::read(variables.into_iter()).sections().expect("a file that can be parsed"), name)
    }

    fn fault(config: &str) -> String {
        let Fault { profile, text } = chain_of("a", config).expect_err(config);
        format!("{profile} {text}")
    }

    const ROLE: &str = "[profile a]\nrole_arn = arn:aws:iam::012345678901:role/a\n";
    const KEYS: &str = "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = x\n";

    #[test]
    fn roles_are_assumed_starting_at_the_last_source() {
        let config = format!(
            "{ROLE}source_profile = b\nduration_seconds = 1800\n\
             [profile b]\nrole_arn = arn:aws:iam::012345678901:role/b\nsource_profile = c\nexternal_id = hunter2\n\
             [profile c]\ncredential_process = program\n"
        );
        let chain = chain_of("a", &config).expect("a profile").expect("a chain");
        assert!(matches!(&chain.source, CredentialsSource::Process(command) if command.expose() == "program"));
        assert_eq!(chain.source_profile, "c");
        let roles: Vec<_> =
            chain.roles.iter().map(|(name, role)| (name.as_str(), role.arn.as_str(), role.duration_seconds)).collect();
        let arn = ["arn:aws:iam::012345678901:role/b", "arn:aws:iam::012345678901:role/a"];
        assert_eq!(roles, [("b", arn[0], None), ("a", arn[1], Some(1800))]);
        assert!(!format!("{chain:?}").contains("hunter2"));
    }

    #[test]
    fn a_profile_can_be_the_source_of_its_own_role() {
        let config = format!("{ROLE}source_profile = a\n{KEYS}");
        let chain = chain_of("a", &config).expect("a profile").expect("a chain");
        assert!(matches!(chain.source, CredentialsSource::Keys(_)) && chain.roles.len() == 1);
        let config = format!("{ROLE}credential_source = EcsContainer\n");
        let chain = chain_of("a", &config).expect("a profile").expect("a chain");
        assert!(matches!(chain.source, CredentialsSource::Container) && chain.roles.len() == 1);
    }

    #[test]
    fn keys_of_a_source_profile_precede_its_role() {
        let config = format!("{ROLE}source_profile = b\n[profile b]\nrole_arn = x\nmfa_serial = x\n{KEYS}");
        let chain = chain_of("a", &config).expect("a profile").expect("a chain");
        assert!(matches!(chain.source, CredentialsSource::Keys(_)) && chain.roles.len() == 1);
    }

    #[test]
    fn a_web_identity_is_a_source_and_no_chained_role() {
        let config = format!("{ROLE}web_identity_token_file = /token\nmfa_serial = x\n");
        let chain = chain_of("a", &config).expect("a profile").expect("a chain");
        assert!(matches!(chain.source, CredentialsSource::WebIdentity { .. }) && chain.roles.is_empty());
    }

    #[test]
    fn a_profile_without_credentials_has_no_chain() {
        assert!(chain_of("a", "[profile a]\nregion = eu-west-1\n").expect("a profile").is_none());
        assert!(chain_of("gone", "[profile a]\n").expect("no fault").is_none());
    }

    #[test]
    fn sso_works_with_and_without_a_session() {
        let role = "sso_account_id = 012345678901\nsso_role_name = reader\n";
        let session = "[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://a.test/start\n";
        let of = |config: &str| match chain_of("a", config).expect("a profile").expect("a chain").source {
            CredentialsSource::Sso(role) => role,
            other => panic!("{other:?}"),
        };
        let new = of(&format!("[profile a]\nsso_session = s\n{role}{session}"));
        let old = of(&format!("[profile a]\nsso_region = eu-west-1\nsso_start_url = https://a.test/start\n{role}"));
        assert_eq!(new, SsoRole { session: Some("s".to_owned()), ..old.clone() });
        assert_eq!(old.region, "eu-west-1");
        assert!(fault(&format!("[profile a]\nsso_session = s\n{role}")).contains("\"s\", which does not exist"));
        assert_eq!(fault("[profile a]\nsso_region = x\n"), "a has no sso_start_url");
    }

    #[test]
    fn a_fault_names_the_profile_that_has_it() {
        for (config, expected) in [
            (format!("{ROLE}source_profile = gone\n"), "a has source_profile \"gone\", which does not exist"),
            (format!("{ROLE}source_profile = b\n[profile b]\n"), "b has no credentials, and is the source_profile"),
            (
                format!("{ROLE}source_profile = b\n[profile b]\nrole_arn = x\nsource_profile = a\n"),
                "b has source_profile \"a\", which leads back to it",
            ),
            (format!("{ROLE}source_profile = b\nmfa_serial = arn:aws:iam::0:mfa/x\n"), "a has mfa_serial"),
            (format!("{ROLE}source_profile = b\nduration_seconds = 60\n"), "a has duration_seconds that is not"),
            (format!("{ROLE}source_profile = b\nduration_seconds = hour\n"), "a has duration_seconds that is not"),
            (ROLE.to_owned(), "a has role_arn, and neither"),
            (format!("{ROLE}source_profile = b\ncredential_source = Environment\n"), "a has both"),
            (format!("{ROLE}credential_source = Moon\n"), "a has credential_source \"Moon\""),
            (format!("{ROLE}source_profile = a\n"), "a has role_arn, and no credentials"),
            ("[profile a]\naws_access_key_id = AKIDEXAMPLE\n".to_owned(), "a has aws_access_key_id without"),
            ("[profile a]\nlogin_session = x\n".to_owned(), "a has login_session"),
        ] {
            let fault = fault(&config);
            assert!(fault.starts_with(expected), "{fault}");
        }
    }
}
