//! Making a user's identity anew.

use ruma::UserId;
use ruma::api::client::keys::upload_signing_keys;
use serde_json::json;
use vodozemac::{Ed25519PublicKey, Ed25519SecretKey};

use super::{MASTER, PublicIdentity, SELF_SIGNING, USER_SIGNING};
use crate::machine::{Machine, raw};
use crate::request::{Purpose, RequestBody};
use crate::signed_json::{self, Object};
use crate::store::{Held, Table};

impl Machine {
    /// Makes new cross-signing keys for our user, and asks for their upload. The owner answers what the server wants for
    /// authentication. Whatever was verified by keys before is verified no more.
    pub fn bootstrap_cross_signing(&mut self) -> Held<()> {
        let [master, self_signing, user_signing] = [(); 3].map(|()| Ed25519SecretKey::new());
        let mut master_object = key_object(&self.user_id, master.public_key(), "master");
        self.sign(&mut master_object);
        let below = |key: &Ed25519SecretKey, usage: &str| {
            let mut object = key_object(&self.user_id, key.public_key(), usage);
            let name = format!("ed25519:{}", master.public_key().to_base64());
            signed_json::sign(&mut object, &self.user_id, &name, |text| master.sign(text));
            object
        };
        let self_signing_object = below(&self_signing, "self_signing");
        let user_signing_object = below(&user_signing, "user_signing");

        let mut request = upload_signing_keys::v3::Request::new();
        request.master_key = Some(raw(master_object.clone()));
        request.self_signing_key = Some(raw(self_signing_object));
        request.user_signing_key = Some(raw(user_signing_object));
        self.ask(Purpose::SigningKeysUpload, RequestBody::SigningKeysUpload(request));

        let secrets = [(MASTER, &master), (SELF_SIGNING, &self_signing), (USER_SIGNING, &user_signing)];
        self.cross_signing.secrets =
            secrets.into_iter().map(|(name, key)| (name.to_owned(), key.to_base64())).collect();
        self.cross_signing.trusted_master = Some(master.public_key());
        self.touch(Table::CrossSigning, "");
        let identity = PublicIdentity {
            master: master.public_key(),
            self_signing: Some(self_signing.public_key()),
            user_signing: Some(user_signing.public_key()),
            master_object,
        };
        let user_id = self.user_id.clone();
        self.set_identity(&user_id, identity);
        self.hold(())
    }

    /// The server has our new keys: now it takes our signature of this device.
    pub(crate) fn receive_signing_keys_uploaded(&mut self) {
        let device_id = self.device_id.clone();
        self.sign_own_device(&device_id);
    }

    /// The upload was given up: the identity on the server is what it was, and ours is none.
    pub(crate) fn receive_signing_keys_refused(&mut self) {
        self.cross_signing = super::CrossSigningState::default();
        self.touch(Table::CrossSigning, "");
        let user_id = self.user_id.clone();
        self.mark_outdated(&user_id);
    }
}

fn key_object(user_id: &UserId, key: Ed25519PublicKey, usage: &str) -> Object {
    let mut object = Object::new();
    object.insert("user_id".into(), json!(user_id));
    object.insert("usage".into(), json!([usage]));
    object.insert("keys".into(), json!({ format!("ed25519:{}", key.to_base64()): key.to_base64() }));
    object
}
