//! Why a request to the API server failed, in the terms that decide what to do next.

use std::time::Duration;

use crate::request::Throttled;

/// Why a request to the API server failed.
///
/// Texts hold what the server said, never what was sent: a request may hold a token or a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// 404: there is no such object, or no such kind.
    #[error("the API server does not have it: {0}")]
    NotFound(String),
    /// 409: somebody else has changed or made the object meanwhile.
    #[error("the object was changed meanwhile: {0}")]
    Conflict(String),
    /// 401 or 403: we may not do this.
    #[error("the API server does not allow it: {0}; grant it to the operator's ServiceAccount")]
    Forbidden(String),
    /// 400, 413, 415 or 422: the request itself is wrong, to repeat it is useless.
    #[error("the API server refuses it: {0}")]
    Invalid(String),
    /// 410: the version to go on from is no longer kept; list again.
    #[error("the resource version is no longer kept")]
    Expired,
    /// 429, or 503 with a time: come back later.
    #[error("the API server asks to wait {} s", .0.as_secs())]
    Throttled(Duration),
    /// No answer within this time.
    #[error("the API server did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// Not reachable, broken, or an answer that is none.
    #[error("the API server is not available: {0}")]
    Unavailable(String),
}

impl RequestError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Expired | Self::Throttled(_) | Self::TimedOut(_) | Self::Unavailable(_) => true,
            Self::NotFound(_) | Self::Conflict(_) | Self::Forbidden(_) | Self::Invalid(_) => false,
        }
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => from_status(status.code, &status.message, status.details.as_ref()),
            kube::Error::Service(error) => match error.downcast_ref::<Throttled>() {
                Some(Throttled { after }) => Self::Throttled(*after),
                None => Self::Unavailable(chain(error.as_ref())),
            },
            other => Self::Unavailable(chain(&other)),
        }
    }
}

/// The failure that a `metav1.Status` tells.
pub(crate) fn from_status(
    code: u16,
    message: &str,
    details: Option<&kube::core::response::StatusDetails>,
) -> RequestError {
    let after = details.map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
    let message = message.to_owned();
    match (code, after) {
        (404, _) => RequestError::NotFound(message),
        (409, _) => RequestError::Conflict(message),
        (401 | 403, _) => RequestError::Forbidden(message),
        (400 | 405 | 406 | 413 | 415 | 422, _) => RequestError::Invalid(message),
        (410, _) => RequestError::Expired,
        (429 | 500..=599, Some(seconds)) => RequestError::Throttled(Duration::from_secs(u64::from(seconds))),
        (429, None) => RequestError::Throttled(Duration::from_secs(1)),
        _ => RequestError::Unavailable(message),
    }
}

/// An error with its causes: hyper's own text is "client error (Connect)" and no more.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_what_to_do_next() {
        let of = |code| from_status(code, "words", None);
        assert_eq!(of(410), RequestError::Expired);
        assert_eq!(of(404), RequestError::NotFound("words".into()));
        assert_eq!(of(409), RequestError::Conflict("words".into()));
        assert_eq!(of(401), RequestError::Forbidden("words".into()));
        assert_eq!(of(422), RequestError::Invalid("words".into()));
        assert_eq!(of(429), RequestError::Throttled(Duration::from_secs(1)));
        assert_eq!(of(500), RequestError::Unavailable("words".into()));
        assert!(of(500).is_transient() && of(429).is_transient() && of(410).is_transient());
        assert!(!of(403).is_transient() && !of(409).is_transient() && !of(400).is_transient());
    }

    #[test]
    fn causes_are_told() {
        let cause = std::io::Error::other("connection refused");
        let error = RequestError::from(kube::Error::ReadEvents(cause));
        assert!(error.to_string().contains("connection refused"), "{error}");
    }
}
