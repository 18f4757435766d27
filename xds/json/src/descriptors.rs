//! The descriptors of every message of the Envoy API.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, MessageDescriptor, Value};

/// Prefix of every type URL in Envoy's API and in canonical proto JSON.
const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!(env!("ENVOY_DESCRIPTOR_SET")).as_slice())
        .expect("the descriptor set was compiled in and a test reads it")
});

/// The option with which Envoy's API marks fields that hold secrets.
static SENSITIVE: LazyLock<ExtensionDescriptor> = LazyLock::new(|| {
    POOL.get_extension_by_name("udpa.annotations.sensitive")
        .expect("the descriptor set was compiled in and a test reads this option")
});

/// The message that `type_url` names, if the Envoy API has it.
pub(crate) fn message(type_url: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(type_url.strip_prefix(TYPE_URL_PREFIX)?)
}

/// Whether Envoy's API marks the field as holding a secret.
pub(crate) fn is_sensitive(field: &FieldDescriptor) -> bool {
    matches!(field.options().get_extension(&SENSITIVE).as_ref(), Value::Bool(true))
}

/// JSON and proto names of every field that some message marks as sensitive.
pub(crate) fn sensitive_names() -> impl Iterator<Item = String> {
    POOL.all_messages()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter(is_sensitive)
        .flat_map(|field| [field.json_name().to_owned(), field.name().to_owned()])
}
