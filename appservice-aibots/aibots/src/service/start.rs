//! What is done before bots are there: their accounts, and what they look like.

use reqwest::Url;
use serde_json::{Value, json};

use super::{Bot, Service};
use crate::matrix::CallError;
use crate::names::BOT;

impl Service {
    /// Makes the accounts, as far as they are not there, and dresses them.
    pub(super) async fn register_bots(&self) -> Result<(), CallError> {
        self.homeserver.register(&self.configuration.service.sender_localpart).await?;
        for bot in self.bots() {
            self.homeserver.register(&bot.settings.localpart).await?;
            self.dress(bot).await?;
        }
        Ok(())
    }

    async fn dress(&self, bot: &Bot) -> Result<(), CallError> {
        let profile = match self.homeserver.profile(&bot.user_id).await {
            Ok(profile) => profile,
            Err(error) if error.is_refusal() => Value::Null,
            Err(error) => return Err(error),
        };
        let text = |field: &str| profile.get(field).and_then(Value::as_str);
        if text("displayname") != Some(&bot.settings.name) {
            self.homeserver.set_profile(&bot.user_id, "displayname", &json!(bot.settings.name)).await?;
        }
        if let Some(uri) = self.picture(bot).await
            && text("avatar_url") != Some(&uri)
        {
            self.homeserver.set_profile(&bot.user_id, "avatar_url", &json!(uri)).await?;
        }
        let badge = json!({ "personality": bot.settings.localpart, "description": bot.settings.tagline });
        if profile.get(BOT) != Some(&badge)
            && let Err(error) = self.homeserver.set_profile(&bot.user_id, BOT, &badge).await
        {
            // Profiles with fields of one's own came with v1.16.
            tracing::debug!(%error, "this homeserver keeps no badge");
        }
        Ok(())
    }

    /// The picture's address. It is uploaded once; bots without one answer as well as others.
    async fn picture(&self, bot: &Bot) -> Option<String> {
        let look = match &bot.settings.avatar_file {
            Some(file) => file.display().to_string(),
            None => bot.settings.colour.clone(),
        };
        let fact = format!("picture {} {look}", bot.settings.localpart);
        if let Ok(Some(uri)) = self.store.fact(&fact).await {
            return Url::parse(&uri).is_ok().then_some(uri);
        }
        let picture = match &bot.settings.avatar_file {
            Some(file) => tokio::fs::read(file)
                .await
                .inspect_err(|error| tracing::warn!(%error, file = %file.display(), "cannot read a picture"))
                .ok()?,
            None => crate::avatar::draw(crate::avatar::colour(&bot.settings.colour)?),
        };
        let uploaded = self.homeserver.upload(&bot.user_id, "image/png", picture).await;
        let uri = uploaded.inspect_err(|error| tracing::warn!(%error, "cannot upload a picture")).ok()?;
        self.store.note(&fact, &uri).await.ok()?;
        Some(uri)
    }
}
