//! `kill -9`.

use super::super::dice::Dice;
use super::super::town::LONG;
use super::super::town::Street;
use super::super::town::Town;
use super::super::within;
use super::back;
use super::moves_on;

/// Kills a process that may be gone already.
fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let kill = |pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    let _gone = pid.map(kill);
}

pub(super) fn gateway(town: &mut Town, street: &Street) {
    town.gateway.kill();
    back(town, street);
}

/// Limits hold without a gateway: it does not come back before they did.
pub(super) fn gateway_past_limits(town: &mut Town, street: &Street) {
    town.gateway.kill();
    let name = "limited-li".to_owned();
    let of_us = || {
        let mut all = crate::processes_with(&name);
        all.retain(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&street.mark)
        });
        all
    };
    let running = of_us().len();
    let over = within(LONG, || of_us().is_empty().then_some(()));
    street.ledger.tell(format!("{running} limited sessions ended while there was no gateway"));
    if over.is_none() {
        street.ledger.breach("a limit was not held while there was no gateway");
    }
    back(town, street);
}

/// One of the processes of this name.
pub(super) fn some(town: &Town, street: &Street, dice: &mut Dice, name: &str) {
    let all = town.processes(name);
    street.ledger.tell(format!("one of {name}: {all:?}"));
    if let Some(one) = dice.one_of(&all) {
        kill(one);
    }
}

/// Process 1 of a sandbox.
pub(super) fn init(town: &Town, street: &Street, dice: &mut Dice) {
    let shims = town.processes("sojourn-shim");
    let inits: Vec<u32> = crate::pids()
        .filter(|pid| crate::stat_field(*pid, 1).is_some_and(|parent| shims.contains(&parent)))
        .collect();
    street.ledger.tell(format!("one of {inits:?}"));
    if let Some(one) = dice.one_of(&inits) {
        kill(one);
    }
}

/// The gateway stops when its zygote is gone.
pub(super) fn zygote(town: &mut Town, street: &Street) {
    town.processes("sojourn-zygote").into_iter().for_each(kill);
    if within(LONG, || town.gateway.is_over().then_some(())).is_none() {
        street.ledger.breach("without its zygote the gateway runs on");
        town.gateway.kill();
    } else {
        town.gateway.wait();
    }
    back(town, street);
}

/// A container, whether or not somebody is in it.
pub(super) fn container(town: &Town, street: &Street, dice: &mut Dice) {
    let Some(engine) = &town.engine else { return };
    let running = engine.running();
    street.ledger.tell(format!("one of {running:?}"));
    if let Some(one) = dice.one_of(&running) {
        let killed = engine.try_docker(&["kill", &one]);
        street.ledger.tell(format!("{one}: killed {killed}"));
    }
}

/// The engine; it comes back when something has moved on without it.
pub(super) fn engine(town: &mut Town, street: &Street) {
    let Some(engine) = &mut town.engine else { return };
    engine.kill();
    moves_on(street, 20);
    engine.launch();
}

/// An agent on the runner elsewhere.
pub(super) fn agent(town: &Town, street: &Street) {
    let agents: Vec<u32> = crate::descendants(town.runner.id())
        .into_iter()
        .filter(|pid| crate::name_of(*pid) == "fake-agent")
        .collect();
    street.ledger.tell(format!("the agents {agents:?}"));
    agents.into_iter().for_each(kill);
}
