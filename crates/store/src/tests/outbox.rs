//! Changes and the events that belong to them.

use super::*;

on_both! {
    a_change_that_fails_tells_nothing,
    told_events_are_forgotten_and_their_arrival_is_announced,
    two_programs_write_at_the_same_time,
}

async fn a_change_that_fails_tells_nothing(house: House) {
    let store = &house.store;
    with_alice(&house).await;
    store.add_user(&alice(), &event(Action::UserAdded)).await.unwrap_err();
    assert_eq!(store.untold(10).await.unwrap().len(), 1);
}

async fn told_events_are_forgotten_and_their_arrival_is_announced(house: House) {
    let store = &house.store;
    let (first, second) = (event(Action::KillSwitch), event(Action::AuditGap));
    store.tell(&first).await.unwrap();
    store.told().notified().await;
    store.tell(&second).await.unwrap();
    let other_process = house.again().await;
    assert_eq!(other_process.untold(10).await.unwrap(), [first.clone(), second.clone()]);
    other_process.forget_told(&[first.event_id]).await.unwrap();
    assert_eq!(store.untold(10).await.unwrap(), [second]);
}

async fn two_programs_write_at_the_same_time(house: House) {
    let store = &house.store;
    let other = house.again().await;
    let writes = (0..40).map(|n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        tokio::spawn(async move { store.tell(&event(Action::KillSwitch)).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    assert_eq!(store.untold(100).await.unwrap().len(), 40);
}
