//! `GET /_matrix/client/v3/notifications`

use engine::NotificationsQuery;
use ruma::api::client::push::get_notifications::v3 as get_notifications;

use crate::{Arguments, Door, Result};

/// The value of `only` by which a client asks for what stands out.
const HIGHLIGHT: &str = "highlight";

pub(crate) async fn list(
    door: Door,
    asked: Arguments<get_notifications::Request>,
) -> Result<get_notifications::Response> {
    let query = NotificationsQuery {
        from: asked.request.from,
        limit: asked.request.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        only_highlights: asked.request.only.is_some_and(|only| only == HIGHLIGHT),
    };
    let page = door.engine.notifications(&asked.requester, query).await?;
    let mut notifications = Vec::with_capacity(page.notifications.len());
    for told in page.notifications {
        let event = told.event.into_raw();
        notifications.push(get_notifications::Notification::new(told.actions, event, told.read, told.room_id, told.ts));
    }
    let mut response = get_notifications::Response::new(notifications);
    response.next_token = page.next;
    Ok(response)
}
