//! Capability sets (capabilities(7)). Capabilities that the monitor itself lacks are left out: on some hosts root does not
//! have all of them, and a container that asks for "all" gets what there is.

use pausa_monitor_protocol::ProcessPlan;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities,
};

use crate::error::{At, Error, Step};

/// Drops everything outside of the plan's bounding set, and makes the permitted set survive the change of user. Returns
/// the capabilities that the monitor holds.
pub(super) fn drop_bounding(plan: &ProcessPlan) -> Result<CapabilitySet, Error> {
    let held = capabilities(None).at(Step::ReadCapabilities)?.permitted;
    for number in 0..64 {
        if plan.capabilities.bounding & (1 << number) != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // The kernel knows no further capabilities.
            Err(Errno::INVAL) => break,
            other => other.at(Step::Bounding(number))?,
        }
    }
    if plan.uid != 0 {
        set_keep_capabilities(true).at(Step::KeepCapabilities)?;
    }
    Ok(held)
}

/// Sets the plan's capability sets, without those that are not held.
pub(super) fn set(plan: &ProcessPlan, held: CapabilitySet) -> Result<(), Error> {
    let wanted = &plan.capabilities;
    let permitted = wanted.permitted & held.bits();
    let inheritable = wanted.inheritable & held.bits();
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(wanted.effective & permitted),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    set_capabilities(None, sets).at(Step::SetCapabilities)?;
    clear_ambient_capability_set().at(Step::SetCapabilities)?;
    let ambient = wanted.ambient & held.bits();
    for number in (0..64).filter(|number| ambient & (1 << number) != 0) {
        configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
            .at(Step::Ambient(number))?;
    }
    Ok(())
}
