//! In: the flags of an image server. Out: the plain options that a session takes.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::cli::args::endpoint::parse_object;
use crate::generate::server::wire::ServerApi;
use crate::session::server_options::ServerPartOptions;

/// A server that makes images.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// For --model server: the URL of an image server, such as http://localhost:8000/v1 (docs/image-servers.md)
    #[arg(long, value_name = "URL")]
    pub server_url: Option<String>,
    /// What it speaks.
    #[arg(long, value_name = "API", help = api_help())]
    pub server_api: Option<String>,
    /// The model's name on that server
    #[arg(long, value_name = "NAME")]
    pub server_model: Option<String>,
    /// Environment variable that holds the server's key [default: no key is sent]
    #[arg(long, value_name = "VARIABLE")]
    pub server_key_env: Option<String>,
    /// Further fields of each request, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    pub server_body: Option<Map<String, Value>>,
    /// comfyui: the workflow, as `Export (API)` of ComfyUI's menu saves it
    #[arg(long, alias = "comfy-workflow", value_name = "FILE")]
    pub server_workflow: Option<PathBuf>,
    /// comfyui: where the workflow takes the prompt, the seed or another setting, such as prompt=6.text; several times
    /// for several [default: found in the workflow]
    #[arg(long, value_name = "ROLE=NODE.INPUT")]
    pub comfy_node: Vec<String>,
    /// Maximum number of images asked for at a time [default: 2]
    #[arg(long, value_name = "N")]
    pub server_concurrency: Option<usize>,
    /// Seconds that one image may take [default: 600]
    #[arg(long, value_name = "SECONDS")]
    pub server_timeout: Option<f64>,
    /// Further tries after 429, 5xx and broken connections [default: 5]
    #[arg(long, value_name = "N")]
    pub server_retries: Option<u32>,
    /// Ask again for images that a content filter refused before
    #[arg(long)]
    pub retry_filtered: bool,
}

impl ServerArgs {
    pub(crate) fn options(&self) -> ServerPartOptions {
        ServerPartOptions {
            url: self.server_url.clone(),
            api: self.server_api.clone(),
            model: self.server_model.clone(),
            key_variable: self.server_key_env.clone(),
            body: self.server_body.clone(),
            workflow: self.server_workflow.clone(),
            nodes: self.comfy_node.clone(),
            concurrency: self.server_concurrency,
            timeout: self.server_timeout,
            retries: self.server_retries,
            retry_filtered: self.retry_filtered,
        }
    }
}

fn api_help() -> String {
    let names = ServerApi::all().map(ServerApi::name).join(", ");
    format!("What it speaks: {names}, or auto, which asks it [default: openai]")
}
