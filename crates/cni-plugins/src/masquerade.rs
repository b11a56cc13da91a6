use ipnet::IpNet;
use pausa_cni::Failure;
use serde::Deserialize;
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    Iptables,
    Nftables,
}
pub(crate) fn add(_b: Option<Backend>, _a: &[IpNet], _n: &str, _i: &str, _c: &str) -> Result<(), Failure> {
    Ok(())
}
pub(crate) fn del(_a: &[IpNet], _n: &str, _i: &str, _c: &str) -> Result<(), Failure> {
    Ok(())
}
