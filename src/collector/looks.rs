//! Looks at the executions of a job, by `ListJobExecutionsForJob`.

use super::walks::{REPEATED_TOKEN, Tokens, check_same_account};
use crate::aws::rate_limit::Class;
use crate::aws::{Connection, LIST_EXECUTIONS};
use crate::clock::Clock;
use crate::jobs::{AccountId, Look, LookClass, LookResult};
use crate::metrics::{Failure, Reason};

/// The number of concurrent looks. Each is up to [`MAX_PAGES`] sequential requests.
pub(super) const MAX_IN_FLIGHT: usize = 2;

/// The limit of pages for a look: 25,000 executions.
const MAX_PAGES: usize = 100;

/// Lists the executions of a job; `None` if the job does not exist.
///
/// # Errors
/// If a page cannot be read, a token repeats, or the credentials belong to another account at its end.
pub(crate) async fn look(
    connection: &Connection,
    account: &AccountId,
    job_id: &str,
    class: LookClass,
    mut look: Look,
    clock: Clock,
) -> Result<Option<LookResult>, Failure> {
    let class = match class {
        LookClass::Later => Class::LaterLook,
        LookClass::First => Class::FirstLook,
    };
    let mut pages = 0;
    let mut is_complete = true;
    for status in look.scope().statuses() {
        let (mut tokens, mut token) = (Tokens::default(), None);
        loop {
            if pages == MAX_PAGES {
                is_complete = false;
                break;
            }
            pages += 1;
            let page = connection.list_executions(job_id, *status, token, class).await;
            let page = page.map_err(Failure::from)?;
            let Some(page) = page else {
                // A job of another account also looks like a missing job.
                check_same_account(connection, LIST_EXECUTIONS, account).await?;
                return Ok(None);
            };
            for execution in &page.items {
                look.insert(execution);
            }
            let Some(next) = page.next_token else { break };
            if !tokens.is_new(&next) {
                let cause = format!("page {pages} of the executions of job {job_id}: {REPEATED_TOKEN}");
                return Err(connection.unusable(LIST_EXECUTIONS, Reason::TokenLoop, cause).into());
            }
            token = Some(next);
        }
    }
    check_same_account(connection, LIST_EXECUTIONS, account).await?;
    Ok(Some(look.finish(is_complete, clock.now())))
}
