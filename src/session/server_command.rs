//! In: the options of a generator that is an image server. Out: where it is, what it is told and how it is asked; flags of
//! other models are refused. Nothing is sent: that is `generate::server`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::generator_options::GeneratorOptions;
use super::outside_flags::idle_flag;
use super::server_options::ServerPartOptions;
use crate::generate::noise::seeds::SeedMode;
use crate::generate::server::wire::{ServerApi, WireSettings, Workflow};
use crate::generate::server::{Asking, ServerOptions};
use crate::http::{ApiKey, server_url};

/// Where the API is to be found out.
const AUTO: &str = "auto";

/// The server, the base seed, and how an image's seed follows from it.
///
/// # Errors
/// No server is named, an option is wrong, a file or variable is not there, or a flag of other models is given.
pub(crate) fn resolve(
    options: &GeneratorOptions,
) -> anyhow::Result<(ServerOptions, u64, SeedMode)> {
    options.program.refuse_for(&options.model)?;
    if let Some(flag) = idle_flag(options) {
        bail!(
            "model {} is not told {flag}; leave it out, and set it on the server or with --server-body",
            options.model
        );
    }
    let part = &options.server;
    let url = part.url.as_deref().context(
        "model server needs --server-url URL, such as --server-url http://localhost:8000/v1",
    )?;
    let url = server_url(url, "--server-url", "--server-key-env").map_err(anyhow::Error::msg)?;
    let api = api(part)?;
    let stated = &options.sampling;
    let settings = WireSettings {
        model: part.model.clone(),
        body: part.body.clone().unwrap_or_default(),
        workflow: part.workflow.as_deref().map(|path| workflow(path, &part.nodes)).transpose()?,
        negative_prompt: stated.negative_prompt.clone(),
        width: stated.width,
        height: stated.height,
        steps: stated.steps,
        guidance: stated.guidance,
        ..WireSettings::new(api.unwrap_or(ServerApi::OpenAi))
    };
    ensure!(
        part.workflow.is_some() || part.nodes.is_empty(),
        "--comfy-node names a place in a workflow: give --server-workflow FILE too"
    );
    if api.is_some() {
        settings.check()?;
    }
    let server = ServerOptions {
        url,
        api,
        settings,
        asking: asking(part)?,
        retry_filtered: part.retry_filtered,
    };
    Ok((server, stated.seed.unwrap_or_default(), stated.seed_mode.unwrap_or_default()))
}

/// The API that is named; `None` where it is to be found out.
fn api(part: &ServerPartOptions) -> anyhow::Result<Option<ServerApi>> {
    match part.api.as_deref() {
        None => Ok(Some(ServerApi::OpenAi)),
        Some(AUTO) => Ok(None),
        Some(name) => {
            let known = || ServerApi::all().map(ServerApi::name).join(", ");
            let api = ServerApi::from_name(name);
            Ok(Some(api.with_context(|| {
                format!("the API `{name}` of --server-api is unknown; there is {}, {AUTO}", known())
            })?))
        }
    }
}

fn asking(part: &ServerPartOptions) -> anyhow::Result<Asking> {
    let seconds = part.timeout.unwrap_or(600.0);
    let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero());
    let concurrency = part.concurrency.unwrap_or(2);
    ensure!(concurrency > 0, "--server-concurrency must be above 0");
    let key = match &part.key_variable {
        None => None,
        Some(variable) => ApiKey::from_environment(variable, Some("--server-key-env"))
            .map_err(anyhow::Error::msg)?,
    };
    Ok(Asking {
        key,
        concurrency,
        timeout: timeout
            .with_context(|| format!("--server-timeout {seconds} is no number of seconds"))?,
        retries: part.retries.unwrap_or(5),
        first_wait: Duration::from_secs(1),
    })
}

fn workflow(path: &Path, nodes: &[String]) -> anyhow::Result<Workflow> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the workflow {shown} cannot be read"))?;
    let graph =
        serde_json::from_str(&text).with_context(|| format!("the workflow {shown} is no JSON"))?;
    Workflow::new(&graph, nodes).with_context(|| format!("the workflow {shown} cannot be used"))
}
