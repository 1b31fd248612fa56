//! In: text for people. Out: the same with lines broken at blanks, as wide as the terminal.

use std::io::IsTerminal;

/// Narrower than this nothing is broken.
const NARROWEST: usize = 40;

/// The text for `stream`: with its lines broken where that is a terminal, else as it is.
pub(crate) fn fitted_to(stream: &impl IsTerminal, text: &str) -> String {
    let size = terminal_size::terminal_size().filter(|_| stream.is_terminal());
    match size.map(|(width, _)| usize::from(width.0)) {
        Some(width) if width >= NARROWEST => fitted(text, width),
        _ => text.to_owned(),
    }
}

/// Lines of at most `width` columns, where blanks allow it. Further lines of a long one are indented: to its last column, if
/// there are several with two blanks between them. Left alone are tables (from the first to the third rule), and commands:
/// those in backticks, and lines that begin with a word and `: dpg-bench`.
fn fitted(text: &str, width: usize) -> String {
    let mut rules = 0_usize;
    let lines = text.split('\n').map(|line| {
        rules += usize::from(line.starts_with('─'));
        let is_command =
            line.split_once(": ").is_some_and(|(_, command)| command.starts_with("dpg-bench "));
        match rules.is_multiple_of(3) && !line.starts_with('─') && !is_command {
            true => broken(line, width),
            false => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn broken(line: &str, width: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let start = line.len() - line.trim_start().len();
    // Where the last column begins, if the line has columns.
    let gaps = line.match_indices("  ").map(|(at, _)| line.len() - line[at..].trim_start().len());
    let last = gaps.filter(|&at| at > start && columns(&line[..at]) <= width / 2).last();
    let (kept, indent) = match last {
        Some(at) => (at, columns(&line[..at])),
        None => (start, start + 2),
    };
    let (mut text, rest) = (line[..kept].to_owned(), &line[kept..]);
    let mut used = columns(&text);
    let mut is_first = true;
    for word in words(rest) {
        let length = columns(word);
        if !is_first && used + 1 + length > width {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            used = indent;
        } else if !is_first {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
        is_first = false;
    }
    text
}

/// The words; what stands in backticks is one.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |letter: char| {
        is_quoted ^= letter == '`';
        letter == ' ' && !is_quoted
    })
}

/// Columns that a text takes: its letters without the colours.
fn columns(text: &str) -> usize {
    let mut is_colour = false;
    let is_seen = |letter: &char| {
        is_colour |= *letter == '\u{1b}';
        let seen = !is_colour;
        is_colour &= *letter != 'm';
        seen
    };
    text.chars().filter(is_seen).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks_and_commands_and_tables_are_not() {
        assert_eq!(fitted("one two three four", 9), "one two\n  three\n  four");
        assert_eq!(fitted("ok   a  one two three", 17), "ok   a  one two\n        three");
        assert_eq!(fitted("as it is", 8), "as it is");
        assert_eq!(fitted("say `dpg-bench x y` now", 10), "say\n  `dpg-bench x y`\n  now");
        assert_eq!(fitted("next: dpg-bench judge run", 10), "next: dpg-bench judge run");
        let table = "────\n a long row\n────\n another long row\n────\n";
        assert_eq!(fitted(&format!("{table}a note"), 4), format!("{table}a\n  note"));
        let red = "\u{1b}[31merror:\u{1b}[0m it is";
        assert_eq!(fitted(red, 12), red);
        assert_eq!(fitted(red, 11), "\u{1b}[31merror:\u{1b}[0m it\n  is");
    }
}
