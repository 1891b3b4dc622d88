//! Long lists, gone through in turns: whoever is served by the same thread waits for what else that thread does.

use crate::Result;

/// After how many rows others have their turn.
const ROWS_AT_ONCE: usize = 1_000;

/// Makes something of each row, in order.
pub(crate) async fn in_turns<R, T>(rows: Vec<R>, convert: impl Fn(R) -> Result<T>) -> Result<Vec<T>> {
    let mut converted = Vec::with_capacity(rows.len());
    for (number, row) in rows.into_iter().enumerate() {
        if number > 0 && number % ROWS_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        converted.push(convert(row)?);
    }
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::{ROWS_AT_ONCE, in_turns};

    #[tokio::test]
    async fn others_have_their_turn_while_a_long_list_is_gone_through() {
        let rows: Vec<usize> = (0..3 * ROWS_AT_ONCE).collect();
        let other = tokio::spawn(async {});
        let short = in_turns(rows[..ROWS_AT_ONCE].to_vec(), Ok).await.unwrap();
        assert!(short == rows[..ROWS_AT_ONCE] && !other.is_finished(), "a short one is done at once");
        assert_eq!(in_turns(rows.clone(), Ok).await.unwrap(), rows);
        assert!(other.is_finished());
    }
}
