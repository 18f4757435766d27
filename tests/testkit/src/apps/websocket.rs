//! WebSocket, the client's side. The echo application answers on `/socket` of the HTTP echo.

use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::report::{Answer, AttemptFailure, FailureKind};

/// Opens a WebSocket, sends numbered messages and expects each back.
pub(crate) async fn exchange(url: &str, messages: u32) -> Result<Answer, AttemptFailure> {
    let (mut socket, response) = match tokio_tungstenite::connect_async(url).await {
        Ok(connected) => connected,
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().map(|body| String::from_utf8_lossy(body).into_owned());
            return Ok(Answer { status: response.status().as_u16(), identity: None, body: body.unwrap_or_default() });
        }
        Err(error) => return Err(AttemptFailure::from_error(&error)),
    };
    let identity = response.headers().get("identity").and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let failed = |error: Error| AttemptFailure::from_error(&error);
    let mut body = String::new();
    for number in 0..messages {
        let sent = format!("message {number}");
        socket.send(Message::text(sent.clone())).await.map_err(failed)?;
        let received = loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => break text.to_string(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => {
                    return Err(AttemptFailure::new(FailureKind::Protocol, format!("unexpected {other:?}")));
                }
                Some(Err(error)) => return Err(failed(error)),
                None => return Err(AttemptFailure::new(FailureKind::Closed, "the peer closed the socket")),
            }
        };
        if received != sent {
            let message = format!("sent {sent:?}, received {received:?}");
            return Err(AttemptFailure::new(FailureKind::Protocol, message));
        }
        body = received;
    }
    socket.close(None).await.map_err(failed)?;
    Ok(Answer { status: 200, identity, body })
}
