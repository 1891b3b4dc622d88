//! What our users have uploaded, for the users of other servers.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use engine::{MediaAsker, Medium, ThumbnailCommand};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};
use ruma::{
    api::federation::authenticated_media::{get_content, get_content_thumbnail},
    media::Method,
};

use crate::{Door, error::DoorError, signed::Federation};

/// So many characters do not occur in a medium by accident, and nobody can guess them before they upload it.
const BOUNDARY_LENGTH: usize = 40;

pub(crate) async fn download(
    State(door): State<Door>,
    Federation { body, .. }: Federation<get_content::v1::Request>,
) -> Result<Response, DoorError> {
    let origin = door.engine.server_name();
    let found = door.engine.medium(&MediaAsker::WithoutFetching, origin, &body.media_id, body.timeout_ms).await?;
    answer(&door, &found).await
}

pub(crate) async fn thumbnail(
    State(door): State<Door>,
    Federation { body, .. }: Federation<get_content_thumbnail::v1::Request>,
) -> Result<Response, DoorError> {
    let command = ThumbnailCommand {
        width: body.width.into(),
        height: body.height.into(),
        crop: body.method == Some(Method::Crop),
        animated: body.animated.unwrap_or(false),
    };
    let (asker, origin) = (MediaAsker::WithoutFetching, door.engine.server_name());
    let found = door.engine.media_thumbnail(&asker, origin, &body.media_id, body.timeout_ms, command).await?;
    answer(&door, &found).await
}

/// Two parts: nothing that is said of the medium, and the medium.
async fn answer(door: &Door, medium: &Medium) -> Result<Response, DoorError> {
    let boundary = door.engine.world().random_string(BOUNDARY_LENGTH);
    let content_type = media::disposition::content_type(medium.content_type.as_deref());
    let disposition = media::disposition::content_disposition(content_type, medium.filename.as_deref());
    let before = format!(
        "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\
         Content-Disposition: {disposition}\r\n\r\n"
    );
    let after = format!("\r\n--{boundary}--\r\n");
    let length = before.len() as u64 + medium.size() + after.len() as u64;
    let content = door.engine.read_medium(medium, 0..medium.size()).await?;
    let framed = piece(before).chain(content).chain(piece(after));
    let mut response = Response::new(Body::from_stream(framed));
    let content_type = HeaderValue::from_str(&format!("multipart/mixed; boundary={boundary}"));
    let content_type = content_type.map_err(|error| DoorError::Internal(error.to_string()))?;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(response)
}

fn piece(text: String) -> impl stream::Stream<Item = std::io::Result<Bytes>> + Send {
    stream::once(async { Ok(Bytes::from(text)) })
}
