//! Pages and their tokens.
//!
//! A token has the last item of its page (a cursor), not a number of items to skip. So the result of a walk is
//! well-defined even if items are added or removed meanwhile.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Call;
use super::protocol::ApiError;

/// The largest `maxResults` of every operation here (service model).
pub const MAX_PAGE_SIZE: u32 = 250;

/// The default page size. AWS does not document its own. A small one exposes clients that ignore `nextToken`.
pub const DEFAULT_PAGE_SIZE: u32 = 50;

/// A token prefix that can repeat. The token leads to the same page, but is a different token to a client. Alone, it
/// leads to the first page. Used for empty pages that are not the last one.
pub(super) const AGAIN: char = '~';

/// Where a page starts, and its maximal size.
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

    /// For operations without a parameter for the page size.
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

    /// The last item of the previous page, as `parse` reads its cursor.
    pub(super) fn after<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ApiError> {
        self.after.as_deref().map(|cursor| parse(cursor).ok_or_else(invalid_token)).transpose()
    }

    /// Takes a page from items that start after the cursor. The last page has no token.
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

/// A hash of everything that must not change between pages. The page size may change.
pub(super) fn scope_of(call: &Call<'_>) -> u64 {
    let mut params: Vec<_> =
        call.params.iter().filter(|(name, _)| *name != "maxResults" && *name != "nextToken").collect();
    params.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (call.operation, call.account, call.region, call.resource, call.thing, params).hash(&mut hasher);
    hasher.finish()
}

/// A checksum of scope and cursor, and the cursor, in hexadecimal digits.
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
    fn a_token_is_valid_only_in_its_own_scope() {
        for cursor in ["", "a", "IN_PROGRESS\n12\nid", "é"] {
            let token = encode(cursor, 7);
            assert_eq!(decode(&token, 7).as_deref(), Some(cursor));
            assert_eq!(decode(&token, 8), None);
        }
    }

    #[test]
    fn an_invalid_token_is_refused() {
        let token = encode("cursor", 7);
        let cut_off = &token[..token.len() - 1];
        let altered = token.replace(&format!("{:02x}", b'r'), &format!("{:02x}", b's'));
        for text in ["", "x", "0123456789abcdef", "éééééééééé", cut_off, &altered] {
            assert_eq!(decode(text, 7), None, "{text:?}");
        }
    }
}
