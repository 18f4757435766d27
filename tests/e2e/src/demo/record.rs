//! What came of a run, for programs: the document that `--json` writes.

use serde::Serialize;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Every stage was observed as promised.
    pub ok: bool,
    /// How long the run took.
    pub seconds: f64,
    /// The stages that were tried, in order. A stage that fails is the last one.
    pub stages: Vec<StageRecord>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageRecord {
    /// What it is about.
    pub name: String,
    /// Every flow was observed as expected.
    pub ok: bool,
    /// From the copying of the files until everything was seen as expected for the first time and every status said so;
    /// none if that never came.
    pub seconds_to_enforce: Option<f64>,
    /// The flows as they were checked last.
    pub flows: Vec<FlowRecord>,
}

/// A flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowRecord {
    /// The client's pod.
    pub from: String,
    /// The service.
    pub to: String,
    /// What was asked for.
    pub path: String,
    /// What should come of it.
    pub expected: String,
    /// What did, with counts.
    pub observed: String,
    /// Whether that is the same.
    pub ok: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_documented_keys() {
        let flow = FlowRecord {
            from: "bookbuyer".into(),
            to: "bookstore".into(),
            path: "/".into(),
            expected: "reached".into(),
            observed: "reached 1 (v1 1)".into(),
            ok: true,
        };
        let stage = StageRecord { name: "grants".into(), ok: true, seconds_to_enforce: Some(0.25), flows: vec![flow] };
        let text = serde_json::to_string(&Record { ok: true, seconds: 1.5, stages: vec![stage] }).unwrap();
        assert_eq!(
            text,
            r#"{"ok":true,"seconds":1.5,"stages":[{"name":"grants","ok":true,"seconds_to_enforce":0.25,"flows":[{"from":"bookbuyer","to":"bookstore","path":"/","expected":"reached","observed":"reached 1 (v1 1)","ok":true}]}]}"#
        );
    }
}
