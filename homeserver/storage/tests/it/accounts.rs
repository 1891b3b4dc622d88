//! Accounts, profiles, registration tokens.

use homeserver_storage::{AccountCreation, NewAccount, NewSession, Profile, RegistrationToken, TokenPurpose};
use ruma::owned_device_id;
use tokio::task::JoinSet;

use crate::stage::{on_each_database, user};

fn account(name: &str) -> NewAccount {
    NewAccount {
        user_id: user(&format!("@{name}:here")),
        password_hash: Some("hash".to_owned()),
        display_name: None,
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
        storage.deactivate_account(&alice, false).await.unwrap();
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

#[tokio::test]
async fn locks_and_suspensions_are_seen_at_once_by_tokens_in_use() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let alice = user("@alice:here");
        storage.create_account(account("alice"), None).await.unwrap();
        let session = NewSession {
            user_id: alice.clone(),
            device_id: owned_device_id!("PHONE"),
            display_name: None,
            access_token_hash: [1; 32],
            access_token_expires_ts: None,
            refresh_token_hash: None,
            now_ts: 1,
        };
        storage.create_session(session).await.unwrap();
        let standing = async || {
            let token = storage.access_token(&[1; 32]).await.unwrap().unwrap();
            (token.locked, token.suspended)
        };
        assert_eq!(standing().await, (false, false));
        storage.set_locked(&alice, true).await.unwrap();
        assert_eq!(standing().await, (true, false));
        storage.set_suspended(&alice, true).await.unwrap();
        storage.set_locked(&alice, false).await.unwrap();
        assert_eq!(standing().await, (false, true));
        let stored = storage.account(&alice).await.unwrap().unwrap();
        assert_eq!((stored.locked, stored.suspended, stored.erased), (false, true, false));
        storage.deactivate_account(&alice, true).await.unwrap();
        let bob = user("@bob:here");
        assert_eq!(storage.erased_users(&[alice.clone(), bob]).await.unwrap(), [alice]);
    })
    .await;
}

#[tokio::test]
async fn s_123_a_login_token_is_spent_once_and_in_time() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let alice = user("@alice:here");
        for (number, purpose) in [(1, TokenPurpose::Login), (2, TokenPurpose::Login), (3, TokenPurpose::OpenId)] {
            storage.create_short_lived_token(purpose, &[number; 32], &alice, 1000, 1).await.unwrap();
        }
        let spend =
            async |number, now_ts| storage.spend_short_lived_token(TokenPurpose::Login, &[number; 32], now_ts).await;
        assert_eq!(spend(1, 999).await.unwrap(), Some(alice.clone()));
        assert_eq!(spend(1, 999).await.unwrap(), None, "once");
        assert_eq!(spend(2, 1000).await.unwrap(), None, "in time");
        assert_eq!(spend(3, 1).await.unwrap(), None, "for its purpose");
        let open_id = async |now_ts| storage.short_lived_token(TokenPurpose::OpenId, &[3; 32], now_ts).await;
        assert_eq!(open_id(999).await.unwrap(), Some(alice.clone()));
        assert_eq!(open_id(999).await.unwrap(), Some(alice));
        assert_eq!(open_id(1000).await.unwrap(), None);
    })
    .await;
}
