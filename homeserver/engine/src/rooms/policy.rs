//! Rooms with a policy server: it signs events that it recommends for the room.
//!
//! An event of ours that it does not sign is not sent. One of another server that it does not sign is soft-failed: kept,
//! but not shown, and not built upon. History that is read backwards is not shown to it. A policy server that does not
//! answer recommends nothing: then nobody can speak in the room until it is back, or until somebody with the power to do
//! so takes `m.room.policy` away, which needs no signature. What others said meanwhile is judged again later.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use outbound::CallError;
use rules::{
    Pdu, RoomSnapshot,
    room::policy::{POLICY_EVENT_TYPE, PolicyServer},
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};

use crate::{Engine, EngineError, Result};

/// For how long a policy server that did not answer is not asked again: each try would hold up the room.
const SILENT_MS: u64 = 30 * 1_000;
/// The same for one that is asked too much.
const BUSY_MS: u64 = 5 * 1_000;
/// For how long a refusal stands. An event may be offered to us by each server in the room.
const REFUSED_MS: u64 = 10 * 60 * 1_000;
/// How many refusals, and how many silent servers, are remembered. When there are more, all are forgotten: that costs
/// some calls.
const REMEMBERED_MAX: usize = 10_000;

/// The code for what is refused without one.
const FORBIDDEN: &str = "M_FORBIDDEN";
/// And for what is asked too often.
const LIMIT_EXCEEDED: &str = "M_LIMIT_EXCEEDED";
/// The codes that say something of the event.
const HANDED_ON: [&str; 5] = [FORBIDDEN, LIMIT_EXCEEDED, "M_TOO_LARGE", "M_BAD_JSON", "M_INVALID_PARAM"];

/// What policy servers said lately.
#[derive(Default)]
pub(crate) struct PolicyAnswers {
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    /// Servers that did not answer about a room, or that they are asked too much, and until when they are not asked again.
    /// By room, for a room of which nobody wants to hear is not to take their policy server from others.
    silent: HashMap<(OwnedServerName, OwnedRoomId), (u64, Option<PolicyRefusal>)>,
    /// Events that were refused, until when, and what was said.
    refused: HashMap<(OwnedServerName, OwnedEventId), (u64, PolicyRefusal)>,
}

/// What a policy server says of an event that it does not sign, as the client is told it. What would be about the client's
/// own session, if we said it, is not handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRefusal {
    /// The status: 400, 403 or 429.
    pub status: u16,
    /// The `errcode`.
    pub errcode: String,
    /// The `error`.
    pub error: String,
}

impl PolicyRefusal {
    fn new(status: u16, errcode: Option<String>, error: Option<String>) -> Self {
        let is_harmless =
            |code: &String| HANDED_ON.contains(&&**code) || (!code.starts_with("M_") && code.contains('.'));
        let default = if status == 429 { LIMIT_EXCEEDED } else { FORBIDDEN };
        let errcode = errcode.filter(is_harmless).unwrap_or_else(|| default.to_owned());
        let error = error.unwrap_or_else(|| "The policy server of the room does not allow this event".to_owned());
        Self { status: if matches!(status, 400 | 429) { status } else { 403 }, errcode, error }
    }
}

/// Why an event has no signature of the policy server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRecommended {
    /// It refuses.
    #[error("{}", .0.error)]
    Refused(PolicyRefusal),
    /// It is asked too much.
    #[error("{}", .0.error)]
    NotNow(PolicyRefusal),
    /// It did not answer, or with what makes no sense.
    #[error("The policy server of the room could not be asked; try again later")]
    NoAnswer,
}

/// Why an event is soft-failed of which the policy server could not be asked. It is judged again later.
pub(crate) const NOT_ASKED: &str = "the policy server of the room could not be asked";
/// Why an event is soft-failed of which the policy server could not be asked as long as it was worth trying.
pub(crate) const NEVER_ASKED: &str = "the policy server of the room could not be asked for long; it was given up";
/// Why an event is soft-failed that the policy server did not sign.
pub(crate) const NOT_RECOMMENDED: &str = "not recommended by the policy server of the room";

/// Whether an event was soft-failed only for now, for the policy server of its room could not be asked.
pub(crate) fn is_not_asked(reason: &str) -> bool {
    reason == NOT_ASKED
}

impl From<NotRecommended> for EngineError {
    fn from(reason: NotRecommended) -> Self {
        match reason {
            NotRecommended::Refused(refusal) | NotRecommended::NotNow(refusal) => Self::NotRecommended(refusal),
            NotRecommended::NoAnswer => Self::CannotFederate(reason.to_string()),
        }
    }
}

impl Engine {
    /// The policy server that a room uses for an event: the one that the current state names, while it has a joined user.
    pub(crate) async fn policy_server_for(&self, room: &RoomSnapshot, pdu: &Pdu) -> Result<Option<PolicyServer>> {
        let policy = self.state_pdu(room, &POLICY_EVENT_TYPE.into(), "").await?;
        let server = policy.and_then(|policy| PolicyServer::named_by(&policy));
        Ok(server.filter(|server| PolicyServer::is_asked_about(pdu) && room.has_server(&server.via)))
    }

