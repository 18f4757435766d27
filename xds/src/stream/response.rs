//! Responses, put together from finished frames.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::policy::Variant;
use crate::resource::Resource;
use crate::snapshot::CompleteState;
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
    /// The message with gRPC's prefix in front of it, in pieces.
    frames: Vec<Bytes>,
}

/// gRPC's prefix of a message: a flag for compression and the length.
const PREFIX_BYTES: usize = 5;

impl Response {
    /// The size of the message in bytes.
    #[must_use]
    pub fn message_bytes(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum::<usize>() - PREFIX_BYTES
    }

    /// The message, a `DiscoveryResponse` or `DeltaDiscoveryResponse`, in one piece.
    #[must_use]
    pub fn to_message(&self) -> Bytes {
        let whole: Bytes = match self.frames.as_slice() {
            [only] => only.clone(),
            frames => frames.concat().into(),
        };
        whole.slice(PREFIX_BYTES..)
    }

    /// What goes on the wire: the message with gRPC's prefix, to be written in order.
    #[must_use]
    pub fn into_frames(self) -> Vec<Bytes> {
        self.frames
    }
}

/// The resources of a response.
pub(crate) enum Content {
    /// These.
    Resources(Vec<Arc<Resource>>),
    /// Everything of the type, already put together (state of the world).
    Complete(CompleteState),
}

/// What a response is made of.
pub(crate) struct Draft<'a> {
    pub(crate) variant: Variant,
    pub(crate) type_url: &'a TypeUrl,
    pub(crate) version: Version,
    pub(crate) nonce: String,
    pub(crate) content: &'a Content,
    pub(crate) removed: &'a [Arc<str>],
}

impl Draft<'_> {
    /// Encodes it.
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
        let (resources, complete) = match self.content {
            Content::Resources(resources) => (resources.as_slice(), None),
            Content::Complete(state) => (&[][..], Some(state)),
        };
        let copied_len: usize =
            resources.iter().map(|resource| resource.delta_frame().len()).filter(|len| *len <= COPY_LIMIT).sum();
        let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + header_len + copied_len);
        buffer.put_bytes(0, PREFIX_BYTES);
        put_bytes(&mut buffer, VERSION, version.as_bytes());
        put_bytes(&mut buffer, TYPE_URL, url.as_bytes());
        put_bytes(&mut buffer, NONCE, self.nonce.as_bytes());
        for name in self.removed {
            put_bytes(&mut buffer, DELTA_REMOVED, name.as_bytes());
        }
        let mut large = Vec::new();
        for resource in resources {
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
        if let Some(state) = complete
            && !state.frames.is_empty()
        {
            large.push(state.frames.clone());
        }
        let large_len: usize = large.iter().map(Bytes::len).sum();
        let length = u32::try_from(buffer.len() - PREFIX_BYTES + large_len)
            .expect("a snapshot of one type is smaller than 4 GiB");
        buffer[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        let mut frames = Vec::with_capacity(1 + large.len());
        frames.push(buffer.freeze());
        frames.append(&mut large);
        Response {
            type_url: self.type_url.clone(),
            nonce: self.nonce,
            resources: complete.map_or(resources.len(), |state| state.resources),
            removed: self.removed.len(),
            frames,
        }
    }
}
