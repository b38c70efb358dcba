//! Bases: where their content comes from, and how it gets to a host.
//!
//! ```text
//!   image file ─────────────────────────┐
//!                                       ├─► digest ─► base NAME-NNNN-DIGEST ─► on the host already, with its seal? ─► clone
//!   master's disk ─► copied to this node┘                                           │ no
//!                                                        piece by piece, each read back and compared, then the seal ◄┘
//! ```
//!
//! A base is named by its content, so that the same content is the same base on every host and after every crash; a new content is a new
//! base with the next number, and clones of the old one go on with theirs. The volume alone says nothing: only with its seal, written last,
//! is it whole. A copy that broke off is continued where the pieces stop to agree. A sealed base is never written to again: its file is
//! read-only for everyone but root, and clones only ever open it as a backing file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::info;
use weir_config::{Template, TemplateName, TemplateSource};

use crate::domain::{Facts, plain_volume};
use crate::error::HypervisorError;
use crate::event::RoomEvent;
use crate::fleet::Shared;
use crate::host::{Found, Host};
use crate::memo::{BaseFact, FileFact};
use crate::names::BaseName;
use crate::protocol::{Answer, Request, VolumeInfo};
use crate::spec::Progress;
use crate::view::MachineState;
use crate::xml::Element;

/// Bytes of one piece: long enough to be efficient, short enough that a slow link moves one within [`PIECE_TIME_MAX`].
const PIECE_BYTES: u64 = 32 << 20;

/// How long one piece may take.
const PIECE_TIME_MAX: Duration = Duration::from_secs(120);

/// What a template is made of, now.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) base: BaseName,
    /// The content on this node; `None`: it is only on hosts that have the base already.
    file: Option<PathBuf>,
    /// What the file was when its digest was made; `None`: nobody but us changes it.
    stamp: Option<String>,
    /// Bytes of a disk of it; 0: not known here.
    pub(crate) capacity: u64,
    /// `qcow2` or `raw`.
    pub(crate) format: &'static str,
    /// The master's definition.
    pub(crate) master: Option<(Arc<Element>, Facts)>,
}

fn wrong(template: &TemplateName, why: impl Into<String>) -> HypervisorError {
    HypervisorError::Template { template: template.clone(), why: why.into() }
}

/// Finds out what a template is made of. Reads the whole image only where it has changed.
pub(crate) async fn source(shared: &Arc<Shared>, template: &Arc<Template>, progress: &Progress) -> Result<Source, HypervisorError> {
    // One at a time, so that ten clones do not read the same image ten times.
    let _one = shared.sources.lock().await;
    match &template.source {
        TemplateSource::Image(path) => {
            let Content { sha256, stamp, capacity, format } = read_image(shared, template, path, progress).await?;
            if let Some(wanted) = template.checksum {
                let wanted = hex(&wanted);
                if wanted != sha256 {
                    let path = path.display();
                    return Err(wrong(
                        &template.name,
                        format!(
                            "{path} has the checksum sha256:{sha256}, not sha256:{wanted}; fetch the image again, or correct `checksum`"
                        ),
                    ));
                }
            }
            let base = name(shared, template, &sha256, "").await;
            Ok(Source { base, file: Some(path.clone()), stamp: Some(stamp), capacity, format, master: None })
        }
        TemplateSource::Master(master) => of_master(shared, template, master, progress).await,
    }
}

/// What an image file holds.
struct Content {
    sha256: String,
    stamp: String,
    /// Bytes of the disk.
    capacity: u64,
    format: &'static str,
}

/// While it stays the same, so does a file.
fn stamp(metadata: &fs::Metadata) -> String {
    format!("{} {}.{} {}", metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino())
}

async fn read_image(shared: &Arc<Shared>, template: &Arc<Template>, path: &Path, progress: &Progress) -> Result<Content, HypervisorError> {
    let (shared, name, path, progress) = (shared.clone(), template.name.clone(), path.to_owned(), progress.clone());
    let local = move |error: io::Error, path: &Path| wrong(&name, format!("{}: {error}", path.display()));
    let work = move || {
        let file = File::open(&path).map_err(|error| local(error, &path))?;
        let metadata = file.metadata().map_err(|error| local(error, &path))?;
        let (capacity, format) = disk_of(&file, metadata.len()).map_err(|error| local(error, &path))?;
        let stamp = stamp(&metadata);
        let key = path.display().to_string();
        let known = shared.memo.read(|facts| facts.files.get(&key).filter(|fact| fact.stamp == stamp).map(|fact| fact.sha256.clone()));
        let sha256 = match known {
            Some(sha256) => sha256,
            None => {
                progress.step(format!("reading {key}"));
                let sha256 = digest(file, metadata.len(), &progress).map_err(|error| local(error, &path))?;
                let fact = FileFact { stamp: stamp.clone(), sha256: sha256.clone() };
                shared.memo.change(|facts| _ = facts.files.insert(key, fact));
                sha256
            }
        };
        Ok(Content { sha256, stamp, capacity, format })
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| HypervisorError::Local(error.to_string()))?
}

