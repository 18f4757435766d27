use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::fake::{Fake, Fault};

const REVIEWS: &str = "/tokenreviews";

fn token(number: u32, expires_in: i64) -> String {
    let expires = Timestamp::now().as_second() + expires_in;
    let payload = json!({
        "aud": ["osm-mesh"], "exp": expires, "jti": number, "kubernetes.io": { "pod": { "name": "a-0", "uid": "u" } },
    });
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string()))
}

fn good() -> Value {
    json!({ "status": {
        "authenticated": true, "audiences": ["osm-mesh"],
        "user": {
            "username": "system:serviceaccount:shop:a.b",
            "extra": { POD_NAME: ["a-0"], POD_UID: ["u"] },
        },
    } })
}

fn reviewer(fake: &Fake) -> TokenReviewer {
    TokenReviewer::new(fake.client(), ReviewOptions::new("osm-mesh"))
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_proven_once_and_remembered() {
    let fake = Fake::new();
    fake.answer(REVIEWS, good());
    let reviewer = reviewer(&fake);
    let token = token(1, 3_600);
    let proven = reviewer.review(&token).await.unwrap();
    assert_eq!((proven.namespace.as_str(), proven.service_account.as_str()), ("shop", "a.b"));
    assert_eq!((proven.pod_name.as_str(), proven.pod_uid.as_str()), ("a-0", "u"));
    assert!(proven.expires.is_some());
    assert_eq!(reviewer.review(&token).await.as_ref(), Ok(&proven));
    let requests = fake.requests(REVIEWS);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body["spec"], json!({ "token": token, "audiences": ["osm-mesh"] }));
    tokio::time::advance(Duration::from_secs(121)).await;
    fake.answer(REVIEWS, good());
    reviewer.review(&token).await.unwrap();
    assert_eq!(fake.requests(REVIEWS).len(), 2, "it is asked again");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_does_not_outlive_its_token() {
    let fake = Fake::new();
    fake.answer(REVIEWS, good());
    let reviewer = reviewer(&fake);
    let token = token(1, 30);
    reviewer.review(&token).await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    fake.answer(REVIEWS, json!({ "status": { "error": "the token has expired" } }));
    let error = reviewer.review(&token).await.unwrap_err();
    assert!(matches!(&error, ReviewError::Refused(words) if words.contains("expired")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_remembered_for_a_moment_and_failures_are_not() {
    let fake = Fake::new();
    fake.answer(REVIEWS, json!({ "status": { "authenticated": false, "error": "unknown key" } }));
    let reviewer = reviewer(&fake);
    let token = token(1, 3_600);
    for _ in 0..3 {
        let error = reviewer.review(&token).await.unwrap_err();
        assert_eq!(error, ReviewError::Refused("unknown key".into()));
    }
    assert_eq!(fake.requests(REVIEWS).len(), 1);
    tokio::time::advance(Duration::from_secs(6)).await;
    for fault in [Fault::Status(500), Fault::Hang, Fault::TooManyRequests(1), Fault::Text("no json"), Fault::Broken] {
        fake.fail(REVIEWS, fault.clone());
        let error = reviewer.review(&token).await.unwrap_err();
        assert!(matches!(error, ReviewError::Unavailable(_)), "{fault:?}: {error}");
    }
    fake.answer(REVIEWS, good());
    assert!(reviewer.review(&token).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_about_one_token_are_one_question() {
    let fake = Fake::new();
    fake.answer(REVIEWS, good());
    let reviewer = Arc::new(reviewer(&fake));
    let token = token(1, 3_600);
    // The first goes away while the others wait.
    let mut first = Box::pin(reviewer.review(&token));
    assert!(futures::poll!(&mut first).is_pending());
    drop(first);
    let questions = (0..50).map(|_| reviewer.review(&token));
    let verdicts = futures::future::join_all(questions).await;
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(fake.requests(REVIEWS).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_proves_no_pod_is_refused() {
    let without = |path: &str, value: Value| {
        let mut answer = good();
        *answer.pointer_mut(path).unwrap() = value;
        answer
    };
    let answers = [
        without("/status/audiences", json!(["another"])),
        without("/status/audiences", json!(null)),
        without("/status/authenticated", json!("true")),
        without("/status/user/username", json!("kubernetes-admin")),
        without("/status/user/username", json!("system:serviceaccount:shop")),
        without("/status/user/extra", json!({})),
        without("/status/user/extra/authentication.kubernetes.io~1pod-uid", json!([])),
        without("/status/user/extra/authentication.kubernetes.io~1pod-uid", json!(["a", "b"])),
        without("/status/user", json!(5)),
        json!([]),
    ];
    let fake = Fake::new();
    let reviewer = reviewer(&fake);
    for (number, answer) in (0..).zip(answers) {
        fake.answer(REVIEWS, answer.clone());
        let error = reviewer.review(&token(number, 3_600)).await.unwrap_err();
        assert!(matches!(error, ReviewError::Refused(_)), "{answer}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_is_not_asked_about_what_is_no_token_of_a_pod() {
    let fake = Fake::new();
    let reviewer = reviewer(&fake);
    let payload = json!({ "aud": ["kubernetes"], "exp": i64::MAX, "kubernetes.io": { "pod": { "uid": "u" } } });
    let of_another = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string()));
    for text in ["", "a.b.c", &token(1, -1), &of_another] {
        let error = reviewer.review(text).await.unwrap_err();
        assert!(matches!(error, ReviewError::Refused(_)), "{error}");
        assert!(text.is_empty() || !error.to_string().contains(text), "the token is not told");
    }
    assert!(fake.requests("").is_empty());
    assert!(!format!("{reviewer:?}").contains("key"));
}
