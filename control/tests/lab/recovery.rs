//! Guests fall ill in every way that a recovery list knows; each is healed by the first attempt that can heal it, the traffic avoids it meanwhile,
//! and one mail tells the story.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::Load;
use serde_json::Value;

use crate::fleet::{BOOTS, Node, Site, settled, until};

/// Until the last attempt of all has healed, each before it having been waited for.
const HEALED: Duration = Duration::from_secs(700);

/// A way to fall ill, and the first attempt that can heal it.
struct Fault {
    name: &'static str,
    begin: fn(&Site, &str, Ipv4Addr),
    healed_by: &'static str,
}

fn page(address: Ipv4Addr, path: &str) {
    // What ends the server may end it before it has answered.
    let _ = lab::http_get(address, path, Duration::from_secs(30));
}

/// A real mail server, which ends with this value. Each mail is a file.
struct Mail {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Mail {
    fn start(site: &Site) -> Mail {
        let folder = site.path("mails");
        std::fs::create_dir(&folder).expect("a folder");
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/../notify/tests/mail_server.py");
        let mut command = Command::new("/usr/bin/python3");
        let spawned = command.args([server, "plain"]).arg(&folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("Debian's python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it prints its port");
        Mail { child, port: line.trim().parse().expect("a port: is python3-aiosmtpd installed?"), folder }
    }

    /// Subject and text of each mail, as a mail program reads them.
    fn received(&self) -> Vec<(String, String)> {
        let read = "import sys, json, email, email.policy\n\
                    mails = [email.message_from_binary_file(open(name, 'rb'), policy=email.policy.default) for name in sys.argv[1:]]\n\
                    print(json.dumps([[mail['subject'], mail.get_body(('plain',)).get_content()] for mail in mails]))";
        let files = (1..).map(|number| self.folder.join(format!("{number}.eml"))).take_while(|file| file.exists());
        let output = Command::new("/usr/bin/python3").args(["-c", read]).args(files).output().expect("Debian's python3 runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const FAULTS: [Fault; 6] = [
    Fault { name: "process dead", begin: |_, _, address| page(address, "/fault/exit"), healed_by: "reboot" },
    Fault { name: "server frozen", begin: |_, _, address| page(address, "/fault/hang"), healed_by: "reboot" },
    // The kernel does not listen any more.
    Fault { name: "kernel dead", begin: |_, _, address| page(address, "/fault/panic"), healed_by: "reset" },
    // The guest has no memory left for what a reboot would begin.
    Fault { name: "memory full", begin: |_, _, address| page(address, "/fault/memory"), healed_by: "reset" },
    // The cable is back with the machine's definition, which a reset does not read again.
    Fault {
        name: "network cut",
        begin: |site, machine, _| {
            let cards = site.host().virsh(&["domiflist", machine]).expect("it runs");
            let mac = cards.split_whitespace().find(|word| word.matches(':').count() == 5).expect("it has a card").to_owned();
            site.host().virsh(&["domif-setlink", machine, &mac, "down"]).expect("libvirt can");
        },
        healed_by: "restart",
    },
    // What is on its disk survives everything but the disk.
    Fault { name: "disk full", begin: |_, _, address| page(address, "/fault/disk"), healed_by: "replace" },
];

#[test]
fn each_illness_is_healed_by_the_first_attempt_that_can() {
    let site = Site::new(&[]);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 18081));
    let mail = Mail::start(&site);
    let body = format!(
        "[listener.web]\nbind = \"{listen}\"\npool = \"web\"\n\
         [pool.web]\nmin_healthy = 1\nlimits.retries_max = 3\ntimeouts.first_byte = \"3s\"\ntimeouts.connect = \"1s\"\n\
         [pool.web.health]\ntype = \"http\"\npath = \"/mark?value=1\"\nexpect = 200\ninterval = \"1s\"\ntimeout = \"1s\"\nrise = 1\nfall = 3\n\
         [pool.web.scaling]\ntemplate = \"web\"\nmin = 2\nmax = 3\nwarm_up = \"0s\"\nunhealthy_grace = \"1s\"\nshutdown_timeout = \"5s\"\ndrain_timeout = \"1s\"\n\
         replace_max = 100\n\
         [recovery.web]\ntemplate = \"web\"\nafter = \"1s\"\nstable = \"1s\"\n\
         [[recovery.web.attempt]]\naction = \"reboot\"\nlimit = \"20s\"\nwait = \"75s\"\n\
         [[recovery.web.attempt]]\naction = \"reset\"\nlimit = \"20s\"\nwait = \"75s\"\n\
         [[recovery.web.attempt]]\naction = \"restart\"\nlimit = \"40s\"\nwait = \"75s\"\n\
         [[recovery.web.attempt]]\naction = \"replace\"\nlimit = \"4m\"\nwait = \"75s\"\n\
         [notify.mail.email]\nsmtp = \"smtp://127.0.0.1:{}\"\nstarttls = \"none\"\nfrom = \"weir@example.com\"\nto = [\"ops@example.com\"]\n\
         [[notify_rule]]\nmatch = [\"alarm=endpoint-down\"]\nnotify = \"mail\"\n{}",
        mail.port,
        // A kernel that has failed stays so.
        site.machines().replace("panic=-1", "panic=0")
    );
    let node = Node::start(&site, "lb-a", Ipv4Addr::LOCALHOST, &body, |program| Command::new(program));
    until("two machines", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 2)).map(drop));
    let load = Load::start(listen, 5);
    for fault in FAULTS {
        let mut serving = Default::default();
        until("two machines", BOOTS, || node.scaling().and_then(|scaling| settled(&scaling, 2)).map(|found| serving = found));
        until("no case", BOOTS, || {
            let recovery = node.get("/v1/recovery/web")?;
            if recovery["cases"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(recovery.to_string()) }
        });
        let machine = serving.first().expect("two serve").clone();
        let machines = node.get("/v1/machines").expect("it answers");
        let view = machines.as_array().into_iter().flatten().find(|view| view["name"] == *machine).expect("it is there");
        let address: Ipv4Addr = view["address"].as_str().and_then(|text| text.parse().ok()).expect("it has an address");
        let before = mail.received().len();
        let began = Instant::now();
        (fault.begin)(&site, &machine, address);
        let mut healed = Value::Null;
        until(&format!("{}: it is healed", fault.name), HEALED, || {
            let events = node.events();
            let tried = events.iter().filter(|event| event["event"] == "recovery_tried" && event["outcome"] == "healed");
            let of_it = tried.rev().find(|event| event["thing"] == format!("machine {machine}"));
            healed = of_it
                .filter(|_| mail.received().len() > before)
                .cloned()
                .ok_or_else(|| node.get("/v1/recovery/web").unwrap_or_default().to_string())?;
            Ok(())
        });
        eprintln!("{}: {} in {:?}", fault.name, healed["action"], began.elapsed());
        assert_eq!(healed["action"], format!("{} of {machine}", fault.healed_by), "{}", fault.name);
        let mails = mail.received();
        let (subject, text) = &mails[before];
        assert_eq!((mails.len() - before, subject.starts_with("[resolved] ")), (1, true), "{}: one mail: {mails:?}", fault.name);
        assert!(text.contains(&format!("{} of {machine}: healed after", fault.healed_by)), "{}: {text}", fault.name);
        let steps = ["reboot", "reset", "restart", "replace"];
        let earlier = steps.iter().take_while(|step| **step != fault.healed_by);
        for step in earlier {
            assert!(text.contains(&format!("{step} of {machine}: ")), "{}: {step} came before: {text}", fault.name);
        }
    }
    let failures = load.failures();
    let done = load.stop();
    assert_eq!(failures, Vec::<String>::new(), "of {done} requests: the traffic avoids what is ill");
    assert!(done > 100, "{done} requests prove nothing");
}
