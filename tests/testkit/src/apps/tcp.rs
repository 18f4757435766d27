//! TCP: the echo application and the client's side of a line-by-line exchange.

use std::io;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::counters::Counters;
use super::report::{Answer, AttemptFailure, FailureKind};

/// Sends a line and returns the peer's, after the peer's greeting if it speaks first.
pub(crate) async fn exchange(address: &str, greeting: bool, send: &str) -> Result<Answer, AttemptFailure> {
    let stream = TcpStream::connect(address).await.map_err(|error| connect_failure(&error))?;
    let mut stream = BufReader::new(stream);
    let mut identity = None;
    if greeting {
        identity = line(&mut stream).await?.split_whitespace().next().map(ToOwned::to_owned);
    }
    let io = |error: io::Error| AttemptFailure::from_error(&error);
    stream.get_mut().write_all(format!("{send}\n").as_bytes()).await.map_err(io)?;
    let body = line(&mut stream).await?;
    Ok(Answer { status: 200, identity, body })
}

fn connect_failure(error: &io::Error) -> AttemptFailure {
    let mut failure = AttemptFailure::from_error(error);
    if failure.message.contains("failed to lookup address") {
        failure.kind = FailureKind::Resolve;
    }
    failure
}

async fn line(stream: &mut BufReader<TcpStream>) -> Result<String, AttemptFailure> {
    let mut text = String::new();
    match stream.read_line(&mut text).await {
        Ok(0) => Err(AttemptFailure::new(FailureKind::Closed, "the peer closed the connection")),
        Ok(_) => Ok(text.trim_end().to_owned()),
        Err(error) => Err(AttemptFailure::from_error(&error)),
    }
}

/// Answers every line with itself, after `name: `.
pub(crate) async fn serve_echo(listener: TcpListener, name: String, counters: Counters) -> Result<()> {
    serve_lines(listener, None, move |line| {
        counters.add("lines");
        format!("{name}: {line}")
    })
    .await
}

/// Serves connections line by line, with an optional greeting.
pub(crate) async fn serve_lines(
    listener: TcpListener,
    greeting: Option<String>,
    answer: impl Fn(&str) -> String + Clone + Send + Sync + 'static,
) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        let (greeting, answer) = (greeting.clone(), answer.clone());
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            if let Some(greeting) = greeting {
                stream.get_mut().write_all(format!("{greeting}\n").as_bytes()).await?;
            }
            let mut line = String::new();
            while stream.read_line(&mut line).await? > 0 {
                let reply = answer(line.trim_end());
                stream.get_mut().write_all(format!("{reply}\n").as_bytes()).await?;
                line.clear();
            }
            io::Result::Ok(())
        });
    }
}
