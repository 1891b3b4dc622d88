//! A client on our machine for end-to-end encryption, to meet other people's clients with.
//!
//!     machine-client <base url> <user> <password> <file>
//!
//! Registers the user, or logs in anew as the device in the file. It then reads wishes from its standard input, one JSON
//! object a line (`do`: `send`, `bootstrap`, `verify`, `confirm`, `rotate`, `backup`), and writes what happens to its
//! standard output, likewise (`is`: `ready`, `message`, `undecryptable`, `compare`, `verified`, ...). Invitations it
//! accepts, and verifications.

mod api;
mod client;
mod events;
mod system;
mod wire;

use client::Client;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

/// Wishes that may wait: far more than a test has.
const WISHES_MAX: usize = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base_url, user, password, file] = arguments.as_slice() else {
        return Err("machine-client <base url> <user> <password> <file>".into());
    };
    let mut client = Client::begin(base_url, user, password, file.as_ref()).await?;
    let (sender, mut wishes) = mpsc::channel(WISHES_MAX);
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
    loop {
        match wishes.try_recv() {
            Ok(line) => client.fulfil(&serde_json::from_str::<Value>(&line)?).await?,
            Err(mpsc::error::TryRecvError::Empty) => client.sync().await?,
            Err(mpsc::error::TryRecvError::Disconnected) => return Ok(()),
        }
    }
}
