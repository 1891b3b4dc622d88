//! One verification as a state machine: a message or a wish comes, messages go out.

use std::collections::BTreeSet;

use ruma::{DeviceId, OwnedDeviceId, OwnedRoomId, UserId};
use serde_json::{Value, json};
use vodozemac::Curve25519PublicKey;
use vodozemac::sas::{EstablishedSas, Sas};

use super::messages::{self, Message};
use super::sas::{self, End, Keys, ShortString};
use super::{FlowId, Stage};
use crate::signed_json::{Object, text};

/// What a flow must know of the world around it.
pub(super) struct Parties<'a> {
    pub(super) user_id: &'a UserId,
    pub(super) device_id: &'a DeviceId,
    /// The keys that we let the other verify.
    pub(super) our_keys: Keys,
    /// The keys that the other may let us verify, as we know them.
    pub(super) their_keys: Keys,
}

/// Where a flow is, with what it needs to go on.
#[expect(clippy::large_enum_variant, reason = "there are few flows")]
pub(super) enum Step {
    /// We asked.
    Asked,
    /// The other asked.
    Requested,
    /// The other started without asking first.
    StartOffered {
        start: Object,
    },
    Ready,
    /// We started: the other commits itself to a key.
    Started {
        sas: Sas,
        start: Object,
    },
    /// The other is committed and has our key: it shows its own.
    Committed {
        sas: Sas,
        start: Object,
        commitment: String,
    },
    /// We are committed: the other shows its key.
    Accepted {
        sas: Sas,
    },
    /// Both have both keys.
    Compare {
        sas: EstablishedSas,
        short: ShortString,
        is_confirmed: bool,
        their_macs: Option<Object>,
    },
    Done,
    Cancelled {
        code: String,
        by_us: bool,
    },
}

/// A verification.
pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) device_id: Option<OwnedDeviceId>,
    pub(super) room_id: Option<OwnedRoomId>,
    pub(super) step: Step,
    pub(super) begun_at_ms: u64,
    /// The devices that were asked.
    pub(super) asked: Vec<OwnedDeviceId>,
    /// The keys that the other's codes vouched for, once it is done.
    pub(super) verified: BTreeSet<String>,
}

/// What goes out, or the code by which the flow ends.
pub(super) type Outcome = Result<Vec<Message>, &'static str>;

