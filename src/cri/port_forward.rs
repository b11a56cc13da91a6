//! PortForward: a URL at which a client can connect to ports of a pod.
//!
//! With SPDY the client says the ports later; those in the request are for WebSockets.

use super::backend::StreamService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves PortForward.
pub(super) async fn answer<S: StreamService>(
    streams: &S,
    request: v1::PortForwardRequest,
) -> Result<v1::PortForwardResponse, Failure> {
    require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
    let ports = request.port.iter().map(|port| {
        let valid = u16::try_from(*port).ok().filter(|port| *port > 0);
        valid.ok_or_else(|| require::wrong(format!("the port {port} is not one: ports are 1 to 65535")))
    });
    let ports = ports.collect::<Result<Vec<_>, _>>()?;
    let url = streams.port_forward(&request.pod_sandbox_id, ports)?;
    Ok(v1::PortForwardResponse { url })
}
