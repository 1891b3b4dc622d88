-- The rooms that a user is joined to, whatever the user's server.
CREATE INDEX room_state_joined ON room_state (state_key_nid, room_nid) WHERE until IS NULL AND membership = 'join';
