//! The check of the tables: silent about sound ones, and finding what is planted.

use rules::{
    Change,
    change::{Notice, Notified},
};
use ruma::{MilliSecondsSinceUnixEpoch, UInt, owned_device_id};
use serde_json::{json, value::to_raw_value};

use crate::stage::{
    Stage, backfilled, event, event_id, extremities, live, member, membership, message, on_each_database, outlier,
    room, server, set_state, user,
};

/// A room with a bit of everything.
async fn with_room(stage: &Stage) {
    stage.create_room().await;
    let topic = event(
        "$topic",
        json!({ "type": "m.room.topic", "state_key": "", "prev_events": ["$alice_joins"], "auth_events": ["$create"] }),
    );
    stage.commit(vec![live(&topic), set_state(&[&topic]), extremities(&["$topic"])]).await;
    let bob = member("$bob", "@bob:b", "join", &["$topic"]);
    stage.commit(vec![live(&bob), set_state(&[&bob]), server("b", true), extremities(&["$bob"])]).await;
    stage.commit(vec![outlier(&message("$outlier", "$x")), backfilled(&message("$old", "$gap"))]).await;
    stage.send("$m", "$bob").await;
    with_replies(stage).await;
}

/// What is written beside events.
async fn with_replies(stage: &Stage) {
    let relation = json!({ "rel_type": "m.thread", "event_id": "$m" });
    let reply = event(
        "$reply",
        json!({
            "prev_events": ["$m"], "auth_events": ["$create"],
            "content": { "body": "An answer", "m.relates_to": relation },
        }),
    );
    let notified = Notified { user_id: user("@alice:here"), notice: Some(Notice { highlight: true, actions: 0 }) };
    let notification = Change::Notification {
        room_id: room(),
        event_id: event_id("$reply"),
        sender: user("@bob:b"),
        thread_root: Some(event_id("$m")),
        ts: MilliSecondsSinceUnixEpoch(UInt::from(1_000_u32)),
        is_call: false,
        actions: vec![to_raw_value(&json!(["notify"])).unwrap()],
        everyone: None,
        notified: vec![notified],
    };
    let read = Change::Read { room_id: room(), user_id: user("@alice:here"), thread_id: None, up_to: None };
    let changed = Change::DeviceList { user_id: user("@bob:b"), device_id: None, viewer: None, servers: Vec::new() };
    let content = to_raw_value(&json!({})).unwrap();
    let to_device = Change::ToDevice {
        user_id: user("@alice:here"),
        device_id: owned_device_id!("A"),
        sender: user("@bob:b"),
        event_type: "m.test".to_owned(),
        content: content.clone(),
    };
    let servers = vec!["b".try_into().unwrap()];
    let edu = Change::Edu { servers, edu_type: "m.test".to_owned(), content };
    stage.commit(vec![live(&reply), extremities(&["$reply"]), notification, read, changed, to_device, edu]).await;
}

#[tokio::test]
async fn r_14_a_sound_database_passes() {
    on_each_database(async |stage| {
        stage.assert_sound().await;
        with_room(&stage).await;
        stage.assert_sound().await;
    })
    .await;
}

/// Plants something and expects exactly this violation among those that are found.
async fn planted(stage: Stage, sql: &str, invariant: &str) {
    with_room(&stage).await;
    stage.execute(sql).await;
    let stage = stage.reopen().await;
    let violations = stage.storage.fsck().await.unwrap();
    let found = violations.iter().any(|violation| violation.invariant == invariant && !violation.detail.is_empty());
    assert!(found, "{sql} led to {violations:#?}");
}

macro_rules! finds {
    ($($test:ident: $sql:expr => $invariant:expr;)+) => { $(
        #[tokio::test]
        async fn $test() {
            on_each_database(async |stage| planted(stage, $sql, $invariant).await).await;
        }
    )+ };
}

