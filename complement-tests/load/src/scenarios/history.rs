//! Reading a room from its end to its beginning.

use super::{Scale, fill};
use crate::{
    figures::{Figure, Meter},
    target::Target,
};

/// Pages through all messages of a room, some times.
pub(crate) async fn history(target: &Target, scale: Scale) -> Vec<Figure> {
    const TIMES: usize = 5;
    let person = target.person().await;
    let room_id = person.create_room().await;
    let messages = scale.of(2000);
    fill(&person, &room_id, messages).await;
    let meter = Meter::start(target);
    for _ in 0..TIMES {
        assert_eq!(person.history(&room_id).await.len(), messages, "a message is missing");
    }
    meter.figures("events/s", TIMES * messages).into()
}
