//! In: a summary. Out: a run on an MLflow server, by MLflow's REST API alone. `told_run` is what the run consists of, `names`
//! makes names that MLflow takes, `environment` reads what its clients read, `tracking_server` carries calls out, `sending` says
//! which.

mod environment;
mod names;
mod sending;
mod told_run;
mod tracking_server;

use crate::http::server_url_like;
pub(crate) use sending::{Sent, send};
pub(crate) use told_run::MlflowRun;
pub(crate) use tracking_server::TrackingServer;

/// The server at `url`, asked as the environment says.
///
/// # Errors
/// A sentence without a secret: `url` is no http(s) URL or holds a password, or a variable of the environment is wrong.
pub(crate) fn server_at(url: &str) -> Result<TrackingServer, String> {
    let url = server_url_like(
        url,
        "--tracking-uri",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        "http://localhost:5000",
    )?;
    Ok(TrackingServer::new(url, environment::credentials()?, environment::timeout()?))
}
