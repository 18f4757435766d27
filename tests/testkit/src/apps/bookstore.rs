//! The bookstore and its warehouse, with the paths, headers and side effects of OSM's demo.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use super::attempt::{Attempter, ConnectionUse, Target};
use super::counters::Counters;
use super::tcp;

/// For what is asked behind an answer: on a loaded machine a name alone may take seconds, and whoever waits has 20.
const LIMIT: Duration = Duration::from_secs(15);
const SOLD: &str = "books-sold";
const RESTOCK_FAILED: &str = "restock-failed";
const RESTOCKED: &str = "total-books";

/// What a bookstore needs to know.
#[derive(Debug, Clone)]
pub(crate) struct BookstoreOptions {
    /// The value of the `Identity` header: which version this is.
    pub(crate) identity: String,
    /// The warehouse's restock URL, by its full service name; none: nothing is restocked.
    pub(crate) warehouse: Option<String>,
}

#[derive(Debug, Clone)]
struct Store {
    options: BookstoreOptions,
    counters: Counters,
    client: Attempter,
}

impl Store {
    /// Every answer says who answers and how many books were sold.
    fn answer(&self, status: StatusCode, body: String) -> Response {
        let sold = self.counters.get(SOLD).to_string();
        (status, [("identity", self.options.identity.clone()), ("booksbought", sold)], body).into_response()
    }

    /// Asks the warehouse for one more book. The name dialled is the Service's full name, the Host header the short one, so
    /// that only the address can tell a mesh where the request goes.
    async fn restock(&self) {
        let Some(url) = &self.options.warehouse else { return };
        let target = Target::Http {
            method: "POST".to_owned(),
            url: url.clone(),
            headers: BTreeMap::from([("host".to_owned(), "bookwarehouse.bookwarehouse".to_owned())]),
            body: "1".to_owned(),
            http2: false,
        };
        let restocked = self.client.once(&target, LIMIT).await;
        if !restocked.is_ok_and(|answer| answer.status < 400) {
            self.counters.add(RESTOCK_FAILED);
        }
    }
}

pub(crate) async fn serve_bookstore(
    listener: TcpListener,
    options: BookstoreOptions,
    counters: Counters,
) -> Result<()> {
    let client = Attempter::new(BTreeMap::new(), ConnectionUse::Reuse);
    let router = Router::new()
        .route("/", get(books_bought))
        .route("/raw", get(books_bought))
        .route("/books-bought", get(books_bought).post(update_books_bought))
        .route("/buy-a-book/new", get(buy_a_book))
        .route("/reset", get(reset))
        .route("/liveness", get(healthy))
        .route("/readiness", get(healthy))
        .route("/startup", get(healthy))
        .with_state(Store { options, counters, client });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn books_bought(State(store): State<Store>) -> Response {
    let sold = store.counters.get(SOLD);
    store.answer(StatusCode::OK, format!("{sold}\n"))
}

async fn update_books_bought(State(store): State<Store>, body: String) -> Response {
    match body.trim().parse::<u64>() {
        Ok(amount) => {
            let sold = store.counters.add_many(SOLD, amount);
            store.answer(StatusCode::OK, format!("{sold}\n"))
        }
        Err(_) => store.answer(StatusCode::BAD_REQUEST, format!("{body:?} is not a number of books\n")),
    }
}

async fn buy_a_book(State(store): State<Store>) -> Response {
    let sold = store.counters.add(SOLD);
    store.restock().await;
    store.answer(StatusCode::OK, format!("{sold}\n"))
}

async fn reset(State(store): State<Store>) -> Response {
    store.counters.reset();
    store.answer(StatusCode::OK, "0\n".to_owned())
}

async fn healthy(State(store): State<Store>) -> Response {
    store.answer(StatusCode::OK, "ok\n".to_owned())
}

#[derive(Debug, Clone)]
struct Warehouse {
    ledger: Option<String>,
    counters: Counters,
}

/// `ledger` is where the totals are kept (name or address and port); none: in memory.
pub(crate) async fn serve_bookwarehouse(
    listener: TcpListener,
    ledger: Option<String>,
    counters: Counters,
) -> Result<()> {
    let router = Router::new()
        .route("/", post(restock_books))
        .route("/restock-books", post(restock_books))
        .route("/liveness", get(|| async { "ok\n" }))
        .route("/readiness", get(|| async { "ok\n" }))
        .route("/startup", get(|| async { "ok\n" }))
        .with_state(Warehouse { ledger, counters });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn restock_books(State(warehouse): State<Warehouse>, body: String) -> Response {
    let identity = [("identity", "bookwarehouse")];
    let Ok(amount) = body.trim().parse::<u64>() else {
        let message = format!("{body:?} is not a number of books\n");
        return (StatusCode::BAD_REQUEST, identity, message).into_response();
    };
    let Some(ledger) = &warehouse.ledger else {
        let total = warehouse.counters.add_many(RESTOCKED, amount);
        return (StatusCode::OK, identity, format!("{total}\n")).into_response();
    };
    let entry = format!("add {RESTOCKED} {amount}");
    let recorded = tokio::time::timeout(LIMIT, tcp::exchange(ledger, true, &entry)).await;
    match recorded {
        Ok(Ok(answer)) if answer.body.starts_with("ok ") => {
            warehouse.counters.add_many(RESTOCKED, amount);
            (StatusCode::OK, identity, format!("{}\n", &answer.body[3..])).into_response()
        }
        other => {
            warehouse.counters.add("ledger-failed");
            (StatusCode::BAD_GATEWAY, identity, format!("the ledger did not record it: {other:?}\n")).into_response()
        }
    }
}
