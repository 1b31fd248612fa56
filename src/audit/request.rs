//! In: the bytes of a connection, which may be anybody's. Out: one HTTP request, as far as the audit's server needs it, or the
//! reply that it gets in its place. Nothing is read beyond fixed limits.

use std::io::Read;

/// Most bytes of the lines before the body.
const LONGEST_HEAD: usize = 16 << 10;
/// Most bytes of a body: a label with its question.
const LONGEST_BODY: usize = 256 << 10;
const MOST_HEADERS: usize = 64;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` or another.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The `Host` header.
    pub host: String,
    /// The `Origin` header.
    pub origin: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Media type.
    pub content_type: &'static str,
    /// What is sent.
    pub body: Vec<u8>,
}

impl Reply {
    /// A sentence.
    pub fn text(status: u16, text: &str) -> Self {
        let body = format!("{text}\n").into_bytes();
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }

    /// The bytes that are sent. The connection ends with them.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { status, content_type, body } = self;
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            411 => "Length Required",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            422 => "Unprocessable Content",
            431 => "Request Header Fields Too Large",
            _ => "Internal Server Error",
        };
        let mut bytes = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
             Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// Reads a request. `Ok(None)` where the connection ends before a whole one came.
///
/// # Errors
/// The reply to what is no request that is taken.
pub fn read_request(connection: &mut impl Read) -> Result<Option<Request>, Reply> {
    let mut bytes = Vec::new();
    let (mut request, length, end) = loop {
        if let Some(found) = parsed(&bytes)? {
            break found;
        }
        if bytes.len() > LONGEST_HEAD {
            return Err(Reply::text(431, "The head of the request is too large."));
        }
        if !read_more(connection, &mut bytes, LONGEST_HEAD) {
            return Ok(None);
        }
    };
    if length > LONGEST_BODY {
        return Err(Reply::text(413, "The body of the request is too large."));
    }
    bytes.drain(..end);
    while bytes.len() < length {
        let missing = length - bytes.len();
        if !read_more(connection, &mut bytes, missing) {
            return Ok(None);
        }
    }
    bytes.truncate(length);
    request.body = bytes;
    Ok(Some(request))
}

/// Appends what there is, at most `most` bytes; false at the end, or where nothing came in time.
fn read_more(connection: &mut impl Read, bytes: &mut Vec<u8>, most: usize) -> bool {
    let mut buffer = [0; 4096];
    let most = most.clamp(1, buffer.len());
    match connection.read(&mut buffer[..most]) {
        Ok(0) | Err(_) => false,
        Ok(read) => {
            bytes.extend_from_slice(&buffer[..read]);
            true
        }
    }
}

/// The request without its body, the length of that, and where it begins; `None` where the head is not whole yet.
fn parsed(bytes: &[u8]) -> Result<Option<(Request, usize, usize)>, Reply> {
    let bad = |what: &str| Reply::text(400, what);
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let end = match head.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(bad(&format!("This is no request ({error})."))),
    };
    // Of a header that stands twice nobody knows which one counts.
    let header = |name: &str| -> Result<Option<String>, Reply> {
        let mut found = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let value = found.next().map(|header| std::str::from_utf8(header.value));
        match (value.transpose(), found.next()) {
            (Ok(value), None) => Ok(value.map(|value| value.trim().to_owned())),
            _ => Err(bad(&format!("The header {name} cannot be read."))),
        }
    };
    let method = head.method.unwrap_or_default().to_owned();
    if header("Transfer-Encoding")?.is_some() {
        return Err(Reply::text(411, "The request must state the length of its body."));
    }
    let length = match (header("Content-Length")?, method.as_str()) {
        (None, "POST") => {
            return Err(Reply::text(411, "The request must state the length of its body."));
        }
        (None, _) => 0,
        (Some(text), _) => match text.bytes().all(|byte| byte.is_ascii_digit()) {
            // A number that is too large for the machine is too large for the limit.
            true if !text.is_empty() => text.parse().unwrap_or(usize::MAX),
            _ => return Err(bad("The header Content-Length is no number.")),
        },
    };
    let media = header("Content-Type")?;
    let media =
        media.map(|value| value.split(';').next().unwrap_or_default().trim().to_lowercase());
    let request = Request {
        target: head.path.unwrap_or_default().to_owned(),
        host: header("Host")?.unwrap_or_default(),
        origin: header("Origin")?,
        content_type: media,
        method,
        body: Vec::new(),
    };
    Ok(Some((request, length, end)))
}
