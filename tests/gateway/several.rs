//! Gateways as values: several at once, and what is left of them.

use crate::kit::{Home, PATIENCE, Upstream, eventually, get};
use std::fs;
use std::process::Command;

/// Set where the test runs in a process of its own, whose threads and files it can count.
const ALONE: &str = "WEIRGATE_TEST_ALONE";

#[test]
fn two_gateways_share_a_process_and_leave_no_thread_and_no_file_open() {
    if std::env::var_os(ALONE).is_none() {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output();
        let output = output.unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && out.contains("1 passed"), "{out}\n{output:?}");
        return;
    }
    let before = (list("task"), list("fd"));
    let upstream = Upstream::echo();
    let homes = [Home::new(), Home::new()];
    let more = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"file:upstream.key\"\n";
    homes.iter().for_each(|home| home.configure(upstream.address, more));
    let [first, second] = homes.each_ref().map(Home::start);
    let (one, two) = (first.address("api").unwrap(), second.address("api").unwrap());
    assert_ne!(one, two);
    assert_ne!(first.admin_address().unwrap(), second.admin_address().unwrap());
    assert_eq!(first.addresses().len(), 1);
    for (home, address) in homes.iter().zip([one, two]) {
        assert_eq!(get(address, "/plain/x", &home.reader("ana")).unwrap().status, 200);
    }
    // Each knows its own issuer's keys only.
    assert_eq!(get(one, "/plain/x", &homes[1].reader("ana")).unwrap().status, 401);
    assert!(first.stop());
    assert!(get(one, "/plain/x", &homes[0].reader("ana")).is_err());
    assert_eq!(get(two, "/plain/x", &homes[1].reader("ana")).unwrap().status, 200);
    // One ends in order, and one is only dropped.
    drop(second);
    drop(upstream);
    // A joined thread may stand in the list a moment longer.
    let left = |kind: &str, before: &[String]| {
        let now = list(kind);
        (now.len() <= before.len()).then_some(())
    };
    eventually("no thread is left", PATIENCE, || left("task", &before.0));
    eventually("no file is left open", PATIENCE, || left("fd", &before.1));
    homes.iter().for_each(|home| home.verify(&home.data()));
}

fn list(kind: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/self/{kind}")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_data_folder_has_one_gateway_at_a_time() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    home.configure(upstream.address, "");
    let gateway = home.start();
    let source = std::sync::Arc::new(weirgate::cli::source::System);
    let again = weirgate::gateway::Gateway::start(home.load(), source);
    assert!(again.is_err_and(|error| error.to_string().contains("another gateway owns")));
    let output = home.run(&["serve", "-c", home.config().to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("another gateway owns"), "{errors}");
    let address = gateway.address("api").unwrap();
    assert_eq!(get(address, "/plain/x", &home.reader("ana")).unwrap().status, 200);
    assert!(gateway.stop());
    let gateway = home.start();
    assert!(gateway.stop(), "the folder is free again");
    home.verify(&home.data());
}
