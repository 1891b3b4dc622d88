ALTER TABLE accounts ADD COLUMN locked BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE accounts ADD COLUMN suspended BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE accounts ADD COLUMN erased BOOLEAN NOT NULL DEFAULT FALSE;

-- What a profile holds beside display name and avatar.
CREATE TABLE profile_fields (
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (user_id, name)
) WITHOUT ROWID;

-- Addresses of people, such as for e-mail. An address belongs to one account.
CREATE TABLE third_party_ids (
    medium TEXT NOT NULL,
    address TEXT NOT NULL,
    user_id TEXT NOT NULL,
    validated_ts BIGINT NOT NULL,
    added_ts BIGINT NOT NULL,
    PRIMARY KEY (medium, address)
) WITHOUT ROWID;
CREATE INDEX third_party_ids_user ON third_party_ids (user_id);

-- Who shows, by a token that was sent there, that an address is theirs. token_hash is that of the last letter.
CREATE TABLE address_validations (
    session_id TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    medium TEXT NOT NULL,
    address TEXT NOT NULL,
    client_secret TEXT NOT NULL,
    send_attempt BIGINT NOT NULL,
    token_hash BLOB NOT NULL,
    next_link TEXT,
    expires_ts BIGINT NOT NULL,
    validated_ts BIGINT
);
CREATE UNIQUE INDEX address_validations_asker ON address_validations (purpose, medium, address, client_secret);
CREATE INDEX address_validations_expiry ON address_validations (expires_ts);

-- Tokens that stand for a user for one purpose. purpose: 0 to log in, once; 1 to show another service who it is.
CREATE TABLE short_lived_tokens (
    token_hash BLOB PRIMARY KEY,
    purpose SMALLINT NOT NULL,
    user_id TEXT NOT NULL,
    expires_ts BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX short_lived_tokens_user ON short_lived_tokens (user_id);
CREATE INDEX short_lived_tokens_expiry ON short_lived_tokens (expires_ts);
