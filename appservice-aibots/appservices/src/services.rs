//! All services, and whose something is.

use std::{collections::BTreeMap, sync::Arc};

use reqwest::Client;
use ruma::{RoomAliasId, RoomId, UserId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Namespace, Registration};

/// What holds for all services.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServicesOptions {
    /// Whether services from before version 1.4 of the specification are to be understood: they want our token in the
    /// query, and know older paths only.
    pub legacy: bool,
}

/// All registered services. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Services {
    all: Arc<[Arc<Service>]>,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    pub(crate) registration: Registration,
    as_token_hash: [u8; 32],
    pub(crate) client: Client,
    pub(crate) options: ServicesOptions,
}

impl Services {
    /// Services that are called by `client`. [`conflicts`] says whether they get along with each other.
    pub fn new(registrations: Vec<Registration>, client: &Client, options: ServicesOptions) -> Self {
        let service = |registration: Registration| {
            let as_token_hash = Sha256::digest(registration.as_token.as_bytes()).into();
            Arc::new(Service { registration, as_token_hash, client: client.clone(), options })
        };
        Self { all: registrations.into_iter().map(service).collect() }
    }

    /// In the order of their registrations.
    pub fn all(&self) -> &[Arc<Service>] {
        &self.all
    }

    /// The service that a token stands for. Takes the same time whatever the token is.
    pub fn by_token(&self, token: &str) -> Option<&Arc<Service>> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for service in &*self.all {
            if bool::from(service.as_token_hash.ct_eq(&hash)) {
                found = Some(service);
            }
        }
        found
    }

    /// The service of that name.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Service>> {
        self.all.iter().find(|service| service.id() == id)
    }

    /// Whether a local user is one that only another service than `asker` may make, or log in as.
    pub fn is_users_of_another(&self, user_id: &UserId, asker: Option<&str>) -> bool {
        let mut others = self.all.iter().filter(|service| Some(service.id()) != asker);
        others.any(|service| service.owns_user(user_id))
    }

    /// Whether a local alias is one that only another service than `asker` may make or remove.
    pub fn is_alias_of_another(&self, alias: &RoomAliasId, asker: Option<&str>) -> bool {
        let mut others = self.all.iter().filter(|service| Some(service.id()) != asker);
        others.any(|service| any_exclusive(&service.registration.aliases, alias.as_str()))
    }
}

impl Service {
    /// What its file says.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.registration.id
    }

    /// Its own user.
    pub fn sender(&self) -> &UserId {
        &self.registration.sender
    }

    /// Whether it may speak for a user, and hears what that user hears. Users of other servers it never may.
    pub fn covers_user(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.sender().server_name()
            && (*user_id == *self.sender() || any(&self.registration.users, user_id.as_str()))
    }

    /// Whether it has an alias of this server among its own.
    pub fn covers_alias(&self, alias: &RoomAliasId) -> bool {
        any(&self.registration.aliases, alias.as_str())
    }

    /// Whether it hears what is said in a room, whoever is there.
    pub fn covers_room(&self, room_id: &RoomId) -> bool {
        any(&self.registration.rooms, room_id.as_str())
    }

    /// Whether nobody else may make that user.
    pub fn owns_user(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.sender().server_name()
            && (*user_id == *self.sender() || any_exclusive(&self.registration.users, user_id.as_str()))
    }
}

fn any(namespaces: &[Namespace], identifier: &str) -> bool {
    namespaces.iter().any(|namespace| namespace.matches(identifier))
}

fn any_exclusive(namespaces: &[Namespace], identifier: &str) -> bool {
    namespaces.iter().any(|namespace| namespace.is_exclusive() && namespace.matches(identifier))
}

/// Which registrations cannot be used together: the index of the later one, and a text that names the earlier one by
/// its id.
pub fn conflicts(registrations: &[Registration]) -> Vec<(usize, String)> {
    let (mut ids, mut tokens, mut senders) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut found = Vec::new();
    for (index, registration) in registrations.iter().enumerate() {
        let mut note = |what: &str, earlier: Option<&Registration>| {
            if let Some(earlier) = earlier {
                found.push((index, format!("{what} is also that of the service {:?}", earlier.id)));
            }
        };
        note("id", ids.insert(&registration.id, registration));
        note("as_token", tokens.insert(&registration.as_token, registration));
        note("sender_localpart", senders.insert(&registration.sender, registration));
    }
    found
}

#[cfg(test)]
mod tests {
    use ruma::{room_alias_id, server_name, user_id};

    use super::{Services, ServicesOptions, conflicts};
    use crate::Registration;

    fn registration(id: &str, token: &str, sender: &str) -> Registration {
        let text = format!(
            "id: {id}\nurl: null\nas_token: {token}\nhs_token: hs\nsender_localpart: {sender}\nnamespaces:\n  users:\n  \
             - {{regex: '@_{id}_.*', exclusive: true}}\n  - {{regex: '@shared_.*', exclusive: false}}\n  aliases:\n  \
             - {{regex: '#_{id}_.*', exclusive: true}}\n"
        );
        Registration::parse(&text, server_name!("example.org")).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "nothing is called with it")]
    fn s_107_whose_something_is() {
        let registrations = vec![registration("irc", "one", "ircbot"), registration("xmpp", "two", "xmppbot")];
        assert_eq!(conflicts(&registrations), []);
        // Fails where another test was faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let services = Services::new(registrations, &reqwest::Client::new(), ServicesOptions::default());
        assert_eq!(services.by_token("two").unwrap().id(), "xmpp");
        for token in ["", "on", "one ", "ONE", "hs"] {
            assert!(services.by_token(token).is_none(), "{token}");
        }
        let irc = services.by_id("irc").unwrap();
        assert!(irc.covers_user(user_id!("@_irc_bob:example.org")) && irc.covers_user(user_id!("@ircbot:example.org")));
        assert!(irc.covers_user(user_id!("@shared_x:example.org")));
        assert!(!irc.covers_user(user_id!("@_irc_bob:evil.example")));
        assert!(!irc.covers_user(user_id!("@_xmpp_bob:example.org")));
        let bob = user_id!("@_irc_bob:example.org");
        assert!(services.is_users_of_another(bob, None) && services.is_users_of_another(bob, Some("xmpp")));
        assert!(!services.is_users_of_another(bob, Some("irc")));
        assert!(services.is_users_of_another(user_id!("@ircbot:example.org"), None));
        assert!(!services.is_users_of_another(user_id!("@shared_x:example.org"), None));
        let alias = room_alias_id!("#_xmpp_room:example.org");
        assert!(services.is_alias_of_another(alias, Some("irc")) && !services.is_alias_of_another(alias, Some("xmpp")));
    }

    #[test]
    fn s_107_services_that_cannot_be_told_apart() {
        let registrations = [registration("a", "x", "b"), registration("a", "y", "c"), registration("d", "x", "b")];
        let found: Vec<_> = conflicts(&registrations).into_iter().map(|(index, _)| index).collect();
        assert_eq!(found, [1, 2, 2]);
    }
}
