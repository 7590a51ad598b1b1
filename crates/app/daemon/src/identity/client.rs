//! `join`: an invite becomes this machine's identity.

use bondwire_api::Fault;
use bondwire_crypto::{Psk, PublicKey, SecretKey};
use bondwire_wire::{Invite, InviteError};
use serde::Deserialize;

use super::{IdText, KeyText, encode_key, random, unix_seconds};
use crate::config::{self, CLIENT_FILE, ClientConfig};
use crate::files::{self, FolderLock};
use crate::folders::Folders;
use crate::names::Endpoint;

const KEY_FILE: &str = "client.key";

/// Who a client is, and whom it speaks to.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// Its own key.
    pub key: SecretKey,
    /// The server's.
    pub server: PublicKey,
    /// By which the server finds the invite.
    pub invite_id: [u8; 8],
    /// The invite's secret.
    pub secret: Psk,
    /// When the invite ends if it was not used, Unix seconds.
    pub invite_expires: u64,
    /// Where the server is.
    pub endpoints: Vec<Endpoint>,
}

/// What joining made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct JoinReport {
    /// Where the server is.
    pub endpoints: Vec<String>,
    /// This client's public key, base64.
    pub public_key: String,
    /// The configuration file.
    pub config: String,
    /// Whether the invite's time seems to be over by this machine's clock. The server decides by its own.
    pub expired: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    private_key: KeyText,
    server_key: KeyText,
    invite_id: IdText,
    secret: KeyText,
    invite_expires: u64,
    endpoints: Vec<Endpoint>,
}

/// Turns an invite into this machine's identity. With `force`, an older identity is replaced; the preferences in
/// `client.toml` stay in any case.
///
/// # Errors
/// The text is no invite, this machine has joined already, or the folder cannot be written.
pub fn join(folders: &Folders, text: &str, force: bool) -> Result<JoinReport, Fault> {
    let invite = Invite::parse(text).map_err(|error| not_an_invite(&error))?;
    let _lock = FolderLock::acquire(&folders.config, 0o755)?;
    let path = folders.config_file(KEY_FILE);
    if !force && files::read(&path)?.is_some() {
        return Err(Fault::failed(
            "this machine has joined a server already",
            format!("{} is there", path.display()),
            "to replace that server by this one: `bondwire join --force INVITE`; to keep both: another --config-dir",
        ));
    }
    let config = folders.config_file(CLIENT_FILE);
    if files::read(&config)?.is_none() {
        files::write_whole(&config, config::CLIENT_TEMPLATE, files::PUBLIC)?;
    }
    let key = SecretKey::from_bytes(random()?);
    // The identity is one file, and written last: until then nothing has happened, and then everything has.
    files::write_whole(&path, &key_file(&key, &invite), files::SECRET)?;
    Ok(JoinReport {
        endpoints: invite.endpoints,
        public_key: key.public().to_string(),
        config: config.display().to_string(),
        expired: invite.expires <= unix_seconds(),
    })
}

fn key_file(key: &SecretKey, invite: &Invite) -> String {
    let endpoints: Vec<String> = invite.endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!(
        "# bondwire: the secret identity of this client. Whoever has it can pretend to be this client.\n\
         # Written by `bondwire join`; preferences are in {CLIENT_FILE}.\n\
         private_key = \"{}\"\nserver_key = \"{}\"\ninvite_id = \"{}\"\nsecret = \"{}\"\ninvite_expires = {}\nendpoints = [{}]\n",
        encode_key(&key.to_bytes()),
        encode_key(&invite.server),
        IdText(invite.id),
        encode_key(&invite.secret),
        invite.expires,
        endpoints.join(", "),
    )
}

fn not_an_invite(error: &InviteError) -> Fault {
    let text = error.to_string();
    let (why, what_to_do) = text.split_once(": ").unwrap_or((&text, "copy the whole line again"));
    Fault::usage("cannot read the invite", why, what_to_do)
}

impl ClientIdentity {
    /// The identity and the preferences of a configuration folder.
    ///
    /// # Errors
    /// This machine has not joined, or a file is wrong.
    pub fn load(folders: &Folders) -> Result<(ClientConfig, Self), Fault> {
        let path = folders.config_file(KEY_FILE);
        let file: KeyFile = config::load(&path)?.ok_or_else(|| {
            Fault::usage(
                "this machine has not joined a server yet",
                format!("{} is missing", path.display()),
                "get an invite (`bondwire server invite NAME` on the server), then `bondwire join INVITE`; \
                 or name the folder with --config-dir",
            )
        })?;
        let config: ClientConfig = config::load(&folders.config_file(CLIENT_FILE))?.unwrap_or_default();
        let endpoints =
            if config.server.endpoints.is_empty() { file.endpoints } else { config.server.endpoints.clone() };
        let identity = Self {
            key: SecretKey::from_bytes(file.private_key.0),
            server: PublicKey::from_bytes(file.server_key.0),
            invite_id: file.invite_id.0,
            secret: Psk::from_bytes(file.secret.0),
            invite_expires: file.invite_expires,
            endpoints,
        };
        Ok((config, identity))
    }
}
