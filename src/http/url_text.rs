//! In: a text. Out: how it stands in a URL.

use std::fmt::Write;

/// `text` as one part of a path or one value of a query: all but letters, digits and `-._~` (RFC 3986, 2.3) as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // A String takes whatever is written.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_steers_the_url() {
        assert_eq!(percent_encoded("a b/..&c=ü?#%"), "a%20b%2F..%26c%3D%C3%BC%3F%23%25");
        assert_eq!(percent_encoded("job_01-x.~"), "job_01-x.~");
        assert_eq!(percent_encoded("a b&c=é/%"), "a%20b%26c%3D%C3%A9%2F%25");
    }
}
