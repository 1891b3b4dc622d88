-- Messages to all devices of a user, as application services are sent them.
CREATE INDEX to_device_position ON to_device (user_id, position);
