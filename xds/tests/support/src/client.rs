//! A scripted xDS client on the wire.

mod connection;
mod request;
mod response;
mod session;
mod stream;

pub use connection::{Connection, Tls};
pub use request::Request;
pub use response::{Received, Response};
pub use session::Client;
pub use stream::{DEADLINE, Ended, Stream};
