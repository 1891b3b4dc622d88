//! What a page says of itself, for whoever is about to open it: asked once for all, from where its reader is not seen.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>

use std::sync::Arc;

use futures_util::StreamExt;
use media::{
    ByteStream, Spooled,
    preview::{Page, Url, read_embedded, read_page},
};
use outbound::CallLimits;
use serde_json::{Map, Value, json};
use storage::{MediaPlace, NewMedia};

use super::{
    to_the_end,
    upload::{MEDIA_ID_LENGTH, receive_error},
};
use crate::{Engine, EngineError, Result};

/// As much of a page is read: what it says of itself stands at its beginning.
const PAGE_MAX_BYTES: usize = 1024 * 1024;
/// As much is read of what it says by oEmbed.
const EMBEDDED_MAX_BYTES: usize = 64 * 1024;
/// What remembering a preview takes, whatever it says.
const ENTRY_BYTES: usize = 256;
/// The longest address.
const URL_MAX_BYTES: usize = 2_048;

/// What was found at an address.
struct Found {
    url: Url,
    content_type: String,
    body: ByteStream,
}

impl Engine {
    /// What the page at an address says of itself; nothing, when it says nothing.
    pub async fn preview_url(&self, url: &str) -> Result<Arc<Map<String, Value>>> {
        let rules = &self.media_settings().previews;
        if !rules.allow_any() {
            return Err(EngineError::forbidden("This server shows no previews of pages"));
        }
        let mut url = Url::parse(url)
            .ok()
            .filter(|url| url.as_str().len() <= URL_MAX_BYTES && matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| EngineError::invalid_param("This is no address of a page"))?;
        url.set_fragment(None);
        if !rules.allow(&url) {
            return Err(EngineError::forbidden("This server shows no previews of that page"));
        }
        let asked = async { self.ask(&url).await.map(Arc::new) };
        let preview = self.repository().previews.get_with(url.to_string(), asked).await;
        preview.ok_or_else(|| EngineError::CannotFederate("The page cannot be read".to_owned()))
    }

    /// Asks for the page; `None` when it cannot be had.
    async fn ask(&self, url: &Url) -> Option<Map<String, Value>> {
        let found = self.get(url, CallLimits::PAGE).await?;
        if found.content_type.starts_with("image/") {
            return Some(self.image_alone(found).await);
        }
        if !["text/html", "application/xhtml+xml"].contains(&essence(&found.content_type).as_str()) {
            return Some(Map::new());
        }
        let body = beginning(found.body, PAGE_MAX_BYTES).await;
        let (content_type, address) = (found.content_type, found.url);
        let reading = tokio::task::spawn_blocking(move || read_page(&body, &content_type, &address));
        let mut page = reading.await.ok()?;
        if let Some(address) = page.embedded.take() {
            self.ask_embedded(&address, &mut page).await;
        }
        let mut preview: Map<_, _> = page.properties.into_iter().map(|(name, value)| (name, value.into())).collect();
        if let Some(image) = page.image
            && let Some(found) = self.get(&image, CallLimits::PAGE_IMAGE).await
        {
            self.add_image(&mut preview, found).await;
        }
        Some(preview)
    }

    async fn ask_embedded(&self, address: &Url, page: &mut Page) -> Option<()> {
        let found = self.get(address, CallLimits::PAGE).await?;
        let body = beginning(found.body, EMBEDDED_MAX_BYTES).await;
        read_embedded(&body, page, &found.url)
    }

    /// Whatever is asked for, whoever led there, is judged like the first.
    async fn get(&self, url: &Url, limits: CallLimits) -> Option<Found> {
        let rules = &self.media_settings().previews;
        let allowed = move |url: &Url| rules.allow(url);
        let asked = self.federation().web().get(url, &allowed, limits).await;
        let (url, answer) = asked.inspect_err(|error| tracing::debug!(%error, "no preview")).ok()?;
        let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        Some(Found { url, content_type, body: answer.into_body() })
    }

    async fn image_alone(&self, found: Found) -> Map<String, Value> {
        let mut preview = Map::new();
        let name = found.url.path_segments().and_then(|mut segments| segments.next_back().map(str::to_owned));
        self.add_image(&mut preview, found).await;
        if let Some(name) = name.filter(|name| !name.is_empty() && !preview.is_empty()) {
            preview.insert("og:title".to_owned(), name.into());
        }
        preview
    }

    /// Keeps an image, and adds what there is to say about it.
    async fn add_image(&self, preview: &mut Map<String, Value>, found: Found) {
        match self.keep_image(found.body).await {
            Ok(described) => preview.extend(described),
            Err(error) => tracing::debug!(%error, "a preview without its image"),
        }
    }

    async fn keep_image(&self, body: ByteStream) -> Result<Map<String, Value>> {
        let limit_bytes = CallLimits::PAGE_IMAGE.body_max_bytes as u64;
        let spooled = self.media_settings().spool.receive(body, limit_bytes).await.map_err(receive_error)?;
        let seen = self.repository().thumbnailer.look(spooled.path().to_owned()).await;
        let seen = seen.map_err(|error| EngineError::BadRequest(error.to_string()))?;
        let (engine, size) = (self.clone(), spooled.size);
        let place = to_the_end(async move { engine.store_image(spooled, seen.content_type).await }).await?;
        let described = json!({
            "og:image": format!("mxc://{}/{}", place.origin, place.media_id),
            "og:image:type": seen.content_type,
            "og:image:width": seen.width,
            "og:image:height": seen.height,
            "matrix:image:size": size,
        });
        Ok(described.as_object().cloned().unwrap_or_default())
    }

    async fn store_image(&self, spooled: Spooled, content_type: &str) -> Result<MediaPlace> {
        let (blob, _lock) = self.put_blob(spooled).await?;
        if let Some(known) = self.storage().preview_media(&blob.sha256).await? {
            return Ok(known);
        }
        let media = NewMedia {
            origin: self.server_name().to_owned(),
            media_id: self.world().random_string(MEDIA_ID_LENGTH),
            blob,
            content_type: Some(content_type.to_owned()),
            filename: None,
            uploader: None,
            preview: true,
            unauthenticated: self.media_settings().unauthenticated_access,
            created_ts: self.world().clock.now_ms(),
        };
        self.storage().store_media(&media, None).await?;
        Ok(MediaPlace { origin: media.origin, media_id: media.media_id })
    }
}

/// About how many bytes a preview takes in memory.
#[expect(clippy::ref_option, reason = "as the cache has it")]
pub(super) fn weight(url: &str, preview: &Option<Arc<Map<String, Value>>>) -> u32 {
    let written = preview.as_ref().and_then(|preview| serde_json::to_string(&**preview).ok());
    u32::try_from(ENTRY_BYTES + url.len() + written.map_or(0, |text| text.len())).unwrap_or(u32::MAX)
}

/// As much of a body as is of interest. What breaks off is of as much use as it is.
async fn beginning(mut body: ByteStream, max_bytes: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(Ok(piece)) = body.next().await {
        read.extend_from_slice(&piece[..piece.len().min(max_bytes - read.len())]);
        if read.len() == max_bytes {
            break;
        }
    }
    read
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_owned()
}
