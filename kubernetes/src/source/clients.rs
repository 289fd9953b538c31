//! What the reflectors of an API server share: the client, and the timeouts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::config::ClientConfig;
use crate::error::Error;

/// Timeouts and pauses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For the beginning of an answer, and for the whole of a page.
    pub answer: Duration,
    /// How long a requested watch lasts. A dead connection is noticed after this time at the latest: the client sends
    /// nothing during a watch, so it gets no error.
    pub watch: Duration,
    /// The pause after a first failure; it doubles.
    pub first_pause: Duration,
    /// And the longest pause.
    pub longest_pause: Duration,
    /// The pause before the next request for a kind that the server does not have or does not show.
    pub absent_pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            watch: Duration::from_secs(120),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(20),
            absent_pause: Duration::from_secs(600),
        }
    }
}

/// The client that the reflectors share: made when it is first wanted, and again when the settings are others or the
/// server refused the credentials (a token file may hold a new one by now).
#[derive(Default)]
pub(super) struct Clients {
    current: Mutex<Option<(Arc<ClientConfig>, kube::Client)>>,
}

impl Clients {
    pub(super) async fn get(&self, config: &Arc<ClientConfig>) -> Result<kube::Client, Error> {
        let mut current = self.current.lock().await;
        if let Some((of, client)) = &*current
            && Arc::ptr_eq(of, config)
        {
            return Ok(client.clone());
        }
        let client = config.client().await?;
        *current = Some((config.clone(), client.clone()));
        Ok(client)
    }

    pub(super) async fn forget(&self) {
        *self.current.lock().await = None;
    }
}
