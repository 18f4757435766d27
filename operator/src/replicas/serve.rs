//! The side that tells.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use tokio::sync::broadcast::error::RecvError;

use super::{HEARTBEAT, Line, told};
use crate::reconcile::Ledger;

/// Where the admin endpoint tells what this replica counts.
pub(crate) const TALLIES_PATH: &str = "/replica/tallies";

/// Tells what this replica counts until the reader goes.
pub(crate) fn tallies(ledger: Ledger) -> Response {
    let (all, after) = ledger.tell();
    let first = line(&Line::All(told(&all)));
    let rest = stream::unfold((ledger, after), |(ledger, mut after)| async move {
        let (text, after) = match tokio::time::timeout(HEARTBEAT, after.recv()).await {
            Err(_) => ("\n".to_owned(), after),
            Ok(Ok(news)) => (line(&Line::News(told(&news))), after),
            // The reader is slow: it is told everything again.
            Ok(Err(RecvError::Lagged(_))) => {
                let (all, after) = ledger.tell();
                (line(&Line::All(told(&all))), after)
            }
            Ok(Err(RecvError::Closed)) => return None,
        };
        Some((text, (ledger, after)))
    });
    let lines = stream::once(std::future::ready(first)).chain(rest).map(Ok::<_, Infallible>);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn line(line: &Line) -> String {
    // Text of ours always becomes JSON; were it not so, the reader would wait for the next line.
    serde_json::to_string(line).unwrap_or_default() + "\n"
}
