//! In: the environment. Out: where files come from and go to, with which token. Variables mean what they
//! mean to huggingface_hub and modelscope, so that files are shared with them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ureq::http::Uri;

use super::catalog::Host;
use super::fetch_error::{EnvironmentFault, FetchError};
use super::python_paths::{under_home, with_variables};
use crate::http::{ApiKey, is_loopback};

/// Where the benchmark goes, below the folder that the program is started in.
pub const BENCHMARK_FOLDER: &str = "benchmark/dpg";

/// A server's address, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: String,
    is_secret_safe: bool,
}

impl Endpoint {
    /// Reads an address that `variable` named.
    ///
    /// # Errors
    /// It is no http(s) address, or holds a user, a password or a query; it is not repeated.
    pub fn parse(text: &str, variable: &str) -> Result<Self, FetchError> {
        let refuse = |reason| FetchError::Environment { name: variable.to_owned(), reason };
        let base = text.trim().trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| refuse(EnvironmentFault::NoAddress))?;
        let scheme = match uri.scheme_str() {
            Some(scheme @ ("http" | "https")) => scheme,
            _ => return Err(refuse(EnvironmentFault::NoHttp)),
        };
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') || uri.query().is_some() {
            return Err(refuse(EnvironmentFault::MayHoldSecret));
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refuse(EnvironmentFault::NoHost))?;
        let is_secret_safe = scheme == "https" || is_loopback(host);
        Ok(Self { base: base.to_owned(), is_secret_safe })
    }

    /// The address of `path` there, which is percent-encoded already.
    pub fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// Whether a token may be sent there: over TLS, or within this machine.
    pub(crate) fn may_see_token(&self) -> bool {
        self.is_secret_safe
    }
}

/// Where files come from and go to.
#[derive(Debug, Clone)]
pub struct Places {
    /// Hugging Face's cache: the folder of `models--owner--name`.
    pub hub_cache: PathBuf,
    /// Hugging Face or a mirror.
    pub hub: Endpoint,
    /// Its token.
    pub hub_token: Option<ApiKey>,
    /// ModelScope's cache as its library had it before 1.38, where this program's fetches go: the folder of
    /// `models/owner/name`.
    pub model_scope_cache: PathBuf,
    /// The same since 1.38: the folder of `models/owner--name/snapshots/revision`.
    pub model_scope_snapshots: PathBuf,
    /// ModelScope or a mirror.
    pub model_scope: Endpoint,
    /// Its token.
    pub model_scope_token: Option<ApiKey>,
    /// GitHub's server of plain files, or a mirror.
    pub github_raw: Endpoint,
    /// Folder of the benchmark.
    pub benchmark: PathBuf,
    /// Whether no server may be asked.
    pub offline: bool,
}

impl Places {
    /// As the process's environment says.
    ///
    /// # Errors
    /// A variable holds what it cannot hold; it is named.
    pub(crate) fn from_environment() -> Result<Self, FetchError> {
        Self::new(&|name| std::env::var_os(name))
    }

