//! The server speaks to its users: one room for each, in which a user of the server's own does.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#server-notices>

use rules::{Change, room::create::Preset};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use storage::{AccountCreation, NewAccount, Submission};

use crate::{
    CreateRoomCommand, Engine, EngineError, Requester, Result, SendCommand, accounts::TAGS, rooms::commit_error,
};

/// The device from which the server speaks.
const DEVICE: &str = "SERVER_NOTICES";
/// The tag by which clients know the room.
const TAG: &str = "m.server_notice";
/// What users of the room may do: read.
const USERS_DEFAULT: i32 = -10;

impl Engine {
    /// Says something to a user, on behalf of an administrator.
    pub async fn send_server_notice(
        &self,
        requester: &Requester,
        target: &UserId,
        event_type: TimelineEventType,
        content: Box<RawValue>,
        transaction_id: Option<String>,
    ) -> Result<OwnedEventId> {
        self.require_administrator(requester).await?;
        let speaker = self.notices_speaker()?;
        let is_known = match self.storage().account(target).await? {
            Some(account) => !account.deactivated && target != speaker.user_id,
            None => false,
        };
        if !self.is_local(target) || !is_known {
            return Err(EngineError::not_found("There is no such user on this server"));
        }
        self.ensure_speaker(&speaker).await?;
        let room_id = self.notice_room(&speaker, target).await?;
        let command = SendCommand { room_id, event_type, content, transaction_id };
        self.send(&speaker, command).await
    }

    /// Refuses to let a user turn down the invitation into the room in which the server speaks to them.
    pub(crate) async fn check_not_notice_room(&self, user_id: &UserId, room_id: &RoomId) -> Result<()> {
        match self.storage().server_notice_room(user_id).await? {
            Some(notice_room) if notice_room == room_id => Err(EngineError::CannotLeaveServerNoticeRoom),
            _ => Ok(()),
        }
    }

    /// Whether it is the server who speaks.
    pub(crate) fn is_notices_user(&self, user_id: &UserId) -> bool {
        self.is_local(user_id) && self.settings().server_notices_user.as_deref() == Some(user_id.localpart())
    }

    fn notices_speaker(&self) -> Result<Requester> {
        let localpart = self.settings().server_notices_user.as_deref();
        let localpart = localpart.ok_or_else(|| {
            EngineError::BadRequest("This server has no user who speaks for it; see the setting".to_owned())
        })?;
        let user_id = UserId::parse(format!("@{localpart}:{}", self.server_name())).map_err(EngineError::internal)?;
        Ok(Requester { user_id, device_id: DEVICE.into() })
    }

    async fn ensure_speaker(&self, speaker: &Requester) -> Result<()> {
        if self.storage().account(&speaker.user_id).await?.is_some() {
            return Ok(());
        }
        let account = NewAccount {
            user_id: speaker.user_id.clone(),
            password_hash: None,
            display_name: Some("Server Notices".to_owned()),
            created_ts: self.world().clock.now_ms(),
            guest: false,
            admin: false,
        };
        match self.storage().create_account(account, None).await? {
            AccountCreation::Created | AccountCreation::UserIdTaken => Ok(()),
            AccountCreation::TokenSpent => Err(EngineError::internal("no registration token was spent")),
        }
    }

    /// The room in which the server speaks to a user, who is in it or invited.
    async fn notice_room(&self, speaker: &Requester, target: &UserId) -> Result<OwnedRoomId> {
        let _lock = self.inner.account_data.lock(&format!("{TAG} {target}")).await;
        let known = self.storage().server_notice_room(target).await?;
        let room_id = match known {
            Some(room_id) if self.speaks_in(speaker, &room_id).await? => {
                let room = self.known_room(&room_id).await?;
                if matches!(room.membership(target), MembershipState::Leave | MembershipState::Knock) {
                    self.invite(speaker, &room_id, target, None).await?;
                }
                room_id
            }
            _ => {
                let room_id = self.create_room(speaker, new_notice_room(target)).await?;
                self.storage().set_server_notice_room(target, &room_id).await?;
                room_id
            }
        };
        self.tag_notice_room(target, &room_id).await?;
        Ok(room_id)
    }

    async fn speaks_in(&self, speaker: &Requester, room_id: &RoomId) -> Result<bool> {
        let record = self.storage().membership(&speaker.user_id, room_id).await?;
        Ok(record.is_some_and(|record| record.membership == MembershipState::Join))
    }

    async fn tag_notice_room(&self, target: &UserId, room_id: &RoomId) -> Result<()> {
        if self.storage().account_data(target, Some(room_id), TAGS).await?.is_some() {
            return Ok(());
        }
        let change = Change::AccountData {
            user_id: target.to_owned(),
            room_id: Some(room_id.to_owned()),
            event_type: TAGS.to_owned(),
            content: to_raw_value(&json!({ "tags": { TAG: {} } })).map_err(EngineError::internal)?,
        };
        let submission = Submission { room: None, changes: vec![change] };
        self.storage().commit(submission).await.map(drop).map_err(commit_error)
    }
}

fn new_notice_room(target: &UserId) -> CreateRoomCommand {
    let mut power_levels = CanonicalJsonObject::new();
    power_levels.insert("users_default".to_owned(), CanonicalJsonValue::Integer(USERS_DEFAULT.into()));
    let invite: Vec<OwnedUserId> = vec![target.to_owned()];
    CreateRoomCommand {
        version: None,
        preset: Some(Preset::PrivateChat),
        published: false,
        alias_localpart: None,
        service: None,
        name: Some("Server Notices".to_owned()),
        topic: None,
        invite,
        initial_state: Vec::new(),
        creation_content: CanonicalJsonObject::new(),
        power_level_content_override: Some(power_levels),
        is_direct: false,
    }
}