    /// Whether the policy server of the room recommends an event by what it has signed, if the room has one.
    pub(crate) async fn is_recommended(&self, room: &RoomSnapshot, pdu: &Pdu) -> Result<bool> {
        let server = self.policy_server_for(room, pdu).await?;
        Ok(server.is_none_or(|server| server.recommends(pdu, &room.rules)))
    }

    /// An event with the signature of the room's policy server, if the room has one, which is asked for it.
    pub(crate) async fn with_recommendation(&self, room: &RoomSnapshot, pdu: Arc<Pdu>) -> Result<Arc<Pdu>> {
        let Some(server) = self.policy_server_for(room, &pdu).await? else { return Ok(pdu) };
        if server.recommends(&pdu, &room.rules) {
            return Ok(pdu);
        }
        Ok(self.ask_policy_server(room, &server, &pdu).await?)
    }

    /// The same for an event that others made, which is as it was if it gets no signature; and why it is soft-failed if
    /// it needs one.
    pub(crate) async fn with_recommendation_if_any(
        &self,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
    ) -> Result<(Arc<Pdu>, &'static str)> {
        match self.with_recommendation(room, pdu.clone()).await {
            Ok(signed) => Ok((signed, NOT_RECOMMENDED)),
            Err(EngineError::Storage(error)) => Err(error.into()),
            Err(EngineError::CannotFederate(_)) => Ok((pdu.clone(), NOT_ASKED)),
            Err(EngineError::NotRecommended(refusal)) if refusal.status == 429 => Ok((pdu.clone(), NOT_ASKED)),
            Err(_) => Ok((pdu.clone(), NOT_RECOMMENDED)),
        }
    }

    async fn ask_policy_server(
        &self,
        room: &RoomSnapshot,
        server: &PolicyServer,
        pdu: &Pdu,
    ) -> Result<Arc<Pdu>, NotRecommended> {
        let answers = &self.inner.rooms.policy_answers;
        answers.recall(server, pdu, self.world().clock.now_ms())?;
        let asked = self.federation().policy_signature(&server.via, pdu).await;
        let signed = asked.map(|signature| server.add_signature(pdu, &signature, &room.rules).map(Arc::new));
        let reason = match signed {
            Ok(Some(signed)) => return Ok(signed),
            Ok(None) => {
                let error = "The signature of the room's policy server is not valid".to_owned();
                NotRecommended::Refused(PolicyRefusal::new(403, None, Some(error)))
            }
            Err(CallError::Refused { status: status @ 429, errcode, error, .. }) => {
                NotRecommended::NotNow(PolicyRefusal::new(status, errcode, error))
            }
            Err(CallError::Refused { status: status @ 400..=499, errcode, error, .. }) => {
                NotRecommended::Refused(PolicyRefusal::new(status, errcode, error))
            }
            Err(error) => {
                tracing::info!(destination = %server.via, room.id = %room.room_id, %error, "no answer by the policy server");
                NotRecommended::NoAnswer
            }
        };
        answers.remember(server, pdu, &reason, self.world().clock.now_ms());
        Err(reason)
    }
}

impl PolicyAnswers {
    fn recall(&self, server: &PolicyServer, pdu: &Pdu, now_ms: u64) -> Result<(), NotRecommended> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.silent.get(&(server.via.clone(), pdu.room_id.clone())) {
            Some((until_ms, None)) if now_ms < *until_ms => return Err(NotRecommended::NoAnswer),
            Some((until_ms, Some(said))) if now_ms < *until_ms => return Err(NotRecommended::NotNow(said.clone())),
            _ => {}
        }
        match answers.refused.get(&(server.via.clone(), pdu.event_id.clone())) {
            Some((until_ms, reason)) if now_ms < *until_ms => Err(NotRecommended::Refused(reason.clone())),
            _ => Ok(()),
        }
    }

    fn remember(&self, server: &PolicyServer, pdu: &Pdu, reason: &NotRecommended, now_ms: u64) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            NotRecommended::Refused(reason) => {
                if answers.refused.len() >= REMEMBERED_MAX {
                    answers.refused.clear();
                }
                let key = (server.via.clone(), pdu.event_id.clone());
                answers.refused.insert(key, (now_ms.saturating_add(REFUSED_MS), reason.clone()));
            }
            NotRecommended::NoAnswer => answers.wait(server, pdu, now_ms.saturating_add(SILENT_MS), None),
            NotRecommended::NotNow(said) => {
                answers.wait(server, pdu, now_ms.saturating_add(BUSY_MS), Some(said.clone()));
            }
        }
    }
}

impl Answers {
    fn wait(&mut self, server: &PolicyServer, pdu: &Pdu, until_ms: u64, said: Option<PolicyRefusal>) {
        if self.silent.len() >= REMEMBERED_MAX {
            self.silent.clear();
        }
        self.silent.insert((server.via.clone(), pdu.room_id.clone()), (until_ms, said));
    }
}
