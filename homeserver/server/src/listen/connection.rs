//! One connection: handshake, HTTP/1.1 or HTTP/2, and its end.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::TryFutureExt;
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    Listener,
    activity::Activity,
    body::TimedBody,
    long_wait::{Exchange, Handling, Stream, stand_in},
    places::carries_many,
    request,
    write_timeout::WriteTimeout,
};
use crate::stopping::Stopping;

/// The most that a request's head, or a piece of a body waiting to be read, may take in memory.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What hyper allows by default too, said aloud.
const HEADERS_MAX: usize = 100;

/// A peer server sends a handful of requests at once; each may hold a handler and a body.
const STREAMS_MAX: u32 = 100;

/// How much of a body may arrive on a stream, and on a connection, before somebody reads it.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How much of an answer waits in memory for one stream's slow reader.
const STREAM_SEND_BYTES_MAX: usize = 256 * 1024;

/// Streams that were opened and reset at once; a flood of them costs us more than the other end.
const RESET_STREAMS_MAX: usize = 20;

/// How often the other end of an HTTP/2 connection is asked whether it is still there, and how long it may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What comes after the handshake is boxed: nobody keeps room for what becomes of others' connections.
pub(super) async fn serve(listener: Arc<Listener>, stream: TcpStream, peer: SocketAddr, stopping: Stopping) {
    // Answers are written whole, so waiting for more to send would only delay their last packet.
    let _ = stream.set_nodelay(true);
    let Some(certificate) = &listener.certificate else {
        return Box::pin(http1(listener, stream, peer, stopping)).await;
    };
    let handshake = Box::pin(certificate.acceptor().accept(stream).map_ok(Box::new));
    match tokio::time::timeout(listener.limits.handshake_timeout, handshake).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            Box::pin(http2(listener, stream, peer, stopping)).await;
        }
        Ok(Ok(stream)) => Box::pin(http1(listener, stream, peer, stopping)).await,
        Ok(Err(error)) => tracing::debug!(listener = listener.name, peer = %peer.ip(), %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(listener = listener.name, peer = %peer.ip(), "TLS handshake took too long"),
    }
}

async fn http1<T>(listener: Arc<Listener>, stream: T, peer: SocketAddr, stopping: Stopping)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &listener.limits;
    let is_proxy = carries_many(peer.ip(), &listener.trusted_proxies);
    let head_timeout = if is_proxy { limits.proxy_head_timeout } else { limits.head_timeout };
    let exchange = Exchange::default();
    let mut stream = Stream::new(WriteTimeout::new(stream, limits.write_timeout), exchange.clone());
    loop {
        let service = service_fn(|request: Request<Incoming>| {
            exchange.begin(|| {
                let stand_in = stand_in(&request);
                let request = TimedBody::of(request, limits);
                let body = request.body().read();
                Handling::new(stand_in, body, Box::pin(request::answer(listener.clone(), peer, request)))
            });
            async { Ok::<_, Infallible>(exchange.answer().await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service);
        // Kept apart, for whoever waits long not to keep room for it.
        let mut connection = Box::new(connection);
        tokio::select! {
            // An answer that is there is written before the connection ends.
            biased;
            ended = &mut *connection => return log_end(peer, ended),
            () = stopping.asked() => {
                std::pin::Pin::new(&mut *connection).graceful_shutdown();
                return log_end(peer, connection.await);
            }
            () = exchange.waits_long(limits.long_wait) => {}
        }
        let http1::Parts { io, read_buf, .. } = connection.into_parts();
        let waiting = io.into_inner().with_ahead(&read_buf);
        // It is hyper's buffer, which would be kept with it.
        drop(read_buf);
        match waiting.answered().await {
            Some(answered) => stream = answered,
            None => return,
        }
    }
}

async fn http2<T>(listener: Arc<Listener>, stream: T, peer: SocketAddr, stopping: Stopping)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = listener.limits;
    let activity = Activity::new();
    let watched = activity.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (listener, open) = (listener.clone(), watched.begin());
        async move {
            let request = TimedBody::of(request, &listener.limits);
            let response = request::answer(listener, peer, request).await;
            Ok::<_, Infallible>(response.map(|body| open.answered(body)))
        }
    });
    let stream = TokioIo::new(WriteTimeout::new(stream, limits.write_timeout));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(STREAM_SEND_BYTES_MAX)
        .max_header_list_size(BUFFER_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => log_end(peer, ended),
        reason = activity.ceased(&limits) => tracing::debug!(peer = %peer.ip(), reason, "connection closed"),
        () = stopping.asked() => {
            connection.as_mut().graceful_shutdown();
            log_end(peer, connection.await);
        }
    }
}

/// Other ends vanish, are slow, or speak no HTTP, all day long.
fn log_end(peer: SocketAddr, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.ip(), %error, "connection ended early");
    }
}
