//! The books of the reconcilers: what this replica knows of every object and workload, and what the other replicas have told of
//! their proxies. Shared by the loop that fills it, the reconcilers that read it, and the endpoint that tells other replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use osm_api::ObjectRef;
use osm_source::Problem;
use tokio::sync::{Notify, broadcast};

use super::tally::{self, Tally};
use crate::account::Account;
use crate::driver::Report;

/// Pieces of news that wait for a replica that follows; one that falls further behind is told everything again.
const NEWS_BACKLOG: usize = 1024;

/// What one replica tells of one object or workload; `None` when it knows it no more.
pub(crate) type News = (ObjectRef, Option<Tally>);

/// See the module. A handle: clones are the same books.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    books: Mutex<Books>,
    changed: Notify,
    news: broadcast::Sender<Arc<[News]>>,
}

#[derive(Debug)]
struct Books {
    accounts: BTreeMap<ObjectRef, Account>,
    problems: BTreeMap<ObjectRef, String>,
    replicas: BTreeMap<String, BTreeMap<ObjectRef, Tally>>,
    changed: BTreeSet<ObjectRef>,
    /// Everything was read, and accounts were given since.
    complete: Completeness,
    settled_at: Instant,
    settling: Duration,
}

impl Books {
    /// Proxies are on their way.
    fn unsettle(&mut self) {
        self.settled_at = self.settled_at.max(Instant::now() + self.settling);
    }
}

/// Whether an object that has no account is known not to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completeness {
    Reading,
    Synced,
    Complete,
}

/// All that is known of one object at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The sum over all replicas.
    pub(crate) account: Option<Account>,
    /// How many other replicas have not read its generation yet.
    pub(crate) behind: usize,
    /// Why the object as it is stored cannot be read.
    pub(crate) problem: Option<String>,
    /// Whether everything was read, so that what has no account is not there.
    pub(crate) complete: bool,
    /// Until when counts may be off.
    pub(crate) settled_at: Instant,
}

impl Ledger {
    /// Empty books. From `now`, and whenever replicas come or go, counts may be off for as long as `settling`: proxies are on their
    /// way from one replica to another.
    pub(crate) fn new(now: Instant, settling: Duration) -> Self {
        let (news, _) = broadcast::channel(NEWS_BACKLOG);
        let books = Books {
            accounts: BTreeMap::new(),
            problems: BTreeMap::new(),
            replicas: BTreeMap::new(),
            changed: BTreeSet::new(),
            complete: Completeness::Reading,
            settled_at: now + settling,
            settling,
        };
        Self { shared: Arc::new(Shared { books: Mutex::new(books), changed: Notify::new(), news }) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Every update below leaves the maps whole, whatever a panic elsewhere did.
        self.shared.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was there at the start has been read. Proxies come from now on.
    pub(crate) fn set_synced(&self) {
        let mut books = self.books();
        books.complete = Completeness::Synced;
        books.unsettle();
    }

    /// Takes over what the driver reports.
    pub(crate) fn take(&self, reports: Vec<Report>) {
        let mut news = Vec::with_capacity(reports.len());
        {
            let mut books = self.books();
            for Report { name, known } in reports {
                news.push((name.clone(), known.as_ref().map(|known| Tally::of(&known.account))));
                books.changed.insert(name.clone());
                match known {
                    Some(known) => drop(books.accounts.insert(name, known.account)),
                    None => drop(books.accounts.remove(&name)),
                }
            }
            if books.complete == Completeness::Synced {
                books.complete = Completeness::Complete;
            }
        }
        self.shared.changed.notify_one();
        // Nobody follows a replica while there is no other.
        let _ = self.shared.news.send(news.into());
    }

    /// Takes over all problems of the source, in place of those before.
    pub(crate) fn take_problems(&self, problems: &[Problem]) {
        let mut named: BTreeMap<ObjectRef, String> = BTreeMap::new();
        for problem in problems {
            let Some(object) = problem.object.clone() else { continue };
            let place = problem.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
            let words = format!("{place}{}; {}.", problem.message, problem.remedy);
            named.entry(object).and_modify(|all| *all = format!("{all} {words}")).or_insert(words);
        }
        let mut books = self.books();
        let before = std::mem::replace(&mut books.problems, named);
        let differs = |object: &&ObjectRef| before.get(*object) != books.problems.get(*object);
        let changed: Vec<ObjectRef> = before.keys().chain(books.problems.keys()).filter(differs).cloned().collect();
        books.changed.extend(changed);
        drop(books);
        self.shared.changed.notify_one();
    }

    /// What this replica tells the others: all of it, and what comes after.
    pub(crate) fn tell(&self) -> (Vec<News>, broadcast::Receiver<Arc<[News]>>) {
        let books = self.books();
        let after = self.shared.news.subscribe();
        let all = books.accounts.iter().map(|(name, account)| (name.clone(), Some(Tally::of(account)))).collect();
        (all, after)
    }

    /// Another replica tells everything that it knows; what it told before is forgotten.
    pub(crate) fn replica_tells_all(&self, replica: &str, all: Vec<News>) {
        let mut books = self.books();
        let told: BTreeMap<ObjectRef, Tally> =
            all.into_iter().filter_map(|(name, tally)| Some((name, tally?))).collect();
        let before = books.replicas.insert(replica.to_owned(), told);
        if before.is_none() {
            books.unsettle();
        }
        let everything: Vec<ObjectRef> = books.accounts.keys().cloned().collect();
        books.changed.extend(everything);
        drop(books);
        self.shared.changed.notify_one();
    }

    /// Another replica tells what is new.
    pub(crate) fn replica_tells(&self, replica: &str, news: Vec<News>) {
        let mut books = self.books();
        for (name, tally) in news {
            books.changed.insert(name.clone());
            let told = books.replicas.entry(replica.to_owned()).or_default();
            match tally {
                Some(tally) => drop(told.insert(name, tally)),
                None => drop(told.remove(&name)),
            }
        }
        drop(books);
        self.shared.changed.notify_one();
    }

    /// Another replica is gone, with its streams: its proxies come to the others.
    pub(crate) fn replica_is_gone(&self, replica: &str) {
        let mut books = self.books();
        if books.replicas.remove(replica).is_none() {
            return;
        }
        books.unsettle();
        let everything: Vec<ObjectRef> = books.accounts.keys().cloned().collect();
        books.changed.extend(everything);
        drop(books);
        self.shared.changed.notify_one();
    }

    /// Waits until something is known anew, and gives what it is about. What is given once is not given again; meant for one
    /// reader.
    pub(crate) async fn changed(&self) -> BTreeSet<ObjectRef> {
        loop {
            let notified = self.shared.changed.notified();
            let changed = std::mem::take(&mut self.books().changed);
            if !changed.is_empty() {
                return changed;
            }
            notified.await;
        }
    }

    /// Everything that is known of, or wrong with, anything.
    pub(crate) fn objects(&self) -> BTreeSet<ObjectRef> {
        let books = self.books();
        books.accounts.keys().chain(books.problems.keys()).cloned().collect()
    }

    /// All that is known of an object.
    pub(crate) fn entry(&self, object: &ObjectRef) -> Entry {
        let books = self.books();
        let told = books.replicas.values().map(|told| told.get(object));
        let (account, behind) = match books.accounts.get(object) {
            Some(own) => {
                let (sum, behind) = tally::sum(own, told);
                (Some(sum), behind)
            }
            None => (None, 0),
        };
        Entry {
            account,
            behind,
            problem: books.problems.get(object).cloned(),
            complete: books.complete == Completeness::Complete,
            settled_at: books.settled_at,
        }
    }
}
