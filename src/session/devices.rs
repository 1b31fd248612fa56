//! In: devices that share the work. Out: a refusal where they do not round alike.

use std::collections::BTreeSet;

use anyhow::ensure;

/// Makes sure that devices that share the work, as [`crate::compute::device::describe_device`] tells of
/// them, round alike.
///
/// # Errors
/// They are of several kinds.
pub(super) fn one_kind_of_device(devices: &[String]) -> anyhow::Result<()> {
    let kind = |device: &String| device.split([':', ',']).next().unwrap_or_default().to_owned();
    let kinds: BTreeSet<String> = devices.iter().map(kind).collect();
    let listed = kinds.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
    ensure!(
        kinds.len() <= 1,
        "{listed} devices do not round alike, so the result would depend on which of them did what; name \
         devices of one kind"
    );
    Ok(())
}
