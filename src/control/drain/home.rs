//! The data folder: its lock, its identity, the signing key, and the pointer to the rings.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::DrainError;
use super::files::sync_dir;
use crate::record::proof::key_id;
use crate::record::tree::Digest;

const RINGS: &str = "rings";
const LOCK: &str = "lock";
const LOCK_TRIES: u32 = 5;

/// A data folder that this process owns until the drop.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) dir: PathBuf,
    lock: File,
    /// Names the rings of this folder where several share a `ring_dir`.
    pub(super) id: String,
    pub(super) pair: Ed25519KeyPair,
    pub(super) key: Digest,
}

impl Drop for Home {
    fn drop(&mut self) {
        // A close alone does not unlock while a child that is about to exec shares the descriptor.
        // A failure leaves it to the end of the process.
        let _ = self.lock.unlock();
    }
}

impl Home {
    /// Makes the folder where it is missing, takes the lock, reads or makes id and key.
    pub(super) fn open(dir: &Path) -> Result<Self, DrainError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| DrainError::io("make the data folder", dir, e))?;
        let path = dir.join(LOCK);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&path).map_err(|e| DrainError::io("open the lock", &path, e))?;
        // A look by `is_live` holds the lock for an instant; a gateway holds it on.
        for attempt in 1.. {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < LOCK_TRIES => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(DrainError::Locked(dir.to_owned())),
                Err(TryLockError::Error(e)) => return Err(DrainError::io("lock", &path, e)),
            }
        }
        let id = identity(dir).map_err(|e| DrainError::io("read the id of", dir, e))?;
        let (pair, key) = signing_key(&dir.join("keys"))?;
        Ok(Self { dir: dir.to_owned(), lock, id, pair, key })
    }

    pub(super) fn ring_path(&self, ring_dir: &Path, worker: u32) -> PathBuf {
        ring_dir.join(format!("weirgate-{}-w{worker:02}.ring", self.id))
    }

    /// Writes down where the rings are, before they are made.
    pub(super) fn point_to(&self, rings: &[PathBuf]) -> io::Result<()> {
        let mut text = String::new();
        for ring in rings {
            text.push_str(&ring.to_string_lossy());
            text.push('\n');
        }
        write_new(&self.dir.join(RINGS), text.as_bytes())
    }
}

/// Where the rings of a data folder are, whoever owns it.
#[must_use]
pub fn ring_paths(dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(dir.join(RINGS)).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect()
}

/// Whether a gateway owns the data folder at this moment.
#[must_use]
pub fn is_live(dir: &Path) -> bool {
    let Ok(lock) = File::open(dir.join(LOCK)) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The public keys that a data folder keeps (`keys/*.pub`).
#[must_use]
pub fn public_keys(dir: &Path) -> Vec<Digest> {
    let mut keys = Vec::new();
    for entry in std::fs::read_dir(dir.join("keys")).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|ext| ext == "pub") {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            keys.extend(parse_hex::<32>(text.trim()));
        }
    }
    keys
}

/// Reads a public key file: 64 hex digits.
#[must_use]
pub fn public_key(path: &Path) -> Option<Digest> {
    parse_hex(std::fs::read_to_string(path).ok()?.trim())
}

fn identity(dir: &Path) -> io::Result<String> {
    let path = dir.join("id");
    if let Ok(text) = std::fs::read_to_string(&path)
        && parse_hex::<8>(text.trim()).is_some()
    {
        return Ok(text.trim().to_owned());
    }
    let id = hex(&random::<8>()?);
    write_new(&path, id.as_bytes())?;
    Ok(id)
}

fn signing_key(dir: &Path) -> Result<(Ed25519KeyPair, Digest), DrainError> {
    let path = dir.join("record.key");
    let fail = |e| DrainError::io("make or read the signing key", &path, e);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    let document = match std::fs::read(&path) {
        Ok(bytes) => {
            let mode = std::fs::metadata(&path).map_err(fail)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(DrainError::KeyMode(path));
            }
            bytes
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            let made = made.map_err(|_| fail(io::Error::other("no randomness")))?;
            write_new(&path, made.as_ref()).map_err(fail)?;
            made.as_ref().to_vec()
        }
        Err(e) => return Err(fail(e)),
    };
    let pair = Ed25519KeyPair::from_pkcs8(&document);
    let pair = pair.map_err(|_| fail(io::Error::other("no Ed25519 key in PKCS#8")))?;
    let key: Digest = pair.public_key().as_ref().try_into().unwrap_or([0; 32]);
    // Named by the key, so that the public half outlives a change of the key.
    let public = dir.join(format!("{}.pub", hex(&key_id(&key))));
    if public_key(&public) != Some(key) {
        write_new(&public, format!("{}\n", hex(&key)).as_bytes()).map_err(fail)?;
    }
    Ok((pair, key))
}

/// Writes a small file whole or not at all.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|_| io::Error::other("no randomness")).map(|()| bytes)
}

/// The machine's boot id; zero where the kernel does not tell.
pub(super) fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    parse_hex(&text.trim().replace('-', "")).unwrap_or([0; 16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_reads_back_and_nonsense_does_not() {
        assert_eq!(parse_hex(&hex(&[0, 255, 16])), Some([0, 255, 16]));
        assert_eq!(parse_hex::<2>("12345"), None);
        assert_eq!(parse_hex::<2>("+234"), None);
    }
}
