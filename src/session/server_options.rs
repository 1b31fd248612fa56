//! In: what the user says of an image server. Out: the same as plain options; refused for other models.

use std::path::PathBuf;

use anyhow::bail;
use serde_json::{Map, Value};

use crate::generate::catalog;
use crate::generate::model_file::ServerFile;

/// An image server: where it is, what it is told, and how it is asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerPartOptions {
    /// Its URL, such as `http://localhost:8000/v1`.
    pub url: Option<String>,
    /// Which API it speaks, or `auto`; `openai` where it is `None`.
    pub api: Option<String>,
    /// The model that it is asked for.
    pub model: Option<String>,
    /// Environment variable that holds the key; where it is `None`, none is sent.
    pub key_variable: Option<String>,
    /// Further fields of each request.
    pub body: Option<Map<String, Value>>,
    /// For ComfyUI: the workflow, in API format.
    pub workflow: Option<PathBuf>,
    /// For ComfyUI: `ROLE=NODE.INPUT`, where the workflow does not tell.
    pub nodes: Vec<String>,
    /// Largest number of images asked for at a time; 2 where it is `None`.
    pub concurrency: Option<usize>,
    /// Seconds that one image may take; 600 where it is `None`.
    pub timeout: Option<f64>,
    /// Further tries after errors that may pass; 5 where it is `None`.
    pub retries: Option<u32>,
    /// Ask again for images that a content filter refused before.
    pub retry_filtered: bool,
}

impl ServerPartOptions {
    /// The same with what a model file says below it.
    pub(super) fn over(self, file: ServerFile) -> Self {
        Self {
            url: self.url.or(file.url),
            api: self.api.or(file.api),
            model: self.model.or(file.model),
            key_variable: self.key_variable.or(file.key_env),
            body: self.body.or(file.body),
            workflow: self.workflow.or(file.workflow),
            nodes: if self.nodes.is_empty() { file.nodes } else { self.nodes },
            concurrency: self.concurrency.or(file.concurrency),
            timeout: self.timeout.or(file.timeout),
            retries: self.retries.or(file.retries),
            retry_filtered: self.retry_filtered,
        }
    }

    /// Refuses what `model` has no use for.
    ///
    /// # Errors
    /// Something is set.
    pub(crate) fn refuse_for(&self, model: &str) -> anyhow::Result<()> {
        let flag = [
            ("--server-url", self.url.is_some()),
            ("--server-api", self.api.is_some()),
            ("--server-model", self.model.is_some()),
            ("--server-key-env", self.key_variable.is_some()),
            ("--server-body", self.body.is_some()),
            ("--server-workflow", self.workflow.is_some()),
            ("--comfy-node", !self.nodes.is_empty()),
            ("--server-concurrency", self.concurrency.is_some()),
            ("--server-timeout", self.timeout.is_some()),
            ("--server-retries", self.retries.is_some()),
            ("--retry-filtered", self.retry_filtered),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag));
        match flag {
            Some(flag) => bail!("{flag} goes with --model {}, not with {model}", catalog::SERVER),
            None => Ok(()),
        }
    }
}
