//! In: a scored run. Out: the same on an MLflow server; the id of its run there on stdout.

use anyhow::Context;

use super::args::{Args, CREATED};
use crate::aggregate::Summary;
use crate::cli::output::print::{print, say};
use crate::exports::mlflow::{MlflowRun, Sent, send, server_at};
use crate::exports::run_facts::RunFacts;
use crate::results::RunDirectory;
use crate::wording::counted;

/// Where MLflow's clients read the server's URL from.
const VARIABLE: &str = "MLFLOW_TRACKING_URI";

pub(super) fn send_run(args: &Args, run: &RunDirectory, summary: &Summary) -> anyhow::Result<()> {
    let url = args.tracking_uri.clone();
    let url = url.or_else(|| std::env::var(VARIABLE).ok()).filter(|url| !url.trim().is_empty());
    let url = url.context(
        "--to mlflow needs --tracking-uri URL or the environment variable MLFLOW_TRACKING_URI",
    )?;
    let server = server_at(&url).map_err(anyhow::Error::msg)?;
    let protocols = args.protocols(summary)?;
    let facts = RunFacts::new(summary, run.manifest(), &protocols).context(CREATED)?;
    let told = MlflowRun::new(&facts, args.step);
    let name = &args.experiment;
    let at = format!("experiment `{name}` on {}", server.base());
    let id = match send(&server, name, &told, args.again)? {
        Sent::New(id) => {
            let (metrics, params) = (told.metrics.len(), told.params.len());
            say(&format!(
                "sent: {} and {} as run {id} of {at}",
                counted(metrics, "metric"),
                counted(params, "parameter")
            ));
            id
        }
        Sent::Same(id) => {
            say(&format!(
                "run {id} of {at} has these numbers already; nothing was sent (--again sends them as a new run)"
            ));
            id
        }
    };
    print(&id).map(|_| ())
}
