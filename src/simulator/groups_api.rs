//! `ListThingGroups` and `DescribeThingGroup`.

use serde_json::{Value, json};

use super::Call;
use super::fleet::{Fleet, ThingGroup};
use super::json::epoch_seconds;
use super::paging::Paging;
use super::protocol::{ApiError, Identifier, without_nulls};

pub(super) fn list_thing_groups(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let prefix = call.params.identifier("namePrefixFilter", &Identifier::THING_GROUP_NAME)?.unwrap_or_default();
    let parent = call.params.identifier("parentGroup", &Identifier::THING_GROUP_NAME)?;
    let parent = parent.map(|name| existing_group(fleet, name)).transpose()?;
    let recursive = call.params.flag("recursive")?;
    let paging = Paging::of(call)?;
    let after = paging.after(|cursor| Some(cursor.to_owned()))?;
    let groups = fleet
        .groups_after(after.as_deref())
        .filter(|group| group.name.starts_with(prefix) && is_below(fleet, group, parent, recursive));
    let page = paging.cut(groups, |group| group.name.clone());
    let groups: Vec<Value> = page.items.into_iter().map(|group| name_and_arn(call, group)).collect();
    Ok(without_nulls(json!({ "thingGroups": groups, "nextToken": page.next_token })))
}

fn is_below(fleet: &Fleet, group: &ThingGroup, parent: Option<&ThingGroup>, recursive: Option<bool>) -> bool {
    match (parent, recursive) {
        (None, None | Some(true)) => true,
        (None, Some(false)) => group.parent.is_none(),
        (Some(parent), None | Some(false)) => group.parent.as_deref() == Some(&parent.name),
        (Some(parent), Some(true)) => fleet.ancestors(group).iter().any(|ancestor| ancestor.name == parent.name),
    }
}

pub(super) fn describe_thing_group(call: &Call<'_>, fleet: &Fleet) -> Result<Value, ApiError> {
    let name = Identifier::THING_GROUP_NAME.check("thingGroupName", call.resource.unwrap_or_default())?;
    let group = existing_group(fleet, name)?;
    let ancestors: Vec<Value> =
        fleet.ancestors(group).into_iter().map(|ancestor| name_and_arn(call, ancestor)).collect();
    Ok(json!({
        "thingGroupName": group.name,
        "thingGroupId": group.id,
        "thingGroupArn": arn(call, group),
        "version": 1,
        "thingGroupProperties": without_nulls(json!({ "thingGroupDescription": group.description })),
        "thingGroupMetadata": without_nulls(json!({
            "parentGroupName": group.parent,
            "rootToParentThingGroups": (!ancestors.is_empty()).then_some(ancestors),
            "creationDate": epoch_seconds(group.created_at),
        })),
    }))
}

fn existing_group<'a>(fleet: &'a Fleet, name: &str) -> Result<&'a ThingGroup, ApiError> {
    fleet.group(name).ok_or_else(|| ApiError::not_found(format!("The thing group {name} does not exist")))
}

fn name_and_arn(call: &Call<'_>, group: &ThingGroup) -> Value {
    json!({ "groupName": group.name, "groupArn": arn(call, group) })
}

fn arn(call: &Call<'_>, group: &ThingGroup) -> String {
    call.arn(&format!("thinggroup/{}", group.name))
}
