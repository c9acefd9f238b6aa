//! The items of `targets`, and the targets that they stand for.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::{Secret, Target};
use crate::job::{AccountId, Scope};

/// An item of `targets`: one target, or one for each pair of region and role.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) name: Option<String>,
    pub(super) region: Option<String>,
    #[serde(default)]
    pub(super) regions: Vec<String>,
    pub(super) profile: Option<String>,
    pub(super) role_arn: Option<String>,
    #[serde(default)]
    pub(super) role_arns: Vec<String>,
    pub(super) external_id: Option<Secret>,
    pub(super) session_name: Option<String>,
    pub(super) use_fips: Option<bool>,
    pub(super) use_dualstack: Option<bool>,
    #[serde(default, deserialize_with = "super::account_id")]
    pub(super) account_id: Option<AccountId>,
    pub(super) endpoint_url: Option<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, rename = "jobs", deserialize_with = "super::scope")]
    pub(super) scope: Scope,
}

impl Item {
    /// How many targets it stands for.
    fn len(&self) -> usize {
        self.regions.len().max(1) * self.role_arns.len().max(1)
    }

    fn expanded(self) -> Vec<Target> {
        let one_region = [self.region.clone()];
        let regions: Vec<_> = self.regions.iter().cloned().map(Some).collect();
        let one_role = [self.role_arn.clone()];
        let roles: Vec<_> = self.role_arns.iter().cloned().map(Some).collect();
        let mut targets = Vec::with_capacity(self.len());
        for role in if roles.is_empty() { &one_role[..] } else { &roles } {
            for region in if regions.is_empty() { &one_region[..] } else { &regions } {
                targets.push(Target {
                    name: self.name_of(region.as_deref(), role.as_deref()),
                    region: region.clone(),
                    profile: self.profile.clone(),
                    role_arn: role.clone(),
                    external_id: self.external_id.clone(),
                    session_name: self.session_name.clone(),
                    use_fips: self.use_fips,
                    use_dualstack: self.use_dualstack,
                    account_id: self.account_id.clone(),
                    endpoint_url: self.endpoint_url.clone(),
                    labels: self.labels.clone(),
                    scope: self.scope.clone(),
                });
            }
        }
        targets
    }

    /// The item's own name, and what tells its targets apart: the role's account and the region.
    fn name_of(&self, region: Option<&str>, role: Option<&str>) -> Option<String> {
        let mut parts: Vec<&str> = self.name.as_deref().into_iter().collect();
        if let Some(role) = role.filter(|_| !self.role_arns.is_empty()) {
            parts.extend(account_of(role));
            // With no name of its own, the region would name all of them.
            parts.extend(region.filter(|_| self.regions.is_empty() && self.name.is_none()));
        }
        parts.extend(region.filter(|_| !self.regions.is_empty()));
        (!parts.is_empty()).then(|| parts.join("-"))
    }
}

/// The account in a role's ARN.
pub(super) fn account_of(role: &str) -> Option<&str> {
    role.split(':').nth(4)
}

/// The targets that all items stand for.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Target>, D::Error> {
    let items = Vec::<Item>::deserialize(deserializer)?;
    Ok(items.into_iter().flat_map(Item::expanded).collect())
}

/// The item that each target comes from, by its place in the list.
pub(super) fn origins(items: &[Item]) -> Vec<usize> {
    items.iter().enumerate().flat_map(|(at, item)| std::iter::repeat_n(at, item.len())).collect()
}
