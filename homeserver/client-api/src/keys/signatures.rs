//! `POST /_matrix/client/v3/keys/signatures/upload`

use keyserver::SignatureFailure;
use ruma::api::client::keys::upload_signatures::v3 as upload_signatures;

use crate::{Arguments, Door, Result, error::ApiError, error::signature_errcode};

pub(crate) async fn upload(
    door: Door,
    asked: Arguments<upload_signatures::Request>,
) -> Result<upload_signatures::Response> {
    let Arguments { request, requester, .. } = asked;
    let signed = request.signed_keys.iter().map(|(user_id, objects)| {
        (user_id.clone(), objects.iter().map(|(id, object)| (id.to_owned(), object.to_owned())).collect())
    });
    let failures = door.engine.upload_signatures(&requester, signed.collect()).await?;
    let mut response = upload_signatures::Response::new();
    for (user_id, objects) in failures {
        let objects = objects.into_iter().map(|(id, failure)| Ok((id, shown(failure)?)));
        response.failures.insert(user_id, objects.collect::<Result<_>>()?);
    }
    Ok(response)
}

fn shown(failure: SignatureFailure) -> Result<upload_signatures::Failure> {
    let json = serde_json::json!({ "errcode": signature_errcode(failure), "error": failure.to_string() });
    serde_json::from_value(json).map_err(ApiError::internal)
}
