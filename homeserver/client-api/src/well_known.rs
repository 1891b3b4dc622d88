//! `GET /.well-known/matrix/client` and `/.well-known/matrix/support`

use engine::EngineError;
use ruma::api::client::discovery::{
    discover_homeserver::{HomeserverInfo, Request, Response},
    discover_support::{self, Contact, ContactRole},
};

use crate::{Door, Result, arguments::Open};

pub(crate) async fn client(door: Door, _: Open<Request>) -> Result<Response> {
    match &door.inner.options.well_known_base_url {
        Some(base_url) => Ok(Response::new(HomeserverInfo::new(base_url.clone()))),
        None => Err(EngineError::NotFound("Discovery is not served here".to_owned()).into()),
    }
}

pub(crate) async fn support(door: Door, _: Open<discover_support::Request>) -> Result<discover_support::Response> {
    let support = &door.inner.options.support;
    let email = support.email.clone().map(|email| Contact::with_email_address(ContactRole::Admin, email));
    let matrix_id = support.matrix_id.clone();
    let contact = match (email, matrix_id) {
        (Some(mut contact), matrix_id) => {
            contact.matrix_id = matrix_id;
            Some(contact)
        }
        (None, Some(matrix_id)) => Some(Contact::with_matrix_id(ContactRole::Admin, matrix_id)),
        (None, None) => None,
    };
    if contact.is_none() && support.page.is_none() {
        return Err(EngineError::NotFound("This server names nobody to turn to".to_owned()).into());
    }
    let mut response = discover_support::Response::with_contacts(contact.into_iter().collect());
    response.support_page.clone_from(&support.page);
    Ok(response)
}
