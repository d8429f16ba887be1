//! Memory and processors: what the agent of a story wants for itself, and what a machine has. Pure.
//!
//! What is wanted is only data: nothing is taken from an agent that takes more than it wanted.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// What an agent wants for itself, with all that it starts. What it wants nothing of is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processors, in thousandths of one.
    pub millicpus: u64,
}

impl Resources {
    /// How much it wants of one of them.
    pub fn of(self, resource: Resource) -> u64 {
        match resource {
            Resource::Memory => self.memory_bytes,
            Resource::Processors => self.millicpus,
        }
    }
}

impl Add for Resources {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            millicpus: self.millicpus.saturating_add(other.millicpus),
        }
    }
}

impl Sub for Resources {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            millicpus: self.millicpus.saturating_sub(other.millicpus),
        }
    }
}

/// What the agents of a run may want together. What is not limited is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processors, in thousandths of one.
    pub millicpus: Option<u64>,
}

impl Capacity {
    /// What there is not enough of for one who wants so much beside those who have `taken` so much.
    pub fn lacks(&self, taken: Resources, wanted: Resources) -> Option<Lack> {
        let limits = [
            (Resource::Memory, self.memory_bytes),
            (Resource::Processors, self.millicpus),
        ];
        limits.into_iter().find_map(|(resource, capacity)| {
            let (taken, wanted, capacity) = (taken.of(resource), wanted.of(resource), capacity?);
            // Who wants nothing of it has enough, whatever the others have taken.
            let lacks = wanted > 0 && taken.saturating_add(wanted) > capacity;
            lacks.then_some(Lack {
                resource,
                wanted,
                taken,
                capacity,
            })
        })
    }
}

/// What there can be too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Memory, counted in bytes.
    Memory,
    /// Processors, counted in thousandths of one.
    Processors,
}

/// Too little of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// Of what.
    pub resource: Resource,
    /// How much is wanted.
    pub wanted: u64,
    /// How much others have taken.
    pub taken: u64,
    /// How much there is.
    pub capacity: u64,
}

impl fmt::Display for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Memory => "memory",
            Self::Processors => "processors",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(memory_bytes: u64, millicpus: u64) -> Resources {
        Resources {
            memory_bytes,
            millicpus,
        }
    }

    #[test]
    fn there_is_enough_until_together_they_want_more() {
        let capacity = Capacity {
            memory_bytes: Some(10),
            millicpus: Some(4),
        };
        let lacks = |taken, wanted| capacity.lacks(taken, wanted).map(|lack| lack.resource);
        assert_eq!(lacks(resources(4, 1), resources(6, 3)), None);
        assert_eq!(
            lacks(resources(5, 1), resources(6, 4)),
            Some(Resource::Memory)
        );
        assert_eq!(
            lacks(resources(4, 1), resources(6, 4)),
            Some(Resource::Processors)
        );
        assert_eq!(lacks(resources(99, 99), Resources::default()), None);
        let most = resources(u64::MAX, u64::MAX);
        assert_eq!(lacks(most, resources(1, 0)), Some(Resource::Memory));
        assert_eq!(Capacity::default().lacks(most, most), None);
    }
}
