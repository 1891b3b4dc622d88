//! What a row of the table is made of, and how it becomes a route.

use std::any::TypeId;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, Method},
    response::Response,
    routing::{MethodFilter, on},
};
use engine::Requester;
use ruma::api::{IncomingRequest, Metadata, OutgoingResponse, auth_scheme::AccessToken, path_builder::PathBuilder};

use super::{Authentication, Route};
use crate::{
    Door, Result,
    arguments::{self, Arguments, Open},
    body::Mend,
    error::answer,
    media::Upload,
    rate_limits::Class,
};

/// Most bodies are far smaller; an event is at most 64 KiB when it is sent on, but `createRoom` may hold several.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// How an endpoint is served.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that a row of the table may say, by one word")]
pub(crate) struct Endpoint {
    pub(crate) section: &'static str,
    other_paths: &'static [&'static str],
    pub(crate) class: Class,
    pub(crate) body_max_bytes: usize,
    pub(crate) interactive: bool,
    pub(crate) about_anybody: bool,
    pub(crate) mend: Option<Mend>,
    pub(crate) of_others: bool,
    takes_file: bool,
}

/// An endpoint of ordinary cost. `section` is the anchor in the specification, the URL of a proposal, or a page of ours.
pub(super) const fn at(section: &'static str) -> Endpoint {
    Endpoint {
        section,
        other_paths: &[],
        class: Class::Other,
        body_max_bytes: BODY_MAX_BYTES,
        interactive: false,
        about_anybody: false,
        mend: None,
        of_others: false,
        takes_file: false,
    }
}

impl Endpoint {
    /// Limits it by another rate.
    pub(super) const fn rated(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Takes `auth` out of the body before the rest is read.
    pub(super) const fn interactive(mut self) -> Self {
        self.interactive = true;
        self
    }

    /// Lets a user's id in the path be another's than the asker's.
    pub(super) const fn about_anybody(mut self) -> Self {
        self.about_anybody = true;
        self
    }

    /// Corrects the body before it is read.
    pub(super) const fn mended(mut self, mend: Mend) -> Self {
        self.mend = Some(mend);
        self
    }

    /// The user in the path is another one, not the one who asks.
    pub(super) const fn of_others(mut self) -> Self {
        self.about_anybody = true;
        self.of_others = true;
        self
    }

    /// Its body is a file.
    const fn taking_file(mut self) -> Self {
        self.takes_file = true;
        self
    }

    /// Serves it at paths that ruma does not list, too.
    pub(super) const fn also_at(mut self, paths: &'static [&'static str]) -> Self {
        self.other_paths = paths;
        self
    }
}

/// The rows so far.
#[derive(Default)]
pub(super) struct Table {
    pub(super) routes: Vec<Route>,
    pub(super) router: Router<Door>,
}