/// Size and format of the disk in a file. A qcow2 that lies on another file would not be whole without it.
fn disk_of(file: &File, length: u64) -> io::Result<(u64, &'static str)> {
    let mut head = [0; 32];
    if length < 32 || file.read_exact_at(&mut head, 0).is_err() || &head[..4] != b"QFI\xfb" {
        return match length {
            0 => Err(io::Error::other("the image is empty")),
            length => Ok((length, "raw")),
        };
    }
    let number = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    if number(8) != 0 {
        return Err(io::Error::other("the image lies on another one; make it whole: qemu-img convert -O qcow2 OLD NEW"));
    }
    Ok((number(24), "qcow2"))
}

fn digest(mut file: impl io::Read, length: u64, progress: &Progress) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            read => {
                digest.update(&buffer[..read]);
                done += read as u64;
                progress.bytes(done, length);
            }
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The base with this content: one that exists, or the next number.
async fn name(shared: &Arc<Shared>, template: &Template, sha256: &str, revision: &str) -> BaseName {
    let digest = sha256[..12].to_owned();
    let key = template.name.to_string();
    let known = shared.memo.read(|facts| facts.bases.get(&key).cloned());
    let known_number = known.as_ref().filter(|fact| fact.sha256 == sha256).map(|fact| fact.number);
    let number = match known_number {
        Some(number) => number,
        None => {
            let mut last = known.map_or(0, |fact| fact.number);
            let mut same = None;
            for host in shared.hosts().iter().filter(|host| host.is_up()) {
                let bases = bases_on(host).await.unwrap_or_default();
                for base in bases.into_iter().filter(|base| base.template == template.name) {
                    last = last.max(base.number);
                    if base.digest == digest {
                        same = Some(base.number);
                    }
                }
            }
            same.unwrap_or(last + 1)
        }
    };
    let fact = BaseFact { number, sha256: sha256.into(), revision: revision.into() };
    shared.memo.change(|facts| _ = facts.bases.insert(key, fact));
    BaseName { template: template.name.clone(), number, digest }
}

/// Bases on a host, whole or not, each once.
pub(crate) async fn bases_on(host: &Host) -> Result<Vec<BaseName>, HypervisorError> {
    let Answer::Names(names) = host.call(Request::Volumes { storage: host.config().storage_pool.clone() }).await? else {
        return Ok(Vec::new());
    };
    let mut bases: Vec<_> = names.iter().filter_map(|name| BaseName::of_volume(name)).collect();
    bases.sort();
    bases.dedup();
    Ok(bases)
}

/// The master's disk, copied to this node where it has changed.
async fn of_master(shared: &Arc<Shared>, template: &Arc<Template>, master: &str, progress: &Progress) -> Result<Source, HypervisorError> {
    let found =
        shared.hosts().into_iter().find_map(|host| Some((host.clone(), host.found().into_iter().find(|found| found.name == master)?)));
    let Some((host, found)) = found else {
        let silent: Vec<_> = shared.hosts().iter().filter(|host| !host.is_up()).map(|host| host.name.to_string()).collect();
        let silent = if silent.is_empty() { String::new() } else { format!(" ({} cannot be asked)", silent.join(", ")) };
        return Err(wrong(&template.name, format!("there is no machine {master:?} on any host{silent}; define it, or correct `master`")));
    };
    let Some((disk, _)) = found.definition.facts.main_disk.clone() else {
        return Err(wrong(&template.name, format!("the master {master} on {} has no disk that is a file", host.name)));
    };
    let Answer::Volume(volume) = host.call(Request::VolumeAt { path: disk.clone() }).await? else {
        return Err(wrong(&template.name, "the master's disk cannot be read"));
    };
    let Some(volume) = volume else {
        let pool = disk.rsplit_once('/').map_or("/", |(folder, _)| folder);
        return Err(wrong(
            &template.name,
            format!(
                "the master's disk {disk} on {} is in no storage pool; add one: virsh pool-define-as masters dir --target {pool}",
                host.name
            ),
        ));
    };
    let master = Some((found.definition.xml.clone(), found.definition.facts.clone()));
    let format = if volume.format == "qcow2" { "qcow2" } else { "raw" };
    let revision = format!("{} {} {}", found.id, volume.physical, volume.modified);
    let known = shared.memo.read(|facts| facts.bases.get(&template.name.to_string()).cloned());
    let last = known.clone().map(|fact| {
        let base = BaseName { template: template.name.clone(), number: fact.number, digest: fact.sha256[..12].into() };
        let file = kept_copy(shared, &base);
        Source { file: file.exists().then_some(file), stamp: None, capacity: volume.capacity, format, master: master.clone(), base }
    });
    let is_off = matches!(found.state, MachineState::Off | MachineState::Crashed);
    match last {
        Some(source) if !is_off || known.is_some_and(|fact| fact.revision == revision) => Ok(source),
        _ if !is_off => {
            let name = &found.name;
            Err(wrong(
                &template.name,
                format!(
                    "the master {name} on {} is {}; shut it down once, so that its disk can be read whole",
                    host.name,
                    found.state.word()
                ),
            ))
        }
        _ => {
            let sha256 = copy_here(shared, &host, template, &found, &disk, &volume, progress).await?;
            let base = name(shared, template, &sha256, &revision).await;
            let kept = kept_copy(shared, &base);
            let draft = draft(shared, &template.name);
            fs::rename(&draft, &kept).map_err(|error| HypervisorError::Local(format!("{}: {error}", kept.display())))?;
            Ok(Source { base, file: Some(kept), stamp: None, capacity: volume.capacity, format, master })
        }
    }
}

