//! Letters about what a user has not read: one for all that came together, and fewer and fewer to those who do not look.

use std::{collections::BTreeMap, fmt::Write};

use rules::change::Position;
use serde_json::Value;
use storage::{NotificationRecord, PusherQueue, PusherRecord};

use super::{Attempt, Next, gateways::Admission, notification::Scene};
use crate::{
    Engine, MailError, Result,
    accounts::{Letter, escaped},
    push::pushers::EMAIL,
};

/// How long something is unread before there is a letter about it: who is there reads it meanwhile.
const DELAY_MS: u64 = 10 * 60 * 1_000;
/// How long after one letter the next one comes at most, after many that nobody followed.
const DELAY_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// As often the mail server may say that it will never take letters to a mailbox, before there are no more: over some
/// three days, as it may also say so of all mailboxes when something is wrong with our address.
const MAILBOX_REFUSALS_MAX: u32 = 10;
/// How many events a letter tells of; of more it says how many.
const EVENTS_MAX: usize = 50;
/// How much of a message it shows, in characters.
const BODY_CHARACTERS_MAX: usize = 200;

/// What a letter says of one event.
struct Line {
    sender: String,
    text: String,
}

/// The rooms in the order in which something happened in them first.
#[derive(Default)]
struct Digest {
    order: Vec<String>,
    rooms: BTreeMap<String, (String, Vec<Line>)>,
}

impl Engine {
    pub(super) async fn attempt_letter(&self, pusher: &PusherRecord, mut queue: PusherQueue) -> Result<Attempt> {
        let (user_id, now_ms) = (&pusher.key.user_id, self.world().clock.now_ms());
        if self.owner_of_address(EMAIL, &pusher.key.pushkey).await?.as_ref() != Some(user_id) {
            self.storage().delete_rejected_pusher(&queue).await?;
            return Ok(Attempt::idle());
        }
        let (before, head) = (queue.clone(), self.storage().head());
        let due = self.storage().due_notifications(user_id, queue.cursor, head, EVENTS_MAX).await?;
        queue.retry_at_ts = None;
        let Some(first) = due.first() else {
            if self.unread_of(user_id).await? == 0 {
                queue.throttle_ms = 0;
            }
            return Ok(Attempt::done(&before, queue, head));
        };
        let ready_at_ms = u64::from(first.ts.0) + DELAY_MS;
        if now_ms < ready_at_ms {
            queue.retry_at_ts = Some(ready_at_ms);
            return Ok(Attempt { queue: Some(queue), next: Next::Wait(ready_at_ms) });
        }
        self.send_digest(pusher, queue, &due, head).await
    }

    async fn send_digest(
        &self,
        pusher: &PusherRecord,
        mut queue: PusherQueue,
        due: &[NotificationRecord],
        head: Position,
    ) -> Result<Attempt> {
        let (user_id, now_ms) = (&pusher.key.user_id, self.world().clock.now_ms());
        let mut digest = Digest::default();
        for record in due {
            if !self.is_quiet(user_id, record, now_ms).await?
                && let Some(scene) = self.scene(user_id, record).await?
            {
                digest.add(&scene);
            }
            queue.cursor = queue.cursor.max(record.position);
        }
        if digest.order.is_empty() {
            return Ok(Attempt { queue: Some(queue), next: Next::More });
        }
        let gateways = &self.inner.push.delivery.gateways;
        let admission = match gateways.admit(&pusher.gateway, now_ms) {
            Ok(admission) => admission,
            Err(until_ms) => return Ok(self.put_off(back_to(queue, due), until_ms)),
        };
        let unread = self.unread_of(user_id).await?;
        let letter = self.digest_letter(pusher, &digest, unread);
        if let Err(error) = self.send_digest_letter(&pusher.key.pushkey, letter).await {
            tracing::warn!(user.id = %user_id, %error, "a letter about unread messages was not sent");
            return self.not_sent(pusher, back_to(queue, due), admission, &error).await;
        }
        gateways.succeeded(&pusher.gateway, admission);
        // The letter says how many there are in all: those that it does not show get none of their own.
        queue.cursor = head;
        queue.failures = 0;
        queue.throttle_ms = queue.throttle_ms.max(DELAY_MS).saturating_mul(2).min(DELAY_MAX_MS);
        let until_ms = now_ms + queue.throttle_ms;
        queue.retry_at_ts = Some(until_ms);
        Ok(Attempt { queue: Some(queue), next: Next::Wait(until_ms) })
    }

