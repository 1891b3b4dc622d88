//! The request, with what clients call `use_state_after` that know it only from its proposal (MSC4222).

use ruma::{
    api::{IncomingRequest, Metadata, client::sync::sync_events::v3, error::DeserializationError},
    exports::http,
};

use super::complete::Complete;

/// A request for `/sync`.
pub(crate) struct Request {
    /// As the specification has it.
    pub(crate) standard: v3::Request,
    /// Whether the answer is to use the names of the proposal.
    pub(crate) uses_proposed_names: bool,
}

impl Metadata for Request {
    const METHOD: http::Method = v3::Request::METHOD;
    const RATE_LIMITED: bool = v3::Request::RATE_LIMITED;
    type Authentication = <v3::Request as Metadata>::Authentication;
    type PathBuilder = <v3::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = v3::Request::PATH_BUILDER;
}

impl IncomingRequest for Request {
    type EndpointError = <v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = Complete;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        let query = request.uri().query().unwrap_or_default();
        let asks_for_proposed = query.split('&').any(|pair| pair == "org.matrix.msc4222.use_state_after=true");
        let mut standard = v3::Request::try_from_http_request_inner(request, path_args)?;
        let uses_proposed_names = asks_for_proposed && !standard.use_state_after;
        standard.use_state_after |= asks_for_proposed;
        Ok(Self { standard, uses_proposed_names })
    }
}
