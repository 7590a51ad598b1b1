//! `server init`, `server invite`, `server clients`, `server revoke`.

use std::time::Duration;

use bondwire_api::{ClientState, Clients, Fault};
use bondwire_crypto::{Psk, PublicKey, SecretKey};
use bondwire_wire::Invite;
use serde::Deserialize;

use super::{KeyText, StoredClient, encode_key, random, unix_seconds};
use crate::config::{self, SERVER_FILE, ServerConfig};
use crate::files::{self, FolderLock};
use crate::folders::Folders;
use crate::names::{ClientName, Endpoint, Network4, Network6};

const KEY_FILE: &str = "server.key";
/// The most clients of one server, and the most addresses that are tried for a new one.
const MAX_CLIENTS: u32 = 65_536;

/// What a new server is told.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Where clients find it.
    pub endpoint: Endpoint,
    /// The addresses inside the tunnel.
    pub network: Network4,
    /// The IPv6 addresses inside the tunnel.
    pub network6: Option<Network6>,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InitReport {
    /// The server's public key, base64.
    pub public_key: String,
    /// The configuration file.
    pub config: String,
    /// The server's address inside the tunnel.
    pub inner_v4: String,
}

/// An invite that was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Invited {
    /// The line that the client is given: a secret.
    pub invite: String,
    /// How the client of that name stood before; none if there was none.
    pub before: Option<ClientState>,
}

impl std::fmt::Debug for Invited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invited").field("before", &self.before).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    private_key: KeyText,
}

/// Makes a server: its key and its configuration.
///
/// # Errors
/// There is a server already (nothing is ever overwritten), or the folder cannot be written.
pub fn server_init(folders: &Folders, options: &InitOptions) -> Result<InitReport, Fault> {
    let _lock = FolderLock::acquire(&folders.config, 0o755)?;
    let path = folders.config_file(SERVER_FILE);
    if files::read(&path)?.is_some() {
        return Err(Fault::failed(
            format!("there is a server in {} already", folders.config.display()),
            "its clients know it by its key, so a new one would lock them all out",
            format!(
                "change {} to change the server; to begin anew, move that folder away, or use another --config-dir",
                path.display()
            ),
        ));
    }
    // A key without a configuration is what an interrupted `init` left: nobody knows it yet, and it is as good as another.
    let key = match load_key(folders)? {
        Some(key) => key,
        None => {
            let key = SecretKey::from_bytes(random()?);
            let text = format!(
                "# bondwire: the secret key of this server. Whoever has it can pretend to be this server.\nprivate_key = \"{}\"\n",
                encode_key(&key.to_bytes())
            );
            files::write_whole(&folders.config_file(KEY_FILE), &text, files::SECRET)?;
            key
        }
    };
    drop(FolderLock::acquire(&folders.clients(), 0o700)?);
    let text = config::server_template(&options.endpoint, options.network, options.network6);
    files::write_whole(&path, &text, files::PUBLIC)?;
    Ok(InitReport {
        public_key: key.public().to_string(),
        config: path.display().to_string(),
        inner_v4: options.network.server().to_string(),
    })
}

fn load_key(folders: &Folders) -> Result<Option<SecretKey>, Fault> {
    let file: Option<KeyFile> = config::load(&folders.config_file(KEY_FILE))?;
    Ok(file.map(|file| SecretKey::from_bytes(file.private_key.0)))
}

/// The server of a configuration folder.
pub(crate) fn load_server(folders: &Folders) -> Result<(ServerConfig, SecretKey), Fault> {
    let missing = |name: &str| {
        Fault::usage(
            "there is no server here yet",
            format!("{} is missing", folders.config_file(name).display()),
            "make one with `bondwire server init --endpoint HOST:PORT --network 10.99.0.0/24`, or name its folder with --config-dir",
        )
    };
    let config = config::load(&folders.config_file(SERVER_FILE))?.ok_or_else(|| missing(SERVER_FILE))?;
    let key = load_key(folders)?.ok_or_else(|| missing(KEY_FILE))?;
    Ok((config, key))
}

