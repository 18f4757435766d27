//! Lists and watches as streams of parsed, pruned lines.
//!
//! `kube`'s own watcher is not used: it does not tell its reader of bookmarks, so that a connection that hangs is found out only
//! when the watch would end anyway; it does not mark where a streamed list begins anew; and it parses objects by their type, which
//! keeps all of an object for a moment and lets one of a wrong shape stop the list.

use std::pin::Pin;

use futures::stream::{BoxStream, unfold};
use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use kube::core::response::StatusDetails;
use serde_json::Value;

use crate::error::{RequestError, from_status};
use crate::keep::{INITIAL_EVENTS_END, Keep};
use crate::request::{ANSWER_WITHIN, not_json, unusable, within};

/// A buffer that has grown beyond this for one large object is given back.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;

/// The lines of a watch. Ends when the server ends the watch, and after an error.
pub(crate) type Lines = BoxStream<'static, Result<Line, RequestError>>;

/// What one line of a watch says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Line {
    /// An object is new or has changed.
    Applied(Value),
    /// An object is gone; this was its last state.
    Deleted(Value),
    /// Nothing up to this version that has not been told. `initial_end`: all objects that were there have been given.
    Bookmark { version: String, initial_end: bool },
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    /// The objects, pruned. Kinds of Kubernetes do not say in a list what they are.
    pub(crate) items: Vec<Value>,
    /// The version to watch from.
    pub(crate) version: String,
    /// How to get the next page; `None` after the last one.
    pub(crate) next: Option<String>,
}

/// Begins a watch.
pub(crate) async fn open(
    client: &Client,
    path: &str,
    parameters: &WatchParams,
    version: &str,
    keep: Keep,
) -> Result<Lines, RequestError> {
    let request = Request::new(path).watch(parameters, version).map_err(unusable)?;
    let reader = within(ANSWER_WITHIN, client.request_stream(request)).await?;
    Ok(lines(Box::pin(reader), keep.line()))
}

/// Reads a page of a list.
pub(crate) async fn page(
    client: &Client,
    path: &str,
    parameters: &ListParams,
    keep: Keep,
) -> Result<Page, RequestError> {
    let request = Request::new(path).list(parameters).map_err(unusable)?;
    let text = within(ANSWER_WITHIN, client.request_text(request)).await?;
    let mut page = keep.page().parse(text.as_bytes()).map_err(|error| not_json(&error))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, next) = (text(&page["metadata"]["resourceVersion"]), text(&page["metadata"]["continue"]));
    let items = match page["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    Ok(Page { items, version, next: Some(next).filter(|next| !next.is_empty()) })
}

struct Reading {
    reader: Pin<Box<dyn AsyncBufRead + Send>>,
    keep: Keep,
    buffer: Vec<u8>,
    ended: bool,
}

fn lines(reader: Pin<Box<dyn AsyncBufRead + Send>>, keep: Keep) -> Lines {
    let reading = Reading { reader, keep, buffer: Vec::new(), ended: false };
    unfold(reading, |mut reading| async move {
        let line = reading.next().await?;
        reading.ended = line.is_err();
        Some((line, reading))
    })
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Line, RequestError>> {
        if self.ended {
            return None;
        }
        loop {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BUFFER_BYTES);
            match self.reader.read_until(b'\n', &mut self.buffer).await {
                Err(error) => return Some(Err(RequestError::Unavailable(error.to_string()))),
                Ok(0) => return None,
                // The connection ended in the middle of a line. What it said comes again.
                Ok(_) if !self.buffer.ends_with(b"\n") => return None,
                Ok(_) if self.buffer.trim_ascii().is_empty() => {}
                Ok(_) => return Some(parse(&self.keep, &self.buffer)),
            }
        }
    }
}

fn parse(keep: &Keep, text: &[u8]) -> Result<Line, RequestError> {
    let mut line = keep.parse(text).map_err(|error| not_json(&error))?;
    let object = line["object"].take();
    match line["type"].as_str() {
        Some("ADDED" | "MODIFIED") => Ok(Line::Applied(object)),
        Some("DELETED") => Ok(Line::Deleted(object)),
        Some("BOOKMARK") => {
            let metadata = &object["metadata"];
            let version = metadata["resourceVersion"].as_str().unwrap_or_default().to_owned();
            Ok(Line::Bookmark { version, initial_end: metadata["annotations"][INITIAL_EVENTS_END] == "true" })
        }
        Some("ERROR") => Err(failure(&object)),
        _ => Err(RequestError::Unavailable("a line of a watch says neither what it is nor what failed".to_owned())),
    }
}

fn failure(status: &Value) -> RequestError {
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
    let details: Option<StatusDetails> = serde_json::from_value(status["details"].clone()).ok();
    from_status(code, status["message"].as_str().unwrap_or_default(), details.as_ref())
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use serde_json::json;

    use super::*;

    async fn read(text: &'static str) -> Vec<Result<Line, RequestError>> {
        lines(Box::pin(Cursor::new(text.as_bytes())), Keep::All.line()).collect().await
    }

    #[tokio::test]
    async fn lines_are_told_apart() {
        let text = concat!(
            r#"{"type":"ADDED","object":{"a":1}}"#,
            "\n\n",
            r#"{"object":{"a":2},"type":"DELETED"}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"6","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
            "\n",
        );
        let expected = [
            Ok(Line::Applied(json!({ "a": 1 }))),
            Ok(Line::Deleted(json!({ "a": 2 }))),
            Ok(Line::Bookmark { version: "5".into(), initial_end: false }),
            Ok(Line::Bookmark { version: "6".into(), initial_end: true }),
        ];
        assert_eq!(read(text).await, expected);
    }

    #[tokio::test]
    async fn an_error_ends_the_stream_and_half_a_line_is_not_told() {
        let gone = r#"{"type":"ERROR","object":{"code":410,"message":"too old"}}
{"type":"ADDED","object":{}}
"#;
        assert_eq!(read(gone).await, [Err(RequestError::Expired)]);
        let cut = "{\"type\":\"ADDED\",\"object\":{}}\n{\"type\":\"ADD";
        assert_eq!(read(cut).await, [Ok(Line::Applied(json!({})))]);
        let garbage = read("<html>\n{}\n").await;
        assert!(matches!(garbage.as_slice(), [Err(RequestError::Unavailable(_))]), "{garbage:?}");
        let unknown = read("{\"type\":\"WHAT\"}\n").await;
        assert!(matches!(unknown.as_slice(), [Err(RequestError::Unavailable(_))]), "{unknown:?}");
    }
}
