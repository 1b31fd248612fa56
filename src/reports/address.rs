//! In: names and folders on disk. Out: addresses inside a page. Whether something lies there is left to the
//! caller.

use std::path::{Component, Path};

/// A file name as a part of an address: everything but plain letters and digits is written as bytes.
pub(crate) fn address_of(name: &str) -> String {
    let mut address = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                address.push(byte.into())
            }
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address
}

/// Address of the folder `to` for a page in the folder `from`, with a stroke at its end; both are absolute and
/// without `..`. `None` where no way leads there (another drive) or a name is no text.
pub(crate) fn folder_address(from: &Path, to: &Path) -> Option<String> {
    let (from, to): (Vec<Component<'_>>, Vec<Component<'_>>) =
        (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let is_named = |part: &Component<'_>| matches!(part, Component::Normal(_));
    if shared == 0 || !from[shared..].iter().chain(&to[shared..]).all(is_named) {
        return None;
    }
    let mut address = "../".repeat(from.len() - shared);
    for part in &to[shared..] {
        address.push_str(&address_of(part.as_os_str().to_str()?));
        address.push('/');
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_no_sign_of_its_own() {
        assert_eq!(address_of("a b#%?é"), "a%20b%23%25%3F%C3%A9");
    }

    #[test]
    fn a_folder_is_found_from_where_the_page_is() {
        let address = |from: &str, to: &str| folder_address(Path::new(from), Path::new(to));
        assert_eq!(
            address("/p/reports/a", "/p/results/run <1>/images").as_deref(),
            Some("../../results/run%20%3C1%3E/images/")
        );
        assert_eq!(address("/p/run/report", "/p/run/images").as_deref(), Some("../images/"));
        assert_eq!(address("/p", "/p/run/images").as_deref(), Some("run/images/"));
        assert_eq!(address("/a/b", "/c").as_deref(), Some("../../c/"));
        assert_eq!(address("reports/a", "/c"), None);
        assert_eq!(address("/p/../q", "/p/c"), None);
    }
}
