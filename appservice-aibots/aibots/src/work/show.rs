//! What people see of a bot that is about to answer: that it has read, and that it types.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::service::Service;

/// How often typing is renewed, before the homeserver forgets it.
const RENEWAL: Duration = Duration::from_secs(20);

/// Shows a bot as typing until it is dropped.
pub(super) struct Typing {
    service: Arc<Service>,
    bot: String,
    room_id: String,
    renewing: AbortHandle,
}

impl Typing {
    /// The bot has read an event and begins to type. Neither matters enough to wait for.
    pub(super) fn begin(service: &Arc<Service>, bot: &str, room_id: &str, event_id: &str) -> Self {
        let (shared, user_id, room, event) = (service.clone(), bot.to_owned(), room_id.to_owned(), event_id.to_owned());
        let renewing = tokio::spawn(async move {
            if let Err(error) = shared.homeserver.mark_read(&user_id, &room, &event).await {
                tracing::debug!(%error, room.id = room, "cannot mark as read");
            }
            loop {
                if let Err(error) = shared.homeserver.set_typing(&user_id, &room, true).await {
                    tracing::debug!(%error, room.id = room, "cannot show typing");
                }
                tokio::time::sleep(RENEWAL).await;
            }
        });
        let renewing = renewing.abort_handle();
        Self { service: service.clone(), bot: bot.to_owned(), room_id: room_id.to_owned(), renewing }
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.renewing.abort();
        let (service, bot, room_id) = (self.service.clone(), self.bot.clone(), self.room_id.clone());
        // The runtime may be on its way out; then the homeserver forgets by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime
                .spawn(async move { service.homeserver.set_typing(&bot, &room_id, false).await.unwrap_or_default() });
        }
    }
}
