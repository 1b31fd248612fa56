//! In: names of categories and settings. Out: names that MLflow takes, no two the same.

use std::collections::HashSet;

/// Characters of the longest name that MLflow takes.
const LONGEST: usize = 250;

/// Names that were given out.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// `group/name`, or `name` alone where the group is empty. Of `name` every character but letters, digits, blanks and
    /// `_ - .` becomes `_`, and so does each point of a name of points; of the letters beyond ASCII those of Latin, Greek,
    /// Cyrillic, Chinese, Japanese and Korean stay. The whole is cut at 250 characters, and where it was given out before,
    /// ` 2`, ` 3` and so on stands at its end.
    pub(super) fn give(&mut self, group: &str, name: &str) -> String {
        let is_path = !name.is_empty() && name.chars().all(|c| c == '.');
        let keep = |c: char| if is_kept(c) && !(c == '.' && is_path) { c } else { '_' };
        let plain: String = name.chars().map(keep).collect();
        let plain = if plain.is_empty() { "_" } else { &plain };
        let whole = if group.is_empty() { plain.to_owned() } else { format!("{group}/{plain}") };
        let mut given = cut(&whole, "");
        let mut number = 1;
        while !self.0.insert(given.clone()) {
            number += 1;
            given = cut(&whole, &format!(" {number}"));
        }
        given
    }
}

/// Python's `\w` and what else MLflow lets through, less `/` and `:`. Where Rust calls more a letter than Python does,
/// as vowel signs of Indian scripts, it is left out.
fn is_kept(c: char) -> bool {
    let is_of_known_script = matches!(
        c,
        '\u{c0}'..='\u{344}' | '\u{370}'..='\u{52f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7a3}'
    );
    c.is_ascii_alphanumeric()
        || matches!(c, '_' | '-' | '.' | ' ')
        || (is_of_known_script && c.is_alphanumeric())
}

fn cut(name: &str, ending: &str) -> String {
    name.chars().take(LONGEST - ending.len()).collect::<String>() + ending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_mlflow_takes() {
        let mut names = Names::default();
        let mut given = |name: &str| names.give("dpg_bench_corrected", name);
        for (name, expected) in [
            ("attribute - color", "attribute - color"),
            ("other - <b>&%: count", "other - _b____ count"),
            ("other - _b____ count", "other - _b____ count 2"),
            ("other - (b)%%: count", "other - _b____ count 3"),
            ("a/../b", "a_.._b"),
            ("..", "__"),
            ("", "_"),
            ("数量 é", "数量 é"),
            ("\u{915}\u{93e}", "__ 2"),
        ] {
            assert_eq!(given(name), format!("dpg_bench_corrected/{expected}"), "{name}");
        }
        let long = [given(&"x".repeat(300)), given(&"x".repeat(300))];
        assert!(long.iter().all(|name| name.len() == LONGEST) && long[1].ends_with("x 2"));
    }
}
