//! JSON that may be shown on a terminal.

use serde::Serialize;

use crate::name::printable;

/// `value` as one line of JSON, or indented, with an end of line.
///
/// # Errors
///
/// Where the value holds what JSON cannot: none of ours does.
pub fn document<T: Serialize>(value: &T, indented: bool) -> Result<String, serde_json::Error> {
    let text = if indented { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let mut text = visible(&text?);
    text.push('\n');
    Ok(text)
}

/// The same JSON with every character escaped that could do something to a terminal. JSON itself escapes only the
/// controls below U+0020; hidden characters can stand in strings only, so an escape always fits.
fn visible(json: &str) -> String {
    if json.is_ascii() && !json.contains('\u{7f}') {
        return json.to_owned();
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        let mut buffer = [0; 4];
        let hidden =
            character != '\n' && printable(character.encode_utf8(&mut buffer)) != *character.to_string();
        if hidden {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped_and_mean_the_same() {
        let text = "a\u{1b}[31m\u{9b}31m\u{7f}\u{202e}\u{e0001}größe\n";
        let json = document(&text, false).expect("JSON");
        assert_eq!(json, "\"a\\u001b[31m\\u009b31m\\u007f\\u202e\\udb40\\udc01größe\\n\"\n");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
    }
}
