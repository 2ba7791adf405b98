//! Shells in sandboxes: what a profile is here, and what starts the process that makes one.
//!
//! Each has a place: a directory, a control group and a range of ids that no other has at the time.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay::Launch;

use super::hub::Hub;
use super::options::Harness;
use super::options::Isolation;
use super::options::Kind;
use super::options::Options;
use crate::process::descendants::TAG;

/// The places that are taken. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeSet<u32>>>);

/// One of them, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u32,
}

impl Places {
    fn take(&self) -> Place {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // There are fewer sessions than numbers.
        let number = (0..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
        taken.insert(number);
        Place { places: self.clone(), number }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// What is started in the place of a shell of this machine.
pub(super) struct Made {
    pub(super) directory: OwnedFd,
    pub(super) argv: Vec<OsString>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) place: Place,
}

/// Whether a session can have the profile that it asks for, here.
///
/// # Errors
/// A line that says why not.
pub(super) fn check(options: &Options, harness: &Harness, launch: &Launch) -> Result<(), String> {
    let Some(name) = &launch.profile else { return Ok(()) };
    let known = &options.chambers.profiles;
    match known.get(name) {
        Some(Isolation::None) => Ok(()),
        Some(_) if harness.kind != Kind::Terminal => Err(format!(
            "an agent works on the machine itself, and the profile {name:?} is a sandbox's; leave \
             the profile out"
        )),
        Some(Isolation::Sandbox) if launch.cwd.is_some() => Err(format!(
            "a shell in a sandbox begins where its profile {name:?} says; leave the directory out"
        )),
        Some(Isolation::Sandbox) => Ok(()),
        Some(Isolation::Missing(why)) => Err(why.clone()),
        None => {
            let all: Vec<&str> = known.keys().map(String::as_str).collect();
            Err(format!("this runner has no profile {name:?}; it has {}", all.join(", ")))
        }
    }
}

/// Whether a session asks for a sandbox.
pub(super) fn is_wanted(options: &Options, launch: &Launch) -> bool {
    let Some(name) = &launch.profile else { return false };
    options.chambers.profiles.get(name) == Some(&Isolation::Sandbox)
}

/// What is to be started for it.
///
/// # Errors
/// The system's, in a line.
pub(super) fn prepare(hub: &Hub, session: SessionId, launch: &Launch) -> Result<Made, String> {
    let place = hub.places.take();
    let room = hub.state.chamber(place.number);
    fs::create_dir_all(&room).map_err(|error| format!("{}: {error}", room.display()))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open("/", flags, Mode::empty());
    let maker = &hub.options.chambers.maker;
    let number = place.number.to_string();
    let profile = launch.profile.as_deref().unwrap_or_default();
    let named = session.to_string();
    let words = ["--session", &named, "--user", &launch.by.user, "--profile", profile];
    let words = words.into_iter().chain(["--place", &number, "--data-dir"]).map(OsString::from);
    let argv = std::iter::once(maker.program.clone().into_os_string())
        .chain(maker.arguments.iter().cloned())
        .chain(words)
        .chain([room.into_os_string()]);
    // It reads the configuration as the runner did. None of this comes into the sandbox.
    let mut env: BTreeMap<_, _> = hub.options.environment.iter().cloned().collect();
    env.insert(TAG.to_owned(), named.clone());
    Ok(Made {
        directory: directory.map_err(|error| format!("/: {error}"))?,
        argv: argv.collect(),
        env,
        place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_a_place_at_the_same_time() {
        let places = Places::default();
        let (first, second) = (places.take(), places.take());
        assert_eq!((first.number, second.number), (0, 1));
        drop(first);
        let third = places.take();
        assert_eq!((third.number, places.take().number), (0, 2));
    }
}
