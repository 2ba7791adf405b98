//! The people of a round: what they do, over and over, whatever happens to the gateway.

mod agents;
mod browsers;
mod clients;

use std::sync::atomic::Ordering;
use std::thread::Scope;
use std::time::Duration;

use super::Size;
use super::dice::Dice;
use super::town::BROWSERS;
use super::town::Street;

pub(super) use agents::said;

/// How long somebody takes to try again.
const PACE: Duration = Duration::from_millis(100);

/// Sets everybody going.
pub(super) fn come<'s>(scope: &'s Scope<'s, '_>, street: &'s Street, dice: &Dice, size: &Size) {
    type Job = fn(&Street, &mut Dice, &str) -> bool;
    let with_ssh: [(&str, Job); 7] = [
        ("ta", clients::terminal),
        ("tb", clients::terminal),
        ("ex", clients::command),
        ("li", clients::limited),
        ("fi", clients::files),
        ("gl", clients::glutton),
        ("bo", clients::boxed),
    ];
    let (times, everybody) = (size.times, size.everybody);
    for (number, (name, job)) in (0..).zip(with_ssh) {
        if !everybody && !["ta", "ex", "li"].contains(&name) {
            continue;
        }
        if name == "bo" && !street.has_engine {
            continue;
        }
        let mut dice = dice.apart(number);
        scope.spawn(move || {
            let (mut done, mut tries) = (0, 0);
            // Who is not let in tries again, while there is anything that hinders them.
            while done < times && (tries < times || !street.calm.load(Ordering::Relaxed)) {
                tries += 1;
                let tag = format!("{name}{tries}-{}", street.mark);
                if job(street, &mut dice, &tag) {
                    done += 1;
                } else {
                    std::thread::sleep(PACE);
                }
            }
        });
    }
    for user in BROWSERS.into_iter().take(if everybody { BROWSERS.len() } else { 1 }) {
        scope.spawn(move || {
            for _ in 0..times {
                browsers::terminal(street, user);
            }
        });
    }
    let mut throws = dice.apart(100);
    scope.spawn(move || browsers::sign_ins(street, &mut throws));
    let mut throws = dice.apart(101);
    scope.spawn(move || {
        for _ in 0..times {
            agents::conversation(street, &mut throws);
        }
    });
}
