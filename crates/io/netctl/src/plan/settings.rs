//! Kernel settings that are kept for as long as a group wants them.

use crate::change::Change;
use crate::changes::Changes;
use crate::error::NetError;

impl Changes {
    /// Gives kernel settings below `/proc/sys` these values, and those that the group no longer names what they had before. One that does not
    /// exist, as for an interface that is gone, is passed over.
    ///
    /// # Errors
    /// No permission.
    pub fn keep_settings(&mut self, group: &str, settings: &[(String, &str)]) -> Result<(), NetError> {
        let mut wanted = Vec::new();
        for (key, value) in settings {
            match self.want_setting(group, key, value, &mut wanted) {
                Err(error) if error.is_gone() => {}
                other => other?,
            }
        }
        self.sync(group, &wanted)
    }

    /// A setting that was changed by us before keeps the value that it had before us.
    pub(super) fn want_setting(
        &self,
        group: &str,
        key: &str,
        value: &str,
        wanted: &mut Vec<Change>,
    ) -> Result<(), NetError> {
        let ours =
            self.group(group).find(|change| matches!(change, Change::Sysctl { key: k, .. } if k == key));
        match ours {
            Some(change) => wanted.push(change.clone()),
            None => wanted.extend(Change::sysctl(key, value)?),
        }
        Ok(())
    }
}
