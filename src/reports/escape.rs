//! In: any text. Out: the same text for HTML and SVG, or inside a script element: whatever a prompt, an
//! item id or a folder name holds stays text.

/// For text and quoted attributes of HTML and SVG. Characters that XML has not become the sign for an
/// unknown character.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// JSON that cannot end the script element it stands in: `<` only occurs inside strings, where it can
/// be written otherwise, as can the two line ends that JavaScript knows and JSON does not.
pub(crate) fn json_in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_text_or_its_script() {
        assert_eq!(escape("<a b='\"'>&\u{0}"), "&lt;a b=&#39;&quot;&#39;&gt;&amp;\u{fffd}");
        let json = serde_json::to_string("</script><!-- \u{2028}").unwrap();
        let shown = json_in_script(&json);
        assert!(!shown.contains('<') && !shown.contains('\u{2028}'), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), "</script><!-- \u{2028}");
    }
}
