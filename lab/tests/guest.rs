//! The guest image boots, is who it shall be, and does what its pages promise.

use std::time::{Duration, Instant};

use lab::{GuestOptions, Lab, LabOptions, http_get};

const BOOT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);

#[test]
fn boots_and_answers() {
    let lab = Lab::up(LabOptions::default()).unwrap();
    let host = lab.host("kvm-a");
    let began = Instant::now();
    let first = host.start_guest(&GuestOptions::new("one")).unwrap();
    println!("created {:?}", began.elapsed());
    let address = host.lease(&first.mac, BOOT).unwrap();
    println!("leased {:?}", began.elapsed());
    let name = lab::wait_http(address, "/", BOOT).unwrap();
    println!("answered {:?}", began.elapsed());
    println!("{name:?} {:?}", http_get(address, "/identity", SOON).unwrap());
}