finds! {
    a_missing_log_entry: "DELETE FROM log WHERE event_id = '$topic'" => "a live event has its log entry";
    a_gap: "DELETE FROM log WHERE position = 2" => "the log has no gaps";
    a_wrong_head: "UPDATE log_head SET position = 99" => "the head is the last position of the log";
    a_head_that_is_behind: "UPDATE log_head SET event_nid = 1" => "numbers are given out by the head";
    a_missing_event: "DELETE FROM events WHERE event_id = '$topic'" => "a log entry of an event has its live event";
    missing_state: "DELETE FROM events WHERE event_id = '$topic'"
        => "a value of the room state is an event of that room, type and state key";
    a_missing_prev_event: "DELETE FROM events WHERE event_id = '$topic'"
        => "a missing prev_event is a backward extremity";
    a_missing_auth_event: "DELETE FROM events WHERE event_id = '$create'"
        => "the auth events of an accepted event are stored";
    a_missing_extremity: "UPDATE rooms SET forward_extremities = '[[\"$none\", 1]]'"
        => "a forward extremity is a stored, accepted event";
    no_extremity: "UPDATE rooms SET forward_extremities = '[]'"
        => "a room with a timeline has a forward extremity";
    an_extremity_that_is_built_upon: "UPDATE rooms SET forward_extremities = '[[\"$bob\", 1]]'"
        => "no event that came after a forward extremity follows upon it";
    an_extremity_that_is_no_part_of_the_timeline: "UPDATE rooms SET forward_extremities = '[[\"$outlier\", 1]]'"
        => "a forward extremity is a stored, accepted event";
    a_room_ahead_of_the_log: "UPDATE rooms SET position = 99" => "a room is not ahead of the log";
    a_destination_ahead_of_the_log:
        "INSERT INTO destinations (server, cursor, failures) VALUES ('b', 99, 0)"
        => "a destination is not ahead of the log";
    a_wrong_membership: "UPDATE room_state SET membership = 'ban' WHERE event_id = '$bob'"
        => "a membership in the room state is what the event says";
    state_at_the_wrong_key: "UPDATE room_state SET event_id = '$create' WHERE event_id = '$topic'"
        => "a value of the room state is an event of that room, type and state key";
    two_values_at_a_time: "INSERT INTO room_state (room_nid, type_nid, state_key_nid, since, until, event_id)
        SELECT room_nid, type_nid, state_key_nid, 1, 99, event_id FROM room_state WHERE event_id = '$topic'"
        => "a key of the room state has one value at a time";
    a_local_membership_that_is_not_the_rooms: "UPDATE memberships SET membership = 'leave'"
        => "a local user's membership is that of the room state";
    a_lost_local_membership: "DELETE FROM memberships" => "a local user's membership is that of the room state";
    a_server_that_is_not_noted: "DELETE FROM room_servers
        WHERE server_nid = (SELECT name_nid FROM names WHERE name = 'b')"
        => "the servers in a room are those of its joined members";
    a_server_that_is_not_joined: "UPDATE room_state SET until = 99 WHERE event_id = '$bob'"
        => "the servers in a room are those of its joined members";
    a_found_event_that_is_said_to_be_missing: "UPDATE backward_extremities SET missing_event_id = '$bob'"
        => "a backward extremity is missing";
    an_unreadable_event: "UPDATE events SET json = '{' WHERE event_id = '$m'" => "an event can be read";
    a_wrong_column: "UPDATE events SET depth = 77 WHERE event_id = '$m'"
        => "an event's columns say what its JSON says";
    a_lost_name: "DELETE FROM names WHERE name = 'm.room.topic'" => "a number has its name";
    a_relation_of_a_redacted_event: "UPDATE events SET redacted_by = '$m' WHERE event_id = '$reply'"
        => "a relation is that of an event in the timeline";
    a_text_of_a_redacted_event: "UPDATE events SET redacted_by = '$m' WHERE event_id = '$reply'"
        => "a text that can be searched for is that of an event in the timeline";
    a_notification_of_nothing: "UPDATE notified_events SET event_id = '$none'" => "what notifies has its log entry";
    somebody_who_is_notified_of_nothing: "DELETE FROM notified_events"
        => "who is notified is notified of something";
    somebody_who_is_left_out_of_nothing: "UPDATE notified SET actions = -1"
        => "who is left out is left out of what notifies everyone";
    somebody_who_has_read_the_future: "UPDATE read_up_to SET position = 99"
        => "nobody has read what is not written yet";
    a_lost_change_of_devices: "DELETE FROM log WHERE kind = 20" => "a change of devices has its log entry";
    a_lost_message_to_a_device: "DELETE FROM log WHERE kind = 21" => "a message to a device has its log entry";
    a_lost_edu: "DELETE FROM log WHERE kind = 22" => "an EDU has its log entry";
    somebody_known_early_where_all_were_known: "INSERT INTO members_known_early (room_nid, user_nid, since)
        SELECT room_nid, state_key_nid, 1 FROM room_state WHERE event_id = '$bob'"
        => "who was known before all members of a room were is of a room that was entered without them";
    a_key_in_no_backup: "INSERT INTO backed_up_keys VALUES ('@alice:here', 1, '!r', 's', 0, 0, TRUE, '{}')"
        => "a key that was backed up is in a backup";
}

#[tokio::test]
async fn a_token_without_its_device() {
    on_each_database(async |stage| {
        let session = homeserver_storage::NewSession {
            user_id: crate::stage::user("@alice:here"),
            device_id: "A".into(),
            display_name: None,
            access_token_hash: [1; 32],
            access_token_expires_ts: None,
            refresh_token_hash: None,
            now_ts: 1,
        };
        stage.storage.create_session(session).await.unwrap();
        stage.assert_sound().await;
        stage.execute("DELETE FROM devices").await;
        assert_eq!(stage.storage.fsck().await.unwrap()[0].invariant, "a token belongs to a device");
    })
    .await;
}

#[tokio::test]
async fn many_violations_do_not_fill_the_screen() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let entries = |_| membership("@alice:here", "join", "$alice_joins");
        stage.commit_unguarded((0..600).map(entries).collect::<Vec<Change>>()).await.unwrap();
        stage.execute("DELETE FROM log WHERE position % 2 = 0").await;
        let violations = stage.storage.fsck().await.unwrap();
        let gaps = violations.iter().filter(|violation| violation.invariant == "the log has no gaps").count();
        assert_eq!(gaps, 101, "a hundred, and that there are more");
    })
    .await;
}
