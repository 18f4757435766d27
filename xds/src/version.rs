//! Versions that depend on content alone.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

/// The version of a resource or of a set of resources: a 128-bit hash of content, written as 32 lower-case hexadecimal
/// digits. Equal content has the same version on every replica and after every restart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u128);

impl Version {
    /// The version of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxh3_128(bytes))
    }

    /// Reads what [`fmt::Display`] writes; `None` for anything else, such as another server's versions.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let canonical =
            text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if canonical { u128::from_str_radix(text, 16).ok().map(Self) } else { None }
    }

    /// The number behind the text.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The content of a set of named resources, as a sum of hashes: independent of order, and adding or removing one
/// resource costs the same whatever the size of the set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct SetDigest(u128);

impl SetDigest {
    /// Counts a resource in.
    pub(crate) fn add(&mut self, name: &str, version: Version) {
        self.0 = self.0.wrapping_add(Self::member(name, version));
    }

    /// Counts a resource out; the inverse of [`SetDigest::add`].
    pub(crate) fn remove(&mut self, name: &str, version: Version) {
        self.0 = self.0.wrapping_sub(Self::member(name, version));
    }

    /// Counts in everything another set counts.
    pub(crate) fn add_all(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// The version text of the set.
    pub(crate) const fn version(self) -> Version {
        Version(self.0)
    }

    fn member(name: &str, version: Version) -> u128 {
        let mut bytes = Vec::with_capacity(name.len() + 16);
        bytes.extend_from_slice(&version.0.to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
        xxh3_128(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_foreign_text_is_refused() {
        let version = Version::of(b"x");
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        for foreign in ["", "1", "+0000000000000000000000000000001", "ABCDEF00000000000000000000000000"] {
            assert_eq!(Version::parse(foreign), None, "{foreign}");
        }
        assert_eq!(Version(1).to_string(), "00000000000000000000000000000001");
    }

    #[test]
    fn a_set_does_not_depend_on_order_and_forgets_what_is_removed() {
        let (a, b) = (Version::of(b"a"), Version::of(b"b"));
        let mut one = SetDigest::default();
        one.add("a", a);
        one.add("b", b);
        let mut other = SetDigest::default();
        other.add("c", a);
        other.add("b", b);
        other.add("a", a);
        assert_ne!(one, other);
        other.remove("c", a);
        assert_eq!(one, other);
        let mut swapped = SetDigest::default();
        swapped.add("a", b);
        swapped.add("b", a);
        assert_ne!(one, swapped);
    }
}
