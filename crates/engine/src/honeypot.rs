//! Visitors of a honeypot: people without an account, let in to be watched. A listener has room for
//! so many of them, whatever room the gateway has besides.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use crate::door::Refusal;

/// The room one honeypot listener has. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pot {
    places: Arc<Semaphore>,
    max: usize,
}

/// The right to one of its sessions; given back when dropped.
pub(crate) type Place = OwnedSemaphorePermit;

/// Somebody a honeypot let in.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The name they gave, escaped. It is nobody's here.
    pub name: String,
    /// The honeypot they are in.
    pub pot: Pot,
}

impl Pot {
    /// Room for `max` sessions at a time.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(max)), max }
    }

    /// Takes a place.
    pub(crate) fn take(&self) -> Result<Place, Refusal> {
        let place = self.places.clone().try_acquire_owned();
        place.map_err(|_| Refusal::PotFull { max: self.max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let pot = Pot::new(1);
        let place = pot.take().unwrap();
        assert_eq!(pot.clone().take().unwrap_err(), Refusal::PotFull { max: 1 });
        drop(place);
        assert!(pot.take().is_ok());
    }
}
