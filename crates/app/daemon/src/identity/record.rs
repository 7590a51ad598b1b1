//! One client of a server, as a file.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use bondwire_api::{ClientEntry, ClientState, Fault};
use bondwire_crypto::{Psk, PublicKey};
use serde::Deserialize;

use super::{IdText, KeyText, encode_key};
use crate::config;
use crate::files;
use crate::names::ClientName;

/// One client of a server, as it is kept in `clients/NAME.toml`.
#[derive(Clone, Debug)]
pub struct StoredClient {
    /// Its name, which is the file's.
    pub name: ClientName,
    /// Its invite.
    pub invite_id: [u8; 8],
    /// The invite's secret, which stays the client's for good.
    pub secret: Psk,
    /// When an unused invite ends, Unix seconds.
    pub invite_expires: u64,
    /// Its inner address.
    pub v4: Ipv4Addr,
    /// Its inner IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Its key, from its first handshake on.
    pub public_key: Option<PublicKey>,
    /// No longer welcome.
    pub revoked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    invite_id: IdText,
    secret: KeyText,
    invite_expires: u64,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    public_key: Option<KeyText>,
    #[serde(default)]
    revoked: bool,
}

impl StoredClient {
    /// The name of its file.
    pub(crate) fn file_name(name: &ClientName) -> String {
        format!("{name}.toml")
    }

    /// Reads one file; none if it is not there.
    pub(crate) fn load(folder: &Path, name: &ClientName) -> Result<Option<Self>, Fault> {
        let file: Option<File> = config::load(&folder.join(Self::file_name(name)))?;
        Ok(file.map(|file| Self {
            name: name.clone(),
            invite_id: file.invite_id.0,
            secret: Psk::from_bytes(file.secret.0),
            invite_expires: file.invite_expires,
            v4: file.v4,
            v6: file.v6,
            public_key: file.public_key.map(|key| PublicKey::from_bytes(key.0)),
            revoked: file.revoked,
        }))
    }

    /// Reads all clients of a folder, sorted by name; none if there is no folder. Files that are no clients are passed over.
    pub(crate) fn load_all(folder: &Path) -> Result<Vec<Self>, Fault> {
        let mut clients = Vec::new();
        for name in Self::names(folder)? {
            // It may have been removed since it was listed.
            clients.extend(Self::load(folder, &name)?);
        }
        Ok(clients)
    }

    /// The names of the clients of a folder, sorted.
    pub(crate) fn names(folder: &Path) -> Result<Vec<ClientName>, Fault> {
        let fault = |error: &std::io::Error| {
            Fault::from_io(
                format!("cannot list the clients in {}", folder.display()),
                error,
                "check the folder",
            )
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fault(&error)),
        };
        let mut names: Vec<ClientName> = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| fault(&error))?.file_name();
            let Some(name) = name.to_str().filter(|name| !files::is_unfinished(name)) else { continue };
            names.extend(name.strip_suffix(".toml").and_then(|name| name.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Writes its file as a whole. The caller holds the folder's lock.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), Fault> {
        let mut text = format!(
            "# bondwire, client `{}`. Holds a secret; written by `bondwire server`.\n\
             invite_id = \"{}\"\nsecret = \"{}\"\ninvite_expires = {}\nv4 = \"{}\"\n",
            self.name,
            IdText(self.invite_id),
            encode_key(self.secret.as_bytes()),
            self.invite_expires,
            self.v4,
        );
        if let Some(v6) = self.v6 {
            let _ = writeln!(text, "v6 = \"{v6}\"");
        }
        if let Some(key) = &self.public_key {
            let _ = writeln!(text, "public_key = \"{key}\"");
        }
        if self.revoked {
            text.push_str("revoked = true\n");
        }
        files::write_whole(&folder.join(Self::file_name(&self.name)), &text, files::SECRET)
    }

    /// Where it stands at this second, as far as its file tells.
    pub(crate) fn state(&self, now: u64) -> ClientState {
        match (self.revoked, &self.public_key) {
            (true, _) => ClientState::Revoked,
            (false, Some(_)) => ClientState::Joined,
            (false, None) if self.invite_expires <= now => ClientState::Expired,
            (false, None) => ClientState::Invited,
        }
    }

    /// What people see of it.
    pub fn entry(&self, now: u64) -> ClientEntry {
        ClientEntry {
            name: self.name.to_string(),
            state: self.state(now),
            v4: Some(self.v4.to_string()),
            v6: self.v6.map(|v6| v6.to_string()),
            public_key: self.public_key.map(|key| key.to_string()),
            invite_expires: self.invite_expires,
        }
    }
}
