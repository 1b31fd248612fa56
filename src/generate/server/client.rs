//! In: one request of `wire`, or a prompt and a seed. Out: the server's reply, or its image after as many requests as that
//! takes, or why there is none and whether it is the server's end. What replies mean is `wire`'s.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::wire::{
    Conversation, HttpReply, HttpRequest, Method, Retry, ServerImage, Step, WireSettings,
};
use crate::http::{ApiKey, HttpClient, LONGEST_WAIT, TransportFault, backoff, retry_after};

/// Bytes of the largest reply that is taken: an image of 4096 x 4096 pixels as base64 has about 40 million.
const LARGEST_REPLY: u64 = 64 << 20;
/// The pauses between questions after a job: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How a server is asked.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Key for the `Authorization` header.
    pub key: Option<ApiKey>,
    /// Largest number of images that are asked for at one time; at least 1.
    pub concurrency: usize,
    /// How long one image may take.
    pub timeout: Duration,
    /// Further tries after an error that may pass.
    pub retries: u32,
    /// The wait before the first further try; it doubles with each.
    pub first_wait: Duration,
}

/// A server's address and the connections to it.
#[derive(Debug)]
pub(super) struct Client {
    /// Obeys the environment's proxies, unless the server is on this machine.
    usual: HttpClient,
    /// For addresses on this machine.
    direct: HttpClient,
    base: String,
    asking: Asking,
}

/// What a server answered.
pub(super) struct Reply {
    pub(super) status: u16,
    content_type: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// As `wire` reads it.
    pub(super) fn as_wire(&self) -> HttpReply<'_> {
        HttpReply { status: self.status, content_type: &self.content_type, body: &self.body }
    }
}

/// Why there is no reply, or no image in it.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) reason: String,
    pub(super) kind: FaultKind,
}

/// What a fault says about the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// No connection could be made.
    Unreachable,
    /// The key is refused, whatever is asked.
    Key,
    /// This image may be had another time, after the wait that the server asks for.
    Passing(Option<Duration>),
    /// This image will be refused again.
    Final,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Fault {
    /// One that another try would not mend.
    pub(super) fn last(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: FaultKind::Final }
    }
}

/// What came of asking for an image.
#[derive(Debug)]
pub(super) enum Made {
    /// The image's file.
    Image(ServerImage),
    /// A content filter's words.
    Filtered(String),
}

impl Client {
    /// Makes no connection yet.
    pub(super) fn new(base: String, asking: Asking) -> Self {
        let is_here = is_loopback_url(&base);
        let client = |uses_proxy| HttpClient::new(asking.timeout, asking.concurrency, uses_proxy);
        Self { usual: client(!is_here), direct: client(false), base, asking }
    }

    /// The same, below another base URL and with another time for each request.
    pub(super) fn with(&self, base: String, timeout: Duration) -> Self {
        Self::new(base, Asking { timeout, ..self.asking.clone() })
    }

    /// The URL that requests go below.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// How it asks.
    pub(super) fn asking(&self) -> &Asking {
        &self.asking
    }

