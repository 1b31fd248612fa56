//! A server on loopback, made of std only, that answers as a test wants it to: well, late, wrongly, partly
//! or never; to chat completions, and with files (`file_server`). It notes every request it got and how many
//! it had at one time.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its number, from 0, in the order in which requests were read.
    pub index: usize,
    /// `POST /v1/chat/completions HTTP/1.1`.
    pub request_line: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// All headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The JSON body.
    pub body: Value,
}

impl Received {
    /// A header's value; `name` in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.request_line.split(' ').nth(1).expect("a request line")
    }

    /// The text part of the last message.
    pub fn prompt(&self) -> &str {
        self.part("text")["text"].as_str().expect("a text part")
    }

    /// The bytes of the picture in the last message.
    pub fn picture(&self) -> Vec<u8> {
        let url = self.part("image_url")["image_url"]["url"].as_str().expect("a picture");
        let data = url.strip_prefix("data:image/png;base64,").expect("a PNG data URL");
        base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
    }

    fn part(&self, kind: &str) -> &Value {
        self.find(kind).expect(kind)
    }

    fn find(&self, kind: &str) -> Option<&Value> {
        let messages = self.body["messages"].as_array()?;
        let parts = messages.last().expect("a message")["content"].as_array().expect("parts");
        parts.iter().find(|part| part["type"] == kind)
    }

    /// Whether it is a question without a picture.
    pub fn is_blind(&self) -> bool {
        self.find("text").is_some() && self.find("image_url").is_none()
    }

    /// A number in 0..1 that depends on prompt and picture only.
    pub fn draw(&self) -> f64 {
        let digest = Sha256::new_with_prefix(self.prompt()).chain_update(self.picture()).finalize();
        f64::from(digest[0]) / 256.0
    }
}

/// What to do with a request.
pub enum Reply {
    /// 200 with this JSON.
    Json(Value),
    /// Any status, with header lines and a body.
    Status(u16, Vec<String>, String),
    /// The reply, after a wait.
    Late(Duration, Box<Reply>),
    /// 200 and the first half of a body of this length, then the connection is cut.
    CutBody(usize),
    /// The connection is cut without a word.
    Cut,
    /// The reply, and the connection is closed after it although the client was told to keep it.
    ThenClose(Box<Reply>),
    /// A file or a part of one.
    Part(Part),
    /// Bytes that are no HTTP.
    Bytes(Vec<u8>),
    /// 200 and a body without end.
    Endless,
    /// Nothing, until the server is dropped.
    Never,
}

/// A body that may end early or come slowly.
pub struct Part {
    /// Status.
    pub status: u16,
    /// Header lines; the length is among them or is not.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
    /// What becomes of the connection after it.
    pub then: Then,
}

/// What becomes of the connection after a body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is kept.
    Keep,
    /// It is cut.
    Cut,
    /// It stays, and nothing comes any more.
    Stall,
    /// It is kept; the body came in pieces with a wait after each.
    Slowly(usize, Duration),
}

