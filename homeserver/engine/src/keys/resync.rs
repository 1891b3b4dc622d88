//! Asking for all devices of another server's user when an update was missed, until the server answers. What is to be
//! asked for is in the storage, so that a restart forgets nothing.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1userdevicesuserid>

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use keyserver::RemoteDevices;
use ruma::OwnedUserId;
use tokio::sync::Notify;

use crate::{Engine, EngineError, Inner, Result};

/// How many users are asked for in one round.
const ROUND_USERS: usize = 100;
/// How many are asked for at the same time.
const USERS_AT_ONCE: usize = 8;
/// How often it is looked whether some are due again.
const ROUND_INTERVAL: Duration = Duration::from_secs(10);
/// In how many rounds ids of old messages are forgotten: about once an hour.
const ROUNDS_PER_PRUNING: u32 = 360;

impl Engine {
    /// Starts the one task that asks. It does not keep the engine alive, and ends with it.
    pub(crate) fn start_asking_for_devices(&self) {
        let (engine, missing) = (Arc::downgrade(&self.inner), Arc::clone(&self.inner.keys.missing));
        let tasks = self.storage().tasks();
        let ask = move || ask_in_rounds(engine.clone(), Arc::clone(&missing));
        tokio::spawn(async move { tasks.supervise("device_lists", ask).await });
    }

    /// Something was missed: the next round begins now.
    pub(crate) fn devices_are_missing(&self) {
        self.inner.keys.missing.notify_one();
    }

    /// Asks for everybody who is due, and says how many these were.
    async fn ask_for_devices(&self) -> Result<usize> {
        let due = self.key_server().lists_to_ask_for(ROUND_USERS).await?;
        let count = due.len();
        let mut asking = stream::iter(due).map(|user_id| self.resync_devices(user_id)).buffer_unordered(USERS_AT_ONCE);
        while let Some(done) = asking.next().await {
            done?;
        }
        Ok(count)
    }

    /// Asks for all devices of one user.
    async fn resync_devices(&self, user_id: OwnedUserId) -> Result<()> {
        let begun = self.key_server().begin_asking(&user_id).await?;
        let answer = self.federation().user_devices::<RemoteDevices>(user_id.server_name(), &user_id).await;
        let _turn = self.inner.keys.users.lock(user_id.as_str()).await;
        match answer {
            Ok(answer) if answer.user_id == user_id => {
                Ok(self.key_server().store_remote_devices(&user_id, answer, begun).await?)
            }
            Ok(_) => {
                tracing::info!(user.id = %user_id, "a server answers with the devices of another user");
                Ok(self.key_server().asking_failed(&user_id).await?)
            }
            Err(error) => {
                tracing::info!(user.id = %user_id, %error, "the devices of a user cannot be had now");
                Ok(self.key_server().asking_failed(&user_id).await?)
            }
        }
    }
}

/// Asks for the devices that are due, as long as there is an engine.
async fn ask_in_rounds(engine: Weak<Inner>, missing: Arc<Notify>) {
    let mut rounds = 0_u32;
    while let Some(inner) = engine.upgrade() {
        let engine = Engine { inner };
        if rounds.is_multiple_of(ROUNDS_PER_PRUNING)
            && let Err(error) = engine.key_server().forget_old_message_ids().await
        {
            tracing::warn!(%error, "cannot forget the ids of old messages to devices");
        }
        rounds = rounds.wrapping_add(1);
        match engine.ask_for_devices().await {
            Ok(ROUND_USERS) => continue,
            Ok(_) => {}
            Err(EngineError::Storage(storage::StorageError::Closed)) => return,
            Err(error) => tracing::warn!(%error, "cannot ask for the devices of other servers' users"),
        }
        drop(engine);
        tokio::time::timeout(ROUND_INTERVAL, missing.notified()).await.unwrap_or_default();
    }
}
