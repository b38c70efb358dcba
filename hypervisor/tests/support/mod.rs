//! What every implementation must do: the same test against each of them.

use std::path::Path;
use std::time::{Duration, Instant};

use weir_config::Config;
use weir_hypervisor::metadata::{Phase, Role};
use weir_hypervisor::{CloneSpec, Hypervisor, HypervisorError, MachineName, MachineState, MachineView, Progress, Verb, WaitFor, WarmUse};

/// A configuration, or every error in it.
pub(crate) fn config(text: &str) -> Config {
    weir_config::parse(text, "contract.toml").unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// A file that is a disk of nothing.
pub(crate) fn image(folder: &Path, name: &str, bytes: usize) -> String {
    let path = folder.join(name);
    let content: Vec<u8> = (0..bytes).map(|at| (at / 4096) as u8 ^ name.len() as u8).collect();
    std::fs::write(&path, content).expect("the folder is there");
    path.display().to_string()
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Machines that are ours.
pub(crate) fn ours(hypervisor: &dyn Hypervisor) -> Vec<MachineView> {
    hypervisor.machines().into_iter().filter(|machine| machine.metadata.is_some()).collect()
}

/// A wish for a machine of template `web`, which does not wait for the guest.
pub(crate) fn spec(name: &str) -> CloneSpec {
    CloneSpec {
        pool: Some("web".into()),
        name: Some(name.parse().expect("a good name")),
        wait: WaitFor::Running,
        generation: 7,
        warm: WarmUse::Never,
        ..CloneSpec::new("web".into())
    }
}

/// The life of machines. The template is `web`, on any number of hosts, and there is a foreign machine called `web-foreign`.
pub(crate) async fn contract(hypervisor: &dyn Hypervisor) {
    let progress = Progress::default;
    let act = |name: &str, verb| hypervisor.act(name, verb, Progress::default());
    let state = |name: &str| hypervisor.machines().into_iter().find(|machine| machine.name == name).map(|machine| machine.state);

    let made = hypervisor.clone_machine(spec("web-1"), progress()).await.expect("there is room");
    let metadata = made.metadata.clone().expect("it is ours");
    assert_eq!((metadata.phase, metadata.role, metadata.generation), (Phase::Ready, Role::Member, 7));
    assert_eq!((metadata.pool.as_deref(), made.state), (Some("web"), MachineState::Running));
    let again = hypervisor.clone_machine(spec("web-1"), progress()).await.expect("it is there");
    assert_eq!(again.id, made.id, "asking again makes no second one");
    let (second, third) =
        tokio::join!(hypervisor.clone_machine(spec("web-2"), progress()), hypervisor.clone_machine(spec("web-3"), progress()));
    let (second, third) = (second.expect("there is room"), third.expect("there is room"));
    assert!(second.id != third.id && second.mac != third.mac && second.mac != made.mac, "each has an identity of its own");

    act("web-1", Verb::Suspend).await.expect("it runs");
    assert_eq!(state("web-1"), Some(MachineState::Paused));
    act("web-1", Verb::Suspend).await.expect("it is so already");
    act("web-1", Verb::Resume).await.expect("it is frozen");
    assert_eq!(state("web-1"), Some(MachineState::Running));
    act("web-1", Verb::Reset).await.expect("it runs");
    act("web-1", Verb::Stop).await.expect("it runs");
    assert_eq!(state("web-1"), Some(MachineState::Off));
    act("web-1", Verb::Start).await.expect("it is off");
    assert_eq!(state("web-1"), Some(MachineState::Running));
    act("web-1", Verb::Shutdown { timeout: Duration::ZERO, force: true }).await.expect("it is forced");
    assert_eq!(state("web-1"), Some(MachineState::Off));

    let foreign = hypervisor.clone_machine(spec("web-foreign"), progress()).await;
    assert!(matches!(foreign, Err(HypervisorError::Conflict(_))), "{foreign:?}");
    for verb in [Verb::Stop, Verb::Delete, Verb::Start] {
        let refused = act("web-foreign", verb).await;
        assert!(matches!(refused, Err(HypervisorError::Conflict(_))), "{refused:?}");
    }
    assert!(matches!(act("nobody", Verb::Stop).await, Err(HypervisorError::NotFound(_))));
    assert!(matches!(hypervisor.clone_machine(CloneSpec::new("none".into()), progress()).await, Err(HypervisorError::NotFound(_))));

    let base = metadata.base.clone().expect("it is linked");
    let refused = hypervisor.remove_base(&base).await.expect_err("clones lie on it");
    assert!(refused.to_string().contains("web-2"), "{refused}");
    for name in ["web-1", "web-2", "web-3"] {
        act(name, Verb::Delete).await.expect("it is ours");
        assert_eq!(state(name), None);
    }
    assert!(matches!(act("web-1", Verb::Delete).await, Err(HypervisorError::NotFound(_))));
    assert_eq!(hypervisor.collect_garbage(true).await.expect("all hosts answer"), []);
    hypervisor.remove_base(&base).await.expect("nobody lies on it");
    pool_of_slots(hypervisor).await;
    hypervisor.remove_base(&base).await.expect("nobody lies on it");
    assert_eq!(ours(hypervisor).len(), 0);
    assert!(state("web-foreign").is_some(), "what is foreign is left alone");
}

/// What somebody who scales a pool asks for: members by their slots, of generations, out and in again.
async fn pool_of_slots(hypervisor: &dyn Hypervisor) {
    let wish =
        |slot, generation| CloneSpec { name: Some(MachineName::of_slot("web", slot)), slot: Some(slot), generation, ..spec("unnamed") };
    let before = hypervisor.room(&"web".into()).expect("the template is there");
    assert!(before.iter().all(|room| room.more > 0 && !room.why.is_empty()), "{before:?}");
    let (one, two) =
        tokio::join!(hypervisor.clone_machine(wish(1, 5), Progress::default()), hypervisor.clone_machine(wish(2, 5), Progress::default()));
    let (one, two) = (one.expect("there is room"), two.expect("there is room"));
    let metadata = one.metadata.clone().expect("it is ours");
    assert_eq!((metadata.slot, metadata.generation, one.name.as_str(), two.name.as_str()), (Some(1), 5, "web-1", "web-2"));
    assert!(one.since.is_some_and(|since| since > 1_700_000_000));
    let late = hypervisor.clone_machine(wish(1, 4), Progress::default()).await;
    assert!(matches!(late, Err(HypervisorError::Conflict(_))), "{late:?}");
    let other_pool = CloneSpec { pool: Some("other".into()), ..wish(1, 6) };
    assert!(matches!(hypervisor.clone_machine(other_pool, Progress::default()).await, Err(HypervisorError::Conflict(_))));
    let warm = CloneSpec { warm: WarmUse::Only, ..wish(3, 6) };
    assert!(matches!(hypervisor.clone_machine(warm, Progress::default()).await, Err(HypervisorError::NotFound(_))));
    let label = |generation, value: Option<&str>| {
        let labels = [("weir-leaving".to_owned(), value.map(str::to_owned))].into();
        hypervisor.label("web-1", generation, labels)
    };
    let labels =
        || ours(hypervisor).into_iter().find(|machine| machine.name == "web-1").and_then(|machine| Some(machine.metadata?.labels.clone()));
    label(5, Some("17")).await.expect("it is ours");
    assert_eq!(labels().and_then(|labels| labels.get("weir-leaving").cloned()).as_deref(), Some("17"));
    assert!(matches!(label(4, None).await, Err(HypervisorError::Conflict(_))), "a late one is refused");
    assert!(matches!(label(5, Some("a b")).await, Err(HypervisorError::Conflict(_))));
    label(5, None).await.expect("it is ours");
    assert_eq!(labels().map(|labels| labels.len()), Some(0));
    let retire = |name: &str, generation| hypervisor.retire(name, generation, Duration::from_millis(500), Progress::default());
    assert!(matches!(retire("web-1", 4).await, Err(HypervisorError::Conflict(_))));
    for _ in 0..2 {
        retire("web-1", 5).await.expect("it is ours, or gone");
    }
    retire("web-2", 9).await.expect("it is ours");
    assert_eq!(ours(hypervisor).len(), 0);
    let host = hypervisor.hosts()[0].name.clone();
    until("the host's points", || hypervisor.host_points(&host).len() >= 2).await;
    assert_eq!(hypervisor.host_points("nowhere"), []);
}
