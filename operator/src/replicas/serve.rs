//! The side that tells.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::{HEARTBEAT, Line, told};
use crate::reconcile::{Ledger, News};
use crate::roots::RootsReport;

/// Where the admin endpoint tells what this replica knows.
pub(crate) const TELLS_PATH: &str = "/replica/tells";

/// What is told of.
#[derive(Debug, Clone)]
pub(crate) struct Telling {
    /// Counts of objects and workloads.
    pub(crate) ledger: Ledger,
    /// Roots, as far as they are known.
    pub(crate) roots: watch::Receiver<Arc<RootsReport>>,
}

/// Tells what this replica knows until the reader goes.
pub(crate) fn tells(telling: Telling) -> Response {
    let Telling { ledger, mut roots } = telling;
    let (all, after) = ledger.tell();
    let report = RootsReport::clone(&roots.borrow_and_update());
    let first = line(&Line::All(told(&all))) + &line(&Line::Roots(report));
    let rest = stream::unfold((ledger, after, roots), |(ledger, mut after, mut roots)| async move {
        let text = match timeout(HEARTBEAT, next(&mut after, &mut roots)).await {
            Err(_) => "\n".to_owned(),
            Ok(Next::News(news)) => line(&Line::News(told(&news))),
            Ok(Next::Roots(report)) => line(&Line::Roots(report)),
            // The reader is slow: it is told everything again.
            Ok(Next::Lagged) => {
                let (all, again) = ledger.tell();
                after = again;
                line(&Line::All(told(&all)))
            }
            Ok(Next::End) => return None,
        };
        Some((text, (ledger, after, roots)))
    });
    let lines = stream::once(std::future::ready(first)).chain(rest).map(Ok::<_, Infallible>);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

enum Next {
    News(Arc<[News]>),
    Roots(RootsReport),
    Lagged,
    End,
}

async fn next(news: &mut broadcast::Receiver<Arc<[News]>>, roots: &mut watch::Receiver<Arc<RootsReport>>) -> Next {
    tokio::select! {
        news = news.recv() => match news {
            Ok(news) => Next::News(news),
            Err(RecvError::Lagged(_)) => Next::Lagged,
            Err(RecvError::Closed) => Next::End,
        },
        changed = roots.changed() => match changed {
            Ok(()) => Next::Roots(RootsReport::clone(&roots.borrow_and_update())),
            Err(_) => Next::End,
        },
    }
}

fn line(line: &Line) -> String {
    // Text of ours always becomes JSON; were it not so, the reader would wait for the next line.
    serde_json::to_string(line).unwrap_or_default() + "\n"
}
