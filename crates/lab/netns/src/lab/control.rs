//! What can be done to a lab's links while it runs, from any thread.

use bondwire_scenario::{Action, Change};

use super::plan::{CLIENT_ADDRESSES, NAT_ADDRESSES};
use super::{Lab, everything, metric, position};
use crate::emulator::interface_names;
use crate::error::LabError;

impl Lab {
    /// A link dies in silence: packets vanish in both directions, the interface looks as before.
    ///
    /// # Errors
    /// [`LabError::UnknownLink`], [`LabError::EmulatorGone`].
    pub fn silence(&self, link: &str) -> Result<(), LabError> {
        self.shared.emulator.set_up(link, false)
    }

    /// A link dies, and the client's interface loses its carrier, as when a cable is pulled.
    ///
    /// # Errors
    /// As [`Lab::silence`], and [`LabError::Netlink`].
    pub fn carrier_loss(&self, link: &str) -> Result<(), LabError> {
        self.shared.emulator.set_up(link, false)?;
        self.set_carrier(link, false)
    }

    /// A dead link is as before, with its carrier.
    ///
    /// # Errors
    /// As [`Lab::carrier_loss`].
    pub fn restore(&self, link: &str) -> Result<(), LabError> {
        self.set_carrier(link, true)?;
        for node in [&self.shared.client, &self.shared.emulator_node] {
            node.netlink(|net| net.wait_ready())?;
        }
        self.shared.emulator.set_up(link, true)
    }

    /// Changes properties of a link; those that are none stay.
    ///
    /// # Errors
    /// [`LabError::UnknownLink`], [`LabError::EmulatorGone`].
    pub fn change(&self, link: &str, change: &Change) -> Result<(), LabError> {
        let mut state = self.state();
        let at = position(&state, link)?;
        state[at].link.apply(change);
        let (up, down) = state[at].link.pipes();
        self.shared.emulator.set_configs(link, up, down)
    }

    /// The provider's NAT gives all flows of a link new ports, at the same address.
    ///
    /// # Errors
    /// [`LabError::NoNat`], [`LabError::UnknownLink`], [`LabError::EmulatorGone`].
    pub fn rebind_nat(&self, link: &str) -> Result<(), LabError> {
        let state = self.state();
        if !state[position(&state, link)?].plan.nat {
            return Err(LabError::NoNat { name: link.to_owned() });
        }
        self.shared.emulator.rebind_nat(link, None)
    }

    /// The provider's NAT gives all flows of a link new ports and another public address.
    ///
    /// # Errors
    /// As [`Lab::rebind_nat`].
    pub fn change_public_address(&self, link: &str) -> Result<(), LabError> {
        let mut state = self.state();
        let at = position(&state, link)?;
        if !state[at].plan.nat {
            return Err(LabError::NoNat { name: link.to_owned() });
        }
        state[at].nat_turn = (state[at].nat_turn + 1) % NAT_ADDRESSES;
        let public = state[at].plan.public_v4(state[at].nat_turn);
        self.shared.emulator.rebind_nat(link, Some(public))
    }

    /// The client's interface gets other addresses of its networks, as by a new lease, and its default routes anew. The
    /// old addresses are gone. The hundredth change brings the first addresses back.
    ///
    /// # Errors
    /// [`LabError::UnknownLink`], [`LabError::Netlink`].
    pub fn change_address(&self, link: &str) -> Result<(), LabError> {
        let mut state = self.state();
        let at = position(&state, link)?;
        let old = state[at].plan.client();
        state[at].plan.client_turn = (state[at].plan.client_turn + 1) % CLIENT_ADDRESSES;
        let new = state[at].plan.client();
        let gateways = state[at].plan.gateway();
        let name = link.to_owned();
        self.shared.client.netlink(move |net| {
            old.into_iter().try_for_each(|prefix| net.remove_address(&name, prefix))?;
            new.into_iter().try_for_each(|prefix| net.add_address(&name, prefix))?;
            gateways.into_iter().try_for_each(|gateway| {
                let via = gateway.address;
                net.set_route(&name, everything(via), Some(via), Some(metric(at)))
            })?;
            net.wait_ready()
        })
    }

    /// Does what an event of the scenario says.
    ///
    /// # Errors
    /// Those of the command that it stands for.
    pub fn apply(&self, link: &str, action: &Action) -> Result<(), LabError> {
        match action {
            Action::Silence => self.silence(link),
            Action::CarrierLoss => self.carrier_loss(link),
            Action::Return => self.restore(link),
            Action::AddressChange => self.change_address(link),
            Action::NatRebind => self.rebind_nat(link),
            Action::Change(change) => self.change(link, change),
        }
    }

    fn set_carrier(&self, link: &str, up: bool) -> Result<(), LabError> {
        let (near, _) = interface_names(position(&self.state(), link)?);
        self.shared.emulator_node.netlink(move |net| net.set_up(&near, up))
    }
}
