//! Whom the machine has enough for: a story starts when what its agent wants is left beside what the others want. Who has
//! to wait for that is not overtaken, or it might never have its turn.

use super::{Effects, Engine, Key, Notice};
use crate::engine::fault::{self, Fault};
use crate::engine::resources::Lack;

impl Engine {
    /// What of the machine there is too little of for a story. Alone, each has enough.
    pub(super) fn lacks_room_for(&self, key: Key) -> Option<Lack> {
        if self.occupied == 0 || fault::is(Fault::CapacityIgnored) {
            return None;
        }
        let wanted = self.story(key).resources;
        self.settings.capacity.lacks(self.taken, wanted)
    }

    /// Says once of each resource that stories wait for it.
    pub(super) fn tell_of_lack(&mut self, key: Key, lack: Lack, effects: &mut Effects) {
        if self.short_of.insert(lack.resource) {
            effects.tell(Notice::WaitsForRoom {
                story: self.story(key).id.clone(),
                lack,
            });
        }
    }
}
