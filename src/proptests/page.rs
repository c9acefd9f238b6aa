//! A strict reader of the pages: only the elements and attributes of their own templates may occur.

/// Elements that have an end tag.
const ELEMENTS: &[&str] = &[
    "html", "head", "title", "body", "main", "section", "h1", "h2", "p", "a", "span", "div", "table", "thead", "tbody",
    "tr", "th", "td", "progress", "code", "pre", "dl", "dt", "dd",
];

/// Elements without one.
const VOID_ELEMENTS: &[&str] = &["meta", "link", "br"];

const ATTRIBUTES: &[&str] = &[
    "lang",
    "charset",
    "name",
    "content",
    "http-equiv",
    "rel",
    "href",
    "class",
    "id",
    "role",
    "scope",
    "colspan",
    "data-label",
    "aria-label",
    "aria-labelledby",
    "max",
    "value",
    "tabindex",
];

/// What is wrong with a page: markup that is not of a template, a link to another place than the exporter or the AWS console, an
/// unknown entity, or an element that is not closed.
pub(crate) fn fault(page: &str) -> Option<String> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap_or(page);
    let mut open: Vec<&str> = Vec::new();
    while let Some(at) = rest.find(['<', '>', '&', '"']) {
        let (mark, after) = (rest.as_bytes()[at], &rest[at + 1..]);
        let fault = || Some(after.chars().take(60).collect::<String>());
        rest = match mark {
            b'<' => {
                let Some((tag, after)) = after.split_once('>') else { return fault() };
                if let Some(name) = tag.strip_prefix('/') {
                    if open.pop() != Some(name) {
                        return fault();
                    }
                } else {
                    let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
                    if !are_allowed(attributes) {
                        return fault();
                    }
                    if ELEMENTS.contains(&name) {
                        open.push(name);
                    } else if !VOID_ELEMENTS.contains(&name) {
                        return fault();
                    }
                }
                after
            }
            b'&' => {
                let Some(after) = after_entity(after) else { return fault() };
                after
            }
            _ => return fault(),
        };
    }
    (!open.is_empty()).then(|| format!("{open:?} is open at the end"))
}

fn after_entity(text: &str) -> Option<&str> {
    ["lt;", "gt;", "amp;", "quot;"].into_iter().find_map(|entity| text.strip_prefix(entity))
}

fn are_allowed(mut attributes: &str) -> bool {
    while !attributes.is_empty() {
        let Some((name, rest)) = attributes.split_once("=\"") else { return false };
        let Some((value, rest)) = rest.split_once('"') else { return false };
        let entities = value.split('&').skip(1).all(|after| after_entity(after).is_some());
        let is_own = !value.contains(':') || value.starts_with("https://");
        if !ATTRIBUTES.contains(&name) || !entities || (name == "href" && !is_own) {
            return false;
        }
        attributes = rest.trim_start();
    }
    true
}

#[test]
fn markup_that_is_not_of_a_template_is_found() {
    assert_eq!(fault("<!DOCTYPE html><p><span class=\"bad\">a &lt; 'b'</span><br></p>"), None);
    for bad in [
        "<p>",
        "<p>a</td>",
        "<script>x</script>",
        "a > b",
        "a & b",
        "a \" b",
        "<p",
        "<p class=x></p>",
        "<p onclick=\"x\"></p>",
        "<p style=\"x\"></p>",
        "<a href=\"javascript:x\"></a>",
        "<a href=\"&x\"></a>",
        "&lt",
    ] {
        assert!(fault(bad).is_some(), "{bad}");
    }
}
