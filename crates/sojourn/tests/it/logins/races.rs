//! L-13: a sign-in that races a password change cannot outlive it.

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use sojourn_testkit::PATIENCE;
use sojourn_testkit::until;

use super::*;

/// Raises a flag when dropped, also by a failure: those who go on until then are waited for.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn l_13_no_login_by_the_old_password_outlives_its_change() {
    let more = "[login]\nmax_per_user = 1000\n".to_owned();
    let Some(gateway) = house_with(Options { more, ..Options::default() }) else { return };
    let (many, rounds) = if crate::is_long_run() { (100, 100) } else { (10, 20) };
    let (mut current, mut next) = (PASSWORD, OTHER);
    let (mut let_in, mut turned_away) = (0, 0);
    let port = gateway.web_port();
    for round in 0..rounds {
        let mut changer = gateway.signed_in("bob", current);
        let barrier = Barrier::new(many + 1);
        let is_changed = AtomicBool::new(false);
        let raced: Vec<(Option<Browser>, u16)> = std::thread::scope(|scope| {
            let racing: Vec<_> = (0..many)
                .map(|_| {
                    let (barrier, is_changed) = (&barrier, &is_changed);
                    scope.spawn(move || {
                        barrier.wait();
                        let mut tries = Vec::new();
                        let mut attempt = || {
                            let mut browser = Browser::new(port);
                            let status = browser.sign_in("bob", current).status;
                            // Who was refused has nothing that could outlive anything.
                            tries.push((browser.token().is_some().then_some(browser), status));
                        };
                        // Never so many that the changer's login is the one too many of its user.
                        let before = (0..5).take_while(|_| !is_changed.load(Ordering::SeqCst));
                        before.for_each(|_| attempt());
                        until("the change", PATIENCE, || {
                            is_changed.load(Ordering::SeqCst).then_some(())
                        });
                        attempt();
                        tries
                    })
                })
                .collect();
            let until_then = Raised(&is_changed);
            barrier.wait();
            until("the change, however many sign in meanwhile", PATIENCE, || {
                let answer = changer.post("/api/auth/change-password", &change(current, next));
                (answer.status != 503).then(|| answer.expect(200))
            });
            drop(until_then);
            racing.into_iter().flat_map(|racing| racing.join().expect("answers")).collect()
        });
        for (browser, status) in raced {
            match status {
                200 => let_in += 1,
                401 | 429 | 503 => turned_away += 1,
                _ => panic!("round {round}: {status}"),
            }
            let is_in = browser.is_some_and(|mut browser| is_in(&mut browser));
            assert!(!is_in, "round {round}: a login by the old password is alive");
        }
        std::mem::swap(&mut current, &mut next);
        // What was refused counts against the name; that is not what is raced for here.
        gateway.clock().advance("2h");
    }
    assert!(let_in > 0 && turned_away > 0, "{let_in} in, {turned_away} not: nothing was raced");
}
