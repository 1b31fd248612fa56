//! In: the base URL of a server, and an address that a request or a reply names. Out: the URL to ask, where it may be
//! asked: the server's own host or this machine.

use anyhow::{Context, Result, ensure};

use crate::http::{Origin, is_loopback, origin};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Below the server's base URL; starts with `/`, or is empty for the base URL itself.
    Path(String),
    /// As a reply named it: a whole URL, or a path from the server's root that starts with `/`.
    Url(String),
}

/// A URL that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The whole URL.
    pub url: String,
    /// Whether it is the server's own scheme, host and port: the key goes nowhere else.
    pub own: bool,
}

impl Address {
    /// The URL, given the server's base URL.
    ///
    /// # Errors
    /// The base is no `http://` or `https://` URL, or a reply names another host than the server's own or this machine.
    pub fn resolve(&self, base: &str) -> Result<Target> {
        let server = origin(base).with_context(|| {
            "the server's URL must start with http:// or https:// and name a host".to_owned()
        })?;
        match self {
            Self::Path(path) => {
                Ok(Target { url: format!("{}{path}", base.trim_end_matches('/')), own: true })
            }
            Self::Url(path) if path.starts_with('/') && !path.starts_with("//") => {
                Ok(Target { url: format!("{}{path}", server.root()), own: true })
            }
            Self::Url(url) => {
                let named = origin(url).context(
                    "the server names an address of its image that is no http:// or https:// URL",
                )?;
                ensure!(
                    same_host(&named, &server) || is_loopback(&named.host),
                    "the server keeps its image at another host ({}), which is not asked: have it send the image itself",
                    named.host
                );
                Ok(Target { url: url.clone(), own: named == server })
            }
        }
    }
}

fn same_host(one: &Origin, other: &Origin) -> bool {
    one.host == other.host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(address: Address, base: &str) -> Result<(String, bool), String> {
        address
            .resolve(base)
            .map(|target| (target.url, target.own))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn paths_lie_below_the_base() {
        for base in ["http://gpu:8000/v1", "http://gpu:8000/v1/"] {
            assert_eq!(
                url(Address::Path("/images".to_owned()), base).unwrap(),
                ("http://gpu:8000/v1/images".to_owned(), true)
            );
            assert_eq!(
                url(Address::Url("/files/1.png".to_owned()), base).unwrap(),
                ("http://gpu:8000/files/1.png".to_owned(), true)
            );
        }
        assert!(
            url(Address::Path("/images".to_owned()), "gpu:8000").unwrap_err().contains("http://")
        );
    }

    #[test]
    fn only_the_server_and_this_machine_are_asked_for_an_image() {
        let base = "https://gpu.example.org/v1";
        for (address, own) in [
            ("https://gpu.example.org/x.png", true),
            ("https://GPU.example.org:443/x.png", true),
            ("https://gpu.example.org:8443/x.png", false),
            ("http://gpu.example.org/x.png", false),
            ("http://127.0.0.1:9/x.png", false),
            ("http://[::1]:9/x.png", false),
        ] {
            assert_eq!(url(Address::Url(address.to_owned()), base).unwrap().1, own, "{address}");
        }
        for address in [
            "https://cdn.example.org/x.png",
            "https://gpu.example.org.evil.net/x.png",
            "https://gpu.example.org@evil.net/x.png",
            "http://localhost@evil.net/x.png",
            "//evil.net/x.png",
            "file:///etc/passwd",
            "ftp://gpu.example.org/x.png",
            "x.png",
            "",
        ] {
            assert!(url(Address::Url(address.to_owned()), base).is_err(), "{address}");
        }
        let told = url(Address::Url("https://cdn.example.org/x.png?key=hush".to_owned()), base)
            .unwrap_err();
        assert!(told.contains("cdn.example.org") && !told.contains("hush"), "{told}");
    }
}
