//! The token with which requests are sent: obtained once, renewed before it ends by a task of its own, so that no request
//! ever waits for a renewal.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use vaultrs::api::AuthInfo;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest};

use super::config::{VaultAuth, VaultConfig};
use super::explain::{Call, explain};
use super::transport::{Failure, Transport};
use crate::error::IssueError;
use crate::secret::Credential;

/// When a renewal that failed is tried again.
const RENEWAL_RETRY: Duration = Duration::from_secs(5);
/// Shortest time between two renewals, however short the token lives.
const MIN_RENEWAL: Duration = Duration::from_secs(1);
/// Longest sleep of the task, which learns of a new token only when it wakes.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// A token that is younger than this and not accepted is not replaced: the next would not be accepted either.
const YOUNG: Duration = Duration::from_secs(5);

/// Who we are to the server.
pub(super) struct Session {
    config: VaultConfig,
    transport: Arc<Transport>,
    token: Mutex<Option<Arc<Token>>>,
    /// Held while a token is obtained; with the outcome of the last attempt if it failed, for those who waited for it.
    obtaining: tokio::sync::Mutex<Option<(Instant, IssueError)>>,
    keeper: OnceLock<AbortHandle>,
}

/// A token and its times.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) value: Credential,
    obtained: Instant,
    /// `None` for a token that does not end.
    ends: Option<Instant>,
    /// When to renew it; `None` when that is not possible or not needed.
    renew: Option<Instant>,
}

/// What is read of the answer to `lookup-self`. The token that it contains is not.
#[derive(Debug, Deserialize)]
struct TokenState {
    /// Seconds left.
    ttl: u64,
    /// Seconds it had at first.
    creation_ttl: u64,
    expire_time: Option<String>,
    #[serde(default)]
    renewable: Option<bool>,
}

impl Session {
    pub(super) fn new(config: VaultConfig, transport: Arc<Transport>) -> Self {
        Self {
            config,
            transport,
            token: Mutex::new(None),
            obtaining: tokio::sync::Mutex::new(None),
            keeper: OnceLock::new(),
        }
    }

