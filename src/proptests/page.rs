//! A strict reader of the status page: only the tags of its own template may stand in it.

/// Every tag of the template, to the letter.
const TAGS: &[&str] = &[
    "!doctype html",
    "html lang=\"en\"",
    "/html",
    "head",
    "/head",
    "meta charset=\"utf-8\"",
    "meta name=\"viewport\" content=\"width=device-width\"",
    "title",
    "/title",
    "style",
    "/style",
    "body",
    "/body",
    "h1",
    "/h1",
    "h2",
    "/h2",
    "p",
    "/p",
    "a href=\"/metrics\"",
    "/a",
    "table",
    "/table",
    "tr",
    "/tr",
    "th",
    "/th",
    "td",
    "td class=\"n\"",
    "/td",
    "code",
    "/code",
    "span class=\"good\"",
    "span class=\"bad\"",
    "span class=\"muted\"",
    "/span",
];

/// What is wrong with a page: markup that is not the template's, an entity that is none of the five, or a tag that is open at
/// the end.
pub(crate) fn fault(page: &str) -> Option<String> {
    // The only quote in the template's own words.
    let page = page.replace("this target's jobs", "");
    let mut rest = page.as_str();
    let mut open: Vec<&str> = Vec::new();
    while let Some(at) = rest.find(['<', '>', '&', '"', '\'']) {
        let (mark, after) = (rest.as_bytes()[at], &rest[at + 1..]);
        let told = || Some(after.chars().take(60).collect::<String>());
        rest = match mark {
            b'<' => {
                let Some((tag, after)) = after.split_once('>') else { return told() };
                if !TAGS.contains(&tag) {
                    return told();
                }
                match tag.strip_prefix('/') {
                    Some(name) if open.pop() != Some(name) => return told(),
                    None if !tag.starts_with('!') && !tag.starts_with("meta") => {
                        open.extend(tag.split(' ').next());
                    }
                    _ => {}
                }
                after
            }
            b'&' => {
                let entity = ["lt;", "gt;", "amp;", "quot;", "#39;"].into_iter().find(|name| after.starts_with(name));
                let Some(entity) = entity else { return told() };
                &after[entity.len()..]
            }
            _ => return told(),
        };
    }
    (!open.is_empty()).then(|| format!("{open:?} is open at the end"))
}

#[test]
fn markup_that_is_not_the_template_s_is_told() {
    assert_eq!(fault("<!doctype html>\n<p><span class=\"bad\">a &lt; &#39;</span></p>"), None);
    for bad in ["<p>", "<p>a</td>", "<b>x</b>", "a > b", "a & b", "a \" b", "'", "<p", "<p class=x></p>", "&lt"] {
        assert!(fault(bad).is_some(), "{bad}");
    }
}
