//! What is written beside events and devices in the same commit: it must not speak of what is not there.

/// Invariants that one query can check: it answers with a line for each violation.
pub(super) const CHECKS: &[(&str, &str)] = &[
    (
        "a relation is that of an event in the timeline",
        "SELECT r.event_id FROM relations r WHERE NOT EXISTS
            (SELECT 1 FROM events e WHERE e.event_id = r.event_id AND e.room_nid = r.room_nid
                AND e.timeline_order = r.timeline_order AND e.type_nid = r.type_nid AND e.sender_nid = r.sender_nid
                AND e.standing = 0 AND e.redacted_by IS NULL)",
    ),
    (
        "a text that can be searched for is that of an event in the timeline",
        "SELECT 'event number ' || CAST(t.event_nid AS TEXT) FROM search_texts t WHERE NOT EXISTS
            (SELECT 1 FROM events e WHERE e.event_nid = t.event_nid AND e.room_nid = t.room_nid
                AND e.timeline_order IS NOT NULL AND e.standing = 0 AND e.redacted_by IS NULL)",
    ),
    (
        "what notifies has its log entry",
        "SELECT n.event_id FROM notified_events n WHERE NOT EXISTS
            (SELECT 1 FROM log l WHERE l.position = n.position AND l.event_id = n.event_id
                AND l.room_nid = n.room_nid)",
    ),
    (
        "who is notified is notified of something",
        "SELECT 'user number ' || CAST(n.user_nid AS TEXT) || ' at position ' || CAST(n.position AS TEXT)
            FROM notified n WHERE NOT EXISTS (SELECT 1 FROM notified_events e WHERE e.position = n.position)",
    ),
    (
        "who is left out is left out of what notifies everyone",
        "SELECT 'user number ' || CAST(n.user_nid AS TEXT) || ' at position ' || CAST(n.position AS TEXT)
            FROM notified n JOIN notified_events e ON e.position = n.position
            WHERE n.actions < 0 AND (e.everyone IS NULL OR n.highlight)",
    ),
    (
        "nobody has read what is not written yet",
        "SELECT 'user number ' || CAST(r.user_nid AS TEXT) || ' in room number ' || CAST(r.room_nid AS TEXT)
            FROM read_up_to r WHERE r.position > (SELECT position FROM log_head)
            OR r.changed > (SELECT position FROM log_head)",
    ),
    (
        "a change of devices has its log entry",
        "SELECT 'position ' || CAST(d.position AS TEXT) FROM device_list_log d WHERE NOT EXISTS
            (SELECT 1 FROM log l WHERE l.position = d.position AND l.kind = 20)",
    ),
    (
        "a message to a device has its log entry",
        "SELECT t.user_id || ' ' || t.device_id || ' at position ' || CAST(t.position AS TEXT) FROM to_device t
            WHERE NOT EXISTS (SELECT 1 FROM log l WHERE l.position = t.position AND l.kind = 21)",
    ),
    (
        "a dehydrated device is a device",
        "SELECT h.user_id || ' ' || h.device_id FROM dehydrated_devices h WHERE NOT EXISTS
            (SELECT 1 FROM devices d WHERE d.user_id = h.user_id AND d.device_id = h.device_id)",
    ),
    (
        "an EDU has its log entry",
        "SELECT 'position ' || CAST(o.position AS TEXT) FROM outbound_edus o WHERE NOT EXISTS
            (SELECT 1 FROM log l WHERE l.position = o.position AND l.kind = 22)",
    ),
    (
        "a key that was backed up is in a backup",
        "SELECT k.user_id || ' version ' || CAST(k.version AS TEXT) FROM backed_up_keys k WHERE NOT EXISTS
            (SELECT 1 FROM key_backups b WHERE b.user_id = k.user_id AND b.version = k.version AND NOT b.deleted)",
    ),
    (
        "a partial state is that of a room that was entered by a live event",
        "SELECT p.event_id FROM partial_states p WHERE NOT EXISTS
            (SELECT 1 FROM rooms r JOIN events e ON e.room_nid = r.room_nid
                WHERE r.room_nid = p.room_nid AND e.event_id = p.event_id AND e.timeline_order = p.position)",
    ),
    (
        "a state that became complete has its log entry",
        "SELECT 'room number ' || CAST(r.room_nid AS TEXT) FROM rooms r WHERE r.complete_since > 0 AND NOT EXISTS
            (SELECT 1 FROM log l WHERE l.position = r.complete_since AND l.kind = 6 AND l.room_nid = r.room_nid)",
    ),
    (
        "who was known before all members of a room were is of a room that was entered without them",
        "SELECT DISTINCT 'room number ' || CAST(e.room_nid AS TEXT) FROM members_known_early e WHERE
            NOT EXISTS (SELECT 1 FROM partial_states p WHERE p.room_nid = e.room_nid)
            AND NOT EXISTS (SELECT 1 FROM rooms r WHERE r.room_nid = e.room_nid AND r.complete_since > 0)",
    ),
    (
        "a number has its name",
        "SELECT CAST(used.nid AS TEXT) FROM (
                SELECT type_nid AS nid FROM relations UNION SELECT sender_nid FROM relations
                UNION SELECT user_nid FROM members_known_early
                UNION SELECT room_nid FROM notified_events UNION SELECT sender_nid FROM notified_events
                UNION SELECT user_nid FROM notified
                UNION SELECT user_nid FROM read_up_to UNION SELECT room_nid FROM read_up_to
                UNION SELECT user_nid FROM device_list_log UNION SELECT viewer_nid FROM device_list_log
            ) used WHERE used.nid IS NOT NULL AND NOT EXISTS (SELECT 1 FROM names n WHERE n.name_nid = used.nid)",
    ),
];
