//! What a web page says of itself, and which pages may be asked at all. Nothing here fetches anything.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>

mod page;
mod rules;

pub use url::Url;

pub use self::{
    page::{Page, read_embedded, read_page},
    rules::{HostRule, Rules},
};
