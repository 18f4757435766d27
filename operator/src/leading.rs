//! Work of the writer among the replicas.

use osm_kubernetes::Leadership;
use tokio::sync::watch;

/// Waits until this replica is the writer, and works until it is not any more, or the work ends. Without anybody who tells, nothing is
/// to be written any more: then this waits for ever.
pub(crate) async fn while_leading<T>(leadership: &mut watch::Receiver<Leadership>, work: impl Future<Output = T>) {
    if leadership.wait_for(|held| *held == Leadership::Leader).await.is_err() {
        return std::future::pending().await;
    }
    tokio::select! {
        _ = work => {}
        _ = leadership.wait_for(|held| *held == Leadership::Follower) => {}
    }
}
