//! The API of the lab's cluster.

use crate::Result;
use crate::plan::Plan;

/// Where the API listens on the gateway's address.
const PORT: u16 = 6443;

/// Starts the API and what stands behind it; returns its URL.
pub(super) async fn start(plan: &Plan) -> Result<String> {
    Ok(format!("http://{}:{PORT}", plan.gateway))
}
