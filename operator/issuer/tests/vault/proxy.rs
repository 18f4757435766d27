//! A TCP proxy that misbehaves, and a server that answers what it is told.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to what the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    Pass,
    /// Requests arrive; answers do not.
    Withheld,
    /// So many bytes of what the server sends on a connection pass, then it is closed.
    CutAfter(usize),
}

/// Passes connections on to a server.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    answers: watch::Sender<Answers>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answers, receiver) = watch::channel(Answers::Pass);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, receiver.clone()));
            }
        });
        Self { port, answers, task }
    }

    /// For what is sent from now on.
    pub(crate) fn set(&self, answers: Answers) {
        self.answers.send_replace(answers);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, server: u16, answers: watch::Receiver<Answers>) {
    let Ok(server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], server))).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    let mut buffer = vec![0; 16 << 10];
    let mut cut = 0;
    while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
        let now = *answers.borrow();
        let send = match now {
            Answers::Pass => read,
            Answers::Withheld => 0,
            Answers::CutAfter(most) => read.min(most.saturating_sub(cut)),
        };
        if to_client.write_all(&buffer[..send]).await.is_err() {
            break;
        }
        if let Answers::CutAfter(most) = now {
            cut += send;
            if cut >= most {
                break;
            }
        }
    }
    up.abort();
}

/// Answers every request with the same bytes, without TLS. What it was asked for is counted.
pub(crate) struct Canned {
    pub(crate) port: u16,
    requests: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Canned {
    pub(crate) async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (counter, requests) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !complete(&request) {
                    match client.read(&mut buffer).await {
                        Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
                        _ => break,
                    }
                }
                counter.send_modify(|count| *count += 1);
                let _ = client.write_all(answer.as_bytes()).await;
                let _ = client.shutdown().await;
            }
        });
        Self { port, requests, task }
    }

    pub(crate) fn requests(&self) -> usize {
        *self.requests.borrow()
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether headers and body of a request have arrived.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
    body.len() >= length
}

/// An answer of HTTP 1.1 after which the connection ends.
pub(crate) fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}
