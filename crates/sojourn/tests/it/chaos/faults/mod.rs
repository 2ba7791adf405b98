//! What goes wrong in a round.

mod kernel;
mod kills;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use std::time::Instant;

use super::Size;
use super::dice::Dice;
use super::town::Street;
use super::town::Town;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9` of the gateway, and the next one at once.
    KilledGateway,
    /// The same, and the next one only when every limited session must be over.
    NoGatewayPastLimits,
    /// `kill -9` of the runner that is built in.
    KilledRunner,
    /// `kill -9` of a shim.
    KilledShim,
    /// `kill -9` of process 1 of a sandbox.
    KilledInit,
    /// `kill -9` of the zygote.
    KilledZygote,
    /// `kill -9` of the runner elsewhere.
    KilledFarRunner,
    /// `kill -9` of an agent.
    KilledAgent,
    /// `kill -9` of process 1 of a container, by its engine.
    KilledContainer,
    /// `kill -9` of the engine, which comes back.
    KilledEngine,
    /// SIGSTOP and SIGCONT.
    Frozen(Part),
    /// The data directory's disk is full.
    FullDisk,
    /// Every `fsync` of the gateway fails.
    FailingSync,
    /// The data directory's disk is read-only for the gateway.
    ReadOnlyDisk,
    /// No more descriptors for the gateway.
    NoDescriptors,
    /// No more memory for the gateway.
    NoMemory,
    /// The clock is put forward.
    ClockForward,
    /// The clock is put back.
    ClockBack,
    /// Clients' lines are cut.
    CutLine,
    /// Clients' lines are slow.
    SlowLine,
    /// The network passes nothing.
    CutLink,
    /// The network passes little and loses the rest.
    ThinLink,
    /// The runner's line is cut again and again.
    CutRelay,
}

/// What is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Gateway,
    Runner,
    Zygote,
    Shim,
    FarRunner,
}

/// Those of which one is as likely as another.
const ALL: [Fault; 25] = [
    Fault::KilledGateway,
    Fault::KilledGateway,
    Fault::NoGatewayPastLimits,
    Fault::KilledRunner,
    Fault::KilledShim,
    Fault::KilledInit,
    Fault::KilledZygote,
    Fault::KilledFarRunner,
    Fault::KilledAgent,
    Fault::Frozen(Part::Gateway),
    Fault::Frozen(Part::Runner),
    Fault::Frozen(Part::Zygote),
    Fault::Frozen(Part::Shim),
    Fault::Frozen(Part::FarRunner),
    Fault::FullDisk,
    Fault::FailingSync,
    Fault::ReadOnlyDisk,
    Fault::NoDescriptors,
    Fault::NoMemory,
    Fault::ClockForward,
    Fault::ClockBack,
    Fault::CutLine,
    Fault::SlowLine,
    Fault::CutLink,
    Fault::ThinLink,
];

/// The longest that one fault lasts, while nothing moves on.
const LONGEST: Duration = Duration::from_millis(1500);

/// Which faults a round has.
pub(super) fn of_round(dice: &mut Dice, size: &Size) -> Vec<Fault> {
    let mut some: Vec<Fault> = (0..size.faults).filter_map(|_| dice.one_of(&ALL)).collect();
    if size.everybody && dice.below(4) == 0 {
        some.push(Fault::CutRelay);
    }
    some
}

/// What goes wrong with containers and their engine besides, in one round of four.
pub(super) fn of_engine(dice: &mut Dice, size: &Size) -> Vec<Fault> {
    if !size.everybody || dice.below(4) != 0 {
        return Vec::new();
    }
    let other = [Fault::KilledContainer, Fault::KilledEngine];
    [Fault::KilledContainer].into_iter().chain(dice.one_of(&other)).collect()
}

/// Lets things go wrong, one after the other, while people come and go.
pub(super) fn happen(town: &mut Town, street: &Street, dice: &mut Dice, faults: &[Fault]) {
    let mut starved = false;
    for fault in faults {
        starved |= *fault == Fault::NoMemory;
        moves_on(street, 5 + dice.below(60));
        street.ledger.tell(format!("FAULT {fault:?}"));
        let began = Instant::now();
        one(town, street, dice, *fault);
        street.ledger.tell(format!("over: {fault:?} after {:?}", began.elapsed()));
        if town.gateway.is_over() {
            let status = town.gateway.wait();
            let told = format!("{fault:?}: the gateway ended by itself, {status}");
            // The kernel may be late with it.
            if starved && status.signal() == Some(9) {
                street.ledger.tell(told);
            } else {
                street.ledger.breach(format!("{told}: {}", town.gateway.log()));
            }
            back(town, street);
        }
    }
}

/// Waits until so much has moved on, or nothing does for a while.
fn moves_on(street: &Street, by: u64) {
    let began = Instant::now();
    let wanted = street.ledger.ticks() + by;
    while street.ledger.ticks() < wanted && began.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts the gateway again.
fn back(town: &mut Town, street: &Street) {
    town.gateway.launch();
    town.has_moved(street);
}

fn one(town: &mut Town, street: &Street, dice: &mut Dice, fault: Fault) {
    match fault {
        Fault::KilledGateway => kills::gateway(town, street),
        Fault::NoGatewayPastLimits => kills::gateway_past_limits(town, street),
        Fault::KilledRunner => kills::some(town, street, dice, "sojourn-runner"),
        Fault::KilledShim => kills::some(town, street, dice, "sojourn-shim"),
        Fault::KilledInit => kills::init(town, street, dice),
        Fault::KilledZygote => kills::zygote(town, street),
        Fault::KilledFarRunner => {
            town.runner.kill();
            moves_on(street, 20);
            town.runner.launch();
        }
        Fault::KilledAgent => kills::agent(town, street),
        Fault::KilledContainer => kills::container(town, street, dice),
        Fault::KilledEngine => kills::engine(town, street),
        Fault::Frozen(part) => kernel::freeze(town, street, dice, part),
        Fault::FullDisk => kernel::full_disk(town, street),
        Fault::FailingSync => kernel::failing_sync(town, street),
        Fault::ReadOnlyDisk => kernel::read_only_disk(town, street),
        Fault::NoDescriptors => kernel::no_descriptors(town, street, dice),
        Fault::NoMemory => kernel::no_memory(town, street),
        Fault::ClockForward => town.gateway.clock().advance("40s"),
        Fault::ClockBack => town.gateway.clock().back("1h"),
        Fault::CutLine => street.line.cut(),
        Fault::SlowLine => {
            street.line.slow(true);
            moves_on(street, 60);
            street.line.slow(false);
        }
        Fault::CutLink => kernel::cut_link(street),
        Fault::ThinLink => kernel::thin_link(street),
        Fault::CutRelay => {
            town.cutter.cut_after(1 + usize::try_from(dice.below(5)).unwrap());
            moves_on(street, 100);
            town.cutter.cut_after(0);
        }
    }
}