    /// What follows when a letter was not taken: when there is no mail server all letters wait for it; when it does not
    /// want letters to this mailbox, only these, and not for ever.
    async fn not_sent(
        &self,
        pusher: &PusherRecord,
        mut queue: PusherQueue,
        admission: Admission,
        error: &MailError,
    ) -> Result<Attempt> {
        metrics::counter!("push_failed_total").increment(1);
        let gateways = &self.inner.push.delivery.gateways;
        queue.failures = queue.failures.saturating_add(1);
        let is_permanent = match error {
            MailError::Mailbox { is_permanent, .. } => *is_permanent,
            MailError::Letter(_) => true,
            MailError::Settings(_) | MailError::Server(_) => {
                let until_ms = gateways.failed(&pusher.gateway, admission, 1, self.world());
                // How long this lasts is no fault of the mailbox.
                queue.failures = queue.failures.saturating_sub(1);
                return Ok(self.put_off(queue, until_ms));
            }
        };
        gateways.succeeded(&pusher.gateway, admission);
        if is_permanent && queue.failures >= MAILBOX_REFUSALS_MAX {
            tracing::info!(user.id = %pusher.key.user_id, "a mailbox takes no letters; there will be no more");
            self.storage().delete_rejected_pusher(&queue).await?;
            return Ok(Attempt::idle());
        }
        let doubled = DELAY_MS.saturating_mul(1 << queue.failures.saturating_sub(1).min(16));
        let until_ms = self.world().clock.now_ms() + doubled.min(DELAY_MAX_MS);
        Ok(self.put_off(queue, until_ms))
    }

    fn digest_letter(&self, pusher: &PusherRecord, digest: &Digest, unread: u64) -> Letter {
        let server = self.server_name();
        let what = if unread == 1 { "1 unread message".to_owned() } else { format!("{unread} unread messages") };
        let base = self.settings().accounts.mail.as_ref().map_or("", |mail| mail.link_base_url.trim_end_matches('/'));
        let unsubscribe = format!("{base}/_nudge/client/v1/unsubscribe?secret={}", pusher.secret);
        let greeting = format!("{}, you have {what} on {server}.", pusher.key.user_id);
        Letter {
            subject: format!("{what} on {server}"),
            text: format!(
                "{greeting}\n\n{}To get no more of these letters, open this page:\n\n{unsubscribe}\n",
                digest.text()
            ),
            html: Some(format!(
                "<!DOCTYPE html><html><body><p>{}</p>{}<p><a href=\"{}\">Get no more of these letters</a></p></body></html>",
                escaped(&greeting),
                digest.html(),
                escaped(&unsubscribe)
            )),
            unsubscribe: Some(unsubscribe),
        }
    }
}

/// Before the first of these, as nothing was told of them.
fn back_to(mut queue: PusherQueue, due: &[NotificationRecord]) -> PusherQueue {
    queue.cursor = due.first().map_or(queue.cursor, |first| first.position - 1);
    queue
}

impl Digest {
    fn add(&mut self, scene: &Scene) {
        let room_id = scene.room_id.to_string();
        let sender = scene.sender_display_name.clone().unwrap_or_else(|| scene.sender.to_string());
        let name = scene.room_name.clone().or_else(|| scene.room_alias.clone()).unwrap_or_else(|| sender.clone());
        if !self.rooms.contains_key(&room_id) {
            self.order.push(room_id.clone());
        }
        let room = self.rooms.entry(room_id).or_insert_with(|| (one_line(&name), Vec::new()));
        room.1.push(Line { sender: one_line(&sender), text: told(scene) });
    }

    fn rooms(&self) -> impl Iterator<Item = &(String, Vec<Line>)> {
        self.order.iter().filter_map(|room_id| self.rooms.get(room_id))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, lines) in self.rooms() {
            let _ = writeln!(text, "{name}");
            for Line { sender, text: told } in lines {
                let _ = writeln!(text, "  {sender}: {told}");
            }
            text.push('\n');
        }
        text
    }

    fn html(&self) -> String {
        let mut html = String::new();
        for (name, lines) in self.rooms() {
            let _ = write!(html, "<h3>{}</h3><ul>", escaped(name));
            for Line { sender, text } in lines {
                let _ = write!(html, "<li><b>{}</b>: {}</li>", escaped(sender), escaped(text));
            }
            html.push_str("</ul>");
        }
        html
    }
}

/// What there is to say of an event in one line.
fn told(scene: &Scene) -> String {
    match scene.event_type.as_str() {
        "m.room.encrypted" => "an encrypted message".to_owned(),
        "m.room.member" if scene.user_is_target => "an invitation".to_owned(),
        "m.call.invite" => "a call".to_owned(),
        _ => one_line(scene.content.get("body").and_then(Value::as_str).unwrap_or("something new")),
    }
}

fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    let mut line: String = text.chars().take(BODY_CHARACTERS_MAX).collect();
    if line.len() < text.len() {
        line.push_str("...");
    }
    line
}
