//! Whose a token is, by the API server's word.

mod claims;
mod verdicts;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use osm_api::k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::RequestError;
use crate::request::{send, unusable};
use claims::Claims;
use verdicts::{Digest, Found, Verdicts};

/// Keys of what the API server says of a token beside its user.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The pod that a token was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenPod {
    /// Its namespace.
    pub namespace: String,
    /// The ServiceAccount it runs as.
    pub service_account: String,
    /// Its name.
    pub pod_name: String,
    /// Its uid: another pod of the same name has another.
    pub pod_uid: String,
    /// When the token ends.
    pub expires: Option<Timestamp>,
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// It is no token of a pod, is for somebody else, or has ended. To ask again is useless.
    #[error("the token is refused: {0}")]
    Refused(String),
    /// Whether it is good is not known, because the API server did not say.
    #[error("the token could not be reviewed: {0}")]
    Unavailable(RequestError),
}

/// Says whose a token is.
#[async_trait::async_trait]
pub trait ReviewToken: Send + Sync + std::fmt::Debug {
    /// The pod that the token was made for.
    ///
    /// # Errors
    /// The token is not good, or nobody can say whether it is.
    async fn review(&self, token: &str) -> Result<ProvenPod, ReviewError>;
}

/// How tokens are reviewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewOptions {
    /// The audience that a token must be for.
    pub audience: String,
    /// How long a verdict counts at the most. One that is good never counts longer than the token.
    pub good_for: Duration,
    /// How long a refusal counts.
    pub bad_for: Duration,
    /// How many verdicts are kept.
    pub capacity: usize,
    /// How many questions are asked of the API server at the same time.
    pub concurrency: usize,
}

impl ReviewOptions {
    /// For tokens of this audience: good verdicts count two minutes, refusals five seconds, 16,384 are kept.
    pub fn new(audience: impl Into<String>) -> Self {
        Self {
            audience: audience.into(),
            good_for: Duration::from_secs(120),
            bad_for: Duration::from_secs(5),
            capacity: 16_384,
            concurrency: 64,
        }
    }
}

/// Reviews tokens by the API server's TokenReview, and remembers what it said.
///
/// What can be refused without asking is: a text that is no JWT, is for another audience, has ended or was made for no pod. Whoever
/// invents tokens therefore has to take some trouble before the API server hears of it, and is remembered when it has.
///
/// A verdict that is remembered outlives the pod. Whoever trusts one must see for himself that the pod is still there.
pub struct TokenReviewer {
    shared: Arc<Reviewing>,
}

struct Reviewing {
    client: Client,
    options: ReviewOptions,
    verdicts: Mutex<Verdicts<Verdict, Question>>,
    questions: Semaphore,
}

type Verdict = Result<ProvenPod, ReviewError>;
/// A question that several may wait for.
type Question = Shared<BoxFuture<'static, Verdict>>;

impl std::fmt::Debug for TokenReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReviewer").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl TokenReviewer {
    /// A reviewer that remembers nothing yet.
    pub fn new(client: Client, options: ReviewOptions) -> Self {
        let verdicts = Mutex::new(Verdicts::new(options.capacity));
        let questions = Semaphore::new(options.concurrency);
        Self { shared: Arc::new(Reviewing { client, options, verdicts, questions }) }
    }
}

#[async_trait::async_trait]
impl ReviewToken for TokenReviewer {
    async fn review(&self, token: &str) -> Verdict {
        let claims = Claims::of(token).map_err(refused)?;
        let time = Timestamp::now();
        claims.check(&self.shared.options.audience, time).map_err(refused)?;
        let digest = self.shared.verdicts.lock().digest(token.as_bytes());
        let question = {
            let mut verdicts = self.shared.verdicts.lock();
            match verdicts.find(&digest, Instant::now()) {
                Some(Found::Verdict(verdict)) => return verdict,
                Some(Found::Question(question)) => question,
                None => {
                    let question = self.ask(token.to_owned(), digest, claims);
                    verdicts.asking(digest, question.clone());
                    question
                }
            }
        };
        question.await
    }
}

impl TokenReviewer {
    /// Asks in a task of its own: whoever asked first may go away while others wait.
    fn ask(&self, token: String, digest: Digest, claims: Claims) -> Question {
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            let verdict = shared.ask(&token, &claims).await;
            let keep_for = match &verdict {
                Ok(_) => shared.options.good_for.min(claims.lives_for(Timestamp::now())),
                Err(ReviewError::Refused(_)) => shared.options.bad_for,
                Err(ReviewError::Unavailable(_)) => Duration::ZERO,
            };
            shared.verdicts.lock().answered(digest, verdict.clone(), Instant::now(), keep_for);
            verdict
        });
        let lost = || ReviewError::Unavailable(RequestError::Unavailable("the review was given up".to_owned()));
        task.map(move |verdict| verdict.unwrap_or_else(|_| Err(lost()))).boxed().shared()
    }
}

impl Reviewing {
    async fn ask(&self, token: &str, claims: &Claims) -> Verdict {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": { "token": token, "audiences": [self.options.audience] },
        });
        let request = Request::new("/apis/authentication.k8s.io/v1/tokenreviews")
            .create(&PostParams::default(), body.to_string().into_bytes())
            .map_err(|error| ReviewError::Unavailable(unusable(error)))?;
        // Closed only when the reviewer is gone, and then nobody waits.
        let _permit = self.questions.acquire().await;
        let answer = send(&self.client, request).await.map_err(ReviewError::Unavailable)?;
        proven(&answer["status"], &self.options.audience, claims.expires())
    }
}

/// What the answer proves.
fn proven(status: &Value, audience: &str, expires: Option<Timestamp>) -> Verdict {
    if status["authenticated"] != true {
        let words = status["error"].as_str().unwrap_or("the API server does not know it");
        return Err(refused(words));
    }
    let audiences = status["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !audiences.iter().any(|given| given == audience) {
        return Err(refused(format!("it is not for the audience {audience}")));
    }
    let user = status["user"]["username"].as_str().unwrap_or_default();
    let account = user.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
    let Some((namespace, service_account)) = account else { return Err(refused("it is not a ServiceAccount's")) };
    let extra = |key: &str| match status["user"]["extra"][key].as_array().map(Vec::as_slice) {
        Some([Value::String(text)]) if !text.is_empty() => Ok(text.clone()),
        _ => Err(refused("it was not made for a pod")),
    };
    Ok(ProvenPod {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod_name: extra(POD_NAME)?,
        pod_uid: extra(POD_UID)?,
        expires,
    })
}

fn refused(words: impl Into<String>) -> ReviewError {
    ReviewError::Refused(words.into())
}

#[cfg(test)]
mod tests;
