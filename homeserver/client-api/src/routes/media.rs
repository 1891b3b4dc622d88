//! Files: uploading and downloading them, smaller images of them, and what pages say of themselves.

use ruma::api::client::{authenticated_media, media};

use super::table::{Table, at};
use crate::rate_limits::Class;

pub(super) fn rows(table: Table) -> Table {
    old_rows(table_of_uploads(new_rows(table)))
}

fn new_rows(table: Table) -> Table {
    use crate::media::{config, download, preview_url, thumbnail};
    table
        .asked_for_file::<authenticated_media::get_content::v1::Request, _>(
            at("get_matrixclientv1mediadownloadservernamemediaid").rated(Class::Download),
            download::download,
        )
        .asked_for_file::<authenticated_media::get_content_as_filename::v1::Request, _>(
            at("get_matrixclientv1mediadownloadservernamemediaidfilename").rated(Class::Download),
            download::download_as,
        )
        .asked_for_file::<authenticated_media::get_content_thumbnail::v1::Request, _>(
            at("get_matrixclientv1mediathumbnailservernamemediaid").rated(Class::Download),
            thumbnail::thumbnail,
        )
        .asked::<authenticated_media::get_media_config::v1::Request, _>(
            at("get_matrixclientv1mediaconfig"),
            config::config,
        )
        .asked::<authenticated_media::get_media_preview::v1::Request, _>(
            at("get_matrixclientv1mediapreview_url").rated(Class::Costly),
            preview_url::preview,
        )
}

fn table_of_uploads(table: Table) -> Table {
    use crate::media::upload;
    table
        .taking_file::<media::create_content::v3::Request, _, _>(
            at("post_matrixmediav3upload").rated(Class::Upload),
            upload::upload,
        )
        .asked::<media::create_mxc_uri::v1::Request, _>(
            at("post_matrixmediav1create").rated(Class::Upload),
            upload::create,
        )
        .taking_file::<media::create_content_async::v3::Request, _, _>(
            at("put_matrixmediav3uploadservernamemediaid").rated(Class::Upload),
            upload::upload_reserved,
        )
}

/// As it was before media were for users only.
#[expect(deprecated, reason = "the endpoints are; who has an access token is served, others as the freeze says")]
fn old_rows(table: Table) -> Table {
    use crate::media::{config, download, preview_url, thumbnail};
    table
        .either_for_file::<media::get_content::v3::Request, _>(
            at("get_matrixmediav3downloadservernamemediaid").rated(Class::Download),
            download::download_unauthenticated,
        )
        .either_for_file::<media::get_content_as_filename::v3::Request, _>(
            at("get_matrixmediav3downloadservernamemediaidfilename").rated(Class::Download),
            download::download_as_unauthenticated,
        )
        .either_for_file::<media::get_content_thumbnail::v3::Request, _>(
            at("get_matrixmediav3thumbnailservernamemediaid").rated(Class::Download),
            thumbnail::thumbnail_unauthenticated,
        )
        .asked::<media::get_media_config::v3::Request, _>(at("get_matrixmediav3config"), config::config_before)
        .asked::<media::get_media_preview::v3::Request, _>(
            at("get_matrixmediav3preview_url").rated(Class::Costly),
            preview_url::preview_before,
        )
}
