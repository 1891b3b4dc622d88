//! Application services.

use std::{collections::BTreeSet, time::Instant};

use fake_service::{Behaviour, FakeService};
use faults::Client;
use futures_util::future::join_all;

use super::Scale;
use crate::{
    figures::{Figure, Meter},
    target::Target,
};

const AS_TOKEN: &str = "as-token";
const HS_TOKEN: &str = "hs-token";
const MESSAGE: &str = "m.room.message";
/// How large each message is.
const TEXT_BYTES: usize = 4096;
/// How many are sent at a time.
const AT_ONCE: usize = 16;

/// What a service costs that misses many messages, and gets them when it is back. A server of its own has it, because
/// the others are measured without one; there is none beside servers that are not ours.
pub(crate) async fn away(target: &Target, scale: Scale) -> Vec<Figure> {
    let service = FakeService::start(HS_TOKEN).await;
    let registration = format!(
        "id: all\nurl: {}\nas_token: {AS_TOKEN}\nhs_token: {HS_TOKEN}\nsender_localpart: allbot\nnamespaces:\n  users:\n  \
         - {{regex: '@.*', exclusive: false}}\n",
        service.url()
    );
    let variable = "NUDGE_APPLICATION_SERVICES__REGISTRATIONS";
    let Some(server) = target.another("service", variable, "service.yaml", &registration).await else {
        return Vec::new();
    };
    let figures = miss_and_catch_up(&server, &service, scale).await;
    server.stop().await;
    figures
}

async fn miss_and_catch_up(server: &Target, service: &FakeService, scale: Scale) -> Vec<Figure> {
    // Caches fill with these; they have bounds of their own.
    let (told, missed) = (scale.of(2_000), scale.of(10_000));
    let person = server.person().await;
    let room_id = person.create_room().await;
    send(&person, &room_id, "told", told).await;
    service.wait_until("what it did not miss", |service| service.count(MESSAGE) >= told).await;
    let before = server.own_memory_kib();
    service.behave(Behaviour::Refuse(503));
    send(&person, &room_id, "missed", missed).await;
    let while_away = server.own_memory_kib();
    service.behave(Behaviour::Accept);
    let (meter, since) = (Meter::start(server), Instant::now());
    // Hearing from the service ends the waiting, which may be minutes by now.
    Client::of_service(&server.base_url, AS_TOKEN).await;
    service.wait_until("what it missed", |service| service.count(MESSAGE) >= told + missed).await;
    let [per_second, each] = meter.figures("events/s when it is back", missed);
    let seconds = since.elapsed().as_secs_f64();
    let mut figures = vec![
        Figure::megabytes("own memory when it goes away, MB", before),
        Figure::megabytes("own memory when it has missed all, MB", while_away),
        Figure::megabytes("own memory when it is told all, MB", server.own_memory_kib()),
        Figure::new("s to catch up", seconds),
        per_second,
        each,
    ];
    figures.extend(faults_of(service, &person, &room_id).await);
    figures
}

/// Sends so many large messages, several at a time.
async fn send(person: &Client, room_id: &str, name: &str, count: usize) {
    let sender = async |first: usize| {
        for number in (first..count).step_by(AT_ONCE) {
            let id = format!("{name}-{number}");
            let text = format!("{id} {}", "x".repeat(TEXT_BYTES));
            assert!(person.send(room_id, &id, &text).await.is_some(), "a message was not taken");
        }
    };
    join_all((0..AT_ONCE).map(sender)).await;
}

/// What waited while it was away, what was lost or doubled, and whether the rest came in the room's order.
async fn faults_of(service: &FakeService, person: &Client, room_id: &str) -> [Figure; 4] {
    let waited: BTreeSet<_> = service.attempts().into_iter().filter(|(_, taken)| !taken).map(|(id, _)| id).collect();
    let told = service.events().into_iter().filter(|event| event["type"] == MESSAGE);
    let told: Vec<String> = told.filter_map(|event| event["event_id"].as_str().map(str::to_owned)).collect();
    let history: Vec<String> = person.history(room_id).await.into_iter().map(|(event_id, _)| event_id).collect();
    let different: BTreeSet<&String> = told.iter().collect();
    let lost = history.iter().filter(|event_id| !different.contains(event_id)).count();
    let order: Vec<&String> = history.iter().filter(|event_id| different.contains(event_id)).collect();
    let mut once = BTreeSet::new();
    let came: Vec<&String> = told.iter().filter(|event_id| once.insert(*event_id)).collect();
    let disordered = came.iter().zip(&order).filter(|(came, expected)| came != expected).count();
    [
        Figure::count("transactions that waited for it", waited.len()),
        Figure::count("lost", lost),
        Figure::count("doubled", told.len() - different.len()),
        Figure::count("out of order", disordered),
    ]
}
