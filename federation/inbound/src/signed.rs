//! Requests that a server has signed.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use axum::extract::{FromRequest, Request};
use ruma::OwnedServerName;

use crate::{
    Door,
    error::DoorError,
    request::{Ask, Whole},
};

/// A request of another server, which the signature proves to be its own.
pub(crate) struct Federation<T> {
    /// The server. Whatever else the request says about its origin counts for nothing.
    pub(crate) origin: OwnedServerName,
    /// What it asks.
    pub(crate) body: T,
}

impl<T: Ask> FromRequest<Door> for Federation<T> {
    type Rejection = DoorError;

    async fn from_request(request: Request, door: &Door) -> Result<Self, DoorError> {
        let (origin, request) = authenticate(request, door, T::BODY_MAX_BYTES).await?;
        Ok(Self { origin, body: request.ask()? })
    }
}

/// Finds out who made a request, which is all of it that does not depend on what is asked.
async fn authenticate(
    request: Request,
    door: &Door,
    body_max_bytes: usize,
) -> Result<(OwnedServerName, Whole), DoorError> {
    let federation = door.engine.federation();
    // What is not signed at all, or not for us, costs no reading of a body.
    let claim = federation.claim(request.headers())?;
    let request = Whole::read(request, body_max_bytes).await?;
    let origin = federation.check_claim(claim, request.method(), &request.raw_target(), &request.body).await?;
    tracing::Span::current().record("origin", origin.as_str());
    // It is up, so whatever waits for it need not wait any longer.
    door.engine.sender().contact(&origin).await;
    Ok((origin, request))
}
