//! Presence: bots are there as long as the service is, and say so when their provider fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Bot, Service};

/// How often presence is renewed: homeservers forget it after 30 seconds.
const BEAT: Duration = Duration::from_secs(25);

impl Service {
    async fn show(&self, bot: &Bot, is_stopping: bool) {
        let (presence, status) = if is_stopping {
            ("offline", bot.settings.tagline.as_str())
        } else if bot.is_failing.load(Ordering::Relaxed) {
            ("unavailable", "I cannot think clearly at the moment")
        } else {
            ("online", bot.settings.tagline.as_str())
        };
        if let Err(error) = self.homeserver.set_presence(&bot.user_id, presence, status).await {
            // Many homeservers have presence turned off.
            tracing::debug!(%error, user.id = bot.user_id, "cannot set presence");
        }
    }

    /// Shows all bots as offline, at the end.
    pub(super) async fn say_goodbye(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let all = join_all(self.bots().iter().map(|bot| self.show(bot, true)));
        tokio::time::timeout(PATIENCE, all).await.map(drop).unwrap_or_default();
    }
}

/// Keeps presence true, for as long as it is run.
pub(super) async fn run(service: Arc<Service>) {
    loop {
        for bot in service.bots() {
            service.show(bot, false).await;
        }
        tokio::time::timeout(BEAT, service.mood.notified()).await.unwrap_or_default();
    }
}
