//! Requests out of the bytes of a gRPC request body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use http_body::Body;
use prost::Message;
use tonic::Status;

use crate::policy::Variant;
use crate::stream::Request;

const PREFIX_BYTES: usize = 5;

/// The requests of one stream.
pub(super) struct Requests<B> {
    body: B,
    variant: Variant,
    limit: usize,
    buffer: BytesMut,
    ended: bool,
}

impl<B> Requests<B> {
    pub(super) fn new(body: B, variant: Variant, limit: usize) -> Self {
        Self { body, variant, limit, buffer: BytesMut::new(), ended: false }
    }
}

impl<B> Requests<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// The next request; `None` when the client has ended its side.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Request, Status>>> {
        loop {
            match self.take_request() {
                Ok(Some(request)) => return Poll::Ready(Some(Ok(request))),
                Ok(None) if self.ended => return Poll::Ready(None),
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                // A reset or a broken connection: the same as the end for us.
                Poll::Ready(Some(Err(_)) | None) => self.ended = true,
            }
        }
    }

    fn take_request(&mut self) -> Result<Option<Request>, Status> {
        let Some(prefix) = self.buffer.get(..PREFIX_BYTES) else {
            return Ok(None);
        };
        if prefix[0] != 0 {
            return Err(Status::unimplemented("compressed requests are not supported"));
        }
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if length > self.limit {
            return Err(Status::resource_exhausted(format!(
                "a request of {length} bytes is over the limit of {}",
                self.limit
            )));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // An idle stream keeps no buffer.
            self.buffer = BytesMut::new();
        }
        let request = match self.variant {
            Variant::StateOfTheWorld => DiscoveryRequest::decode(message).map(Request::from),
            Variant::Delta => DeltaDiscoveryRequest::decode(message).map(Request::from),
        };
        request.map(Some).map_err(|error| Status::invalid_argument(format!("the request cannot be decoded: {error}")))
    }
}