/// An earlier base of the same template, for as long as a host has it. Of the same kind as the content now: only that tells how to read it.
pub(crate) async fn earlier(shared: &Arc<Shared>, now: Source, base: &str) -> Result<Source, HypervisorError> {
    let template = now.base.template.clone();
    let name: BaseName = base.parse().map_err(|()| wrong(&template, format!("{base} is not the name of a base")))?;
    if name.template != template {
        return Err(wrong(&template, format!("{name} is a base of template {}", name.template)));
    }
    for host in shared.hosts().iter().filter(|host| host.is_up()) {
        if is_sealed(host, &name).await? {
            let file = kept_copy(shared, &name);
            return Ok(Source { file: file.exists().then_some(file), base: name, ..now });
        }
    }
    Err(wrong(&template, format!("no host has {name} any more; restore that content in the template and refresh again")))
}

fn kept_copy(shared: &Shared, base: &BaseName) -> PathBuf {
    shared.images.join(base.volume())
}

fn draft(shared: &Shared, template: &TemplateName) -> PathBuf {
    shared.images.join(format!("{template}.part"))
}

/// Copies a master's disk to this node; returns its digest.
async fn copy_here(
    shared: &Arc<Shared>,
    host: &Host,
    template: &Template,
    found: &Found,
    disk: &str,
    volume: &VolumeInfo,
    progress: &Progress,
) -> Result<String, HypervisorError> {
    let draft = draft(shared, &template.name);
    let local = |error: io::Error| HypervisorError::Local(format!("{}: {error}", draft.display()));
    fs::create_dir_all(&shared.images).map_err(local)?;
    File::create(&draft).map_err(local)?;
    progress.step(format!("copying the disk of {} from {}", found.name, host.name));
    let mut at = 0;
    while at < volume.physical {
        let length = PIECE_BYTES.min(volume.physical - at);
        let path = draft.display().to_string();
        host.call_within(Request::Download { source: disk.into(), path, offset: at, length }, PIECE_TIME_MAX).await?;
        at += length;
        progress.bytes(at, volume.physical);
    }
    let now = host.call(Request::VolumeAt { path: disk.into() }).await?;
    if !matches!(&now, Answer::Volume(Some(now)) if now.modified == volume.modified && now.physical == volume.physical) {
        return Err(wrong(&template.name, format!("the disk of {} changed while it was read; try again when it is off", found.name)));
    }
    let (read, progress) = (draft.clone(), progress.clone());
    let work = move || {
        let file = File::open(&read)?;
        let length = file.metadata()?.len();
        disk_of(&file, length)?;
        digest(file, length, &progress)
    };
    let outcome = tokio::task::spawn_blocking(work).await.map_err(|error| HypervisorError::Local(error.to_string()))?;
    outcome.map_err(|error| wrong(&template.name, format!("the disk of {}: {error}", found.name)))
}

/// The base's file on this host, brought there first where it is missing.
pub(crate) async fn bring(shared: &Arc<Shared>, host: &Arc<Host>, source: &Source, progress: &Progress) -> Result<String, HypervisorError> {
    let storage = host.storage().map_err(|why| wrong(&source.base.template, format!("{}: {why}", host.name)))?;
    let path = format!("{}/{}", storage.path, source.base.volume());
    if shared.knows_base(&host.name, &source.base) {
        return Ok(path);
    }
    // The first brings it, the others wait for it.
    let _one = host.bringing.lock().await;
    if !shared.knows_base(&host.name, &source.base) {
        if !is_sealed(host, &source.base).await? {
            let began = Instant::now();
            let outcome = copy(host, source, progress).await;
            shared.events.tell(copied(host, source, &outcome, began));
            outcome?;
        }
        shared.learn_base(&host.name, &source.base);
    }
    Ok(path)
}