    /// As the variables say that `variable` gives.
    ///
    /// # Errors
    /// As [`Places::from_environment`].
    pub fn new(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, FetchError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = ["HOME", "USERPROFILE"].iter().find_map(|name| set(name)).map(PathBuf::from);
        let home = home.unwrap_or_default();
        let folder = |name: &str| set(name).map(|value| under_home(PathBuf::from(value), &home));
        // As huggingface_hub: first the home folder, then variables.
        let expanded = |path: PathBuf| {
            PathBuf::from(with_variables(under_home(path, &home).as_os_str(), variable))
        };
        let hub_folder = |names: &[&str], usual: PathBuf| {
            let named = names.iter().find_map(|name| set(name)).map(PathBuf::from);
            expanded(named.unwrap_or(usual))
        };
        let caches = set("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        let hub_home = hub_folder(&["HF_HOME"], caches.join("huggingface"));
        let endpoint = |name: &str, usual: &str| match set(name) {
            None => Endpoint::parse(usual, name),
            Some(text) => Endpoint::parse(&text.to_string_lossy(), name),
        };
        let truth = |name: &str| {
            set(name).is_some_and(|value| {
                let value = value.to_string_lossy().to_ascii_uppercase();
                ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
            })
        };
        Ok(Self {
            hub_cache: hub_folder(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"], hub_home.join("hub")),
            hub: endpoint("HF_ENDPOINT", "https://huggingface.co")?,
            hub_token: match truth("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
                true => None,
                false => hub_token(&set, &hub_folder(&["HF_TOKEN_PATH"], hub_home.join("token")))?,
            },
            model_scope_cache: folder("MODELSCOPE_CACHE")
                .unwrap_or_else(|| home.join(".cache/modelscope/hub")),
            model_scope_snapshots: folder("MODELSCOPE_CACHE")
                .unwrap_or_else(|| home.join(".cache/modelscope")),
            model_scope: match (set("MODELSCOPE_ENDPOINT"), set("MODELSCOPE_DOMAIN")) {
                // What its library had before; a name without a scheme.
                (None, Some(domain)) => {
                    let domain = domain.to_string_lossy().into_owned();
                    let has_scheme = domain.to_ascii_lowercase().starts_with("http");
                    let address = if has_scheme { domain } else { format!("https://{domain}") };
                    Endpoint::parse(&address, "MODELSCOPE_DOMAIN")?
                }
                _ => endpoint("MODELSCOPE_ENDPOINT", "https://www.modelscope.cn")?,
            },
            model_scope_token: secret(&set, "MODELSCOPE_API_TOKEN")?,
            github_raw: endpoint("DPG_BENCH_GITHUB_RAW", "https://raw.githubusercontent.com")?,
            benchmark: PathBuf::from(BENCHMARK_FOLDER),
            // The second counts only where the first is not set, whatever the first says.
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .iter()
                .find(|name| set(name).is_some())
                .is_some_and(|name| truth(name)),
        })
    }

    /// The token that `host` gets.
    pub fn token(&self, host: Host) -> Option<&ApiKey> {
        let (endpoint, token) = match host {
            Host::HuggingFace => (&self.hub, &self.hub_token),
            Host::ModelScope => (&self.model_scope, &self.model_scope_token),
            Host::GitHub => return None,
        };
        token.as_ref().filter(|_| endpoint.may_see_token())
    }
}

fn secret(
    set: &dyn Fn(&str) -> Option<OsString>,
    name: &str,
) -> Result<Option<ApiKey>, FetchError> {
    let Some(value) = set(name) else { return Ok(None) };
    let told = |reason| FetchError::Environment { name: name.to_owned(), reason };
    let value = value.to_str().ok_or_else(|| told(EnvironmentFault::NotUtf8))?;
    ApiKey::new(value).map_err(|error| told(error.into()))
}

/// The token of the environment, else that of the file where `hf auth login` puts it.
fn hub_token(
    set: &dyn Fn(&str) -> Option<OsString>,
    file: &Path,
) -> Result<Option<ApiKey>, FetchError> {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = secret(set, name)? {
            return Ok(Some(token));
        }
    }
    let Ok(text) = std::fs::read_to_string(file) else { return Ok(None) };
    ApiKey::new(&text).map_err(|error| {
        let name = file.display().to_string();
        FetchError::Environment { name, reason: error.into() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Result<Places, FetchError> {
        Places::new(&|name| {
            let found = variables.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn caches_are_where_the_python_libraries_have_them() {
        // Each as huggingface_hub 2.4.0 has it in its `constants`, but for the empty variable.
        for (variables, hub) in [
            (&[("HOME", "/h")][..], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")], "/c/huggingface/hub"),
            (&[("HOME", "/h"), ("HF_HOME", "~/hf")], "/h/hf/hub"),
            (&[("HF_HOME", "/x"), ("HF_HUB_CACHE", "/y")], "/y"),
            (&[("HF_HUB_CACHE", ""), ("HF_HOME", "/x")], "/x/hub"),
            (&[("X", "/x"), ("HF_HOME", "$X/hc")], "/x/hc/hub"),
            (&[("HOME", "/h"), ("X", "y"), ("HF_HOME", "~/a/${X}b")], "/h/a/yb/hub"),
            (&[("HF_HOME", "$NOPE/a")], "$NOPE/a/hub"),
            (&[("X", "$Y"), ("Y", "/y"), ("HF_HUB_CACHE", "$X/c$Y")], "$Y/c/y"),
            (&[("X", "/x"), ("HUGGINGFACE_HUB_CACHE", "$X/l")], "/x/l"),
            (&[("X", "/x"), ("XDG_CACHE_HOME", "$X/l")], "/x/l/huggingface/hub"),
        ] {
            assert_eq!(places(variables).unwrap().hub_cache, Path::new(hub), "{variables:?}");
        }
        let usual = places(&[("HOME", "/h")]).unwrap();
        assert_eq!(usual.model_scope_cache, Path::new("/h/.cache/modelscope/hub"));
        assert_eq!(usual.model_scope_snapshots, Path::new("/h/.cache/modelscope"));
        assert_eq!(usual.hub.at("api"), "https://huggingface.co/api");
        let moved = places(&[("MODELSCOPE_CACHE", "/m")]).unwrap();
        assert_eq!(moved.model_scope_cache, Path::new("/m"));
        assert_eq!(moved.model_scope_snapshots, Path::new("/m"));
        let domain = [("MODELSCOPE_DOMAIN", "www.modelscope.ai")];
        assert_eq!(places(&domain).unwrap().model_scope.at("x"), "https://www.modelscope.ai/x");
        let both = [domain[0], ("MODELSCOPE_ENDPOINT", "https://mirror")];
        assert_eq!(places(&both).unwrap().model_scope.at("x"), "https://mirror/x");
    }

    #[test]
    fn nobody_is_asked_where_the_python_libraries_ask_nobody() {
        // As `huggingface_hub.constants.HF_HUB_OFFLINE` of 2.4.0.
        for (variables, offline) in [
            (&[][..], false),
            (&[("HF_HUB_OFFLINE", "yes")], true),
            (&[("TRANSFORMERS_OFFLINE", "1")], true),
            (&[("TRANSFORMERS_OFFLINE", "2")], false),
            (&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")], false),
            (&[("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "1")], true),
            (&[("HF_HUB_OFFLINE", "1"), ("TRANSFORMERS_OFFLINE", "0")], true),
        ] {
            assert_eq!(places(variables).unwrap().offline, offline, "{variables:?}");
        }
    }

    #[test]
    fn tokens_come_from_the_environment_or_the_file_and_stay_hidden() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_of_the_file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let bearer = |variables: &[(&str, &str)]| {
            let places = places(variables).unwrap();
            assert!(!format!("{places:?}").contains("hf_"));
            places.token(Host::HuggingFace).map(ApiKey::authorization)
        };
        let file = Some("Bearer hf_of_the_file".to_owned());
        assert_eq!(bearer(&[("HF_HOME", home)]), file);
        assert_eq!(bearer(&[("X", home), ("HF_TOKEN_PATH", "$X/token")]), file);
        let variable = Some("Bearer hf_of_the_variable".to_owned());
        assert_eq!(bearer(&[("HF_HOME", home), ("HF_TOKEN", "hf_of_the_variable")]), variable);
        assert_eq!(bearer(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        // In the clear it goes to this machine alone.
        assert_eq!(bearer(&[("HF_HOME", home), ("HF_ENDPOINT", "http://mirror.example")]), None);
        assert_eq!(bearer(&[("HF_HOME", home), ("HF_ENDPOINT", "http://127.0.0.1:1")]), file);
        let error = places(&[("HF_TOKEN", "hf hush")]).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for bad in
            ["hush", "ftp://hush", "http://me:hush@host", "https://host?code=hush", "http://"]
        {
            let error = places(&[("HF_ENDPOINT", bad)]).unwrap_err().to_string();
            assert!(error.contains("HF_ENDPOINT") && !error.contains("hush"), "{error}");
        }
    }
}
