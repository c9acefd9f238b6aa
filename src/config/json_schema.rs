//! The JSON Schema of the configuration file, for editors.

#![expect(clippy::indexing_slicing, reason = "an assignment by name adds to an object, which every schema is")]

use serde_json::{Map, Value as Json, json};

use super::key::{Field, Section as _, Shape};
use super::schema::Config;

/// Generates the schema. Draft 7 has the best support in the YAML language server.
#[must_use]
pub fn json_schema() -> String {
    let mut schema = section(&Config::fields());
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("Configuration of aws-iot-jobs-exporter");
    format!("{schema:#}\n")
}

fn section(fields: &[Field]) -> Json {
    let properties: Map<String, Json> = fields.iter().map(|field| (field.name.to_owned(), property(field))).collect();
    json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false })
}

fn property(field: &Field) -> Json {
    let mut description = field.description();
    let mut property = match &field.info.shape {
        Shape::Scalar { accepted, schema } | Shape::List { accepted, schema } | Shape::Mapping { accepted, schema } => {
            description = format!("{description} Accepted: {accepted}.");
            nullable(schema)
        }
        Shape::Section(fields) => section(fields),
        Shape::Sections(fields) => json!({ "type": ["array", "null"], "items": section(fields), "minItems": 1 }),
    };
    property["description"] = json!(description);
    property
}

/// A key without a value counts as omitted.
fn nullable(schema: &Json) -> Json {
    let mut schema = schema.clone();
    if let Some(Json::Array(words)) = schema.get_mut("enum") {
        words.push(Json::Null);
    }
    match schema.get_mut("type") {
        Some(Json::Array(several)) => several.push(json!("null")),
        Some(one) => *one = json!([one, "null"]),
        None => {}
    }
    schema
}