fn copied(host: &Host, source: &Source, outcome: &Result<Copied, HypervisorError>, began: Instant) -> RoomEvent {
    let (template, base, host) = (source.base.template.to_string(), source.base.to_string(), host.name.to_string());
    match outcome {
        Ok(Copied { bytes, resumed_bytes }) => RoomEvent::BaseCopied {
            template,
            base,
            host,
            bytes: *bytes,
            resumed_bytes: *resumed_bytes,
            seconds: began.elapsed().as_secs_f64(),
        },
        Err(error) => RoomEvent::BaseNotCopied { template, base, host, why: error.chain() },
    }
}

/// Whether the base is whole there. All volumes are asked for, because then libvirt looks into the folder, and not only into what it remembers.
pub(crate) async fn is_sealed(host: &Host, base: &BaseName) -> Result<bool, HypervisorError> {
    let Answer::Names(names) = host.call(Request::Volumes { storage: host.config().storage_pool.clone() }).await? else { return Ok(false) };
    Ok([base.seal(), base.volume()].iter().all(|volume| names.contains(volume)))
}

/// A copy that is whole.
struct Copied {
    bytes: u64,
    resumed_bytes: u64,
}

async fn copy(host: &Host, source: &Source, progress: &Progress) -> Result<Copied, HypervisorError> {
    let base = &source.base;
    let Some(file) = &source.file else {
        return Err(wrong(
            &base.template,
            format!("{} has no copy of {base}, and neither has this node; shut the master down once", host.name),
        ));
    };
    let local = |error: io::Error| wrong(&base.template, format!("{}: {error}", file.display()));
    let changed = || wrong(&base.template, format!("{} changed while it was read; try again", file.display()));
    let metadata = fs::metadata(file).map_err(local)?;
    let before = stamp(&metadata);
    if source.stamp.as_ref().is_some_and(|read| *read != before) {
        return Err(changed());
    }
    let (length, storage, volume) = (metadata.len(), host.config().storage_pool.clone(), base.volume());
    progress.step(format!("copying {base} to {}", host.name));
    let there = host.call(Request::Volume { storage: storage.clone(), volume: volume.clone() }).await?;
    let mut resumed_bytes = 0;
    let mut resumed = matches!(there, Answer::Volume(Some(_)));
    if !resumed {
        let xml = plain_volume(&volume, length, "0444").to_string();
        host.call(Request::CreateVolume { storage: storage.clone(), volume: volume.clone(), xml, content_of: None, fresh: false }).await?;
    }
    info!(host = %host.name, %base, bytes = length, resumed, "copying a base");
    let path = file.display().to_string();
    let mut at = 0;
    while at < length {
        let piece = PIECE_BYTES.min(length - at);
        let read_back = || Request::Digest { storage: storage.clone(), volume: volume.clone(), offset: at, length: piece };
        // A copy that broke off is good up to where it broke off.
        let is_there = resumed && {
            let there = host.call_within(read_back(), PIECE_TIME_MAX).await;
            there.is_ok_and(|there| there == Answer::Text(digest_of_piece(file, at, piece).unwrap_or_default()))
        };
        resumed = is_there;
        if is_there {
            resumed_bytes += piece;
        } else {
            let request =
                Request::Upload { storage: storage.clone(), volume: volume.clone(), path: path.clone(), offset: at, length: piece };
            let sent = host.call_within(request, PIECE_TIME_MAX).await?;
            if host.call_within(read_back(), PIECE_TIME_MAX).await? != sent {
                return Err(wrong(
                    &base.template,
                    format!("{} does not read back what was written to {base}: look at its disk", host.name),
                ));
            }
        }
        at += piece;
        progress.bytes(at, length);
    }
    if stamp(&fs::metadata(file).map_err(local)?) != before {
        host.call(Request::DeleteVolume { storage, volume }).await?;
        return Err(changed());
    }
    let seal = format!("{base} {length}\n").into_bytes();
    let xml = plain_volume(&base.seal(), seal.len() as u64, "0444").to_string();
    host.call(Request::CreateVolume { storage: storage.clone(), volume: base.seal(), xml, content_of: None, fresh: false }).await?;
    host.call_with(Request::Write { storage, volume: base.seal() }, seal, host.config().timeout).await?;
    Ok(Copied { bytes: length, resumed_bytes })
}

fn digest_of_piece(file: &Path, offset: u64, length: u64) -> io::Result<String> {
    let file = File::open(file)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = offset;
    while at < offset + length {
        let wanted = buffer.len().min(usize::try_from(offset + length - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..wanted], at)?;
        digest.update(&buffer[..wanted]);
        at += wanted as u64;
    }
    Ok(hex(&digest.finalize()))
}
