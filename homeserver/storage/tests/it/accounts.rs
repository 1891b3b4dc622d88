//! Accounts, profiles, registration tokens.

use homeserver_storage::{AccountCreation, NewAccount, NewSession, Profile, RegistrationToken};
use ruma::owned_device_id;
use tokio::task::JoinSet;

use crate::stage::{on_each_database, user};

fn account(name: &str) -> NewAccount {
    NewAccount {
        user_id: user(&format!("@{name}:here")),
        password_hash: Some("hash".to_owned()),
        created_ts: 1000,
        guest: false,
        admin: name == "admin",
    }
}

fn token(text: &str, uses_allowed: Option<u32>, expires_ts: Option<u64>) -> RegistrationToken {
    RegistrationToken { token: text.to_owned(), uses_allowed, uses: 0, expires_ts }
}

#[tokio::test]
async fn a_user_id_is_taken_for_good() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        assert_eq!(storage.create_account(account("alice"), None).await.unwrap(), AccountCreation::Created);
        assert_eq!(storage.create_account(account("alice"), None).await.unwrap(), AccountCreation::UserIdTaken);
        assert_eq!(storage.create_account(account("admin"), None).await.unwrap(), AccountCreation::Created);
        let alice = user("@alice:here");
        let stored = storage.account(&alice).await.unwrap().unwrap();
        assert_eq!((stored.password_hash.as_deref(), stored.created_ts), (Some("hash"), 1000));
        assert_eq!((stored.admin, stored.guest, stored.deactivated), (false, false, false));
        assert!(storage.account(&user("@admin:here")).await.unwrap().unwrap().admin);

        storage.set_password(&alice, "better").await.unwrap();
        assert_eq!(storage.account(&alice).await.unwrap().unwrap().password_hash.as_deref(), Some("better"));
        let session = NewSession {
            user_id: alice.clone(),
            device_id: owned_device_id!("PHONE"),
            display_name: None,
            access_token_hash: [1; 32],
            access_token_expires_ts: None,
            refresh_token_hash: Some([2; 32]),
            now_ts: 1,
        };
        storage.create_session(session).await.unwrap();
        assert!(storage.access_token(&[1; 32]).await.unwrap().is_some());
        storage.deactivate_account(&alice).await.unwrap();
        let stored = storage.account(&alice).await.unwrap().unwrap();
        assert_eq!((stored.deactivated, stored.password_hash), (true, None));
        assert_eq!(storage.access_token(&[1; 32]).await.unwrap(), None, "no session is left");
        assert!(storage.devices(&alice).await.unwrap().is_empty());
        storage.set_password(&alice, "again").await.unwrap();
        assert_eq!(storage.account(&alice).await.unwrap().unwrap().password_hash, None, "nobody comes back");
        assert_eq!(storage.create_account(account("alice"), None).await.unwrap(), AccountCreation::UserIdTaken);
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn profiles_belong_to_accounts() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let alice = user("@alice:here");
        assert_eq!(storage.profile(&alice).await.unwrap(), None);
        storage.create_account(account("alice"), None).await.unwrap();
        assert_eq!(storage.profile(&alice).await.unwrap(), Some(Profile::default()));
        storage.set_avatar_url(&alice, Some("mxc://here/a")).await.unwrap();
        storage.set_display_name(&alice, Some("Alice")).await.unwrap();
        let (name, avatar) = (Some("Alice".to_owned()), Some("mxc://here/a".to_owned()));
        let profile = Profile { display_name: name, avatar_url: avatar.clone() };
        assert_eq!(storage.profile(&alice).await.unwrap(), Some(profile));
        storage.set_display_name(&alice, None).await.unwrap();
        let profile = Profile { display_name: None, avatar_url: avatar };
        assert_eq!(storage.profile(&alice).await.unwrap(), Some(profile));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_account_makes_one() {
    on_each_database(async |stage| {
        stage.storage.create_registration_token(&token("one", Some(1), None)).await.unwrap();
        let mut racers = JoinSet::new();
        for racer in 0..20 {
            let storage = stage.storage.clone();
            racers.spawn(async move {
                storage.create_account(account(&format!("racer{racer}")), Some("one")).await.unwrap()
            });
        }
        let outcomes = racers.join_all().await;
        let created = outcomes.iter().filter(|outcome| **outcome == AccountCreation::Created).count();
        let refused = outcomes.iter().filter(|outcome| **outcome == AccountCreation::TokenSpent).count();
        assert_eq!((created, refused), (1, 19));
        assert_eq!(stage.storage.registration_token("one").await.unwrap().unwrap().uses, 1);
        let accounts = stage.query("SELECT user_id FROM accounts").await;
        assert_eq!(accounts.len(), 1, "who was refused has no account");
    })
    .await;
}

#[tokio::test]
async fn tokens_are_spent_only_by_accounts_that_come_about() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        storage.create_account(account("alice"), None).await.unwrap();
        assert!(storage.create_registration_token(&token("any", None, Some(1000))).await.unwrap());
        assert!(!storage.create_registration_token(&token("any", Some(3), None)).await.unwrap(), "taken");
        let with = async |name, text| storage.create_account(account(name), Some(text)).await.unwrap();
        assert_eq!(with("alice", "any").await, AccountCreation::UserIdTaken);
        assert_eq!(with("bob", "any").await, AccountCreation::TokenSpent, "expired at 1000, which is now");
        assert_eq!(with("bob", "unknown").await, AccountCreation::TokenSpent);
        assert_eq!(with("bob", "nul\0").await, AccountCreation::TokenSpent);
        assert_eq!(storage.registration_token("any").await.unwrap().unwrap().uses, 0);
        assert!(storage.delete_registration_token("any").await.unwrap());
        assert!(!storage.delete_registration_token("any").await.unwrap());
        storage.create_registration_token(&token("two", Some(2), Some(1001))).await.unwrap();
        assert_eq!(with("bob", "two").await, AccountCreation::Created);
        assert_eq!(with("carol", "two").await, AccountCreation::Created);
        assert_eq!(with("dave", "two").await, AccountCreation::TokenSpent);
        let expected = RegistrationToken { uses: 2, ..token("two", Some(2), Some(1001)) };
        assert_eq!(storage.registration_tokens().await.unwrap(), [expected]);
    })
    .await;
}
