//! What a token says of itself. It proves nothing: it is used to refuse without asking, and to forget in time.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use osm_api::k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// Longest token that is looked at, in bytes. Those of pods have about a thousand.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The part of a pod's token that concerns us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    audiences: Vec<String>,
    expires: Option<Timestamp>,
    is_of_pod: bool,
}

impl Claims {
    /// Reads the middle part of a JWT.
    pub(super) fn of(token: &str) -> Result<Self, &'static str> {
        const NO_TOKEN: &str = "it is not a ServiceAccount's token";
        if token.len() > MAX_TOKEN_BYTES {
            return Err("it is too long");
        }
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(NO_TOKEN);
        };
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| NO_TOKEN)?;
        let payload: Value = serde_json::from_slice(&payload).map_err(|_| NO_TOKEN)?;
        let audiences = match &payload["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let expires = payload["exp"].as_i64().and_then(|second| Timestamp::from_second(second).ok());
        let is_of_pod = payload["kubernetes.io"]["pod"]["uid"].is_string();
        Ok(Self { audiences, expires, is_of_pod })
    }

    /// Whether the API server has to be asked at all.
    pub(super) fn check(&self, audience: &str, now: Timestamp) -> Result<(), String> {
        if !self.audiences.iter().any(|given| given == audience) {
            return Err(format!("it is not for the audience {audience}"));
        }
        if !self.is_of_pod {
            return Err("it was not made for a pod".to_owned());
        }
        match self.expires {
            Some(expires) if expires <= now => Err(format!("it ended at {expires}")),
            Some(_) => Ok(()),
            None => Err("it never ends".to_owned()),
        }
    }

    /// When it ends.
    pub(super) fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// How long it is good for.
    pub(super) fn lives_for(&self, now: Timestamp) -> Duration {
        let expires = self.expires.unwrap_or(now);
        Duration::try_from(expires.duration_since(now)).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn token(payload: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    #[test]
    fn claims_are_read_and_checked() {
        let now = Timestamp::from_second(1_000).unwrap();
        let pod = json!({ "pod": { "name": "a", "uid": "u" } });
        let claims = Claims::of(&token(&json!({ "aud": ["osm"], "exp": 1060, "kubernetes.io": pod }))).unwrap();
        assert_eq!(claims.check("osm", now), Ok(()));
        assert_eq!(claims.lives_for(now), Duration::from_secs(60));
        assert!(claims.check("other", now).unwrap_err().contains("audience other"));
        let later = Timestamp::from_second(1_060).unwrap();
        assert!(claims.check("osm", later).unwrap_err().contains("ended"));
        assert_eq!(claims.lives_for(Timestamp::from_second(2_000).unwrap()), Duration::ZERO);
        let no_pod = Claims::of(&token(&json!({ "aud": "osm", "exp": 1060 }))).unwrap();
        assert!(no_pod.check("osm", now).unwrap_err().contains("pod"));
        let endless = Claims::of(&token(&json!({ "aud": "osm", "kubernetes.io": pod }))).unwrap();
        assert!(endless.check("osm", now).unwrap_err().contains("never"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", ".", "..", "a.b.c", "a.e30.c.d", "e30.bm8.e30", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
            assert!(Claims::of(text).is_err(), "{text:.20}");
        }
        assert!(Claims::of(&token(&json!([1, 2]))).unwrap().check("osm", Timestamp::UNIX_EPOCH).is_err());
    }
}
