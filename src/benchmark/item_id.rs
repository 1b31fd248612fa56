//! In: an item id from a question file. Out: whether it can be a file name on every system that a run
//! directory may be copied to. The ids become folder names, so this is the guard against `../x`.

/// Longest id in bytes: file systems allow 255, and names like `<id>_3.webp` are made of it.
const LONGEST: usize = 200;

/// Why `id` is no safe file name; `None` when it is one.
pub fn why_unsafe(id: &str) -> Option<&'static str> {
    let last = id.chars().next_back();
    if id.is_empty() {
        Some("it is empty")
    } else if id.len() > LONGEST {
        Some("it is longer than 200 bytes")
    } else if id.contains(['/', '\\']) {
        Some("it holds a path separator")
    } else if id.starts_with('.') {
        Some("it begins with a dot")
    } else if id.starts_with(char::is_whitespace) || last.is_some_and(char::is_whitespace) {
        Some("it begins or ends with a blank")
    } else if id.ends_with('.') {
        Some("it ends with a dot")
    } else if id.chars().any(char::is_control) {
        Some("it holds a control character")
    } else if id.contains(['<', '>', ':', '"', '|', '?', '*']) {
        Some("it holds one of < > : \" | ? *, which Windows refuses")
    } else if is_windows_device(id) {
        Some("Windows keeps that name for a device")
    } else {
        None
    }
}

/// `NUL`, `com1.txt` and their like name devices in every Windows folder.
fn is_windows_device(id: &str) -> bool {
    let stem = id.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str()) {
        return true;
    }
    let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    number.is_some_and(|number| {
        let mut characters = number.chars();
        matches!(characters.next(), Some('0'..='9' | '¹' | '²' | '³'))
            && characters.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_leave_the_folder_or_name_a_device_are_refused() {
        let long = "a".repeat(201);
        for bad in [
            "", "..", ".", "../x", "a/b", "/etc", "a\\b", ".git", "a.", "a ", " a", "a\n",
            "a\u{7f}", "a\u{85}b", "a:b", "a*", "a?", "a\"b", "a|b", "<a>", "con", "NUL",
            "nul.txt", "COM1", "lpt9.x", "com¹", "aux .x", "a\0b", "\u{a0}a", &long,
        ] {
            assert!(why_unsafe(bad).is_some(), "{bad:?}");
        }
        let longest = "a".repeat(200);
        for good in [
            "partiprompts97",
            "132",
            "COCOval2014000000424349",
            "a.b",
            "a b",
            "é",
            "com",
            "com10",
            "console",
            "-x",
            "a_0",
            "nul_1",
            &longest,
        ] {
            assert_eq!(why_unsafe(good), None, "{good:?}");
        }
    }
}
