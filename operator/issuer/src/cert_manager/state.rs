//! What the status of a CertificateRequest, or of an issuer, says.

use serde_json::Value;

/// How far a CertificateRequest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Neither answered nor refused. `said` is cert-manager's last word.
    Waiting { approved: bool, said: Option<String> },
    /// Answered. Both are base64 of PEM, as they stand in the status.
    Issued { certificate: String, ca: Option<String> },
    /// An approver said no.
    Denied(String),
    /// cert-manager cannot make sense of the request.
    Invalid(String),
    /// The issuer could not sign.
    Failed(String),
}

impl State {
    /// Reads an object. What is missing or of another type is as if it were not said yet.
    pub(super) fn of(object: &Value) -> Self {
        let condition = |kind: &str| Condition::of(object, kind);
        let is_true = |kind: &str| condition(kind).filter(|condition| condition.status == "True");
        if let Some(invalid) = is_true("InvalidRequest") {
            return Self::Invalid(invalid.words());
        }
        if let Some(denied) = is_true("Denied") {
            return Self::Denied(denied.words());
        }
        let ready = condition("Ready");
        match &ready {
            Some(ready) if ready.status == "True" => {
                let text = |field: &str| object["status"][field].as_str().filter(|text| !text.is_empty());
                Self::Issued {
                    certificate: text("certificate").unwrap_or_default().to_owned(),
                    ca: text("ca").map(str::to_owned),
                }
            }
            Some(ready) if ready.reason == "Failed" => Self::Failed(ready.words()),
            Some(ready) if ready.reason == "Denied" => Self::Denied(ready.words()),
            _ => Self::Waiting { approved: is_true("Approved").is_some(), said: ready.map(|ready| ready.words()) },
        }
    }
}

/// Whether an issuer is ready; otherwise its words.
pub(super) fn readiness(issuer: &Value) -> Result<(), String> {
    match Condition::of(issuer, "Ready") {
        Some(ready) if ready.status == "True" => Ok(()),
        Some(ready) => Err(ready.words()),
        None => Err("it has no condition Ready yet; are cert-manager's controllers running?".to_owned()),
    }
}

struct Condition<'a> {
    status: &'a str,
    reason: &'a str,
    message: &'a str,
}

impl<'a> Condition<'a> {
    fn of(object: &'a Value, kind: &str) -> Option<Self> {
        let conditions = object["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == kind)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default();
        Some(Self { status: text("status"), reason: text("reason"), message: text("message") })
    }

    /// cert-manager's words, on one line and not without end.
    fn words(&self) -> String {
        const LONGEST: usize = 1000;
        let message = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = match (self.reason, message.as_str()) {
            ("", "") => "without a reason".to_owned(),
            ("", message) => message.to_owned(),
            (reason, "") => reason.to_owned(),
            (reason, message) => format!("{reason}: {message}"),
        };
        words.chars().take(LONGEST).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(conditions: &Value) -> State {
        State::of(&json!({"status": {"certificate": "Y2VydA==", "conditions": conditions}}))
    }

    #[test]
    fn a_request_waits_until_something_is_said() {
        assert_eq!(State::of(&json!({})), State::Waiting { approved: false, said: None });
        let approved = json!([{"type": "Approved", "status": "True", "reason": "cert-manager.io"}]);
        assert_eq!(state(&approved), State::Waiting { approved: true, said: None });
        let pending = json!([{"type": "Ready", "status": "False", "reason": "Pending", "message": "no\n such Issuer"}]);
        assert_eq!(state(&pending), State::Waiting { approved: false, said: Some("Pending: no such Issuer".into()) });
    }

    #[test]
    fn every_end_is_told_apart() {
        let ready = json!([{"type": "Ready", "status": "True", "reason": "Issued"}]);
        assert_eq!(state(&ready), State::Issued { certificate: "Y2VydA==".into(), ca: None });
        let failed = json!([{"type": "Ready", "status": "False", "reason": "Failed", "message": "no key"}]);
        assert_eq!(state(&failed), State::Failed("Failed: no key".into()));
        let denied = json!([
            {"type": "Denied", "status": "True", "reason": "policy", "message": "not this name"},
            {"type": "Ready", "status": "False", "reason": "Denied", "message": "The request was denied"},
        ]);
        assert_eq!(state(&denied), State::Denied("policy: not this name".into()));
        let invalid = json!([{"type": "InvalidRequest", "status": "True", "message": "isCA differs"}]);
        assert_eq!(state(&invalid), State::Invalid("isCA differs".into()));
    }

    #[test]
    fn what_is_not_as_expected_is_not_taken_for_an_answer() {
        for conditions in [json!(null), json!("Ready"), json!([null, 7]), json!([{"type": "Ready", "status": true}])] {
            assert!(matches!(state(&conditions), State::Waiting { approved: false, .. }));
        }
        assert!(readiness(&json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})).is_ok());
        assert!(readiness(&json!({})).is_err());
    }
}
