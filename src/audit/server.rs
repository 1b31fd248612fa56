//! In: the page of an audit, and the browsers of a team. Out: their labels, each on the disk before the page hears that it is kept.
//! The server listens on loopback alone. It answers whoever knows the random token in its address, and no page of another
//! origin: not one whose name was made to lead here either, for that is in the `Host` header.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::folder::{AuditFolder, is_annotator};
use super::label_file::LabelFile;
use super::labels::{LabelCheck, LabelError, LabelHeader, LabelRecord};
use super::request::{Reply, Request, read_request};
use super::sample::AuditSample;

/// Time in which a request must come, and a reply be taken.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections at one time; further ones are closed.
const MOST_CONNECTIONS: usize = 64;
/// What is read of a request that was refused before its end, so that the browser sees the reply.
const MOST_LEFT: u64 = 1 << 20;

/// What the server tells of while it runs.
pub trait ServerObserver: Sync {
    /// A label came in and is on the disk.
    fn labelled(&self, annotator: &str);
    /// A label could not be kept.
    fn failed(&self, why: &str);
}

/// A server for the labels of one audit.
pub struct AuditServer<'s> {
    listener: TcpListener,
    token: String,
    page: String,
    folder: &'s AuditFolder,
    check: LabelCheck<'s>,
    files: Mutex<HashMap<String, LabelFile>>,
    connections: AtomicUsize,
}

impl<'s> AuditServer<'s> {
    /// Listens on `port` of loopback (0: one that is free), with a new token. `page` is the page in its form for a server.
    ///
    /// # Errors
    /// The port is taken, or the system has no random numbers.
    pub fn listen(
        port: u16,
        page: String,
        folder: &'s AuditFolder,
        sample: &'s AuditSample,
    ) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, port))?,
            token: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            page,
            folder,
            check: LabelCheck::of(sample),
            files: Mutex::default(),
            connections: AtomicUsize::new(0),
        })
    }

    /// The port.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// The address to open, with the token.
    ///
    /// # Errors
    /// As [`Self::port`].
    pub fn address(&self) -> io::Result<String> {
        Ok(format!("http://127.0.0.1:{}/{}/", self.port()?, self.token))
    }

    /// Answers until `stop` is set and one more connection comes.
    ///
    /// # Errors
    /// The system takes the port away.
    pub fn serve(&self, observer: &dyn ServerObserver, stop: &AtomicBool) -> io::Result<()> {
        std::thread::scope(|scope| {
            loop {
                let accepted = self.listener.accept();
                if stop.load(Ordering::SeqCst) {
                    return Ok(());
                }
                let connection = match accepted {
                    Ok((connection, _)) => connection,
                    // Of one that has gone again; others may come.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                if self.connections.fetch_add(1, Ordering::SeqCst) < MOST_CONNECTIONS {
                    scope.spawn(move || {
                        // A browser that goes away is no fault.
                        let _ = self.answer(connection, observer);
                        self.connections.fetch_sub(1, Ordering::SeqCst);
                    });
                } else {
                    self.connections.fetch_sub(1, Ordering::SeqCst);
                }
            }
        })
    }

    fn answer(&self, mut connection: TcpStream, observer: &dyn ServerObserver) -> io::Result<()> {
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let reply = match read_request(&mut connection) {
            Ok(None) => return Ok(()),
            Ok(Some(request)) => self.reply(&request, observer),
            Err(refusal) => refusal,
        };
        connection.write_all(&reply.bytes())?;
        connection.shutdown(Shutdown::Write)?;
        // What is left unread would make the system throw the reply away.
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        io::copy(&mut (&connection).take(MOST_LEFT), &mut io::sink())?;
        Ok(())
    }

    /// What a request gets.
    pub fn reply(&self, request: &Request, observer: &dyn ServerObserver) -> Reply {
        let forbidden =
            || Reply::text(403, "Open the address that `dpg-bench audit --serve` printed.");
        if !is_loopback(&request.host) {
            return forbidden();
        }
        let target = request.target.strip_prefix('/').unwrap_or_default();
        let Some((token, rest)) = target.split_once('/') else { return forbidden() };
        // By their digests, so that the time taken tells nothing of the token.
        if Sha256::digest(token) != Sha256::digest(&self.token) {
            return forbidden();
        }
        let is_own = |origin: &String| *origin == format!("http://{}", request.host);
        if !request.origin.as_ref().is_none_or(is_own) {
            return forbidden();
        }
        match (request.method.as_str(), rest) {
            ("GET", "") => Reply {
                status: 200,
                content_type: "text/html; charset=utf-8",
                body: self.page.clone().into_bytes(),
            },
            ("POST", "labels" | "given")
                if request.content_type.as_deref() != Some("application/json") =>
            {
                Reply::text(415, "The body must be JSON.")
            }
            ("POST", "labels") => self.take_label(&request.body, observer),
            ("POST", "given") => self.given(&request.body),
            (_, "" | "labels" | "given") => Reply::text(405, "That cannot be done here."),
            _ => Reply::text(404, "There is nothing here."),
        }
    }

    /// Keeps a label.
    fn take_label(&self, body: &[u8], observer: &dyn ServerObserver) -> Reply {
        let record: LabelRecord = match serde_json::from_slice(body) {
            Ok(record) => record,
            Err(error) => return Reply::text(400, &format!("This is no label ({error}).")),
        };
        if let Err(fault) = self.check.check(&record) {
            return Reply::text(422, &format!("The label was refused: {fault}."));
        }
        match self.keep(&record) {
            Ok(()) => {
                observer.labelled(&record.annotator);
                Reply::text(200, "The label is kept.")
            }
            Err(error) => {
                observer.failed(&error.to_string());
                Reply::text(500, "The server cannot keep the label; its own window says why.")
            }
        }
    }

    fn keep(&self, record: &LabelRecord) -> Result<(), LabelError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.contains_key(&record.annotator) {
            let file = LabelFile::open(&self.folder.labels(&record.annotator)?, &self.check)?;
            files.insert(record.annotator.clone(), file);
        }
        match files.get_mut(&record.annotator) {
            Some(file) => file.append(record),
            None => Ok(()),
        }
    }

    /// What an annotator has labelled so far, as a file of labels.
    fn given(&self, body: &[u8]) -> Reply {
        #[derive(Deserialize)]
        struct Asked {
            annotator: String,
        }
        let annotator = match serde_json::from_slice(body) {
            Ok(Asked { annotator }) if is_annotator(&annotator) => annotator,
            Ok(_) => return Reply::text(422, "That names no annotator."),
            Err(error) => return Reply::text(400, &format!("This names no annotator ({error}).")),
        };
        match self.labels_of(&annotator) {
            Ok(body) => Reply { status: 200, content_type: "application/x-ndjson", body },
            Err(error) => Reply::text(500, &format!("The labels cannot be read: {error}.")),
        }
    }

    fn labels_of(&self, annotator: &str) -> io::Result<Vec<u8>> {
        // Nobody writes meanwhile.
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let path: &Path = &self.folder.labels(annotator)?;
        match std::fs::read(path) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut line = serde_json::to_vec(&LabelHeader::of(self.check.sample()))?;
                line.push(b'\n');
                Ok(line)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a `Host` header names this machine by itself. Any port: it may be another one that is passed on to here.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
}
