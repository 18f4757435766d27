//! What a request looks like, and the one total order of routes.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// An HTTP method, upper case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Method(Arc<str>);

impl Method {
    /// Upper-cases `value`; `None` when it is not an HTTP token.
    pub fn new(value: &str) -> Option<Self> {
        let token =
            !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        token.then(|| Self(value.to_ascii_uppercase().into()))
    }

    /// The method as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a path (without query) is matched, from most to least specific.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PathMatch {
    /// The path is exactly this.
    Exact(Arc<str>),
    /// The path is this or lies below it, by whole segments.
    Prefix(Arc<str>),
    /// The whole path matches this RE2 expression.
    Regex(Arc<str>),
    /// Any path.
    Any,
}

/// One header condition; the name is lower case and legal, `:authority` stands for the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct HeaderMatch {
    /// Header name, lower case.
    pub name: Arc<str>,
    /// RE2 expression that the whole value must match.
    pub value: Arc<str>,
}

/// A conjunction of conditions on a request (one entry of HTTPRouteGroup `spec.matches`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct HttpMatch {
    /// Condition on the path.
    pub path: PathMatch,
    /// Accepted methods; empty means any.
    pub methods: BTreeSet<Method>,
    /// Conditions on headers, ordered by name and value, all of which must hold.
    pub headers: Vec<HeaderMatch>,
}

impl HttpMatch {
    /// Matches every request.
    pub fn any() -> Self {
        Self { path: PathMatch::Any, methods: BTreeSet::new(), headers: Vec::new() }
    }

    /// What the order of routes compares: smaller comes first. Exact path, then longest prefix, then longest expression,
    /// then any path; a method condition before none; more headers before fewer; then the text, so that it is total.
    fn rank(&self) -> impl Ord + '_ {
        let (class, length) = match &self.path {
            PathMatch::Exact(path) => (0_u8, path.len()),
            PathMatch::Prefix(path) => (1, path.len()),
            PathMatch::Regex(expression) => (2, expression.len()),
            PathMatch::Any => (3, 0),
        };
        let any_method = self.methods.is_empty();
        (class, Reverse(length), any_method, Reverse(self.headers.len()), &self.path, &self.methods, &self.headers)
    }
}

impl PartialOrd for HttpMatch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HttpMatch {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}
