//! In: a command, and lines for it. Out: the lines it writes, each within a time, and how it ended. What the lines
//! mean is `messages.rs`.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::messages::shown;

/// The longest line of a program, in bytes; a reply holds paths, no images.
const LONGEST: u64 = 1 << 20;
/// Lines of its standard error that are kept for the sentence that tells how it ended.
const KEPT: usize = 20;

/// How often it is asked whether a program that closed its output has ended, before it is ended.
const GRACE: u32 = 100;
/// The time between.
const STEP: Duration = Duration::from_millis(20);

/// A program that ended, or said nothing in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// Its standard output is closed.
    #[error("the program ended ({status}){}", .last.as_ref().map_or_else(String::new, |line| format!("; the last line of its standard error: {line}")))]
    Closed {
        /// As the system names it.
        status: String,
        /// What it said last.
        last: Option<String>,
    },
    /// It took too long, and was killed.
    #[error("the program gave no answer in {} s and was ended", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Its line was too long or no text.
    #[error("the program's line cannot be read: {0}")]
    Line(String),
}

impl Ended {
    /// Whether it took too long: the same request would take as long again.
    pub(super) fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }
}

/// A running program; killed when dropped.
pub(super) struct Worker {
    child: Child,
    requests: Option<ChildStdin>,
    replies: Receiver<Result<String, String>>,
    said: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts `command`; the program learns `device` from `DPG_BENCH_DEVICE`.
    ///
    /// # Errors
    /// It cannot be started, or the log cannot be written.
    pub(super) fn start(command: &[String], device: &str, log: Option<&Path>) -> Result<Self> {
        let [program, arguments @ ..] = command else { bail!("no program is named") };
        let log = log
            .map(|path| {
                let file = OpenOptions::new().create(true).append(true).open(path);
                file.with_context(|| format!("{} cannot be written", path.display()))
            })
            .transpose()?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("DPG_BENCH_DEVICE", device)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("the program {program} cannot be started"))?;
        log::debug!("started {program} for {device}, process {}", child.id());
        let requests = child.stdin.take();
        let (sender, replies) = sync_channel(16);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || read_lines(stdout, &sender));
        }
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let listener = child.stderr.take().map(|stderr| {
            let said = Arc::clone(&said);
            std::thread::spawn(move || keep_lines(stderr, &said, log))
        });
        Ok(Self { child, requests, replies, said, listener })
    }

    /// The line that it writes when it has loaded.
    ///
    /// # Errors
    /// See [`Ended`].
    pub(super) fn first_line(&mut self, timeout: Duration) -> Result<String, Ended> {
        self.reply(timeout)
    }

    /// Writes a request and waits for its reply.
    ///
    /// # Errors
    /// See [`Ended`].
    pub(super) fn ask(&mut self, line: &str, timeout: Duration) -> Result<String, Ended> {
        // A line that nobody asked for would be taken for the reply to this request, and every reply after it
        // for that of the next one.
        if let Ok(early) = self.replies.try_recv() {
            return Err(match early {
                Ok(line) => {
                    Ended::Line(format!("nothing was asked when it wrote {}", shown(&line)))
                }
                Err(_) => self.ended(),
            });
        }
        let written = match &mut self.requests {
            Some(pipe) => {
                pipe.write_all(format!("{line}\n").as_bytes()).and_then(|()| pipe.flush())
            }
            None => Ok(()),
        };
        if written.is_err() {
            return Err(self.ended());
        }
        self.reply(timeout)
    }

    fn reply(&mut self, timeout: Duration) -> Result<String, Ended> {
        match self.replies.recv_timeout(timeout) {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(reason)) => Err(Ended::Line(reason)),
            Err(RecvTimeoutError::Timeout) => Err(Ended::TimedOut(timeout)),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// How it ended: it is waited for, for its output is closed.
    fn ended(&mut self) -> Ended {
        self.requests = None;
        for _ in 0..GRACE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(STEP);
        }
        // It has closed its output, so it has nothing more to say.
        let _ = self.child.kill();
        let status =
            self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        // A process that it started may hold its standard error open for long: what came by now will do.
        for _ in 0..10 {
            if self.listener.as_ref().is_none_or(JoinHandle::is_finished) {
                break;
            }
            std::thread::sleep(STEP);
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let last = said.iter().rev().find(|line| !line.trim().is_empty()).cloned();
        Ended::Closed { status, last }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands over each line, until the program closes its output.
fn read_lines(stdout: impl Read, lines: &SyncSender<Result<String, String>>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let read = match reader.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if !line.ends_with(b"\n") && line.len() as u64 == LONGEST => {
                Err(format!("it has more than {LONGEST} bytes"))
            }
            Ok(_) => String::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let is_last = read.is_err();
        // Blank lines say nothing.
        if read.as_ref().is_ok_and(|line| line.trim().is_empty()) {
            continue;
        }
        if lines.send(read).is_err() || is_last {
            return;
        }
    }
}

/// Keeps the last lines, and writes all of them to the log.
fn keep_lines(stderr: impl Read, said: &Mutex<VecDeque<String>>, mut log: Option<File>) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(file) = &mut log {
            // A full disk under a log is no reason to stop the images.
            let _ = file.write_all(&line);
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == KEPT {
            said.pop_front();
        }
        said.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
}
