//! Contents that are not there any more as they were: somebody has removed a file, or a disk has forgotten.

use futures_util::{StreamExt, TryStreamExt};
use media::{ByteStream, checked};

use super::{Medium, blob_id, to_the_end};
use crate::{Engine, Result};

impl Engine {
    /// The bytes of a whole medium, which break off before the end if they are not what they were.
    pub(super) fn read_checked(&self, medium: &Medium, body: ByteStream) -> Result<ByteStream> {
        let (engine, sha256) = (self.clone(), medium.blob.sha256.clone());
        let body = checked(body, blob_id(&sha256)?);
        let noticed = body.inspect_err(move |error| {
            if error.kind() == std::io::ErrorKind::InvalidData {
                let (engine, sha256) = (engine.clone(), sha256.clone());
                tokio::spawn(async move { engine.give_up_content(&sha256).await });
            }
        });
        Ok(noticed.boxed())
    }

    /// Forgets what can be had again of a content that is damaged or not there, so that it is fetched or made when somebody
    /// asks for the next time. What users have uploaded stays on record: perhaps the file is put back.
    pub(super) async fn give_up_content(&self, sha256: &str) {
        tracing::error!(
            sha256,
            "the content of a file is missing or damaged: restore it from a backup if users need it"
        );
        metrics::counter!("media_contents_lost_total").increment(1);
        let (engine, owned) = (self.clone(), sha256.to_owned());
        let forgetting = async move {
            let lock = engine.lock_blob(&owned).await;
            engine.storage().forget_lost_content(&owned).await?;
            drop(lock);
            engine.remove_blob(&owned).await
        };
        if let Err(error) = to_the_end(forgetting).await {
            tracing::warn!(sha256, %error, "what is lost could not be forgotten; trying again when somebody asks for it");
        }
    }
}
