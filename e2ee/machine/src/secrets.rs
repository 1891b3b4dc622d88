//! Passing secrets between our own verified devices: the private keys of cross-signing, and that of the key backup.
//! <https://spec.matrix.org/v1.19/client-server-api/#sharing>

use std::collections::BTreeMap;

use ruma::{OwnedDeviceId, UserId};
use serde_json::json;

use crate::cross_signing::{MASTER, SELF_SIGNING, USER_SIGNING};
use crate::machine::Machine;
use crate::notice::Notice;
use crate::olm::OlmPayload;
use crate::signed_json::{Object, text};
use crate::store::Held;

/// The key of the key backup, as a secret.
pub(crate) const BACKUP: &str = "m.megolm_backup.v1";

/// The secrets that devices pass on.
const NAMES: [&str; 4] = [MASTER, SELF_SIGNING, USER_SIGNING, BACKUP];

/// Our open requests: by id, the name of the secret. In memory: after a restart the owner asks again.
#[derive(Default)]
pub(crate) struct SecretRequests {
    open: BTreeMap<String, String>,
}

impl Machine {
    /// Asks our other devices for the secrets that this one has not. It should be verified by now, or nobody answers.
    pub fn request_secrets(&mut self) -> Held<()> {
        for name in NAMES {
            let is_open = self.secret_requests.open.values().any(|open| open == name);
            if self.secret(name).is_none() && !is_open {
                let request_id = self.world.random_string(24);
                self.send_secret_request("request", &request_id, Some(name));
                self.secret_requests.open.insert(request_id, name.to_owned());
            }
        }
        self.hold(())
    }

    pub(crate) fn secret(&self, name: &str) -> Option<String> {
        if name == BACKUP { self.backup.secret() } else { self.usable_key(name).map(|key| key.to_base64()) }
    }

    fn send_secret_request(&mut self, action: &str, request_id: &str, name: Option<&str>) {
        let mut content = Object::new();
        content.insert("action".into(), json!(action));
        content.insert("request_id".into(), json!(request_id));
        content.insert("requesting_device_id".into(), json!(self.device_id));
        if let Some(name) = name {
            content.insert("name".into(), json!(name));
        }
        let user_id = self.user_id.clone();
        self.send_to_all_devices("m.secret.request", &user_id, content);
    }

    /// Gives a secret to a verified device of our own, and to nobody else.
    pub(crate) fn receive_secret_request(&mut self, sender: &UserId, content: &Object) {
        let device_id = text(content, "requesting_device_id").map(OwnedDeviceId::from);
        let Some(device_id) = device_id.filter(|id| *id != self.device_id) else { return };
        if *sender != *self.user_id || text(content, "action") != Some("request") {
            return;
        }
        let device = self.users.device(sender, &device_id).filter(|device| self.is_verified(device)).cloned();
        let name = text(content, "name").filter(|name| NAMES.contains(name));
        let secret = name.and_then(|name| self.secret(name));
        let (Some(device), Some(secret), Some(request_id)) = (device, secret, text(content, "request_id")) else {
            return;
        };
        let mut answer = Object::new();
        answer.insert("request_id".into(), json!(request_id));
        answer.insert("secret".into(), json!(secret));
        self.send_encrypted(&device, "m.secret.send", &answer);
    }

    /// Takes a secret that was asked for, from a verified device of our own, if it is what it should be.
    pub(crate) fn receive_secret(&mut self, payload: &OlmPayload) {
        let device = self.users.device_with_key(&payload.sender, payload.sender_key);
        let is_verified =
            device.is_some_and(|device| device.ed25519 == payload.sender_ed25519 && self.is_verified(device));
        if payload.sender != self.user_id || !is_verified {
            return;
        }
        let request_id = text(&payload.content, "request_id").unwrap_or_default();
        let Some(name) = self.secret_requests.open.get(request_id).cloned() else { return };
        let Some(secret) = text(&payload.content, "secret") else { return };
        let is_taken = if name == BACKUP {
            self.import_backup_secret(secret)
        } else {
            self.import_cross_signing_secret(&name, secret)
        };
        if is_taken {
            self.secret_requests.open.remove(request_id);
            self.send_secret_request("request_cancellation", request_id, None);
            self.notices.push(Notice::SecretReceived { name });
        }
    }
}