impl Table {
    /// Adds an endpoint that anybody may ask.
    pub(super) fn open<T, F>(
        self,
        endpoint: Endpoint,
        handler: impl Fn(Door, Open<T>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: 'static,
        F: Future<Output = Result<T::OutgoingResponse>> + Send,
    {
        self.open_for::<T, T::OutgoingResponse, F>(endpoint, handler)
    }

    /// The same where the reply is not of ruma's type.
    pub(super) fn open_for<T, R, F>(
        mut self,
        endpoint: Endpoint,
        handler: impl Fn(Door, Open<T>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: 'static,
        R: OutgoingResponse,
        F: Future<Output = Result<R>> + Send,
    {
        debug_assert_ne!(TypeId::of::<T::Authentication>(), TypeId::of::<AccessToken>(), "{}", endpoint.section);
        let serve = move |State(door): State<Door>, request: Request| {
            let handler = handler.clone();
            async move {
                let received = arguments::receive_open(&door, &endpoint, request).await?;
                answer(handler(door, Open::parse(received)?).await?)
            }
        };
        for path in self.add::<T>(endpoint, Authentication::None) {
            self.router = self.router.route(path, on(method_filter(&T::METHOD), serve.clone()));
        }
        self
    }

    /// Adds an endpoint that asks for an access token.
    pub(super) fn asked<T, F>(
        self,
        endpoint: Endpoint,
        handler: impl Fn(Door, Arguments<T>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: IncomingRequest + Send + 'static,
        F: Future<Output = Result<T::OutgoingResponse>> + Send,
    {
        self.asked_for::<T, T::OutgoingResponse, F>(endpoint, handler)
    }

    /// The same where the reply is not of ruma's type.
    pub(super) fn asked_for<T, R, F>(
        mut self,
        endpoint: Endpoint,
        handler: impl Fn(Door, Arguments<T>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: IncomingRequest + Send + 'static,
        R: OutgoingResponse,
        F: Future<Output = Result<R>> + Send,
    {
        let serve = move |State(door): State<Door>, request: Request| {
            let handler = handler.clone();
            async move {
                // Boxed, for a handler that waits not to keep room for it.
                let received = Box::pin(arguments::receive(&door, &endpoint, request)).await?;
                answer(handler(door, Arguments::parse(received)?).await?)
            }
        };
        for path in self.add::<T>(endpoint, Authentication::AccessToken) {
            self.router = self.router.route(path, on(method_filter(&T::METHOD), serve.clone()));
        }
        self
    }

    /// Adds an endpoint that users ask with an access token, and others without.
    pub(super) fn either<T, F>(
        self,
        endpoint: Endpoint,
        handler: impl Fn(Door, Arguments<T, Option<Requester>>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: IncomingRequest + Send + 'static,
        F: Future<Output = Result<T::OutgoingResponse>> + Send,
    {
        self.either_for::<T, T::OutgoingResponse, F>(endpoint, handler)
    }

    /// The same where the reply is not of ruma's type.
    pub(super) fn either_for<T, R, F>(
        mut self,
        endpoint: Endpoint,
        handler: impl Fn(Door, Arguments<T, Option<Requester>>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: IncomingRequest + Send + 'static,
        R: OutgoingResponse,
        F: Future<Output = Result<R>> + Send,
    {
        let serve = move |State(door): State<Door>, request: Request| {
            let handler = handler.clone();
            async move {
                let received = arguments::receive_either(&door, &endpoint, request).await?;
                answer(handler(door, Arguments::parse(received)?).await?)
            }
        };
        for path in self.add::<T>(endpoint, Authentication::Optional) {
            self.router = self.router.route(path, on(method_filter(&T::METHOD), serve.clone()));
        }
        self
    }

    /// Adds an endpoint that asks for an access token and answers with a file.
    pub(super) fn asked_for_file<T, F>(
        mut self,
        endpoint: Endpoint,
        handler: impl Fn(Door, Arguments<T>, HeaderMap) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: IncomingRequest + Send + 'static,
        F: Future<Output = Result<Response>> + Send,
    {
        let serve = move |State(door): State<Door>, request: Request| {
            let handler = handler.clone();
            async move {
                let headers = request.headers().clone();
                let received = arguments::receive(&door, &endpoint, request).await?;
                handler(door, Arguments::parse(received)?, headers).await
            }
        };
        for path in self.add::<T>(endpoint, Authentication::AccessToken) {
            self.router = self.router.route(path, on(method_filter(&T::METHOD), serve.clone()));
        }
        self
    }

    /// The same for users with an access token, and for others without.
    pub(super) fn either_for_file<T, F>(
        mut self,
        endpoint: Endpoint,
        handler: impl Fn(Door, Arguments<T, Option<Requester>>, HeaderMap) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: IncomingRequest + Send + 'static,
        F: Future<Output = Result<Response>> + Send,
    {
        let serve = move |State(door): State<Door>, request: Request| {
            let handler = handler.clone();
            async move {
                let headers = request.headers().clone();
                let received = arguments::receive_either(&door, &endpoint, request).await?;
                handler(door, Arguments::parse(received)?, headers).await
            }
        };
        for path in self.add::<T>(endpoint, Authentication::Optional) {
            self.router = self.router.route(path, on(method_filter(&T::METHOD), serve.clone()));
        }
        self
    }

    /// Adds an endpoint that asks for an access token and takes a file.
    pub(super) fn taking_file<T, R, F>(
        mut self,
        endpoint: Endpoint,
        handler: impl Fn(Door, Arguments<T>, Upload) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: IncomingRequest + Send + 'static,
        R: OutgoingResponse,
        F: Future<Output = Result<R>> + Send,
    {
        let serve = move |State(door): State<Door>, request: Request| {
            let handler = handler.clone();
            async move {
                let announced_bytes = Upload::announced_bytes(request.headers());
                let (received, body) = arguments::receive_head(&door, &endpoint, request).await?;
                answer(handler(door, Arguments::parse(received)?, Upload { announced_bytes, body }).await?)
            }
        };
        for path in self.add::<T>(endpoint.taking_file(), Authentication::AccessToken) {
            self.router = self.router.route(path, on(method_filter(&T::METHOD), serve.clone()));
        }
        self
    }

    fn add<T: Metadata>(&mut self, endpoint: Endpoint, authentication: Authentication) -> Vec<&'static str> {
        let paths: Vec<_> = T::PATH_BUILDER.all_paths().chain(endpoint.other_paths.iter().copied()).collect();
        let section = match endpoint.section {
            elsewhere if elsewhere.starts_with("https:") || elsewhere.starts_with("docs/") => elsewhere.to_owned(),
            section => format!("https://spec.matrix.org/v1.19/client-server-api/#{section}"),
        };
        self.routes.push(Route {
            method: T::METHOD,
            paths: paths.clone(),
            authentication,
            of_others: endpoint.of_others,
            takes_file: endpoint.takes_file,
            section,
        });
        paths
    }
}

fn method_filter(method: &Method) -> MethodFilter {
    MethodFilter::try_from(method.clone()).expect("the specification has no methods that axum does not know")
}
