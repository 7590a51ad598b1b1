//! `bondwire server clients`

use bondwire_api::{ClientEntry, ClientState, ControlClient, Fault};
use bondwire_daemon::identity;

use crate::args::Global;
use crate::output;
use crate::table::Table;

/// Lists the clients, their addresses inside the tunnel, and how they stand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, global: &Global) -> Result<(), Fault> {
    let control = ControlClient::new(&global.socket);
    let mut clients = identity::clients(&global.folders())?;
    // A running server also knows who is connected. It may be another one: the key tells.
    if control.daemon().is_some()
        && let Ok(running) = control.clients()
    {
        for client in &mut clients.clients {
            let same =
                |other: &&ClientEntry| other.name == client.name && other.public_key == client.public_key;
            if running.clients.iter().find(same).is_some_and(|other| other.state == ClientState::Connected) {
                client.state = ClientState::Connected;
            }
        }
    }
    output::answer(global, &clients, |clients| {
        if clients.clients.is_empty() {
            return "no clients yet; let one in: bondwire server invite NAME\n".to_owned();
        }
        let mut table = Table::new(&["CLIENT", "STATE", "IPV4", "IPV6", "KEY"], &[]);
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        for client in &clients.clients {
            table.row(vec![
                client.name.clone(),
                client.state.name().into(),
                text(&client.v4),
                text(&client.v6),
                text(&client.public_key),
            ]);
        }
        table.render()
    })
}
