//! L-57: no secret is in a log at its most talkative, nor on disk in clear.

use std::io;
use std::sync::Mutex;

use data_encoding::BASE32_NOPAD;
use data_encoding::HEXLOWER;
use tracing_subscriber::fmt::MakeWriter;

use super::factors::code_of;
use super::*;

/// All that was logged.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Heard {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn l_57_secrets_are_in_no_log_and_on_no_disk() {
    let heard = Heard::default();
    let talkative = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(heard.clone())
        .finish();
    // Tests that share this process are heard as well, which does no harm.
    tracing::subscriber::set_global_default(talkative).unwrap();

    let house = House::new().await;
    let (alice, here) = (house.alice().await.id, at("192.0.2.1"));
    let wrong = "canary wrong password here";
    let (_, cookie) = done(house.sign_in("alice", PASSWORD, &here).await);
    house.sign_in("alice", wrong, &here).await;
    house.try_password("alice", wrong).await;
    let (secret, codes) = house.enrol().await;
    let ceremony = house.half_way().await;
    let code = code_of(&secret, &house.clock);
    house.identity.second_factor(ceremony.expose(), "918273", &here, None).await;
    done(house.identity.second_factor(ceremony.expose(), &code, &here, None).await);
    let ceremony = house.half_way().await;
    done(house.identity.recovery(ceremony.expose(), codes[0].expose(), &here, None).await);
    house.identity.prove_again(alice, PASSWORD, Some(codes[1].expose()), &here).await;
    let link = house.accounts.issue_reset("alice", Actor::local(0)).await.unwrap().token;
    let new = "canary four new words";
    house.identity.reset(link.expose(), new, new, &here).await.unwrap();
    house.audit.settled().await.unwrap();
    house.store.close().await;

    let raw = BASE32_NOPAD.decode(secret.expose().as_bytes()).unwrap();
    let cookie = cookie.unwrap();
    let texts = [
        PASSWORD,
        wrong,
        new,
        secret.expose(),
        "918273",
        cookie.expose(),
        ceremony.expose(),
        link.expose(),
        codes[0].expose(),
        codes[2].expose(),
    ];
    let mut canaries: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    canaries.extend(codes.iter().map(|code| code.expose().replace('-', "").into_bytes()));
    canaries.extend([raw.clone(), HEXLOWER.encode(&raw).into_bytes()]);
    let logged = heard.0.lock().unwrap().clone();
    assert!(!logged.is_empty(), "something is logged at all");
    let mut places = vec![("the log".to_owned(), logged)];
    for file in walk(house.dir.path()) {
        places.push((file.display().to_string(), std::fs::read(&file).unwrap()));
    }
    assert!(places.len() > 3, "{}", places.len());
    for (place, bytes) in &places {
        for canary in &canaries {
            let has = bytes.windows(canary.len()).any(|window| window == canary.as_slice());
            assert!(!has, "{place} has {}", String::from_utf8_lossy(canary));
        }
    }
}
