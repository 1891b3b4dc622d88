//! What rooms are and become: upgraded, in spaces, listed, knocked at, encrypted.

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, pin_mut};
use matrix_sdk::{
    RoomState,
    room_directory_search::RoomDirectorySearch,
    ruma::{
        OwnedRoomId, RoomAliasId, RoomId,
        api::client::room::{Visibility, create_room, upgrade_room},
        events::{
            InitialStateEvent,
            room::{
                encryption::RoomEncryptionEventContent,
                join_rules::{JoinRule, RoomJoinRulesEventContent},
                member::MembershipState,
            },
        },
        room::RoomType,
        serde::Raw,
    },
};
use matrix_sdk_ui::spaces::SpaceService;
use tokio::time::timeout;

use crate::person::{DEADLINE, Person, Server};

pub async fn directories(alice: &Person, bob: &Person, server: &Server) -> Result<OwnedRoomId> {
    let mut request = create_room::v3::Request::new();
    request.name = Some("Garden".to_owned());
    request.topic = Some("Camellia sinensis".to_owned());
    request.visibility = Visibility::Public;
    request.preset = Some(create_room::v3::RoomPreset::PublicChat);
    request.room_alias_name = Some("garden".to_owned());
    let room_id = alice.create_room(request).await?;

    let mut search = RoomDirectorySearch::new(bob.client.clone());
    search.search(Some("camellia".to_owned()), 10, None).await?;
    let (found, _changes) = search.results();
    ensure!(found.len() == 1 && found[0].room_id == room_id, "{found:?}");
    let alias = RoomAliasId::parse(format!("#garden:{}", server.name))?;
    ensure!(bob.client.resolve_room_alias(&alias).await?.room_id == room_id);
    let preview = bob.client.get_room_preview((&*alias).into(), vec![]).await?;
    ensure!(preview.name.as_deref() == Some("Garden") && preview.num_joined_members == 1, "{preview:?}");
    bob.client.join_room_by_id_or_alias((&*alias).into(), &[]).await?;
    alice.sees_member(&room_id, bob, MembershipState::Join).await?;
    let people = bob.client.search_users("alice", 10).await?;
    ensure!(people.results.iter().any(|user| user.user_id == alice.user_id()), "alice is not in the directory");
    Ok(room_id)
}

pub async fn space(alice: &Person, bob: &Person, child: &RoomId) -> Result<()> {
    let mut request = create_room::v3::Request::new();
    request.name = Some("House of tea".to_owned());
    request.preset = Some(create_room::v3::RoomPreset::PublicChat);
    let mut content = create_room::v3::CreationContent::new();
    content.room_type = Some(RoomType::Space);
    request.creation_content = Some(Raw::new(&content)?);
    let space_id = alice.create_room(request).await?;
    SpaceService::new(alice.client.clone()).await.add_child_to_space(child.to_owned(), space_id.clone()).await?;

    bob.joins(&space_id, alice).await?;
    let spaces = SpaceService::new(bob.client.clone()).await;
    bob.until_true("the space", async || {
        Ok(spaces.top_level_joined_spaces().await.iter().any(|space| space.room_id == space_id))
    })
    .await?;
    let list = spaces.space_room_list(space_id).await;
    list.paginate().await?;
    let rooms: Vec<_> = list.rooms().await.into_iter().map(|room| room.room_id).collect();
    ensure!(rooms == [child], "{rooms:?}");
    Ok(())
}

/// Knocks, is seen knocking, is let in.
pub async fn knock(alice: &Person, carol: &Person) -> Result<()> {
    let mut request = create_room::v3::Request::new();
    request.name = Some("Cellar".to_owned());
    let rules = InitialStateEvent::with_empty_state_key(RoomJoinRulesEventContent::new(JoinRule::Knock));
    request.initial_state = vec![rules.to_raw_any()];
    let room_id = alice.create_room(request).await?;
    let (knocks, _task) = alice.joined(&room_id).await?.subscribe_to_knock_requests().await?;
    pin_mut!(knocks);
    carol.client.knock(room_id.clone().into(), Some("Tea?".to_owned()), vec![]).await?;
    carol.room(&room_id, RoomState::Knocked).await?;
    let request = loop {
        let requests = timeout(DEADLINE, knocks.next()).await.context("no knock was heard")?;
        if let Some(request) = requests.context("the knocks ended")?.into_iter().next() {
            break request;
        }
    };
    ensure!(request.member_info.user_id == carol.user_id() && request.member_info.reason.as_deref() == Some("Tea?"));
    request.accept().await?;
    carol.room(&room_id, RoomState::Invited).await?;
    carol.joins(&room_id, alice).await?;
    Ok(())
}

/// Who follows a tombstone finds the new room, and from there the old one.
pub async fn upgrade(alice: &Person, bob: &Person, old: &RoomId) -> Result<()> {
    let capabilities = alice.client.homeserver_capabilities().room_versions().await?;
    let request = upgrade_room::v3::Request::new(old.to_owned(), capabilities.default);
    let replacement = alice.client.send(request).await?.replacement_room;
    let room = bob.joined(old).await?;
    let successor = bob.until("the tombstone", async || Ok(room.successor_room())).await?;
    ensure!(successor.room_id == replacement);
    let joined = bob.joins(&replacement, alice).await?;
    let predecessor = bob.until("the predecessor", async || Ok(joined.predecessor_room())).await?;
    ensure!(predecessor.room_id == old);
    bob.until_true("the same name", async || Ok(joined.name().as_deref() == Some("Garden"))).await
}

/// A message each way that the server cannot read.
pub async fn encryption(alice: &Person, bob: &Person) -> Result<()> {
    let mut request = create_room::v3::Request::new();
    request.invite = vec![bob.user_id().to_owned()];
    let content = RoomEncryptionEventContent::with_recommended_defaults();
    request.initial_state = vec![InitialStateEvent::with_empty_state_key(content).to_raw_any()];
    let room_id = alice.create_room(request).await?;
    bob.room(&room_id, RoomState::Invited).await?;
    bob.joins(&room_id, alice).await?;
    for (writer, reader) in [(alice, bob), (bob, alice)] {
        let room = writer.joined(&room_id).await?;
        writer.until_true("encryption", async || Ok(room.latest_encryption_state().await?.is_encrypted())).await?;
        let timeline = reader.timeline(&room_id).await?;
        let event_id = writer.say(&room_id, "The recipe").await?;
        reader
            .item(&timeline, &event_id, "the secret", |item| {
                item.encryption_info().is_some()
                    && item.content().as_message().is_some_and(|message| message.body() == "The recipe")
            })
            .await?;
    }
    Ok(())
}
