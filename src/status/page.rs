//! The status page: one file with everything in it, and what its script is told.
//!
//! The script makes text of everything that it is told, never markup. Without scripts the page shows what a terminal
//! would, and loads itself again.

use super::SystemStatus;
use crate::screen::{Size, Viewer};
use std::sync::Arc;

/// The script of the page, to the letter: a policy may name it by its hash.
pub const SCRIPT: &str = include_str!("page/page.js");
/// The style of the page, to the letter.
pub const STYLE: &str = include_str!("page/page.css");
const PAGE: &str = include_str!("page/page.html");

/// What a page without scripts shows of a system.
const SIZE: Size = Size { columns: 100, rows: 120 };

/// The document that `/status.json` gives and `/events` sends: one line; `null` before the first epoch.
pub fn document(status: Option<&SystemStatus>) -> String {
    // Strings, numbers, lists and maps with names for keys can always be written.
    serde_json::to_string(&status).unwrap_or_else(|_| "null".to_owned())
}

/// The page, as it is at this moment.
pub fn page(status: Option<&Arc<SystemStatus>>, version: &str, now_ns: i64) -> String {
    let mut viewer = Viewer::default();
    if let Some(status) = status {
        viewer.take(Arc::clone(status));
    }
    let lines = viewer.draw(SIZE, now_ns);
    let mut lines: Vec<String> = lines.iter().map(|line| line.text()).collect();
    // The last line explains keys.
    lines.pop();
    let text = lines.join("\n");
    let parts = [
        ("style", STYLE.to_owned()),
        ("text", escaped(text.trim_end())),
        ("version", escaped(version)),
        ("status", in_script(&document(status.map(AsRef::as_ref)))),
        ("script", SCRIPT.to_owned()),
    ];
    filled(PAGE, &parts)
}

/// Puts each part into its place, once, from left to right: no part is looked through for further places.
fn filled(template: &str, parts: &[(&str, String)]) -> String {
    let mut page =
        String::with_capacity(template.len() + parts.iter().map(|(_, text)| text.len()).sum::<usize>());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        let part = parts.iter().find(|(known, _)| *known == name);
        page.push_str(part.map_or("", |(_, text)| text.as_str()));
        rest = after;
    }
    page.push_str(rest);
    page
}

/// `text` as HTML shows it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// JSON that may stand in a script: nothing in it ends the script or begins a comment.
fn in_script(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_a_script_ends_nothing_and_means_the_same() {
        let said = "</script><!--<script>\u{2028}&amp;\u{2029}";
        let json = in_script(&serde_json::to_string(said).expect("JSON"));
        assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), said);
    }

    #[test]
    fn a_part_that_looks_like_a_place_is_left_alone() {
        let parts = [("a", "{{b}}".to_owned()), ("b", "x".to_owned())];
        assert_eq!(filled("{{a}}-{{b}}-{{c}}.", &parts), "{{b}}-x-.");
    }

    #[test]
    fn the_page_waits_for_the_first_epoch_and_loads_nothing_from_elsewhere() {
        let page = page(None, "1.0", 0);
        assert!(page.contains(r#"<script type="application/json" id="status">null</script>"#));
        assert!(page.contains("waiting for the first epoch"));
        let places = ["{{style}}", "{{text}}", "{{status}}", "{{script}}", "{{version}}"];
        assert!(places.iter().all(|place| !page.contains(place)));
        let own = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains("http://") && !own.contains("https://") && !own.contains("//cdn"));
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("insertAdjacentHTML"));
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }
}
