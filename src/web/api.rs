//! The JSON API. `docs/api.md` documents it.

use bytes::Bytes;
use serde::Serialize;

use super::report::JobFilter;

/// The body of an answer.
pub(super) fn body(value: &impl Serialize) -> Bytes {
    // Reports have text keys and plain values only, so this cannot fail.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    Bytes::from(body)
}

/// The body of an error.
pub(super) fn error(message: &str) -> Bytes {
    body(&serde_json::json!({ "error": message }))
}

/// The filter in the query of `/api/v1/jobs`.
///
/// # Errors
/// If it has a parameter that does not exist, or a value that is not allowed.
pub(super) fn job_filter(query: &str) -> Result<JobFilter, String> {
    let mut filter = JobFilter::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let values = match &*name {
            "target" => &mut filter.targets,
            "status" => &mut filter.statuses,
            "group" => &mut filter.groups,
            "attention" => {
                filter.attention = Some(truth(&value)?);
                continue;
            }
            _ => return Err(format!("{name:?} is not a filter: use target, status, group or attention")),
        };
        values.push(value.into_owned());
    }
    Ok(filter)
}

fn truth(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("attention is {value:?}: use true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_can_have_several_values_of_each_kind() {
        let filter = job_filter("target=a%7Cb&target=c&status=IN_PROGRESS&group=ring%3Aearly&attention=true");
        let expected = JobFilter {
            targets: vec!["a|b".to_owned(), "c".to_owned()],
            statuses: vec!["IN_PROGRESS".to_owned()],
            groups: vec!["ring:early".to_owned()],
            attention: Some(true),
        };
        assert_eq!(filter, Ok(expected));
        assert_eq!(job_filter(""), Ok(JobFilter::default()));
    }

    #[test]
    fn a_filter_that_does_not_exist_is_an_error() {
        assert_eq!(
            job_filter("state=x"),
            Err("\"state\" is not a filter: use target, status, group or attention".to_owned())
        );
        assert_eq!(job_filter("attention=1"), Err("attention is \"1\": use true or false".to_owned()));
    }
}
