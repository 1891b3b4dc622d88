//! Complaints about events, rooms and users, kept for the administrator.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#reporting-content>

use ruma::{EventId, RoomId, UserId, events::room::member::MembershipState};
use storage::{NewReport, Report};

use crate::{Engine, EngineError, Requester, Result};

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 2_000;
/// How many complaints of one user are kept in a day: more is itself an attack.
const REPORTS_PER_DAY_MAX: u64 = 200;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// How many complaints one page of the list has at most.
const PAGE_REPORTS_MAX: usize = 100;

/// What is complained of.
#[derive(Clone, Copy, Debug)]
pub enum Reported<'a> {
    /// An event of a room that one is in.
    Event(&'a RoomId, &'a EventId),
    /// A room that one knows of.
    Room(&'a RoomId),
    /// A user.
    User(&'a UserId),
}

impl Engine {
    /// Keeps a complaint.
    pub async fn report(
        &self,
        requester: &Requester,
        reported: Reported<'_>,
        reason: Option<String>,
        score: Option<i64>,
    ) -> Result<()> {
        if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
            return Err(EngineError::InvalidParam(format!("The reason is longer than {REASON_BYTES_MAX} bytes")));
        }
        self.check_reported(requester, reported).await?;
        let received_ts = self.world().clock.now_ms();
        let since_ts = received_ts.saturating_sub(DAY_MS);
        if self.storage().reports_by(&requester.user_id, since_ts).await? >= REPORTS_PER_DAY_MAX {
            return Err(EngineError::forbidden("You have reported too much today"));
        }
        let (room_id, event_id, reported_user_id) = match reported {
            Reported::Event(room_id, event_id) => (Some(room_id.to_owned()), Some(event_id.to_owned()), None),
            Reported::Room(room_id) => (Some(room_id.to_owned()), None, None),
            Reported::User(user_id) => (None, None, Some(user_id.to_owned())),
        };
        let user_id = requester.user_id.clone();
        let report = NewReport { received_ts, user_id, room_id, event_id, reported_user_id, reason, score };
        let report_id = self.storage().store_report(&report).await?;
        tracing::info!(report.id = report_id, user.id = %report.user_id, "a user reports something");
        Ok(())
    }

    /// Whether the asker may know of what they complain of.
    async fn check_reported(&self, requester: &Requester, reported: Reported<'_>) -> Result<()> {
        match reported {
            Reported::Event(room_id, event_id) => {
                let (view, event) = self.event_in_view(requester, room_id, event_id).await?;
                let seen = view.see(event).filter(|_| view.is_joined());
                seen.map(drop).ok_or_else(|| EngineError::not_found("There is no such event in a room that you are in"))
            }
            Reported::Room(room_id) => {
                let record = self.storage().membership(&requester.user_id, room_id).await?;
                let is_related = record.is_some_and(|record| record.membership != MembershipState::Ban);
                let is_public = match self.storage().room(room_id).await? {
                    Some(room) => room.published || self.view(room_id, &requester.user_id).await.is_ok(),
                    None => false,
                };
                if is_related || is_public { Ok(()) } else { Err(EngineError::not_found("There is no such room")) }
            }
            Reported::User(user_id) if self.is_local(user_id) => {
                let account = self.storage().account(user_id).await?;
                account.map(drop).ok_or_else(|| EngineError::not_found("There is no such user"))
            }
            Reported::User(_) => Ok(()),
        }
    }

    /// Complaints for an administrator, the latest first or the earliest, and how many there are.
    pub async fn reports(
        &self,
        requester: &Requester,
        from: u64,
        limit: usize,
        latest_first: bool,
    ) -> Result<(Vec<Report>, u64)> {
        self.require_administrator(requester).await?;
        let reports = self.storage().reports(from, limit.clamp(1, PAGE_REPORTS_MAX), latest_first).await?;
        Ok((reports, self.storage().reports_count().await?))
    }

    /// One complaint, for an administrator.
    pub async fn report_by_id(&self, requester: &Requester, report_id: i64) -> Result<Report> {
        self.require_administrator(requester).await?;
        let report = self.storage().report(report_id).await?;
        report.ok_or_else(|| EngineError::not_found("There is no such report"))
    }

    pub(crate) async fn require_administrator(&self, requester: &Requester) -> Result<()> {
        match self.storage().account(&requester.user_id).await? {
            Some(account) if account.admin && !account.deactivated => Ok(()),
            _ => Err(EngineError::forbidden("You are not an administrator of this server")),
        }
    }
}
