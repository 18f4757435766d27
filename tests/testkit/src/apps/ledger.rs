//! The ledger: keeps the bookwarehouse's totals, and speaks first, as many database protocols do.
//!
//! After its greeting line it understands `add NAME AMOUNT` (answers `ok TOTAL`) and `get NAME` (answers `ok TOTAL`).

use anyhow::Result;
use tokio::net::TcpListener;

use super::counters::Counters;
use super::tcp::serve_lines;

pub(crate) const GREETING: &str = "ledger ready";

pub(crate) async fn serve(listener: TcpListener, counters: Counters) -> Result<()> {
    serve_lines(listener, Some(GREETING.to_owned()), move |line| answer(line, &counters)).await
}

fn answer(line: &str, counters: &Counters) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["add", name, amount] => match amount.parse() {
            Ok(amount) => format!("ok {}", counters.add_many(name, amount)),
            Err(_) => format!("error amount {amount} is not a number"),
        },
        ["get", name] => format!("ok {}", counters.get(name)),
        _ => "error expected: add NAME AMOUNT, or get NAME".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_and_nonsense_is_answered() {
        let counters = Counters::default();
        assert_eq!(answer("add total-books 2", &counters), "ok 2");
        assert_eq!(answer("add total-books 1", &counters), "ok 3");
        assert_eq!(answer("get total-books", &counters), "ok 3");
        assert_eq!(answer("get nothing", &counters), "ok 0");
        assert!(answer("add total-books many", &counters).starts_with("error"));
        assert!(answer("", &counters).starts_with("error"));
    }
}