/// Makes an invite for a new client, or a new one for a client that never used its own or was revoked. A name keeps its
/// inner addresses for good.
///
/// # Errors
/// The client has joined already, the network is full, or the folder cannot be written.
pub fn invite(folders: &Folders, name: &ClientName, valid_for: Duration) -> Result<Invited, Fault> {
    let (config, key) = load_server(folders)?;
    let folder = folders.clients();
    let _lock = FolderLock::acquire(&folder, 0o700)?;
    let now = unix_seconds();
    let known = StoredClient::load_all(&folder)?;
    let old = known.iter().find(|client| &client.name == name);
    let before = old.map(|old| old.state(now));
    if before == Some(ClientState::Joined) {
        return Err(Fault::failed(
            format!("cannot invite `{name}`"),
            "there is a client of that name, and it has joined",
            format!(
                "choose another name, or end that client's access first: `bondwire server revoke {name}`"
            ),
        ));
    }
    let (v4, v6) = match old {
        Some(old) if config.network.v4.contains(old.v4) => {
            let index = old.v4.to_bits() - config.network.v4.address().to_bits();
            (old.v4, config.network.v6.and_then(|network| network.client(index)))
        }
        _ => free_addresses(&config, &known)?,
    };
    let client = StoredClient {
        name: name.clone(),
        invite_id: random()?,
        secret: Psk::from_bytes(random()?),
        invite_expires: now.saturating_add(valid_for.as_secs()),
        v4,
        v6,
        public_key: None,
        revoked: false,
    };
    let invite = Invite {
        server: *key.public().as_bytes(),
        id: client.invite_id,
        secret: *client.secret.as_bytes(),
        expires: client.invite_expires,
        endpoints: config.endpoints.0.iter().map(ToString::to_string).collect(),
    };
    let invite = invite.encode().map_err(|error| {
        Fault::usage(
            "cannot make an invite",
            error.to_string(),
            format!("correct `endpoints` in {SERVER_FILE}"),
        )
    })?;
    client.save(&folder)?;
    Ok(Invited { invite, before })
}

fn free_addresses(
    config: &ServerConfig,
    known: &[StoredClient],
) -> Result<(std::net::Ipv4Addr, Option<std::net::Ipv6Addr>), Fault> {
    let network = config.network;
    let taken: std::collections::BTreeSet<_> = known.iter().map(|client| client.v4).collect();
    (2..MAX_CLIENTS)
        .map_while(|index| Some((network.v4.client(index)?, network.v6.and_then(|v6| v6.client(index)))))
        .find(|(v4, _)| !taken.contains(v4))
        .ok_or_else(|| {
            Fault::failed(
                "cannot invite another client",
                format!("all addresses of the network {} are taken", network.v4),
                "remove the files of clients that will not come back from clients/, or choose a larger network in server.toml",
            )
        })
}

/// All clients, sorted by name, as far as their files tell.
///
/// # Errors
/// A file cannot be read.
pub fn clients(folders: &Folders) -> Result<Clients, Fault> {
    load_server(folders)?;
    let now = unix_seconds();
    let clients = StoredClient::load_all(&folders.clients())?;
    Ok(Clients { clients: clients.iter().map(|client| client.entry(now)).collect() })
}

/// Ends a client's access. A running server ends its session at once.
///
/// # Errors
/// There is no such client, or its file cannot be written.
pub fn revoke(folders: &Folders, name: &ClientName) -> Result<(), Fault> {
    load_server(folders)?;
    let folder = folders.clients();
    let _lock = FolderLock::acquire(&folder, 0o700)?;
    let Some(mut client) = StoredClient::load(&folder, name)? else {
        let names = StoredClient::names(&folder)?;
        let near = config::suggest::nearest(name.as_str(), names.iter().map(ClientName::as_str));
        let remedy = match near {
            Some(near) => format!("did you mean `{near}`? `bondwire server clients` lists them all"),
            None => "`bondwire server clients` lists them".to_owned(),
        };
        return Err(Fault::usage(
            format!("cannot revoke `{name}`"),
            "there is no client of that name",
            remedy,
        ));
    };
    client.revoked = true;
    client.save(&folder)
}

/// Pins the key of the client with this invite, if it has none yet. Nothing happens if there is no such client any more.
pub(crate) fn update_client(folders: &Folders, invite_id: [u8; 8], key: PublicKey) -> Result<(), Fault> {
    let folder = folders.clients();
    let _lock = FolderLock::acquire(&folder, 0o700)?;
    let found = StoredClient::load_all(&folder)?
        .into_iter()
        .find(|client| client.invite_id == invite_id && client.public_key.is_none());
    match found {
        Some(mut client) => {
            client.public_key = Some(key);
            client.save(&folder)
        }
        None => Ok(()),
    }
}
