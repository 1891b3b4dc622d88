//! Creating rooms.

use futures_util::future::join_all;

use super::Scale;
use crate::{
    figures::{Figure, Meter},
    target::Target,
};

/// Four users create public rooms.
pub(crate) async fn create(target: &Target, scale: Scale) -> Vec<Figure> {
    let people = target.people(4).await;
    let each = scale.of(50);
    let meter = Meter::start(target);
    join_all(people.iter().map(async |person| {
        for _ in 0..each {
            person.create_room().await;
        }
    }))
    .await;
    meter.figures("rooms/s", people.len() * each).into()
}
