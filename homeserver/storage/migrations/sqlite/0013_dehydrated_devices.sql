-- The device of each user that receives while none of their others does. Its keys and messages are where those of other
-- devices are.
CREATE TABLE dehydrated_devices (
    user_id TEXT PRIMARY KEY,
    device_id TEXT NOT NULL,
    device_data TEXT NOT NULL
) WITHOUT ROWID;
