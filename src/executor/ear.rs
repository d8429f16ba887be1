//! Who listens to what is written into the attempt's log.

use std::sync::{Arc, Mutex, PoisonError};

type Listener = Box<dyn FnMut(&[u8]) + Send>;

/// Passes the lines of the log to whoever listens; nobody most of the time.
#[derive(Clone, Default)]
pub(super) struct LogEar(Arc<Mutex<Option<Listener>>>);

impl LogEar {
    /// A line was written.
    pub(super) fn hear(&self, line: &[u8]) {
        let mut listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listener.as_mut() {
            listener(line);
        }
    }

    /// Listens until what is returned is dropped.
    pub(super) fn listen(&self, listener: impl FnMut(&[u8]) + Send + 'static) -> Listening {
        let listener: Listener = Box::new(listener);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
        Listening(self.clone())
    }
}

/// Somebody listens.
pub(super) struct Listening(LogEar);

impl Drop for Listening {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
