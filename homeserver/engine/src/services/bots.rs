//! The AI bots that an application service of this server speaks for: which there are, and adding one to a conversation.
//!
//! Both go without this as well: bots are found in the user directory and by the third-party network, and are invited like
//! people. This is for clients that want a list with badges, and to hear at once whether the bot has come.

use std::time::Duration;

use appservices::Protocol;
use ruma::{OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use serde_json::Value;
use tokio::time::Instant;

use crate::{Engine, EngineError, Requester, Result, UserProfile};

/// The third-party network that bots are found in.
const NETWORK: &str = "aibots";
/// At most so many bots are listed.
const BOTS_MAX: usize = 100;
/// How long to wait for an invited bot to answer. It comes at once, or its service is away.
const PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// The bots, with their profiles. None where no service has any.
    pub async fn ai_bots(&self) -> Result<Vec<(OwnedUserId, UserProfile)>> {
        let found = self.third_party_lookup(Protocol::Users(NETWORK), &[]).await?.unwrap_or_default();
        let named = found.iter().filter_map(|found| found.get("userid")).filter_map(Value::as_str);
        let mut bots = Vec::new();
        for user_id in named.filter_map(|user_id| UserId::parse(user_id).ok()).take(BOTS_MAX) {
            // A service names whom it likes; its own are users of this server.
            match self.local_profile(&user_id).await {
                Ok(profile) => bots.push((user_id, profile)),
                Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bots)
    }

    /// Invites a bot as the asker, and waits for what it makes of that: it joins, or declines. What it is then:
    /// `invite` when it has not answered yet.
    pub async fn add_ai_bot(&self, requester: &Requester, room_id: &RoomId, bot: &UserId) -> Result<MembershipState> {
        if !self.ai_bots().await?.iter().any(|(known, _)| known == bot) {
            return Err(EngineError::not_found("There is no such bot"));
        }
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        match room.membership(bot) {
            MembershipState::Join => return Ok(MembershipState::Join),
            MembershipState::Invite => {}
            _ => self.invite(requester, room_id, bot, None).await?,
        }
        self.answer_to_invitation(room_id, bot).await
    }

    async fn answer_to_invitation(&self, room_id: &RoomId, user_id: &UserId) -> Result<MembershipState> {
        let mut log = self.storage().subscribe();
        let deadline = Instant::now() + PATIENCE;
        loop {
            log.mark_unchanged();
            let record = self.storage().membership(user_id, room_id).await?;
            let membership = record.map_or(MembershipState::Leave, |record| record.membership);
            if membership != MembershipState::Invite || tokio::time::timeout_at(deadline, log.changed()).await.is_err()
            {
                return Ok(membership);
            }
        }
    }
}