    /// One exchange. The key goes to the server's own address alone.
    pub(super) fn send(&self, request: &HttpRequest) -> Result<Reply, Fault> {
        let target = request
            .address
            .resolve(&self.base)
            .map_err(|error| Fault::last(self.scrub(&error.to_string())))?;
        let client = if is_loopback_url(&target.url) { &self.direct } else { &self.usual };
        let key = self.asking.key.as_ref().filter(|_| target.own);
        let sent = match request.method {
            Method::Get => client.get(&target.url, key, LARGEST_REPLY),
            Method::Post => {
                let body = request.body.as_ref().map(Value::to_string).unwrap_or_default();
                client.post(&target.url, key, body.as_bytes(), LARGEST_REPLY)
            }
        };
        let reply = sent.map_err(|fault| self.lost(fault))?;
        let header = |name: &str| {
            let value = reply.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (content_type, retry_after) = (header("content-type"), retry_after(&reply.headers));
        let status = reply.status.as_u16();
        let body = match reply.body {
            Ok(body) => body,
            // The status tells enough.
            Err(_) if !reply.status.is_success() => Vec::new(),
            Err(fault) => return Err(self.lost(fault)),
        };
        Ok(Reply { status, content_type, retry_after, body })
    }

    /// Asks for one image, again and again where that may help.
    pub(super) fn image(
        &self,
        settings: &WireSettings,
        prompt: &str,
        seed: u64,
    ) -> Result<Made, Fault> {
        let start = || {
            Conversation::start(settings, prompt, seed)
                .map_err(|error| Fault::last(format!("{error:#}")))
        };
        let (mut talk, mut request) = start()?;
        let (mut end, mut pause) = (Instant::now() + self.asking.timeout, PAUSES.0);
        let mut tries = 0;
        loop {
            let (fault, starts_anew) = match self.send(&request) {
                Err(fault) => (fault, false),
                Ok(reply) => match talk.receive(&reply.as_wire()) {
                    Step::Done(image) => return Ok(Made::Image(image)),
                    Step::Filtered(words) => return Ok(Made::Filtered(self.scrub(&words))),
                    Step::Send(next) => {
                        request = next;
                        continue;
                    }
                    Step::Wait(next) => {
                        if Instant::now() >= end {
                            return Err(self.lost(TransportFault::TimedOut));
                        }
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(PAUSES.1);
                        request = next;
                        continue;
                    }
                    Step::Failed { reason, retry } => {
                        let kind = match retry {
                            Retry::Yes => FaultKind::Passing(reply.retry_after),
                            Retry::No if reply.status == 401 => FaultKind::Key,
                            Retry::No => FaultKind::Final,
                        };
                        // A job that is lost or failed; where the server was only busy, the job goes on.
                        let is_lost = matches!(reply.status, 200..300 | 404 | 410);
                        (Fault { reason: self.scrub(&reason), kind }, is_lost)
                    }
                },
            };
            tries += 1;
            std::thread::sleep(self.wait(fault, tries, seed)?);
            if starts_anew {
                (talk, request) = start()?;
            }
            (end, pause) = (Instant::now() + self.asking.timeout, PAUSES.0);
        }
    }

    /// How long to wait before try `tries` + 1.
    ///
    /// # Errors
    /// The fault itself, with the reason why it is not tried again where it might have been.
    pub(super) fn wait(&self, fault: Fault, tries: u32, seed: u64) -> Result<Duration, Fault> {
        let asked = match fault.kind {
            FaultKind::Passing(asked) => asked,
            FaultKind::Unreachable => None,
            FaultKind::Key | FaultKind::Final => return Err(fault),
        };
        if tries > self.asking.retries {
            let told = if tries > 1 { format!(" ({tries} tries)") } else { String::new() };
            return Err(Fault { reason: format!("{}{told}", fault.reason), ..fault });
        }
        if let Some(asked) = asked.filter(|asked| *asked > LONGEST_WAIT) {
            let reason = format!(
                "{}; the server asks to wait {} s, more than the {} s that are waited at most",
                fault.reason,
                asked.as_secs(),
                LONGEST_WAIT.as_secs()
            );
            return Err(Fault { reason, ..fault });
        }
        let backoff = backoff(self.asking.first_wait, tries, jitter(seed, tries));
        Ok(asked.map_or(backoff, |asked| asked.max(backoff)))
    }

    /// `text` without the key, should the server repeat it.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.asking.key.as_ref().map_or_else(|| text.to_owned(), |key| key.scrub(text))
    }

    /// `value` without the key.
    pub(super) fn scrub_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.scrub(&text)),
            Value::Array(list) => list.into_iter().map(|value| self.scrub_value(value)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(name, value)| (name, self.scrub_value(value))).collect()
            }
            other => other,
        }
    }

    /// What became of a request without a reply. The same request would take too long or be too large again.
    fn lost(&self, fault: TransportFault) -> Fault {
        let seconds = self.asking.timeout.as_secs_f64();
        match fault {
            TransportFault::TimedOut => Fault::last(format!("no whole reply within {seconds} s")),
            TransportFault::TooLarge(_) => {
                let most = LARGEST_REPLY >> 20;
                Fault::last(format!("the reply is larger than the {most} MiB that are taken"))
            }
            TransportFault::Unreachable(_) => {
                Fault { reason: fault.to_string(), kind: FaultKind::Unreachable }
            }
            fault if fault.may_pass() => {
                Fault { reason: fault.to_string(), kind: FaultKind::Passing(None) }
            }
            fault => Fault::last(fault.to_string()),
        }
    }
}

fn is_loopback_url(url: &str) -> bool {
    crate::http::origin(url).is_some_and(|origin| crate::http::is_loopback(&origin.host))
}

/// A number in 0..1 that differs from image to image and from try to try (SplitMix64, Steele et al. 2014).
fn jitter(seed: u64, tries: u32) -> f64 {
    let mut mixed = seed.wrapping_add(u64::from(tries).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}
