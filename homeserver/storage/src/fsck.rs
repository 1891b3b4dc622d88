//! Checking that the tables tell one story.

mod beside;
mod graph;
mod media;
mod presence;

use std::fmt;

use crate::{Result, Storage, database::Transaction, dialect::db, names::encode};

/// How many violations of one invariant are told of at most: a broken database should not fill the screen.
const TOLD_MAX: usize = 100;

/// Something that must hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What must hold.
    pub invariant: &'static str,
    /// Where it does not: ids.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.invariant, self.detail)
    }
}

/// Invariants that one query can check: it answers with a line for each violation.
const CHECKS: &[(&str, &str)] = &[
    ("an event is stored once", "SELECT event_id FROM events GROUP BY event_id HAVING COUNT(*) > 1"),
    (
        "a live event has its log entry",
        "SELECT e.event_id FROM events e WHERE e.timeline_order > 0 AND NOT EXISTS
            (SELECT 1 FROM log l WHERE l.position = e.timeline_order AND l.kind = 1 AND l.event_id = e.event_id)",
    ),
    (
        "a log entry of an event has its live event",
        "SELECT 'position ' || CAST(l.position AS TEXT) FROM log l WHERE l.kind = 1 AND NOT EXISTS
            (SELECT 1 FROM events e WHERE e.event_id = l.event_id AND e.timeline_order = l.position
                AND e.room_nid = l.room_nid)",
    ),
    (
        "the log has no gaps",
        "SELECT 'before position ' || CAST(l.position AS TEXT) FROM log l
            WHERE l.position > 1 AND NOT EXISTS (SELECT 1 FROM log b WHERE b.position = l.position - 1)
            AND NOT EXISTS (SELECT 1 FROM log_gaps g WHERE g.until = l.position - 1)",
    ),
    (
        "the head is the last position of the log",
        "SELECT 'head ' || CAST(h.position AS TEXT) FROM log_head h
            WHERE h.position <> (SELECT COALESCE(MAX(position), 0) FROM
                (SELECT position FROM log UNION SELECT until FROM log_gaps) given)",
    ),
    (
        "numbers are given out by the head",
        "SELECT 'event_nid ' || CAST(h.event_nid AS TEXT) || ', name_nid ' || CAST(h.name_nid AS TEXT) FROM log_head h
            WHERE h.event_nid < (SELECT COALESCE(MAX(event_nid), 0) FROM events)
            OR h.name_nid < (SELECT COALESCE(MAX(name_nid), 0) FROM names)",
    ),
    (
        "a room is not ahead of the log",
        "SELECT n.name FROM rooms r JOIN names n ON n.name_nid = r.room_nid
            WHERE r.position > (SELECT position FROM log_head)",
    ),
    (
        "a destination is not ahead of the log",
        "SELECT server FROM destinations WHERE cursor > (SELECT position FROM log_head)
            OR in_flight_until > (SELECT position FROM log_head)",
    ),
    (
        "a value of the room state is an event of that room, type and state key",
        "SELECT 'room ' || CAST(s.room_nid AS TEXT) || ', ' || s.event_id FROM room_state s
            WHERE s.until IS NULL AND s.event_id IS NOT NULL AND NOT EXISTS
            (SELECT 1 FROM events e WHERE e.event_id = s.event_id AND e.room_nid = s.room_nid
                AND e.type_nid = s.type_nid AND e.state_key_nid = s.state_key_nid)",
    ),
    (
        "a key of the room state has one value at a time",
        "SELECT 'room ' || CAST(a.room_nid AS TEXT) || ', type ' || CAST(a.type_nid AS TEXT) || ', key '
                || CAST(a.state_key_nid AS TEXT) || ' at ' || CAST(b.since AS TEXT)
            FROM room_state a JOIN room_state b ON b.room_nid = a.room_nid AND b.type_nid = a.type_nid
                AND b.state_key_nid = a.state_key_nid AND b.since > a.since
            WHERE a.until IS NULL OR a.until > b.since",
    ),
    (
        "a token belongs to a device",
        "SELECT t.user_id || ' ' || t.device_id FROM
            (SELECT user_id, device_id FROM access_tokens UNION SELECT user_id, device_id FROM refresh_tokens) t
            WHERE NOT EXISTS
            (SELECT 1 FROM devices d WHERE d.user_id = t.user_id AND d.device_id = t.device_id)",
    ),
    (
        "a number has its name",
        "SELECT CAST(used.nid AS TEXT) FROM (
                SELECT room_nid AS nid FROM log UNION SELECT user_nid FROM log UNION SELECT room_nid FROM rooms
                UNION SELECT room_nid FROM events UNION SELECT type_nid FROM events
                UNION SELECT state_key_nid FROM events UNION SELECT sender_nid FROM events
                UNION SELECT room_nid FROM room_state UNION SELECT type_nid FROM room_state
                UNION SELECT state_key_nid FROM room_state UNION SELECT server_nid FROM room_servers
                UNION SELECT server_nid FROM log_recipients
                UNION SELECT user_nid FROM memberships UNION SELECT user_nid FROM receipts
                UNION SELECT user_nid FROM account_data
            ) used WHERE used.nid IS NOT NULL AND NOT EXISTS (SELECT 1 FROM names n WHERE n.name_nid = used.nid)",
    ),
];

