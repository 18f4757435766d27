//! A TCP relay in front of a server: an address that outlives it, and a network that can break.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Passes bytes on between clients and a server.
///
/// A server that is started anew gets another port, as the old one may have been taken meanwhile; clients that connect
/// through a relay need not know.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    server: watch::Sender<SocketAddr>,
    passing: watch::Sender<bool>,
}

impl Relay {
    /// Listens on loopback and connects to `server` for each client.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (passing, receiver) = watch::channel(true);
        let (server, target) = watch::channel(server);
        // Ends with the runtime of the test.
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = *target.borrow();
                // Without a server the client's connection is closed, as it would be without a relay.
                let Ok(server) = TcpStream::connect(target).await else { continue };
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                tokio::spawn(pass(client_read, server_write, receiver.clone()));
                tokio::spawn(pass(server_read, client_write, receiver.clone()));
            }
        });
        Self { address, server, passing }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects new clients to another server.
    pub fn lead_to(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }

    /// From now on nothing passes, and no connection is closed.
    pub fn swallow(&self) {
        self.passing.send_replace(false);
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, passing: watch::Receiver<bool>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if *passing.borrow() && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    if !*passing.borrow() {
        // Closing would be a word.
        std::future::pending::<()>().await;
    }
}
