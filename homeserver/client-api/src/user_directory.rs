//! `POST /_matrix/client/v3/user_directory/search`

use ruma::api::client::user_directory::search_users::v3::{Request, Response, User};

use crate::{Arguments, Door, Result};

pub(crate) async fn search(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let (found, limited) = door.engine.search_users(&requester, &request.search_term, limit).await?;
    let users = found.into_iter().map(|(user_id, profile)| {
        let mut user = User::new(user_id);
        user.display_name = profile.display_name;
        user.avatar_url = profile.avatar_url.map(Into::into);
        user
    });
    Ok(Response::new(users.collect(), limited))
}
