//! A container that is killed takes its memory file system with it. What was promised there?

use crate::kill::kills_lose_nothing;
use crate::kit::{Home, Served, Upstream, get};
use std::path::Path;

/// Says why nothing was tested.
fn skip() {
    eprintln!("SKIPPED: no mount namespace here; run the tests as root to see a container die");
}

#[test]
fn a_container_that_is_killed_and_made_anew_loses_nothing() {
    let home = Home::new();
    let config = home.config();
    let Some(probe) = Served::start_contained(&config) else { return skip() };
    drop(probe);
    let configure = |to| {
        home.configure(to, "");
        home.leave_rings_to_the_gateway();
    };
    kills_lose_nothing(&home, configure, 8, || {
        let mut served = Served::start_contained(&config).unwrap();
        served.says("the rings are in data_dir");
        served
    });
}

#[test]
fn rings_in_the_memory_of_a_container_are_not_promised_to_outlive_it() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    home.configure_at(upstream.address, &home.data(), Path::new("/dev/shm"), "");
    let Some(mut served) = Served::start_contained(&home.config()) else { return skip() };
    served.says("not promised here");
    let address = served.address("api");
    assert_eq!(get(address, "/plain/x", &home.reader("ana")).unwrap().status, 200);
    served.kill();
    // Whatever was not drained is gone, and the next start says so.
    let mut served = Served::start_contained(&home.config()).unwrap();
    served.says("are gone, and with them");
    served.address("api");
    served.signal("TERM");
    assert_eq!(served.ended().code(), Some(0), "{}", served.log());
    home.verify(&home.data());
    // After an end in order nothing is missed.
    let mut served = Served::start_contained(&home.config()).unwrap();
    served.address("api");
    assert!(!served.log().contains("are gone, and with them"), "{}", served.log());
    drop(served);
}
