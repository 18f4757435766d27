//! The few bytes of delta discovery that a synthetic proxy reads and writes by hand, so that a thousand of them are cheap.

use bytes::{BufMut, Bytes, BytesMut};

/// One resource of a response, borrowed from the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WireResource<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    /// Type URL of the wrapped message.
    pub(super) type_url: &'a str,
    /// The wrapped message.
    pub(super) body: &'a [u8],
}

/// A `DeltaDiscoveryResponse`, borrowed from the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WireResponse<'a> {
    pub(super) type_url: &'a str,
    pub(super) nonce: &'a str,
    pub(super) resources: Vec<WireResource<'a>>,
    pub(super) removed: Vec<&'a str>,
}

/// The bytes are no such message; the text says what was being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Walks the fields of one protobuf message.
struct Fields<'a> {
    rest: &'a [u8],
}

/// A field's number with its content, for the one wire type that matters here; others are skipped.
type Field<'a> = (u64, &'a [u8]);

const LENGTH_DELIMITED: u64 = 2;

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed("a number is cut short"))?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is longer than ten bytes"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed("a length does not fit"))?;
        let (content, rest) = self.rest.split_at_checked(length).ok_or(Malformed("a field is cut short"))?;
        self.rest = rest;
        Ok(content)
    }

    /// The next length-delimited field, or none at the end.
    fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        while !self.rest.is_empty() {
            let tag = self.varint()?;
            match tag & 7 {
                0 => {
                    self.varint()?;
                }
                1 => {
                    self.take(8)?;
                }
                LENGTH_DELIMITED => {
                    let length = self.varint()?;
                    return Ok(Some((tag >> 3, self.take(length)?)));
                }
                5 => {
                    self.take(4)?;
                }
                _ => return Err(Malformed("a field has an unknown wire type")),
            }
        }
        Ok(None)
    }
}

fn text(content: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(content).map_err(|_| Malformed("a string is not UTF-8"))
}

fn resource(content: &[u8]) -> Result<WireResource<'_>, Malformed> {
    let mut resource = WireResource::default();
    let mut fields = Fields { rest: content };
    while let Some((number, content)) = fields.next()? {
        match number {
            1 => resource.version = text(content)?,
            2 => {
                let mut fields = Fields { rest: content };
                while let Some((number, content)) = fields.next()? {
                    match number {
                        1 => resource.type_url = text(content)?,
                        2 => resource.body = content,
                        _ => {}
                    }
                }
            }
            3 => resource.name = text(content)?,
            _ => {}
        }
    }
    Ok(resource)
}

impl<'a> WireResponse<'a> {
    /// Reads a whole `DeltaDiscoveryResponse`.
    pub(super) fn decode(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut response = Self::default();
        let mut fields = Fields { rest: message };
        while let Some((number, content)) = fields.next()? {
            match number {
                2 => response.resources.push(resource(content)?),
                4 => response.type_url = text(content)?,
                5 => response.nonce = text(content)?,
                6 => response.removed.push(text(content)?),
                _ => {}
            }
        }
        Ok(response)
    }
}

