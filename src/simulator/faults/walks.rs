//! Identifies the walk and the page of a request, by the tokens that were issued.

use std::collections::HashMap;

use serde_json::Value;

/// The walks in progress, by the scope of their tokens. A new walk replaces the previous one of its scope.
#[derive(Default)]
pub(super) struct Walks(HashMap<u64, Walk>);

#[derive(Default)]
struct Walk {
    /// The page that each token leads to.
    pages: HashMap<String, u64>,
    /// The token that led from the first page to the second.
    to_second_page: Option<String>,
    /// The first item of the first page.
    first_item: Option<Value>,
}

impl Walks {
    /// The page, from 1, that this token requests. `None` for an unknown token.
    pub(super) fn page(&self, scope: u64, token: Option<&str>) -> Option<u64> {
        let Some(token) = token else { return Some(1) };
        self.0.get(&scope)?.pages.get(token).copied()
    }

    /// Records a page of the simulator, before any fault.
    pub(super) fn page_is_cut(&mut self, scope: u64, page: u64, next_token: Option<&str>, first_item: Option<&Value>) {
        let walk = self.0.entry(scope).or_default();
        if page == 1 {
            let to_second_page = next_token.map(str::to_owned);
            *walk = Walk { to_second_page, first_item: first_item.cloned(), ..Walk::default() };
        }
        if let Some(token) = next_token {
            walk.pages.insert(token.to_owned(), page + 1);
        }
    }

    /// Records the token that a client gets. A fault can have replaced it by a known token.
    pub(super) fn token_is_given(&mut self, scope: u64, page: u64, next_token: &str) {
        self.0.entry(scope).or_default().pages.entry(next_token.to_owned()).or_insert(page + 1);
    }

    pub(super) fn to_second_page(&self, scope: u64) -> Option<&str> {
        self.0.get(&scope)?.to_second_page.as_deref()
    }

    pub(super) fn first_item(&self, scope: u64) -> Option<&Value> {
        self.0.get(&scope)?.first_item.as_ref()
    }
}
