//! The operations of STS that identify the caller and assume roles.

use std::time::Duration;

use super::Response;
use crate::http::StatusCode;
use crate::jobs::Timestamp;

use super::credentials::{Credentials, Principal, TemporaryCredentials};
use super::json::iso_8601;
use super::protocol::{ApiError, Identifier, Params, sts_result, xml};

/// The default of `DurationSeconds` (API reference).
const DEFAULT_DURATION: u32 = 3600;

/// The longest session that temporary credentials can request ("role chaining" in the API reference).
const CHAINED_DURATION: u32 = 3600;

pub(super) fn get_caller_identity(caller: &Principal) -> Response {
    let fields =
        [xml("Arn", &caller.arn), xml("UserId", &caller.user_id), xml("Account", caller.account.as_str())].concat();
    sts_result("GetCallerIdentity", &fields)
}

pub(super) fn assume_role(
    credentials: &mut Credentials,
    caller: &Principal,
    params: &Params,
    now: Timestamp,
) -> Result<Response, ApiError> {
    let required = |name| params.get(name).ok_or_else(|| ApiError::constraint(name, "", "Member must not be null"));
    let role_arn = required("RoleArn")?;
    let session_name = Identifier::ROLE_SESSION_NAME.check("RoleSessionName", required("RoleSessionName")?)?;
    if session_name.len() < 2 {
        let bound = "Member must have length greater than or equal to 2";
        return Err(ApiError::constraint("RoleSessionName", session_name, bound));
    }
    let duration = params.number("DurationSeconds", 900..=43_200)?.unwrap_or(DEFAULT_DURATION);
    if caller.session.is_some() && duration > CHAINED_DURATION {
        let message =
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining";
        return Err(ApiError::invalid_request(message));
    }
    let duration = Duration::from_secs(duration.into());
    let assumed = credentials
        .assume(role_arn, session_name, params.get("ExternalId"), duration, now)
        .ok_or_else(|| access_denied(caller, role_arn))?;
    Ok(sts_result("AssumeRole", &issued(&assumed)))
}

pub(super) fn assume_role_with_web_identity(
    credentials: &mut Credentials,
    params: &Params,
    now: Timestamp,
) -> Result<Response, ApiError> {
    let required = |name| params.get(name).ok_or_else(|| ApiError::constraint(name, "", "Member must not be null"));
    let (role_arn, token) = (required("RoleArn")?, required("WebIdentityToken")?);
    let session_name = Identifier::ROLE_SESSION_NAME.check("RoleSessionName", required("RoleSessionName")?)?;
    let duration = params.number("DurationSeconds", 900..=43_200)?.unwrap_or(DEFAULT_DURATION);
    let duration = Duration::from_secs(duration.into());
    let assumed =
        credentials.trusts(token, role_arn).then(|| credentials.assume(role_arn, session_name, None, duration, now));
    let assumed = assumed.flatten().ok_or_else(|| {
        let message = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
        ApiError::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    })?;
    Ok(sts_result("AssumeRoleWithWebIdentity", &issued(&assumed)))
}

/// The element with the credentials.
fn issued(assumed: &TemporaryCredentials) -> String {
    let issued = [
        xml("AccessKeyId", &assumed.access_key_id),
        xml("SecretAccessKey", &assumed.secret_access_key),
        xml("SessionToken", &assumed.session_token),
        xml("Expiration", &iso_8601(assumed.expiration)),
    ];
    let user = [xml("AssumedRoleId", &assumed.principal.user_id), xml("Arn", &assumed.principal.arn)];
    format!("<AssumedRoleUser>{}</AssumedRoleUser><Credentials>{}</Credentials>", user.concat(), issued.concat())
}

/// The same answer for a missing role and for a wrong external id, as in AWS.
fn access_denied(caller: &Principal, role_arn: &str) -> ApiError {
    let message = format!("User: {} is not authorized to perform: sts:AssumeRole on resource: {role_arn}", caller.arn);
    ApiError::new(StatusCode::FORBIDDEN, "AccessDenied", message)
}