/// What we keep of our own users' memberships is what the state of rooms that we are in says. `$1` is our server. Only
/// an invitation that was turned down when no server in the room could be told is still one for the room.
const MEMBERSHIPS: (&str, &str) = (
    "a local user's membership is that of the room state",
    "SELECT u.name || ' in ' || r.name FROM room_state s
        JOIN names u ON u.name_nid = s.state_key_nid JOIN names r ON r.name_nid = s.room_nid
        LEFT JOIN memberships m ON m.user_nid = s.state_key_nid AND m.room_nid = s.room_nid
        WHERE s.until IS NULL AND s.event_id IS NOT NULL AND u.name LIKE '@%:' || $1
        AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
        AND EXISTS (SELECT 1 FROM room_servers p WHERE p.room_nid = s.room_nid AND p.until IS NULL
            AND p.server_nid = (SELECT name_nid FROM names WHERE name = $1))
        AND (m.membership IS NULL OR m.membership <> s.membership OR m.event_id <> s.event_id)
        AND NOT (s.membership = 'invite' AND COALESCE(m.membership, '') = 'leave')",
);

impl Storage {
    /// Checks the invariants between the tables, as of one moment, and returns what violates them. Reads everything:
    /// meant for an operator, not for a running server under load.
    pub async fn fsck(&self) -> Result<Vec<Violation>> {
        let mut snapshot = self.snapshot().await?;
        let mut report = Report::default();
        for (invariant, sql) in CHECKS.iter().chain(beside::CHECKS).chain(media::CHECKS) {
            let details: Vec<String> =
                db!(snapshot.connection(), |connection| sqlx::query_scalar(*sql).fetch_all(connection).await)?;
            report.extend(invariant, details);
        }
        self.check_memberships(&mut snapshot, &mut report).await?;
        graph::check(&mut snapshot, &mut report).await?;
        presence::check(&mut snapshot, &mut report).await?;
        Ok(report.violations)
    }

    async fn check_memberships(&self, snapshot: &mut Transaction, report: &mut Report) -> Result<()> {
        let (invariant, sql) = MEMBERSHIPS;
        let server = encode(self.shared.server_name.as_str());
        let details: Vec<String> = db!(snapshot.connection(), |connection| {
            sqlx::query_scalar(sql).bind(&*server).fetch_all(connection).await
        })?;
        report.extend(invariant, details);
        Ok(())
    }
}

/// What was found so far.
#[derive(Default)]
struct Report {
    violations: Vec<Violation>,
}

impl Report {
    fn add(&mut self, invariant: &'static str, detail: impl Into<String>) {
        let told = self.violations.iter().filter(|violation| violation.invariant == invariant).count();
        match told.cmp(&TOLD_MAX) {
            std::cmp::Ordering::Less => self.violations.push(Violation { invariant, detail: detail.into() }),
            std::cmp::Ordering::Equal => {
                self.violations.push(Violation { invariant, detail: "and more".to_owned() });
            }
            std::cmp::Ordering::Greater => {}
        }
    }

    fn extend(&mut self, invariant: &'static str, details: impl IntoIterator<Item = String>) {
        for detail in details {
            self.add(invariant, detail);
        }
    }
}
