//! Room aliases.

use ruma::{owned_room_alias_id, room_alias_id};

use crate::stage::{on_each_database, room, user};

#[tokio::test]
async fn an_alias_leads_to_the_room_it_was_first_given_to() {
    on_each_database(async |stage| {
        let (storage, alice, bob) = (&stage.storage, user("@alice:here"), user("@bob:here"));
        let alias = room_alias_id!("#tea:here");
        assert!(storage.alias(alias).await.unwrap().is_none());
        assert!(storage.create_alias(alias, &room(), &alice).await.unwrap());
        assert!(!storage.create_alias(alias, ruma::room_id!("!other:here"), &bob).await.unwrap());
        assert_eq!(storage.alias(alias).await.unwrap(), Some((room(), alice)));
        assert_eq!(storage.aliases_of(&room()).await.unwrap(), [owned_room_alias_id!("#tea:here")]);
        assert!(storage.delete_alias(alias).await.unwrap());
        assert!(!storage.delete_alias(alias).await.unwrap());
        assert!(storage.aliases_of(&room()).await.unwrap().is_empty());
    })
    .await;
}
