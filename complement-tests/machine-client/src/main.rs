//! One session on our machine for end-to-end encryption that does what it is told by lines of JSON, for
//! `complement-tests/interop/encryption.py`.

mod acts;
mod api;
mod client;
mod events;
mod history;
mod storage;
mod system;
mod wire;

use std::time::Duration;

use api::Failure;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

/// How long to wait when there is nothing to do and nobody is logged in.
const TICK: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let (sender, mut lines) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut standard_input = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = standard_input.next_line().await {
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
    let mut client = None;
    loop {
        match lines.try_recv() {
            Ok(line) => {
                let asked: Value = serde_json::from_str(&line)?;
                let answer = match Box::pin(acts::act(&mut client, &asked)).await {
                    Ok(value) => json!({ "value": value }),
                    Err(error) => json!({ "error": error.to_string() }),
                };
                println!("{answer}");
            }
            Err(mpsc::error::TryRecvError::Disconnected) => return Ok(()),
            // A server that is away comes back: syncing goes on.
            Err(mpsc::error::TryRecvError::Empty) => {
                let has_synced = match &mut client {
                    Some(client) => client.sync().await.is_ok(),
                    None => false,
                };
                if !has_synced {
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }
}
