//! Metrics of the webhooks. Labels come from closed sets only.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// OSM's labels of its count of answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    kind: &'static str,
    success: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    webhook: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabel {
    webhook: &'static str,
}

/// Which webhook was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Webhook {
    Mutating,
    Validating,
}

impl Webhook {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mutating => "mutating",
            Self::Validating => "validating",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A Pod gets a sidecar.
    Injected,
    /// A Pod stays as it is.
    Skipped,
    /// An object is stored.
    Allowed,
    /// A Pod or an object is not.
    Denied,
    /// The request cannot be understood.
    Invalid,
    /// There is no answer yet.
    Unavailable,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Skipped => "skipped",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether the API server goes on with what it was asked for.
    fn is_success(self) -> bool {
        match self {
            Self::Injected | Self::Skipped | Self::Allowed => true,
            Self::Denied | Self::Invalid | Self::Unavailable => false,
        }
    }
}

fn histogram() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0])
}

/// Counts of answers, and how long they took.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    answers: Family<AnswerLabels, Counter>,
    outcomes: Family<OutcomeLabels, Counter>,
    durations: Family<WebhookLabel, Histogram>,
}

impl WebhookMetrics {
    /// Adds the metrics to those of the process.
    pub fn register(registry: &mut Registry) -> Self {
        let answers = Family::default();
        registry.register("admission_webhook_response", "Answers to the API server by kind", answers.clone());
        let outcomes = Family::default();
        registry.register("admission_outcomes", "What became of requests to the webhooks", outcomes.clone());
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register("admission_duration_seconds", "From reading a request to its answer", durations.clone());
        Self { answers, outcomes, durations }
    }

    pub(crate) fn answered(&self, webhook: Webhook, kind: &'static str, outcome: Outcome, took: Duration) {
        let success = if outcome.is_success() { "true" } else { "false" };
        self.answers.get_or_create(&AnswerLabels { kind, success }).inc();
        self.outcomes.get_or_create(&OutcomeLabels { webhook: webhook.as_str(), outcome: outcome.as_str() }).inc();
        self.durations.get_or_create(&WebhookLabel { webhook: webhook.as_str() }).observe(took.as_secs_f64());
    }
}
