-- How far application services have got in the log, and the transaction that is on its way, word for word.
CREATE TABLE service_queues (
    service TEXT PRIMARY KEY,
    position BIGINT NOT NULL,
    transaction_id TEXT,
    transaction_until BIGINT,
    body TEXT,
    to_devices TEXT
);

-- Rooms that application services list for their networks.
CREATE TABLE service_rooms (
    service TEXT NOT NULL,
    network TEXT NOT NULL,
    room_id TEXT NOT NULL,
    PRIMARY KEY (service, network, room_id)
);
