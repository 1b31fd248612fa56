//! In: the environment variables that MLflow's own clients read. Out: who asks, and for how long.

use std::time::Duration;

use crate::http::ApiKey;

/// Seconds for one call where nothing is said, as in MLflow's clients.
const TIMEOUT: u64 = 120;

/// User and password of `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, where both are set; else the token of
/// `MLFLOW_TRACKING_TOKEN`, where there is one.
///
/// # Errors
/// A sentence without the secret: a variable holds what no header can carry.
pub(crate) fn credentials() -> Result<Option<ApiKey>, String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (set("MLFLOW_TRACKING_USERNAME"), set("MLFLOW_TRACKING_PASSWORD")) {
        (Some(user), Some(password)) => Ok(Some(ApiKey::of_user(&user, &password))),
        _ => ApiKey::from_environment("MLFLOW_TRACKING_TOKEN", None),
    }
}

/// The seconds of `MLFLOW_HTTP_REQUEST_TIMEOUT`, or 120.
///
/// # Errors
/// It holds no number of seconds above 0.
pub(crate) fn timeout() -> Result<Duration, String> {
    let Some(text) =
        std::env::var("MLFLOW_HTTP_REQUEST_TIMEOUT").ok().filter(|text| !text.is_empty())
    else {
        return Ok(Duration::from_secs(TIMEOUT));
    };
    match text.trim().parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("MLFLOW_HTTP_REQUEST_TIMEOUT={text} is no number of seconds")),
    }
}
