//! The one function of our own: what time it is.

use futures_util::{FutureExt, future::BoxFuture};
use rules::world::World;
use serde_json::{Value, json};

use super::{ToolError, ToolServer};
use crate::{provider::ToolOffer, providers::in_words};

/// Tells the time.
pub(super) struct ClockTool {
    world: World,
}

impl ClockTool {
    /// By this world's clock.
    pub(super) fn new(world: World) -> Self {
        Self { world }
    }
}

impl ToolServer for ClockTool {
    fn offers(&self) -> BoxFuture<'_, Result<Vec<ToolOffer>, ToolError>> {
        let offer = ToolOffer {
            name: "now".to_owned(),
            description: "Tells the present time and date, in UTC.".to_owned(),
            parameters: json!({ "type": "object", "properties": {}, "additionalProperties": false }),
        };
        std::future::ready(Ok(vec![offer])).boxed()
    }

    fn call<'a>(&'a self, name: &'a str, _: Value) -> BoxFuture<'a, Result<String, ToolError>> {
        let outcome = match name {
            "now" => Ok(in_words(self.world.clock.now_ms())),
            _ => Err(ToolError::Unknown),
        };
        std::future::ready(outcome).boxed()
    }
}
