//! A shim outlives the gateway that started it, and speaks on as it did. What this version's say is kept
//! in a corpus that is held against the encoder: these bytes are understood, or a session is lost in an
//! upgrade. Whoever changes a frame raises the version, and keeps the old ones under another name.

use super::*;

/// The session that the kept frames are about.
const ITS: &str = "01932b5e-7c1a-7f00-8000-00003f2a91c0";

/// A kept frame, as a shim would have sent it about this session and channel.
fn kept(name: &str, id: SessionId, channel: u16) -> Vec<u8> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/shim_frames/");
    let mut frame = std::fs::read(format!("{corpus}{name}")).unwrap();
    frame[1..3].copy_from_slice(&channel.to_be_bytes());
    match std::str::from_utf8(&frame[3..]) {
        Ok(json) => [&frame[..3], json.replace(ITS, &id.to_string()).as_bytes()].concat(),
        Err(_) => frame,
    }
}

#[tokio::test]
async fn a_shim_that_speaks_as_the_kept_frames_is_understood() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    let say = async |name: &str, channel: u16| {
        shim.link.send(&kept(name, shim.id, channel)).await.unwrap();
    };
    say("shim_hello", 0).await;
    let mut progress = session.shared.progress.clone();
    progress.wait_for(|progress| progress.greeted).await.unwrap();
    // It told of a terminal in channel 0: a new program is in the next one.
    let serve = async {
        let request = shim.hear_kind(0x02).await;
        let number = u16::from_be_bytes([request[1], request[2]]);
        shim.say(&FromShim::Started(number)).await;
        say("output", number).await;
        say("exit", number).await;
    };
    let start = session.start(ChannelRequest::new(Program::Shell));
    let (channel, ()) = tokio::join!(start, serve);
    let mut channel = channel.unwrap();
    let printed = bytes::Bytes::from_static(b"x");
    assert_eq!(next(&mut channel).await, ChannelEvent::Output(Stream::Err, printed));
    assert_eq!(next(&mut channel).await, ChannelEvent::Exit(Exit::Signal("TERM".to_owned())));
    say("warned", 0).await;
    say("expired", 0).await;
    session.connection_gone().await;
    say("ended", 0).await;
    house.see_off().await;
    let end = house.kept(shim.id).await.end.unwrap();
    assert_eq!(end.reason, EndReason::MaxRuntime);
    session.over().await;
}