fn put_varint(buffer: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        // Truncation to the low bits is what the encoding asks for.
        buffer.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

fn put_field(buffer: &mut BytesMut, number: u8, content: &[u8]) {
    buffer.put_u8(number << 3 | LENGTH_DELIMITED as u8);
    put_varint(buffer, content.len());
    buffer.put_slice(content);
}

/// Bytes of a gRPC message's prefix: one flag, four of length.
pub(super) const PREFIX: usize = 5;

/// A `DeltaDiscoveryRequest` in its gRPC frame.
#[derive(Debug)]
pub(super) struct RequestFrame(BytesMut);

impl RequestFrame {
    pub(super) fn new(type_url: &str) -> Self {
        let mut buffer = BytesMut::with_capacity(128);
        buffer.put_bytes(0, PREFIX);
        put_field(&mut buffer, 2, type_url.as_bytes());
        Self(buffer)
    }

    /// The node, of which only the id matters here.
    pub(super) fn node(mut self, id: &str) -> Self {
        let mut node = BytesMut::new();
        put_field(&mut node, 1, id.as_bytes());
        put_field(&mut self.0, 1, &node);
        self
    }

    pub(super) fn subscribe(mut self, name: &str) -> Self {
        put_field(&mut self.0, 3, name.as_bytes());
        self
    }

    pub(super) fn unsubscribe(mut self, name: &str) -> Self {
        put_field(&mut self.0, 4, name.as_bytes());
        self
    }

    pub(super) fn initial_version(mut self, name: &str, version: &str) -> Self {
        let mut entry = BytesMut::new();
        put_field(&mut entry, 1, name.as_bytes());
        put_field(&mut entry, 2, version.as_bytes());
        put_field(&mut self.0, 5, &entry);
        self
    }

    pub(super) fn answering(mut self, nonce: &str) -> Self {
        put_field(&mut self.0, 6, nonce.as_bytes());
        self
    }

    /// Turns the answer into a NACK.
    pub(super) fn rejecting(mut self, why: &str) -> Self {
        let mut status = BytesMut::new();
        // google.rpc.Status: code 13 (internal), as Envoy sends.
        status.put_slice(&[1 << 3, 13]);
        put_field(&mut status, 2, why.as_bytes());
        put_field(&mut self.0, 7, &status);
        self
    }

    pub(super) fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.0.len() - PREFIX).expect("requests are far below 4 GiB");
        self.0[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        self.0.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::discovery::v3 as discovery_pb;
    use envoy_types::pb::google::protobuf::Any;
    use prost::Message;

    #[test]
    fn a_response_is_read_as_the_generated_code_writes_it() {
        let resource = |name: &str, value: Vec<u8>| discovery_pb::Resource {
            name: name.to_owned(),
            version: format!("version of {name}"),
            aliases: vec!["another".to_owned()],
            resource: Some(Any { type_url: "type".to_owned(), value }),
            ..Default::default()
        };
        let message = discovery_pb::DeltaDiscoveryResponse {
            system_version_info: "system".to_owned(),
            resources: vec![resource("a", vec![7; 300]), resource("b", vec![])],
            type_url: "type".to_owned(),
            removed_resources: vec!["c".to_owned(), "d".to_owned()],
            nonce: "17".to_owned(),
            ..Default::default()
        }
        .encode_to_vec();

        let response = WireResponse::decode(&message).expect("well formed");

        let body = [7; 300];
        assert_eq!(
            response,
            WireResponse {
                type_url: "type",
                nonce: "17",
                resources: vec![
                    WireResource { name: "a", version: "version of a", type_url: "type", body: &body },
                    WireResource { name: "b", version: "version of b", type_url: "type", body: &[] },
                ],
                removed: vec!["c", "d"],
            }
        );
        for length in 1..message.len() {
            // A cut message is an error or a shorter message, never a crash.
            let _result = WireResponse::decode(&message[..length]);
        }
    }

    #[test]
    fn a_request_is_read_by_the_generated_code() {
        let name = "x".repeat(200);
        let frame = RequestFrame::new("type")
            .node("proxy-1")
            .subscribe("a")
            .subscribe(&name)
            .unsubscribe("b")
            .initial_version("c", "9")
            .answering("4")
            .rejecting("no")
            .finish();

        assert_eq!(frame[0], 0);
        assert_eq!(frame[1..PREFIX], u32::try_from(frame.len() - PREFIX).expect("small").to_be_bytes());
        let request = discovery_pb::DeltaDiscoveryRequest::decode(&frame[PREFIX..]).expect("well formed");
        assert_eq!(request.node.map(|node| node.id).as_deref(), Some("proxy-1"));
        assert_eq!(request.type_url, "type");
        assert_eq!(request.resource_names_subscribe, ["a".to_owned(), name]);
        assert_eq!(request.resource_names_unsubscribe, ["b"]);
        assert_eq!(request.initial_resource_versions.get("c").map(String::as_str), Some("9"));
        assert_eq!(request.response_nonce, "4");
        assert_eq!(request.error_detail.map(|status| (status.code, status.message)), Some((13, "no".to_owned())));
    }
}