    /// The token; obtained if there is none that has not ended.
    pub(super) async fn token(self: &Arc<Self>) -> Result<Arc<Token>, IssueError> {
        if let Some(token) = self.current() {
            return Ok(token);
        }
        let asked = Instant::now();
        let mut last_failure = self.obtaining.lock().await;
        if let Some(token) = self.current() {
            return Ok(token);
        }
        if let Some((_, error)) = last_failure.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.clone());
        }
        match self.obtain().await {
            Ok(token) => {
                *last_failure = None;
                let token = self.keep(token);
                self.start_keeper();
                Ok(token)
            }
            Err(error) => {
                *last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Forgets a token that the server did not accept. Whether a request with another one makes sense.
    pub(super) fn give_up(&self, refused: &Arc<Token>) -> bool {
        let mut current = self.token.lock();
        match &*current {
            // Somebody else was faster.
            Some(token) if !Arc::ptr_eq(token, refused) => return true,
            None => {}
            Some(_) => match self.config.auth {
                // So that the next request says whether the token is still good at all.
                VaultAuth::Token { .. } => *current = None,
                VaultAuth::Kubernetes { .. } if refused.obtained.elapsed() < YOUNG => return false,
                VaultAuth::Kubernetes { .. } => *current = None,
            },
        }
        matches!(self.config.auth, VaultAuth::Kubernetes { .. })
    }

    /// Asks the server about the token. What there is to remark about it.
    pub(super) async fn inspect(self: &Arc<Self>) -> Result<Vec<String>, IssueError> {
        let VaultAuth::Token { token, origin } = &self.config.auth else {
            self.token().await?;
            return Ok(Vec::new());
        };
        let state = self.look_up(token).await?;
        let remark = (state.ends() && state.renewable != Some(true)).then(|| {
            format!("the token in {origin} cannot be renewed and ends in {}s; put another one there before", state.ttl)
        });
        self.keep(state.token(token.clone()));
        self.start_keeper();
        Ok(remark.into_iter().collect())
    }

    fn current(&self) -> Option<Arc<Token>> {
        let now = Instant::now();
        self.token.lock().clone().filter(|token| token.ends.is_none_or(|ends| ends > now))
    }

    fn keep(&self, token: Token) -> Arc<Token> {
        let token = Arc::new(token);
        *self.token.lock() = Some(token.clone());
        token
    }

    async fn obtain(&self) -> Result<Token, IssueError> {
        match &self.config.auth {
            VaultAuth::Token { token, .. } => Ok(self.look_up(token).await?.token(token.clone())),
            VaultAuth::Kubernetes { .. } => self.log_in().await,
        }
    }

    async fn look_up(&self, token: &Credential) -> Result<TokenState, IssueError> {
        let answer = self.transport.call(LookupTokenSelfRequest {}, Some(token)).await;
        answer
            .and_then(|answer| answer.data.ok_or_else(|| Failure::Unreadable("it has no data".to_owned())))
            .map_err(|failure| explain(Call::LookUpToken, failure, &self.config))
    }

    async fn log_in(&self) -> Result<Token, IssueError> {
        let VaultAuth::Kubernetes { mount, role, service_account_token } = &self.config.auth else {
            return Err(IssueError::Local { attempt: "log in", message: "there is only a token".to_owned() });
        };
        let jwt = tokio::fs::read_to_string(service_account_token).await.map(Credential::new).map_err(|error| {
            IssueError::Misconfigured {
                remote: crate::error::Blame::Process,
                message: format!(
                    "read the ServiceAccount's token {}: {error}; mount a projected token there",
                    service_account_token.display()
                ),
            }
        })?;
        let request = LoginWithKubernetesRequest {
            mount: mount.clone(),
            role: role.clone(),
            jwt: jwt.expose_credential().to_owned(),
        };
        self.authenticate(request, None).await.map_err(|failure| explain(Call::Login, failure, &self.config))
    }

    async fn authenticate(
        &self,
        request: impl rustify::Endpoint,
        token: Option<&Credential>,
    ) -> Result<Token, Failure> {
        let answer = self.transport.call::<serde::de::IgnoredAny>(request, token).await?;
        let AuthInfo { client_token, lease_duration, renewable, .. } =
            answer.auth.ok_or_else(|| Failure::Unreadable("it has no token".to_owned()))?;
        let now = Instant::now();
        let life = Duration::from_secs(lease_duration);
        let by_login = matches!(self.config.auth, VaultAuth::Kubernetes { .. });
        let ends = (lease_duration > 0).then(|| now + life);
        Ok(Token {
            value: Credential::new(client_token),
            obtained: now,
            renew: ends.filter(|_| renewable || by_login).map(|_| now + (life * 2 / 3).max(MIN_RENEWAL)),
            ends,
        })
    }

    fn start_keeper(self: &Arc<Self>) {
        self.keeper.get_or_init(|| tokio::spawn(keep_fresh(Arc::downgrade(self))).abort_handle());
    }

    /// Renews the token if that is due. A failure leaves it in use.
    async fn renew_if_due(&self) {
        let Some(token) = self.current() else { return };
        if token.renew.is_none_or(|at| at > Instant::now()) {
            return;
        }
        let renewed = match &self.config.auth {
            VaultAuth::Kubernetes { .. } => self.log_in().await,
            VaultAuth::Token { .. } => self
                .authenticate(RenewTokenSelfRequest { increment: None }, Some(&token.value))
                .await
                .map_err(|failure| explain(Call::LookUpToken, failure, &self.config)),
        };
        let next = match renewed {
            Ok(token) => token,
            Err(error) => {
                tracing::warn!(%error, reason = error.reason(), "cannot renew the token for Vault");
                Token {
                    value: token.value.clone(),
                    obtained: token.obtained,
                    ends: token.ends,
                    renew: Some(Instant::now() + RENEWAL_RETRY),
                }
            }
        };
        let mut current = self.token.lock();
        // Not if the token was given up or replaced meanwhile.
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &token)) {
            *current = Some(Arc::new(next));
        }
    }

    fn until_renewal(&self) -> Duration {
        let renew = self.token.lock().as_ref().and_then(|token| token.renew);
        renew.map_or(LONGEST_SLEEP, |at| at.saturating_duration_since(Instant::now()).min(LONGEST_SLEEP))
    }
}

impl TokenState {
    fn ends(&self) -> bool {
        self.ttl > 0 || self.expire_time.is_some()
    }

    fn token(&self, value: Credential) -> Token {
        let obtained = Instant::now();
        let left = Duration::from_secs(self.ttl);
        let ends = self.ends().then(|| obtained + left);
        // When a third of its life is left, which may be now.
        let wait = left.saturating_sub(Duration::from_secs(self.creation_ttl) / 3).max(MIN_RENEWAL);
        let renew = ends.filter(|_| self.renewable == Some(true)).map(|_| obtained + wait);
        Token { value, obtained, ends, renew }
    }
}

/// Ends with the session.
async fn keep_fresh(session: Weak<Session>) {
    loop {
        let Some(wait) = session.upgrade().map(|session| session.until_renewal()) else { return };
        tokio::time::sleep(wait).await;
        let Some(session) = session.upgrade() else { return };
        session.renew_if_due().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("token", &*self.token.lock()).finish_non_exhaustive()
    }
}
