//! A wire to PostgreSQL, or to whomever else, that can be cut, slowed down, or lose an answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use crate::RECOVERY;

/// How a commit stands on the wire: the end of a message that holds nothing else.
const COMMIT: &[u8] = b"COMMIT\0";
/// As much as passes at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What happens on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes.
    Clear,
    /// All connections end, and none is let through.
    Away,
    /// Nothing passes, and nobody is told.
    Silent,
    /// All that is asked is held back for so long.
    Slow(Duration),
    /// The next commit passes, its answer does not: the connection ends.
    AnswerLost,
    /// The next commit does not pass: the connection ends.
    CommitLost,
    /// The next commit passes, and nothing after it, as in [`Weather::Silent`].
    HeldAfter,
    /// The next commit never passes, and nothing after it does, as in [`Weather::Silent`].
    HeldBefore,
}

/// The wire.
pub struct Proxy {
    wire: Arc<Wire>,
    accepting: JoinHandle<()>,
    /// Where it listens on the loopback address.
    pub port: u16,
}

struct Wire {
    upstream: String,
    weather: watch::Sender<Weather>,
    /// Of the connections, so many were ended.
    ended: watch::Sender<usize>,
    /// Of the connections, so many get no answer any more, ever.
    stranded: watch::Sender<usize>,
    count: AtomicUsize,
    lost: AtomicUsize,
}

impl Proxy {
    /// Leads to `upstream`, a host and a port.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let wire = Arc::new(Wire {
            upstream: upstream.to_owned(),
            weather: watch::Sender::new(Weather::Clear),
            ended: watch::Sender::new(0),
            stranded: watch::Sender::new(0),
            count: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&wire)));
        Self { wire, accepting, port }
    }

    /// Changes the weather.
    pub fn turn(&self, weather: Weather) {
        self.wire.weather.send_replace(weather);
    }

    /// Ends all connections; new ones are let through.
    pub fn cut(&self) {
        self.wire.ended.send_replace(self.wire.count.load(Ordering::SeqCst));
    }

    /// The other end of all connections is gone without a word, as when a machine loses its power; new ones are let
    /// through.
    pub fn strand(&self) {
        self.wire.stranded.send_replace(self.wire.count.load(Ordering::SeqCst));
    }

    /// How many commits, or answers to one, were lost or held.
    pub fn lost(&self) -> usize {
        self.wire.lost.load(Ordering::SeqCst)
    }

    /// Waits until so many were.
    pub async fn wait_until_lost(&self, count: usize) {
        let begun = Instant::now();
        while self.lost() < count {
            assert!(begun.elapsed() < RECOVERY, "nothing is committed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.turn(Weather::Away);
    }
}

async fn accept(listener: TcpListener, wire: Arc<Wire>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let number = wire.count.fetch_add(1, Ordering::SeqCst);
        if *wire.weather.borrow() != Weather::Away {
            tokio::spawn(carry(stream, Arc::clone(&wire), number));
        }
    }
}

/// Carries what two ends say to each other, until one of them or the weather ends it.
async fn carry(stream: TcpStream, wire: Arc<Wire>, number: usize) {
    let (asking, answering) = stream.into_split();
    if wire.pass(number).await.is_none() {
        return;
    }
    let Ok(upstream) = TcpStream::connect(&wire.upstream).await else { return };
    let (answers, questions) = upstream.into_split();
    let (mut ended, mut weather) = (wire.ended.subscribe(), wire.weather.subscribe());
    let (losing, lost) = watch::channel(false);
    tokio::select! {
        () = ask(asking, questions, &wire, number, &losing) => {}
        () = answer(answers, answering, &wire, number, lost) => {}
        _ = ended.wait_for(|ended| *ended > number) => {}
        _ = weather.wait_for(|weather| *weather == Weather::Away) => {}
    }
}

async fn ask(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: &Wire,
    number: usize,
    losing: &watch::Sender<bool>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let Some(weather) = wire.pass(number).await else { return };
        if let Weather::Slow(pause) = weather {
            tokio::time::sleep(pause).await;
        }
        if piece[..length].ends_with(COMMIT) {
            match weather {
                Weather::CommitLost => return wire.lose(Weather::Clear),
                Weather::HeldBefore => {
                    wire.lose(Weather::Silent);
                    // What comes later finds the connection ended.
                    wire.pass(number).await;
                    return;
                }
                Weather::HeldAfter => wire.lose(Weather::Silent),
                Weather::AnswerLost => drop(losing.send_replace(true)),
                _ => {}
            }
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

async fn answer(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: &Wire,
    number: usize,
    lost: watch::Receiver<bool>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if *lost.borrow() {
            return wire.lose(Weather::Clear);
        }
        if wire.pass(number).await.is_none() || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

impl Wire {
    /// Waits until something may pass, and says in what weather it does.
    async fn pass(&self, number: usize) -> Option<Weather> {
        if *self.stranded.borrow() > number {
            return std::future::pending().await;
        }
        let mut weather = self.weather.subscribe();
        let now = *weather.wait_for(|weather| *weather != Weather::Silent).await.ok()?;
        (now != Weather::Away).then_some(now)
    }

    /// Something was lost. Says what becomes of what comes after.
    fn lose(&self, then: Weather) {
        self.weather.send_replace(then);
        self.lost.fetch_add(1, Ordering::SeqCst);
    }
}