/// A chat completion that says `text`.
pub fn say(text: &str) -> Reply {
    let message = json!({"role": "assistant", "content": text});
    Reply::Json(json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
}

/// The behaviour of a good server: yes with probability 3/4 by a digest of question and picture, with
/// logprobs that say so.
pub fn well_behaved(request: &Received) -> Reply {
    let draw = request.draw();
    let (text, yes) =
        if draw < 0.75 { ("Yes.", 1.0 - draw / 2.0) } else { ("No.", (1.0 - draw) / 2.0) };
    let alternatives = json!([
        {"token": "Yes", "logprob": (0.9 * yes).ln()},
        {"token": "No", "logprob": (0.9 * (1.0 - yes)).ln()},
    ]);
    let logprobs = json!({"content": [
        {"token": text.trim_end_matches('.'), "logprob": -0.1, "top_logprobs": alternatives},
        {"token": ".", "logprob": -0.1, "top_logprobs": []},
    ]});
    let message = json!({"role": "assistant", "content": text});
    Reply::Json(json!({"choices": [
        {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"},
    ]}))
}

struct Shared {
    received: Mutex<Vec<Received>>,
    connections: Mutex<Vec<TcpStream>>,
    count: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    stop: AtomicBool,
    behaviour: Box<dyn Fn(&Received) -> Reply + Send + Sync>,
    shows_blind: bool,
}

/// The server. Dropping it cuts every connection.
pub struct Loopback {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

impl Loopback {
    /// Starts a server on a free port; every connection gets a thread. A question without its picture, which a
    /// judge asks to see whether pictures arrive, is answered here and counted nowhere.
    pub fn start(behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(false, behaviour)
    }

    /// As [`Loopback::start`], but questions without a picture are like any other.
    pub fn start_blind(behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(true, behaviour)
    }

    fn start_with(
        shows_blind: bool,
        behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            connections: Mutex::default(),
            count: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            behaviour: Box::new(behaviour),
            shows_blind,
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                accepting.connections.lock().unwrap().extend(stream.try_clone());
                let serving = Arc::clone(&accepting);
                std::thread::spawn(move || serve(&serving, stream));
            }
        });
        Self { address, shared }
    }

    /// `http://127.0.0.1:PORT/v1`.
    pub fn url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://localhost:PORT`: the same machine under another name.
    pub fn other_name(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The largest number of requests that were being answered at one time.
    pub fn most_at_one_time(&self) -> usize {
        self.shared.most_running.load(Ordering::SeqCst)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for connection in self.shared.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Shared, stream: TcpStream) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = read_request(&mut reader) {
        if request.is_blind() && !shared.shows_blind {
            if !write_reply(shared, &mut writer, say("I see no picture")) {
                return;
            }
            continue;
        }
        request.index = shared.count.fetch_add(1, Ordering::SeqCst);
        shared.received.lock().unwrap().push(request.clone());
        let running = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_running.fetch_max(running, Ordering::SeqCst);
        let reply = (shared.behaviour)(&request);
        let keep = write_reply(shared, &mut writer, reply);
        shared.running.fetch_sub(1, Ordering::SeqCst);
        if !keep {
            let _ = writer.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
    let request_line = line.trim_end().to_owned();
    let (mut length, mut authorization, mut headers) = (0, None, Vec::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("authorization") {
            authorization = Some(value.trim().to_owned());
        }
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Received { index: 0, request_line, authorization, headers, body })
}

/// Writes a reply and says whether the connection is kept.
fn write_reply(shared: &Shared, writer: &mut TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Json(value) => write_whole(writer, 200, &[], &value.to_string()),
        Reply::Status(status, headers, body) => write_whole(writer, status, &headers, &body),
        Reply::Late(wait, reply) => {
            std::thread::sleep(wait);
            write_reply(shared, writer, *reply)
        }
        Reply::CutBody(length) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let _ = writer.write_all(head.as_bytes());
            let _ = writer.write_all(&vec![b'{'; length / 2]);
            false
        }
        Reply::Cut => false,
        Reply::ThenClose(reply) => {
            write_reply(shared, writer, *reply);
            false
        }
        Reply::Part(part) => write_part(shared, writer, &part),
        Reply::Bytes(bytes) => {
            let _ = writer.write_all(&bytes);
            false
        }
        Reply::Endless => {
            let _ = writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
            while writer.write_all(&[b' '; 65536]).is_ok() {}
            false
        }
        Reply::Never => {
            while !shared.stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            false
        }
    }
}

fn write_whole(writer: &mut TcpStream, status: u16, headers: &[String], body: &str) -> bool {
    let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    writer.write_all(format!("{head}\r\n{body}").as_bytes()).is_ok()
}

fn write_part(shared: &Shared, writer: &mut TcpStream, part: &Part) -> bool {
    let head = format!("HTTP/1.1 {} Status\r\n{}\r\n\r\n", part.status, part.headers.join("\r\n"));
    if writer.write_all(head.as_bytes()).is_err() {
        return false;
    }
    let (piece, wait) = match part.then {
        Then::Slowly(piece, wait) => (piece, wait),
        _ => (usize::MAX, Duration::ZERO),
    };
    for bytes in part.body.chunks(piece.min(part.body.len().max(1))) {
        if writer.write_all(bytes).is_err() {
            return false;
        }
        std::thread::sleep(wait);
    }
    match part.then {
        Then::Keep | Then::Slowly(..) => true,
        Then::Cut => false,
        Then::Stall => {
            while !shared.stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            false
        }
    }
}
