//! What belongs to a user: sessions, profile, tags, account data, push rules, whom they ignore.

use anyhow::{Context as _, Result, ensure};
use matrix_sdk::{
    notification_settings::RoomNotificationMode,
    ruma::{
        RoomId,
        api::client::{account::whoami, receipt::create_receipt::v3::ReceiptType},
        events::{GlobalAccountDataEventType, receipt::ReceiptThread},
    },
};
use serde_json::json;

use crate::person::Person;

/// What one session of a user keeps, the other is told.
pub async fn data(alice: &Person, bob: &Person, phone: &Person, room_id: &RoomId) -> Result<()> {
    let (room, other) = (bob.joined(room_id).await?, phone.joined(room_id).await?);
    for favourite in [true, false] {
        room.set_is_favourite(favourite, favourite.then_some(0.5)).await?;
        phone.until_true(&format!("a favourite: {favourite}"), async || Ok(other.is_favourite() == favourite)).await?;
    }
    bob.client.account().mark_as_dm(room_id, &[alice.user_id().to_owned()]).await?;
    phone.until_true("a direct chat", async || Ok(other.direct_targets_length() == 1)).await?;
    // The SDK sends only what it believes to be a change.
    for unread in [true, false] {
        room.set_unread_flag(unread).await?;
        let what = format!("marked unread: {unread}");
        phone.until_true(&what, async || Ok(other.is_marked_unread() == unread)).await?;
        bob.until_true(&what, async || Ok(room.is_marked_unread() == unread)).await?;
    }
    let pot = GlobalAccountDataEventType::from("org.example.pot");
    let content = serde_json::from_value(json!({"colour": "green"}))?;
    bob.client.account().set_account_data_raw(pot.clone(), content).await?;
    phone
        .until_true("the pot", async || Ok(phone.client.account().account_data_raw(pot.clone()).await?.is_some()))
        .await
}

pub async fn profile(alice: &Person, bob: &Person, room_id: &RoomId) -> Result<()> {
    bob.client.account().set_display_name(Some("Robert")).await?;
    let room = alice.joined(room_id).await?;
    alice
        .until_true("the new name", async || {
            let member = room.get_member_no_sync(bob.user_id()).await?;
            Ok(member.is_some_and(|member| member.display_name() == Some("Robert")))
        })
        .await?;
    let profile = alice.client.account().fetch_user_profile_of(bob.user_id()).await?;
    ensure!(profile.get("displayname").and_then(|name| name.as_str()) == Some("Robert"));
    Ok(())
}

/// In a quiet room only a keyword is counted; in a muted one nothing is.
pub async fn push_rules(alice: &Person, bob: &Person, phone: &Person, room_id: &RoomId) -> Result<()> {
    let settings = bob.client.notification_settings().await;
    let counting = phone.joined(room_id).await?;
    let count = || counting.unread_notification_counts().notification_count;
    let timeline = phone.timeline(room_id).await?;
    settings.add_keyword("oolong".to_owned()).await?;
    settings.set_room_notification_mode(room_id, RoomNotificationMode::MentionsAndKeywordsOnly).await?;
    hears_of_mode(phone, room_id, RoomNotificationMode::MentionsAndKeywordsOnly).await?;
    let unheard = alice.say(room_id, "There is tea left").await?;
    phone.item(&timeline, &unheard, "a message in a quiet room", |_| true).await?;
    ensure!(count() == 0, "a quiet room counts");
    let heard = alice.say(room_id, "There is Oolong left").await?;
    phone.until_true("the keyword", async || Ok(count() == 1)).await?;
    let read = bob.joined(room_id).await?;
    read.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, heard).await?;
    phone.until_true("nothing unread", async || Ok(count() == 0)).await?;

    settings.set_room_notification_mode(room_id, RoomNotificationMode::Mute).await?;
    hears_of_mode(phone, room_id, RoomNotificationMode::Mute).await?;
    let unheard = alice.say(room_id, "Unheard Oolong").await?;
    phone.item(&timeline, &unheard, "a message in a muted room", |_| true).await?;
    ensure!(count() == 0, "a muted room counts");
    Ok(settings.remove_keyword("oolong").await?)
}

/// What one session set for a room, the other is told.
async fn hears_of_mode(phone: &Person, room_id: &RoomId, mode: RoomNotificationMode) -> Result<()> {
    let told = phone.client.notification_settings().await;
    let what = format!("the mode {mode:?}");
    phone
        .until_true(&what, async || Ok(told.get_user_defined_room_notification_mode(room_id).await == Some(mode)))
        .await
}

/// Nothing of an ignored user arrives, and everything of others does.
pub async fn ignore(alice: &Person, bob: &Person, carol: &Person, room_id: &RoomId) -> Result<()> {
    alice.joined(room_id).await?.invite_user_by_id(carol.user_id()).await?;
    carol.joins(room_id, alice).await?;
    bob.client.account().ignore_user(carol.user_id()).await?;
    bob.until_true("the list", async || Ok(bob.client.is_user_ignored(carol.user_id()).await)).await?;
    let (hers, his) = (alice.timeline(room_id).await?, bob.timeline(room_id).await?);
    let unheard = carol.say(room_id, "Can you hear me?").await?;
    alice.item(&hers, &unheard, "what the ignored one says", |_| true).await?;
    let heard = alice.say(room_id, "I can").await?;
    bob.item(&his, &heard, "the next message", |_| true).await?;
    ensure!(his.item_by_event_id(&unheard).await.is_none(), "an ignored user was heard");
    bob.client.account().unignore_user(carol.user_id()).await?;
    bob.until_true("an empty list", async || Ok(!bob.client.is_user_ignored(carol.user_id()).await)).await?;
    let again = carol.say(room_id, "And now?").await?;
    bob.item(&his, &again, "them again", |_| true).await?;
    Ok(())
}

/// A new access token for the refresh token: the session goes on.
pub async fn refresh(bob: &Person) -> Result<()> {
    let before = bob.client.session_tokens().context("no tokens")?;
    bob.client.refresh_access_token().await?;
    let after = bob.client.session_tokens().context("no tokens")?;
    ensure!(before.access_token != after.access_token && before.refresh_token != after.refresh_token);
    ensure!(bob.client.whoami().await?.user_id == bob.user_id());
    Ok(())
}

/// The session is over, and other sessions see that it is gone.
pub async fn logout(bob: &Person, phone: &Person) -> Result<()> {
    let device = phone.client.device_id().context("no device")?.to_owned();
    ensure!(bob.client.device_exists(device.clone()).await?);
    phone.service()?.stop().await;
    phone.client.logout().await?;
    let refusal = phone.client.send(whoami::v3::Request::new()).await.err().context("it is still logged in")?;
    // The SDK tried to renew the token, so that this is the refusal of that.
    ensure!(refusal.to_string().contains("M_UNKNOWN_TOKEN"), "{refusal}");
    ensure!(!bob.client.device_exists(device).await?, "the device is still there");
    Ok(())
}
