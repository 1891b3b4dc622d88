//! `GET /_matrix/client/v3/pushers`, `POST /_matrix/client/v3/pushers/set`

use engine::PusherCommand;
use ruma::api::client::push::{
    Pusher, PusherIds, PusherInit, PusherKind, get_pushers::v3 as get_pushers, set_pusher::v3 as set_pusher,
};
use serde_json::value::to_raw_value;
use storage::PusherRecord;

use crate::{Arguments, Door, Result, error::ApiError};

/// The two kinds of the specification.
const HTTP: &str = "http";
const EMAIL: &str = "email";

pub(crate) async fn list(door: Door, asked: Arguments<get_pushers::Request>) -> Result<get_pushers::Response> {
    let pushers = door.engine.pushers(&asked.requester).await?;
    let pushers: Result<Vec<Pusher>> = pushers.into_iter().map(shown).collect();
    Ok(get_pushers::Response::new(pushers?))
}

pub(crate) async fn set(door: Door, asked: Arguments<set_pusher::Request>) -> Result<set_pusher::Response> {
    match asked.request.action {
        set_pusher::PusherAction::Delete(PusherIds { app_id, pushkey, .. }) => {
            door.engine.delete_pusher(&asked.requester, app_id, pushkey).await?;
        }
        set_pusher::PusherAction::Post(wanted) => {
            let append = wanted.append;
            door.engine.set_pusher(&asked.requester, command(wanted.pusher, append)?).await?;
        }
        _ => return Err(ApiError::invalid_param("A pusher can be set or deleted")),
    }
    Ok(set_pusher::Response::new())
}

fn command(pusher: Pusher, append: bool) -> Result<PusherCommand> {
    let (kind, data) = match &pusher.kind {
        PusherKind::Http(data) => (HTTP, to_raw_value(data)),
        PusherKind::Email(data) => (EMAIL, to_raw_value(data)),
        _ => return Err(ApiError::invalid_param("`kind` must be \"http\", \"email\" or null")),
    };
    Ok(PusherCommand {
        app_id: pusher.ids.app_id,
        pushkey: pusher.ids.pushkey,
        kind: kind.to_owned(),
        app_display_name: pusher.app_display_name,
        device_display_name: pusher.device_display_name,
        profile_tag: pusher.profile_tag,
        lang: pusher.lang,
        data: data.map_err(ApiError::internal)?,
        append,
    })
}

fn shown(record: PusherRecord) -> Result<Pusher> {
    let data = record.data.get();
    let kind = match record.kind.as_str() {
        HTTP => PusherKind::Http(serde_json::from_str(data).map_err(ApiError::internal)?),
        _ => PusherKind::Email(serde_json::from_str(data).map_err(ApiError::internal)?),
    };
    let init = PusherInit {
        ids: PusherIds::new(record.key.pushkey, record.key.app_id),
        kind,
        app_display_name: record.app_display_name,
        device_display_name: record.device_display_name,
        profile_tag: record.profile_tag,
        lang: record.lang,
    };
    Ok(init.into())
}
