//! Pages and their tokens.
//!
//! A token says after which item the next page goes on (a cursor), rather than how many items to skip: what a walk sees
//! is then well-defined while items come and go.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Call;
use super::protocol::ApiError;

/// The largest `maxResults` of every operation here (service model).
pub const MAX_PAGE_SIZE: u32 = 250;

/// How many items a page has where `maxResults` is not given. AWS does not document its own; this one is small so that
/// clients that forget to ask are found out.
pub const DEFAULT_PAGE_SIZE: u32 = 50;

/// In front of a token, any number of times: it leads to the same page, and is another one to a client. Alone, it leads
/// to the first page. For pages that are empty and still not the last.
pub(super) const AGAIN: char = '~';

/// Where a page starts, and how long it may be.
pub(super) struct Paging {
    size: usize,
    scope: u64,
    after: Option<String>,
}

/// One page of items, and the token of the next.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next_token: Option<String>,
}

impl Paging {
    pub(super) fn of(call: &Call<'_>) -> Result<Self, ApiError> {
        let size = call.params.number("maxResults", 1..=MAX_PAGE_SIZE)?.unwrap_or(DEFAULT_PAGE_SIZE);
        Self::of_size(call, usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// For operations whose page size can't be asked for.
    pub(super) fn of_size(call: &Call<'_>, size: usize) -> Result<Self, ApiError> {
        let scope = scope_of(call);
        let after = match call.params.get("nextToken") {
            None => None,
            Some(token) => match token.trim_start_matches(AGAIN) {
                "" if !token.is_empty() => None,
                token => Some(decode(token, scope).ok_or_else(invalid_token)?),
            },
        };
        Ok(Self { size, scope, after })
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The item that the page before ended with, as `parse` reads its cursor.
    pub(super) fn after<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ApiError> {
        self.after.as_deref().map(|cursor| parse(cursor).ok_or_else(invalid_token)).transpose()
    }

    /// Cuts a page from items that start after the cursor. The last page has no token.
    pub(super) fn cut<T>(&self, mut items: impl Iterator<Item = T>, cursor_of: impl Fn(&T) -> String) -> Page<T> {
        let page: Vec<T> = items.by_ref().take(self.size).collect();
        let next_token = match (page.last(), items.next()) {
            (Some(last), Some(_)) => Some(encode(&cursor_of(last), self.scope)),
            _ => None,
        };
        Page { items: page, next_token }
    }
}

fn invalid_token() -> ApiError {
    ApiError::invalid_request("The nextToken is not valid, or was given out for other parameters")
}

/// Everything that must stay the same from one page to the next: the size need not.
pub(super) fn scope_of(call: &Call<'_>) -> u64 {
    let mut params: Vec<_> =
        call.params.iter().filter(|(name, _)| *name != "maxResults" && *name != "nextToken").collect();
    params.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (call.operation, call.account, call.region, call.resource, call.thing, params).hash(&mut hasher);
    hasher.finish()
}

/// A checksum of scope and cursor, and the cursor, all as hexadecimal digits.
fn encode(cursor: &str, scope: u64) -> String {
    let digits = cursor.bytes().map(|byte| format!("{byte:02x}"));
    std::iter::once(checksum(cursor, scope)).chain(digits).collect()
}

/// The cursor of a token that [`encode`] made for the same scope.
fn decode(token: &str, scope: u64) -> Option<String> {
    let (sum, digits) = token.split_at_checked(CHECKSUM_DIGITS)?;
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(decode_byte).collect();
    let cursor = String::from_utf8(bytes?).ok()?;
    (checksum(&cursor, scope) == sum).then_some(cursor)
}

fn decode_byte(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(*high)? * 16 + value(*low)?).ok()
}

const CHECKSUM_DIGITS: usize = 16;

fn checksum(cursor: &str, scope: u64) -> String {
    let mut hasher = DefaultHasher::new();
    (scope, cursor).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_cursor_in_its_own_scope_only() {
        for cursor in ["", "a", "IN_PROGRESS\n12\nid", "é"] {
            let token = encode(cursor, 7);
            assert_eq!(decode(&token, 7).as_deref(), Some(cursor));
            assert_eq!(decode(&token, 8), None);
        }
    }

    #[test]
    fn what_is_not_a_token_is_refused() {
        let token = encode("cursor", 7);
        let cut_off = &token[..token.len() - 1];
        let altered = token.replace(&format!("{:02x}", b'r'), &format!("{:02x}", b's'));
        for text in ["", "x", "0123456789abcdef", "éééééééééé", cut_off, &altered] {
            assert_eq!(decode(text, 7), None, "{text:?}");
        }
    }
}
