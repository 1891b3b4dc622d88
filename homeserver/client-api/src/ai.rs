//! `/_matrix/client/unstable/chat.nudge/ai/...`: the AI bots of this server, for clients that show them in a list of their
//! own.

use ruma::{OwnedRoomId, OwnedUserId, api::auth_scheme::AccessToken, events::room::member::MembershipState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Arguments, Door, Result, error::ApiError, json::Json, own_request::own_request};

/// The field of a profile in which a bot says what it is.
const BADGE: &str = "chat.nudge.bot";

own_request!(
    /// Which bots are there?
    List,
    GET "/_matrix/client/unstable/chat.nudge/ai/bots",
    AccessToken
);

own_request!(
    /// Add one of them to a conversation.
    Add,
    POST "/_matrix/client/unstable/chat.nudge/ai/add_to_conversation",
    AccessToken
);

/// All bots.
#[derive(Serialize)]
pub(crate) struct Bots {
    bots: Vec<Value>,
}

/// Which bot, and where.
#[derive(Deserialize)]
struct Wanted {
    room_id: OwnedRoomId,
    bot_user_id: OwnedUserId,
}

/// What a bot is in a room now.
#[derive(Serialize)]
pub(crate) struct Added {
    room_id: OwnedRoomId,
    bot_user_id: OwnedUserId,
    membership: MembershipState,
}

pub(crate) async fn bots(door: Door, _: Arguments<List>) -> Result<Json<Bots>> {
    let bots = door.engine.ai_bots().await?.into_iter().map(|(user_id, profile)| {
        let badge = profile.fields.get(BADGE).cloned().unwrap_or_default();
        let mut bot = json!({ "user_id": user_id });
        for (name, value) in [
            ("displayname", profile.display_name.map(Value::from)),
            ("avatar_url", profile.avatar_url.map(Value::from)),
            ("personality", badge.get("personality").cloned()),
            ("description", badge.get("description").cloned()),
        ] {
            if let Some(value) = value {
                bot[name] = value;
            }
        }
        bot
    });
    Ok(Json(Bots { bots: bots.collect() }))
}

pub(crate) async fn add_to_conversation(door: Door, asked: Arguments<Add>) -> Result<Json<Added>> {
    let wanted: Wanted = serde_json::from_slice(&asked.body).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let Wanted { room_id, bot_user_id } = wanted;
    let membership = door.engine.add_ai_bot(&asked.requester, &room_id, &bot_user_id).await?;
    Ok(Json(Added { room_id, bot_user_id, membership }))
}
