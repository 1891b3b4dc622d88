//! New accounts.

use super::Scale;
use crate::{
    figures::{Figure, Meter},
    target::Target,
};

/// Registers users, four at a time.
pub(crate) async fn register(target: &Target, scale: Scale) -> Vec<Figure> {
    let count = scale.of(100);
    let meter = Meter::start(target);
    target.people(count).await;
    meter.figures("accounts/s", count).into()
}
