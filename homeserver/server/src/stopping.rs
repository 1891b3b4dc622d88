//! The word that it is time to stop, for all who serve.

use tokio::sync::watch;

/// Says that it is time to stop. Dropping it says so too.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// Hears that it is time to stop.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

/// One to say it, one to be cloned by all who are to hear it.
pub fn channel() -> (Stop, Stopping) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Stopping(receiver))
}

impl Stop {
    /// It is time.
    pub fn now(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Whether it is time.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is time.
    pub async fn asked(&self) {
        let mut receiver = self.0.clone();
        let _ = receiver.wait_for(|asked| *asked).await;
    }
}
