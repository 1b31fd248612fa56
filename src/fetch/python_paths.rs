//! In: a value of the environment. Out: the path that Python's `os.path.expanduser` and `expandvars` make
//! of it, as huggingface_hub reads its variables.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// `~/x` as the shell would have made it.
pub(crate) fn under_home(path: PathBuf, home: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => home.join(rest),
        Err(_) => path,
    }
}

/// `$NAME` and `${NAME}` replaced by what `variable` gives; what is not set, or no name, stays as it is.
/// What was put in is not looked at again.
///
/// As `posixpath.expandvars` of Python 3.11. A path that is not UTF-8 stays as it is.
pub(crate) fn with_variables(
    path: &OsStr,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> OsString {
    let Some(mut rest) = path.to_str() else { return path.to_owned() };
    let mut out = OsString::with_capacity(rest.len());
    while let Some(at) = rest.find('$') {
        out.push(&rest[..at]);
        rest = &rest[at..];
        let (name, length) = name_at(&rest[1..]);
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => out.push(value),
            None => out.push(&rest[..=length]),
        }
        rest = &rest[1 + length..];
    }
    out.push(rest);
    out
}

/// The name that `text`, which follows a `$`, begins with, and how many of its bytes tell it.
fn name_at(text: &str) -> (&str, usize) {
    if let Some(inside) = text.strip_prefix('{') {
        return match inside.find('}') {
            Some(end) => (&inside[..end], end + 2),
            None => ("", 0),
        };
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    (&text[..end], end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each right side is what Python 3.11's `os.path.expandvars` makes of the left one.
    #[test]
    fn variables_are_replaced_as_python_does() {
        let set = |name: &str| {
            let value = match name {
                "X" => "/x",
                "Y" => "$X",
                "EMPTY" => "",
                "a b" => "q",
                _ => return None,
            };
            Some(OsString::from(value))
        };
        for (text, expected) in [
            ("$X/hc", "/x/hc"),
            ("a/${X}b", "a//xb"),
            ("$NOPE/a", "$NOPE/a"),
            ("${NOPE}/a", "${NOPE}/a"),
            ("$X/c$Y", "/x/c$X"),
            ("${X", "${X"),
            ("$X~", "/x~"),
            ("$/a$$X", "$/a$/x"),
            ("a$EMPTY/b", "a/b"),
            ("/a/$Ü", "/a/$Ü"),
            ("/a/${a b}c", "/a/qc"),
            ("$$X/${}", "$/x/${}"),
            ("$", "$"),
            ("plain", "plain"),
        ] {
            assert_eq!(with_variables(OsStr::new(text), &set), OsStr::new(expected), "{text}");
        }
    }
}
