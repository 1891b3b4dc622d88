//! `/_matrix/client/v3/profile/{userId}`

use ruma::api::client::profile::{
    ProfileFieldValue, get_avatar_url::v3 as get_avatar_url, get_display_name::v3 as get_display_name,
    get_profile::v3 as get_profile, set_avatar_url::v3 as set_avatar_url, set_display_name::v3 as set_display_name,
};

use crate::{Arguments, Door, Result, arguments::Open};

pub(crate) async fn get(door: Door, asked: Open<get_profile::Request>) -> Result<get_profile::Response> {
    let profile = door.engine.profile(&asked.request.user_id).await?;
    let display_name = profile.display_name.map(ProfileFieldValue::DisplayName);
    let avatar_url = profile.avatar_url.map(|url| ProfileFieldValue::AvatarUrl(url.into()));
    Ok(display_name.into_iter().chain(avatar_url).collect())
}

pub(crate) async fn get_display_name(
    door: Door,
    asked: Open<get_display_name::Request>,
) -> Result<get_display_name::Response> {
    let profile = door.engine.profile(&asked.request.user_id).await?;
    Ok(get_display_name::Response::new(profile.display_name))
}

pub(crate) async fn get_avatar_url(
    door: Door,
    asked: Open<get_avatar_url::Request>,
) -> Result<get_avatar_url::Response> {
    let profile = door.engine.profile(&asked.request.user_id).await?;
    Ok(get_avatar_url::Response::new(profile.avatar_url.map(Into::into)))
}

pub(crate) async fn put_display_name(
    door: Door,
    asked: Arguments<set_display_name::Request>,
) -> Result<set_display_name::Response> {
    door.engine.set_display_name(&asked.requester, asked.request.displayname).await?;
    Ok(set_display_name::Response::new())
}

pub(crate) async fn put_avatar_url(
    door: Door,
    asked: Arguments<set_avatar_url::Request>,
) -> Result<set_avatar_url::Response> {
    let avatar_url = asked.request.avatar_url.map(|url| url.to_string());
    door.engine.set_avatar_url(&asked.requester, avatar_url).await?;
    Ok(set_avatar_url::Response::new())
}
