//! Text as a part of a page. What the page is made of is in `page` and `plot`.

use crate::report::escaped;

/// Text inside an element or a quoted attribute, in one line.
pub(super) fn markup(text: &str) -> String {
    let mut markup = String::with_capacity(text.len());
    for character in escaped(text).chars() {
        match character {
            '&' => markup.push_str("&amp;"),
            '<' => markup.push_str("&lt;"),
            '>' => markup.push_str("&gt;"),
            '"' => markup.push_str("&quot;"),
            '\'' => markup.push_str("&#39;"),
            other => markup.push(other),
        }
    }
    markup
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(markup("<a href=\"x\">&'\u{202e}\n"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\\u{202e}\\n");
    }
}
