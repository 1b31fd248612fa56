//! In: the text behind a command's help, its examples and exit status. Out: the same as a section of a manual page
//! (roff), with what is to be copied set as it is typed.

/// The section `EXAMPLES`. Prose is filled, an indented line is not.
pub(super) fn section(text: &str) -> String {
    let mut page = ".SH EXAMPLES\n".to_owned();
    let mut is_verbatim = false;
    for line in text.lines().filter(|line| *line != "Examples:") {
        let indented = line.starts_with(' ');
        if indented != is_verbatim && !line.is_empty() {
            page += if indented { ".PP\n.nf\n" } else { ".fi\n.PP\n" };
            is_verbatim = indented;
        } else if !is_verbatim {
            page += ".PP\n";
        }
        if !line.is_empty() {
            page += &escaped(line.strip_prefix("  ").unwrap_or(line));
            page.push('\n');
        }
    }
    if is_verbatim {
        page += ".fi\n";
    }
    page
}

/// The line as roff prints it, with the characters that a shell takes.
fn escaped(line: &str) -> String {
    let mut escaped = String::new();
    if line.starts_with(['.', '\'']) {
        escaped += "\\&";
    }
    for c in line.chars() {
        match c {
            '\\' => escaped += "\\(rs",
            '-' => escaped += "\\-",
            '\'' => escaped += "\\(aq",
            '`' => escaped += "\\(ga",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_not_filled_and_prose_is() {
        let text = "Examples:\n  x run --a 'b' \\\n      --c\n\nIt goes on.\nExit status: 0.";
        let expected = ".SH EXAMPLES\n.PP\n.nf\nx run \\-\\-a \\(aqb\\(aq \\(rs\n    \\-\\-c\n\
                        .fi\n.PP\nIt goes on.\n.PP\nExit status: 0.\n";
        assert_eq!(section(text), expected);
        assert_eq!(escaped(".so"), "\\&.so");
    }
}
