//! In: a URL, a key and a body. Out: one HTTP exchange: status, headers and body, or why there is none. Waiting and
//! repeating are left to who asks.

use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, Response, StatusCode};

use super::api_key::ApiKey;
use super::transport_fault::{TransportFault, transport_fault};

/// Name and version that servers are told.
pub(crate) const USER_AGENT: &str = concat!("dpg-bench/", env!("CARGO_PKG_VERSION"));

/// Servers close idle connections after 5 seconds and more; ours are given up before that, so that a
/// request is not sent into a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(4);

/// A pool of connections.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    agent: Agent,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Its status; no status is an error here.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body, or why that did not come whole.
    pub(crate) body: Result<Vec<u8>, TransportFault>,
}

impl HttpClient {
    /// Makes no connection yet. `timeout` is for one whole exchange. Proxies are taken from the environment
    /// (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) where `uses_proxy`: none reaches a server on this very
    /// machine. Redirects are not followed, so the key goes to no other host than the one that was named.
    pub(crate) fn new(timeout: Duration, connections: usize, uses_proxy: bool) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout))
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .max_idle_age(IDLE)
            .user_agent(USER_AGENT);
        if !uses_proxy {
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent() }
    }

    /// POSTs JSON, and takes no more than `limit` bytes of the reply.
    ///
    /// # Errors
    /// No reply began; a body that breaks off is told in [`Exchange::body`].
    pub(crate) fn post(
        &self,
        url: &str,
        key: Option<&ApiKey>,
        body: &[u8],
        limit: u64,
    ) -> Result<Exchange, TransportFault> {
        let mut request = self.agent.post(url).header("Content-Type", "application/json");
        if let Some(key) = key {
            request = request.header("Authorization", key.authorization());
        }
        Ok(exchange(request.send(body).map_err(|error| transport_fault(&error))?, limit))
    }

    /// GETs, and takes no more than `limit` bytes of the reply.
    ///
    /// # Errors
    /// As [`HttpClient::post`].
    pub(crate) fn get(
        &self,
        url: &str,
        key: Option<&ApiKey>,
        limit: u64,
    ) -> Result<Exchange, TransportFault> {
        let mut request = self.agent.get(url);
        if let Some(key) = key {
            request = request.header("Authorization", key.authorization());
        }
        Ok(exchange(request.call().map_err(|error| transport_fault(&error))?, limit))
    }
}

fn exchange(mut response: Response<ureq::Body>, limit: u64) -> Exchange {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.body_mut().with_config().limit(limit).read_to_vec();
    Exchange { status, headers, body: body.map_err(|error| transport_fault(&error)) }
}
