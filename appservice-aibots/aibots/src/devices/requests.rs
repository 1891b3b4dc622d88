//! What a machine wants to be sent, and what comes of it.

use machine::{Answer, Request, RequestBody, RequestId};
use tokio::sync::watch;

use super::{Device, DeviceFailure, wire};
use crate::matrix::CallError;

/// More steps than it takes to get a room's key to everybody.
const STEPS_MAX: usize = 20;

impl Device {
    /// Sends what the machine wants to send, until it wants no more. Gives whether that was anything.
    pub(super) async fn send_requests(&self) -> Result<bool, DeviceFailure> {
        for step in 0..STEPS_MAX {
            let requests = {
                let mut inner = self.inner.lock().await;
                let held = inner.machine.requests();
                let requests = inner.keep(held)?;
                if !requests.is_empty() {
                    self.under_way.send_modify(|count| *count += requests.len());
                }
                requests
            };
            if requests.is_empty() {
                return Ok(step > 0);
            }
            let mut left = Left { under_way: &self.under_way, count: requests.len() };
            for request in &requests {
                self.send_request(request).await?;
                left.one_less();
            }
        }
        Ok(true)
    }

    async fn send_request(&self, request: &Request) -> Result<(), DeviceFailure> {
        let answer = match &request.body {
            RequestBody::RoomEvent(event) => match self.to_say.try_send((request.id.clone(), event.clone())) {
                Ok(()) => return Ok(()),
                Err(_) => Err(CallError::Away("too much is to be said in rooms".to_owned())),
            },
            body => wire::send(&self.homeserver, &self.user_id, &self.token, body).await,
        };
        if let Err(error) = &answer {
            tracing::warn!(%error, user.id = self.user_id, "a device's request is given up");
        }
        self.answered(&request.id, answer.as_ref().ok()).await
    }

    /// Gives the machine the answer to a request, or gives it up.
    pub(super) async fn answered(&self, id: &RequestId, answer: Option<&Answer>) -> Result<(), DeviceFailure> {
        let mut inner = self.inner.lock().await;
        let held = match answer {
            Some(answer) => inner.machine.answer(id, answer),
            None => inner.machine.give_up(id),
        };
        match held {
            Ok(held) => inner.keep(held)?,
            Err(error) => tracing::warn!(%error, "an answer fits no request"),
        }
        Ok(())
    }
}

/// Requests that were taken and are not answered. Whoever breaks off in the middle leaves nobody waiting for them.
struct Left<'a> {
    under_way: &'a watch::Sender<usize>,
    count: usize,
}

impl Left<'_> {
    fn one_less(&mut self) {
        self.count -= 1;
        self.under_way.send_modify(|count| *count -= 1);
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.under_way.send_modify(|count| *count -= self.count);
        }
    }
}
