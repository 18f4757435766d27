//! Responses, put together from finished frames.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::policy::Variant;
use crate::resource::Resource;
use crate::type_url::TypeUrl;
use crate::version::Version;
use crate::wire::{field_len, put_bytes};

/// Resources up to this size are copied next to each other; larger ones are passed on as shared pieces.
const COPY_LIMIT: usize = 16 * 1024;

/// A response ready to be written: its protobuf encoding, in pieces.
#[derive(Clone, Debug)]
pub struct Response {
    /// The type of what it holds.
    pub type_url: TypeUrl,
    /// Its nonce.
    pub nonce: String,
    /// How many resources it holds.
    pub resources: usize,
    /// How many removals it holds.
    pub removed: usize,
    /// The message; the concatenation of the pieces.
    pub pieces: Vec<Bytes>,
}

impl Response {
    /// The size of the message in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether the message has no bytes; never so for one that was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message in one piece.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [only] => only.clone(),
            pieces => pieces.concat().into(),
        }
    }
}

/// What a response is made of.
pub(crate) struct Draft<'a> {
    pub(crate) variant: Variant,
    pub(crate) type_url: &'a TypeUrl,
    pub(crate) version: Version,
    pub(crate) nonce: String,
    pub(crate) resources: &'a [Arc<Resource>],
    pub(crate) removed: &'a [Arc<str>],
}

impl Draft<'_> {
    /// Encodes it. Bytes in front of the message are left free for the transport's own prefix.
    pub(crate) fn encode(self) -> Response {
        // Field numbers of DiscoveryResponse and DeltaDiscoveryResponse; the first three agree.
        const VERSION: u8 = 1;
        const TYPE_URL: u8 = 4;
        const NONCE: u8 = 5;
        const DELTA_REMOVED: u8 = 6;

        let version = self.version.to_string();
        let url = self.type_url.as_str();
        let removed_len: usize = self.removed.iter().map(|name| field_len(name.len())).sum();
        let header_len = field_len(version.len()) + field_len(url.len()) + field_len(self.nonce.len()) + removed_len;
        let copied_len: usize =
            self.resources.iter().map(|resource| resource.delta_frame().len()).filter(|len| *len <= COPY_LIMIT).sum();
        let mut buffer = BytesMut::with_capacity(header_len + copied_len);
        put_bytes(&mut buffer, VERSION, version.as_bytes());
        put_bytes(&mut buffer, TYPE_URL, url.as_bytes());
        put_bytes(&mut buffer, NONCE, self.nonce.as_bytes());
        for name in self.removed {
            put_bytes(&mut buffer, DELTA_REMOVED, name.as_bytes());
        }
        let mut large = Vec::new();
        for resource in self.resources {
            if resource.delta_frame().len() > COPY_LIMIT {
                large.push(match self.variant {
                    Variant::Delta => resource.delta_frame().clone(),
                    Variant::StateOfTheWorld => resource.shared_any_frame(),
                });
            } else {
                buffer.put_slice(match self.variant {
                    Variant::Delta => resource.delta_frame(),
                    Variant::StateOfTheWorld => resource.any_frame(),
                });
            }
        }
        let mut pieces = Vec::with_capacity(1 + large.len());
        pieces.push(buffer.freeze());
        pieces.append(&mut large);
        Response {
            type_url: self.type_url.clone(),
            nonce: self.nonce,
            resources: self.resources.len(),
            removed: self.removed.len(),
            pieces,
        }
    }
}
