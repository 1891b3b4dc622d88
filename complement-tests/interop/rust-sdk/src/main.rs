//! matrix-sdk and matrix-sdk-ui, the Rust SDK below Element X and Fractal, against our binary: `alice` syncs the classic
//! way, `bob` by sliding sync through the services that an application uses.

#![recursion_limit = "256"]

mod account;
mod conversation;
mod person;
mod rooms;

use std::{env, future::Future, time::Instant};

use anyhow::Result;
use person::{Person, Server, Sync};

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server { url: env::var("NUDGE_BASE_URL")?, name: env::var("NUDGE_SERVER_NAME")? };
    let alice = Person::register(&server, "alice", Sync::Classic).await?;
    let bob = Person::register(&server, "bob", Sync::Sliding).await?;
    let carol = Person::register(&server, "carol", Sync::Sliding).await?;

    let room = step("meet", conversation::meet(&alice, &bob)).await?;
    step("room list", conversation::list(&bob, &room)).await?;
    step("talk", conversation::talk(&alice, &bob, &room)).await?;
    step("thread", conversation::thread(&alice, &bob, &room)).await?;
    let phone = bob.log_in_again(Sync::Sliding).await?;
    step("read", conversation::read(&alice, &bob, &phone, &room)).await?;
    step("type", conversation::typing(&alice, &bob, &room)).await?;
    step("presence", conversation::presence(&alice, &bob)).await?;
    step("search", conversation::search(&bob)).await?;
    step("account data", account::data(&alice, &bob, &phone, &room)).await?;
    step("profile", account::profile(&alice, &bob, &room)).await?;
    step("push rules", account::push_rules(&alice, &bob, &phone, &room)).await?;
    step("ignore", account::ignore(&alice, &bob, &carol, &room)).await?;
    let garden = step("directories", rooms::directories(&alice, &bob, &server)).await?;
    step("space", rooms::space(&alice, &bob, &garden)).await?;
    step("knock", rooms::knock(&alice, &carol)).await?;
    step("upgrade", rooms::upgrade(&alice, &bob, &garden)).await?;
    step("encryption", rooms::encryption(&alice, &bob)).await?;
    step("refresh", account::refresh(&bob)).await?;
    step("logout", account::logout(&bob, &phone)).await?;
    println!("matrix-rust-sdk: passed");
    Ok(())
}

async fn step<T>(name: &str, action: impl Future<Output = Result<T>>) -> Result<T> {
    let start = Instant::now();
    let outcome = Box::pin(action).await.map_err(|error| error.context(name.to_owned()))?;
    println!("  {name}: passed ({} ms)", start.elapsed().as_millis());
    Ok(outcome)
}
