//! Expands the items of `targets` into single targets.

use super::schema::Target;
use super::syntax::account_of_role;

impl Target {
    /// One target, or one for each pair of role and region.
    pub(super) fn expanded(&self) -> Vec<Self> {
        let several = |one: &Option<String>, many: &[String]| {
            if many.is_empty() { vec![one.clone()] } else { many.iter().cloned().map(Some).collect() }
        };
        let mut targets = Vec::new();
        for role_arn in several(&self.role_arn, &self.role_arns) {
            for region in several(&self.region, &self.regions) {
                let name = self.expanded_name(region.as_deref(), role_arn.as_deref());
                let (regions, role_arns) = (Vec::new(), Vec::new());
                targets.push(Self { name, region, role_arn: role_arn.clone(), regions, role_arns, ..self.clone() });
            }
        }
        targets
    }

    /// The item's own name, then what distinguishes its targets: the role's account and the region.
    fn expanded_name(&self, region: Option<&str>, role_arn: Option<&str>) -> Option<String> {
        let mut parts: Vec<&str> = self.name.as_deref().into_iter().collect();
        if let Some(role_arn) = role_arn.filter(|_| !self.role_arns.is_empty()) {
            parts.extend(account_of_role(role_arn));
            // Without an own name, all of them would have the region as name.
            parts.extend(region.filter(|_| self.regions.is_empty() && self.name.is_none()));
        }
        parts.extend(region.filter(|_| !self.regions.is_empty()));
        (!parts.is_empty()).then(|| parts.join("-"))
    }
}
