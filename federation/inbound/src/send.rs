//! Transactions: what happened elsewhere.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use axum::extract::State;
use engine::PduOutcomes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::{Door, error::DoorError, reply::Json, request::Ask, signed::Federation};

/// The largest transaction that is read, in bytes. 50 PDUs of 64 KiB make 3.2 MiB; the rest is for 100 EDUs, of which
/// those with messages to devices have no limit of their own.
const TRANSACTION_MAX_BYTES: usize = 13 * 1024 * 1024;

/// How many PDUs a transaction may hold.
const PDUS_MAX: usize = 50;

/// How many EDUs a transaction may hold.
const EDUS_MAX: usize = 100;

/// A transaction. What it says about its origin is not read: the signature says it.
pub(crate) struct Transaction {
    id: String,
    pdus: Vec<Box<RawValue>>,
    edus: Vec<Box<RawValue>>,
}

/// The body. Each PDU and EDU is kept as it is, so that a wrong one spoils only itself.
#[derive(Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    pdus: Vec<Box<RawValue>>,
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    edus: Vec<Box<RawValue>>,
}

impl Ask for Transaction {
    const BODY_MAX_BYTES: usize = TRANSACTION_MAX_BYTES;

    fn read(request: http::Request<&[u8]>, arguments: &[&str]) -> Result<Self, DoorError> {
        let &[id] = arguments else {
            return Err(DoorError::Internal("the route has no transaction id".to_owned()));
        };
        let body: Body = serde_json::from_slice(request.body()).map_err(|error| DoorError::from_json(&error))?;
        if body.pdus.len() > PDUS_MAX || body.edus.len() > EDUS_MAX {
            return Err(DoorError::BadJson(format!(
                "{} PDUs and {} EDUs; at most {PDUS_MAX} and {EDUS_MAX} are allowed",
                body.pdus.len(),
                body.edus.len()
            )));
        }
        Ok(Self { id: id.to_owned(), pdus: body.pdus, edus: body.edus })
    }
}

/// What became of the events, by their ids.
#[derive(Serialize)]
pub(crate) struct Outcomes {
    pdus: PduOutcomes,
}

pub(crate) async fn put_transaction(
    State(door): State<Door>,
    Federation { origin, body }: Federation<Transaction>,
) -> Result<Json<Outcomes>, DoorError> {
    let span = tracing::info_span!("transaction", %origin, transaction.id = body.id);
    // To the end even when the other server hangs up meanwhile: it will ask again under the same id, and must find an
    // answer then, or an event that takes long would be begun anew each time and block all that waits behind it.
    let work = async move { door.engine.federation_transaction(&origin, &body.id, &body.pdus, &body.edus).await };
    let pdus = tokio::spawn(work.instrument(span)).await.map_err(|error| DoorError::Internal(error.to_string()))??;
    for outcome in pdus.values() {
        let outcome = if outcome.error.is_none() { "accepted" } else { "refused" };
        metrics::counter!("federation_inbound_pdus_total", "outcome" => outcome).increment(1);
    }
    Ok(Json(Outcomes { pdus }))
}