impl Flow {
    pub(super) fn new(id: FlowId, room_id: Option<OwnedRoomId>, step: Step, now_ms: u64) -> Self {
        Self { id, device_id: None, room_id, step, begun_at_ms: now_ms, asked: Vec::new(), verified: BTreeSet::new() }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.step, Step::Done | Step::Cancelled { .. })
    }

    pub(super) fn stage(&self) -> Stage {
        match &self.step {
            Step::Asked => Stage::Asked,
            Step::Requested | Step::StartOffered { .. } => Stage::Offered,
            Step::Ready => Stage::Ready,
            Step::Started { .. } | Step::Committed { .. } | Step::Accepted { .. } => Stage::Exchanging,
            Step::Compare { short, is_confirmed, .. } => {
                Stage::Compare { emoji: short.emoji, decimals: short.decimals, is_confirmed: *is_confirmed }
            }
            Step::Done => Stage::Done,
            Step::Cancelled { code, by_us } => Stage::Cancelled { code: code.clone(), by_us: *by_us },
        }
    }

    /// What ties a message to this flow.
    pub(super) fn tie(&self, content: &mut Object) {
        if self.room_id.is_some() {
            content.insert("m.relates_to".into(), json!({ "rel_type": "m.reference", "event_id": self.id.id }));
        } else {
            content.insert("transaction_id".into(), Value::String(self.id.id.clone()));
        }
    }

    pub(super) fn accept(&mut self, parties: &Parties<'_>) -> Outcome {
        match std::mem::replace(&mut self.step, Step::Ready) {
            Step::Requested => Ok(vec![messages::ready(parties.device_id)]),
            Step::StartOffered { start } => self.accept_start(&start),
            other => {
                self.step = other;
                Ok(Vec::new())
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "one signature for every wish")]
    pub(super) fn start(&mut self, parties: &Parties<'_>) -> Outcome {
        if !matches!(self.step, Step::Ready) {
            return Ok(Vec::new());
        }
        let (event_type, mut start) = messages::start(parties.device_id);
        self.tie(&mut start);
        self.step = Step::Started { sas: Sas::new(), start: start.clone() };
        Ok(vec![(event_type, start)])
    }

    pub(super) fn confirm(&mut self, parties: &Parties<'_>) -> Outcome {
        let Some(device_id) = self.device_id.clone() else { return Ok(Vec::new()) };
        let Step::Compare { sas, is_confirmed, their_macs, .. } = &mut self.step else { return Ok(Vec::new()) };
        if *is_confirmed {
            return Ok(Vec::new());
        }
        *is_confirmed = true;
        let (us, them) = ends(parties, &self.id, &device_id);
        let (codes, list) = sas::macs(sas, us, them, &self.id.id, &parties.our_keys);
        let mut out = vec![messages::mac(&codes, &list)];
        if let Some(macs) = their_macs.take() {
            out.extend(self.check_macs(parties, &macs)?);
        }
        Ok(out)
    }

    pub(super) fn receive(&mut self, parties: &Parties<'_>, event_type: &str, content: &Object) -> Outcome {
        if event_type == "m.key.verification.cancel" {
            let code = text(content, "code").unwrap_or("m.user").to_owned();
            if !self.has_ended() {
                self.step = Step::Cancelled { code, by_us: false };
            }
            return Ok(Vec::new());
        }
        let step = std::mem::replace(&mut self.step, Step::Ready);
        match (step, event_type) {
            (ended @ (Step::Done | Step::Cancelled { .. }), _) => {
                self.step = ended;
                Ok(Vec::new())
            }
            (Step::Asked, "m.key.verification.ready") => self.receive_ready(content),
            (Step::Ready, "m.key.verification.start") => self.receive_start(content),
            (Step::Started { sas, start }, "m.key.verification.start") => {
                // Both started: the one of the lesser user, or device, counts.
                let ours = (parties.user_id.as_str(), parties.device_id.as_str());
                if ours < (self.id.user_id.as_str(), text(content, "from_device").unwrap_or_default()) {
                    self.step = Step::Started { sas, start };
                    return Ok(Vec::new());
                }
                self.receive_start(content)
            }
            (Step::Started { sas, start }, "m.key.verification.accept") => self.receive_accept(sas, start, content),
            (Step::Committed { sas, start, commitment }, "m.key.verification.key") => {
                let key = text(content, "key").ok_or("m.invalid_message")?;
                if sas::commitment(key, &start).as_ref() != Some(&commitment) {
                    return Err("m.mismatched_commitment");
                }
                self.compare(parties, sas, key, true)
            }
            (Step::Accepted { sas }, "m.key.verification.key") => {
                let ours = sas.public_key().to_base64();
                self.compare(parties, sas, text(content, "key").ok_or("m.invalid_message")?, false)?;
                Ok(vec![messages::key(&ours)])
            }
            (step @ Step::Compare { .. }, "m.key.verification.mac") => {
                self.step = step;
                self.receive_mac(parties, content)
            }
            _ => Err("m.unexpected_message"),
        }
    }

    fn receive_ready(&mut self, content: &Object) -> Outcome {
        if !messages::offers(content, "methods", messages::SAS) {
            return Err("m.unknown_method");
        }
        self.device_id = Some(text(content, "from_device").ok_or("m.invalid_message")?.into());
        self.step = Step::Ready;
        Ok(Vec::new())
    }

    fn receive_start(&mut self, content: &Object) -> Outcome {
        let device_id = text(content, "from_device");
        if device_id != self.device_id.as_ref().map(|id| id.as_str()) {
            return Err("m.unexpected_message");
        }
        self.accept_start(content)
    }

    fn accept_start(&mut self, start: &Object) -> Outcome {
        if !messages::is_acceptable(start) {
            return Err("m.unknown_method");
        }
        let sas = Sas::new();
        let commitment = sas::commitment(&sas.public_key().to_base64(), start).ok_or("m.invalid_message")?;
        self.step = Step::Accepted { sas };
        Ok(vec![messages::accept(&commitment, start)])
    }

    fn receive_accept(&mut self, sas: Sas, start: Object, content: &Object) -> Outcome {
        if !messages::has_chosen_ours(content) {
            return Err("m.unknown_method");
        }
        let commitment = text(content, "commitment").ok_or("m.invalid_message")?.to_owned();
        let key = sas.public_key().to_base64();
        self.step = Step::Committed { sas, start, commitment };
        Ok(vec![messages::key(&key)])
    }

    fn compare(&mut self, parties: &Parties<'_>, sas: Sas, key: &str, we_started: bool) -> Outcome {
        let device_id = self.device_id.clone().ok_or("m.unexpected_message")?;
        let key = Curve25519PublicKey::from_base64(key).map_err(|_| "m.invalid_message")?;
        let sas = sas.diffie_hellman(key).map_err(|_| "m.invalid_message")?;
        let (us, them) = ends(parties, &self.id, &device_id);
        let short = ShortString::new(&sas, we_started, us, them, &self.id.id);
        self.step = Step::Compare { sas, short, is_confirmed: false, their_macs: None };
        Ok(Vec::new())
    }

    fn receive_mac(&mut self, parties: &Parties<'_>, content: &Object) -> Outcome {
        match &mut self.step {
            Step::Compare { is_confirmed: true, .. } => self.check_macs(parties, content),
            // Our user looks still: what the other says is checked afterwards.
            Step::Compare { their_macs: their_macs @ None, .. } => {
                *their_macs = Some(content.clone());
                Ok(Vec::new())
            }
            _ => Err("m.unexpected_message"),
        }
    }

    fn check_macs(&mut self, parties: &Parties<'_>, content: &Object) -> Outcome {
        let device_id = self.device_id.clone().ok_or("m.unexpected_message")?;
        let Step::Compare { sas, .. } = &self.step else { return Err("m.unexpected_message") };
        let (us, them) = ends(parties, &self.id, &device_id);
        let vouched = sas::vouched(sas, us, them, &self.id.id, &parties.their_keys, content).ok_or("m.key_mismatch")?;
        self.verified = vouched;
        self.step = Step::Done;
        Ok(vec![messages::done()])
    }
}

fn ends<'a>(parties: &'a Parties<'_>, id: &'a FlowId, device_id: &'a DeviceId) -> (End<'a>, End<'a>) {
    let us = End { user_id: parties.user_id, device_id: parties.device_id };
    (us, End { user_id: &id.user_id, device_id })
}
