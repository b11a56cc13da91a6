//! Network devices of the node that containers get, by `linux.netDevices` of their spec: moved into the pod's network namespace.
//!
//! They stay there until the pod ends. Then the kernel gives hardware back to the node, and removes what is virtual.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use pausa_netlink::{Address, Netlink, Request};

use crate::error::{ErrorKind, Kinded};

/// Why a container cannot have a network device.
#[derive(Debug, thiserror::Error)]
pub enum NetDeviceError {
    #[error("cannot open the pod's network namespace")]
    Namespace(#[source] std::io::Error),
    #[error("there is no network device {name} on this node, nor {as_name} in the pod")]
    Missing { name: String, as_name: String },
    #[error("cannot move the network device {name} into the pod as {as_name}")]
    Netlink {
        name: String,
        as_name: String,
        #[source]
        source: pausa_netlink::Error,
    },
}

impl Kinded for NetDeviceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } => ErrorKind::FailedPrecondition,
            Self::Namespace(_) | Self::Netlink { .. } => ErrorKind::Internal,
        }
    }
}

/// Moves devices, by their names on the node, and names them. What is there already was moved for an earlier container. A
/// device keeps its addresses of global scope, and is up afterwards. Calls the kernel: blocking work.
///
/// # Errors
/// The first device that cannot be moved. Those before it stay in the pod, where the next attempt finds them.
pub fn move_all(netns: &Path, devices: &[(String, String)]) -> Result<(), NetDeviceError> {
    let netns = File::open(netns).map_err(NetDeviceError::Namespace)?;
    for (name, as_name) in devices {
        let failed = |source| NetDeviceError::Netlink {
            name: name.clone(),
            as_name: as_name.clone(),
            source,
        };
        let mut host = Netlink::open().map_err(failed)?;
        let mut pod = Netlink::open_in(netns.as_fd()).map_err(failed)?;
        let Some(link) = host.link_by_name(name).map_err(failed)? else {
            match pod.index_of(as_name).map_err(failed)? {
                Some(_) => continue,
                None => {
                    return Err(NetDeviceError::Missing {
                        name: name.clone(),
                        as_name: as_name.clone(),
                    });
                }
            }
        };
        let addresses = host.addresses(link.index).map_err(failed)?;
        let move_link = Request::MoveLink {
            index: link.index,
            netns: netns.as_fd(),
            name: as_name,
        };
        host.execute(&[Request::SetDown { index: link.index }, move_link])
            .map_err(failed)?;
        set_up(&mut pod, as_name, &addresses).map_err(failed)?;
    }
    Ok(())
}

fn set_up(pod: &mut Netlink, name: &str, addresses: &[Address]) -> Result<(), pausa_netlink::Error> {
    let Some(index) = pod.index_of(name)? else {
        // Somebody has removed it since.
        return Ok(());
    };
    let mut requests: Vec<Request<'_>> = addresses
        .iter()
        .filter(|address| is_global(address.address))
        .map(|address| Request::AddAddress {
            index,
            address: address.address,
            prefix: address.prefix,
        })
        .collect();
    requests.push(Request::SetUp { index });
    pod.execute(&requests)
}

/// The kernel makes addresses of the link by itself.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
    }
}
