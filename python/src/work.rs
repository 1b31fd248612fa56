//! In: work of the library that takes long. Out: its result. It is done on a thread of its own without the interpreter's lock;
//! the caller's thread meanwhile listens for Ctrl-C and calls the Python functions that the work asks for. So these run where
//! their user called from, with what is bound to that thread (`torch.no_grad`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dpg_bench::Listener;
use pyo3::prelude::*;

use crate::errors::{DpgBenchError, failed};

/// How long Ctrl-C may wait to be heard.
const LISTENING: Duration = Duration::from_millis(50);

type Errand = Box<dyn FnOnce(Python<'_>) + Send>;

/// Where the work asks for what the thread of the caller is to do.
#[derive(Clone)]
pub(crate) struct Desk {
    errands: Sender<Errand>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_stopped: AtomicBool,
    /// What Python raised first.
    raised: Mutex<Option<PyErr>>,
}

impl State {
    fn stop(&self, error: PyErr) {
        self.is_stopped.store(true, Ordering::SeqCst);
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get_or_insert(error);
    }
}

/// Python raised an exception, which the caller gets: no further call is worth it.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Desk {
    /// Has the caller's thread do `errand`, and waits for it.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        errand: impl FnOnce(Python<'_>) -> PyResult<T> + Send + 'static,
    ) -> Result<T, Stopped> {
        if self.stop_requested() {
            return Err(Stopped);
        }
        let (reply, replied) = channel();
        let state = Arc::clone(&self.state);
        self.send(move |py| match errand(py) {
            Ok(found) => drop(reply.send(found)),
            Err(error) => state.stop(error),
        });
        // Without a reply the sender is dropped.
        replied.recv().map_err(|_| Stopped)
    }

    fn send(&self, errand: impl FnOnce(Python<'_>) + Send + 'static) {
        // The caller's thread listens until the work is over.
        let _ = self.errands.send(Box::new(errand));
    }

    /// Tells the logger `dpg_bench` of Python's `logging`.
    fn log(&self, level: &'static str, text: &str) {
        let text = text.to_owned();
        self.send(move |py| {
            let logged = py
                .import("logging")
                .and_then(|logging| logging.call_method1("getLogger", ("dpg_bench",)))
                .and_then(|logger| logger.call_method1(level, ("%s", text)));
            drop(logged);
        });
    }
}

impl Listener for Desk {
    fn note(&self, text: &str) {
        self.log("info", text);
    }

    fn warning(&self, text: &str) {
        self.log("warning", text);
    }

    fn stop_requested(&self) -> bool {
        self.state.is_stopped.load(Ordering::SeqCst)
    }
}

/// Has `work` done; an exception of Python's, Ctrl-C among them, asks it to stop and is raised when it has.
pub(crate) fn carry_out<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce(&Desk) -> anyhow::Result<T> + Send + 'static,
) -> PyResult<T> {
    let (sender, errands) = channel();
    let errands = Mutex::new(errands);
    let state = Arc::new(State::default());
    let desk = Desk { errands: sender, state: Arc::clone(&state) };
    // It owns the desk: when it ends, however it does, nobody is left to ask.
    let thread = std::thread::spawn(move || work(&desk));
    loop {
        let asked = py.detach(|| {
            errands.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LISTENING)
        });
        match asked {
            Ok(errand) => errand(py),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let Err(error) = py.check_signals() {
            state.stop(error);
        }
    }
    let done = py.detach(|| thread.join());
    if let Some(error) = state.raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    match done {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(DpgBenchError::new_err("the work broke off by a fault of dpg-bench itself")),
    }
}
