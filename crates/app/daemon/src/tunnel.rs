//! The tunnel's device, and the end of all changes: what client and server share of the system's network.

use std::path::Path;

use bondwire_api::Fault;
use bondwire_netctl::{Changes, Journal, NetError, Recovery};
use bondwire_tun::{Device, DeviceConfig, TunError};

use crate::config::{DeviceKind, TunnelConfig};
use crate::faults;
use crate::folders::Folders;

/// Undoes what an earlier run has left, and begins a journal of this one's changes.
pub(crate) fn begin(state: &Path) -> Result<Changes, Fault> {
    let (changes, recovery) =
        Changes::open(state).map_err(|error| faults::net("cannot change the network", &error))?;
    tell(&recovery);
    Ok(changes)
}

/// Undoes what a run that was killed has left, without starting anything. How many changes there were.
///
/// # Errors
/// A daemon still runs with this state folder, or something could not be undone.
pub fn recover(folders: &Folders) -> Result<usize, Fault> {
    if !folders.state.exists() {
        return Ok(0);
    }
    let _lock = folders.lock_state()?;
    let recovery = Journal::recover(&folders.state)
        .map_err(|error| faults::net("cannot undo what an earlier bondwire left", &error))?;
    tell(&recovery);
    match recovery.failed.first() {
        None => Ok(recovery.undone),
        Some(first) => Err(faults::net(
            format!("{} changes of an earlier bondwire could not be undone", recovery.failed.len()),
            &first.error,
        )),
    }
}

fn tell(recovery: &Recovery) {
    if recovery.undone > 0 {
        tracing::info!("undid {} changes that an earlier run had left", recovery.undone);
    }
    for failure in &recovery.failed {
        tracing::warn!(
            "an earlier run's change could not be undone ({:?}): {}",
            failure.change,
            failure.error
        );
    }
    if let Some(path) = &recovery.set_aside {
        tracing::warn!("the journal of another network namespace was put aside: {}", path.display());
    }
}

/// Undoes everything that this run has changed.
pub(crate) fn undo(changes: Changes) -> Result<(), Fault> {
    let failures = changes.undo();
    for failure in &failures {
        tracing::error!("a change could not be undone ({:?}): {}", failure.change, failure.error);
    }
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(faults::net(
            format!(
                "{} changes of the network could not be undone; `bondwire down` tries again",
                failures.len()
            ),
            &first.error,
        )),
    }
}

/// Makes the tunnel's device.
pub(crate) fn open(tunnel: &TunnelConfig, changes: &mut Changes) -> Result<Device, Fault> {
    let config = DeviceConfig {
        name: Some(tunnel.name.to_string()),
        kind: match tunnel.device {
            DeviceKind::Tun => bondwire_tun::DeviceKind::Tun,
            DeviceKind::Packet => bondwire_tun::DeviceKind::Packet,
        },
        mtu: tunnel.mtu.get(),
    };
    Device::open(&config, changes).map_err(|error| {
        let what = format!("cannot make the tunnel `{}`", tunnel.name);
        let (why, what_to_do) = faults::halves(&error.to_string());
        match &error {
            TunError::Network(error) => faults::net(what, error),
            TunError::NotOpened | TunError::NoPermission { .. } => Fault::permission(what, why, what_to_do),
            _ => Fault::failed(what, why, what_to_do),
        }
    })
}

/// Changes the greatest packet of a device that is in use.
pub(crate) fn set_mtu(tunnel: &TunnelConfig, mtu: u16, changes: &mut Changes) -> Result<(), NetError> {
    let name = tunnel.name.as_str();
    if tunnel.device == DeviceKind::Packet {
        changes.netlink().set_mtu(&format!("{name}-peer"), mtu)?;
    }
    changes.netlink().set_mtu(name, mtu)
}
