//! Works on many things at once. They mostly wait, so there may be more lanes than processors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many lanes there are when nothing else is asked for.
const LANES: usize = 8;

/// Does it for every item; the results are in the order of the items. One that panics gives the words of that.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Result<R, String>> {
    each_on(LANES, items, work)
}

/// The same on so many lanes: few where it matters how fast things go.
pub(crate) fn each_on<T: Sync, R: Send>(
    lanes: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Result<R, String>> {
    let asked = std::env::var("AI_SDLC_CHAOS_LANES")
        .ok()
        .and_then(|text| text.parse().ok());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..asked.unwrap_or(lanes) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(place) else { return };
                    let result = guarded(|| work(item));
                    done.lock()
                        .expect("nobody panics with it")
                        .push((place, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics with it");
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Does it; a panic becomes its words.
pub(crate) fn guarded<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked".to_owned())
    })
}
