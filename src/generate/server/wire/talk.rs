//! In: nothing. Out: what is said to a server and by it, without a connection: requests, replies, and what follows
//! from a reply.

use serde_json::Value;

use super::address::Address;

/// How a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET, without a body.
    Get,
    /// POST, with a body of JSON.
    Post,
}

/// What is asked next.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRequest {
    /// How.
    pub method: Method,
    /// Where.
    pub address: Address,
    /// With which body; only a POST has one.
    pub body: Option<Value>,
}

impl HttpRequest {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::Get, address: Address::Path(path), body: None }
    }

    pub(super) fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::Post, address: Address::Path(path.into()), body: Some(body) }
    }
}

/// What a server answered.
#[derive(Debug, Clone, Copy)]
pub struct HttpReply<'a> {
    /// HTTP status.
    pub status: u16,
    /// The `Content-Type` header; empty where there is none.
    pub content_type: &'a str,
    /// The whole body.
    pub body: &'a [u8],
}

/// Whether the same image may be asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It would be refused again.
    No,
    /// After a pause: the server is busy, loading or broke.
    Yes,
}

/// What follows from a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Ask this next, at once.
    Send(HttpRequest),
    /// Ask this after a pause: the image is not done.
    Wait(HttpRequest),
    /// The image.
    Done(ServerImage),
    /// A content filter refused this prompt: its own words.
    Filtered(String),
    /// No image.
    Failed {
        /// Why, in one clause, with the server's words where it has any.
        reason: String,
        /// Whether to ask again.
        retry: Retry,
    },
}

impl Step {
    /// An error that another try would not mend.
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), retry: Retry::No }
    }

    /// An error that may pass.
    pub(super) fn try_again(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), retry: Retry::Yes }
    }
}

/// An image as a server sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerImage {
    /// The file: PNG, JPEG or WebP by its first bytes, nothing more was looked at.
    pub bytes: Vec<u8>,
    /// The prompt that the server says it used, where that is not the one that was sent.
    pub revised_prompt: Option<String>,
    /// The seed that the server says it used.
    pub seed_told: Option<u64>,
}
