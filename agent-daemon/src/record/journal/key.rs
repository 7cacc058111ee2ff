//! The journal's key: made at the first start, kept for root alone, its public half for everybody.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{
    Signature, Signer as _, SigningKey, VerifyingKey,
    pkcs8::{
        DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
        spki::der::pem::LineEnding,
    },
};
use sha2::{Digest as _, Sha256};

use super::anew::anew;

/// What signs, and the journal's id.
pub struct Key {
    secret: SigningKey,
    /// 32 hexadecimal digits, made with the key.
    pub journal: String,
    /// The public key's id.
    pub id: String,
}

/// What a signature is checked with.
#[derive(Clone, Debug)]
pub struct PublicKey {
    key: VerifyingKey,
    pub id: String,
}

impl Key {
    /// The key in this directory; made where there is none.
    ///
    /// # Errors
    /// When it cannot be read or made, or is no Ed25519 key: to make another one then would end the journal.
    pub fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let (secret, id) = (dir.join(SECRET), dir.join(JOURNAL));
        let there = match fs::symlink_metadata(&secret) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            // It may be there.
            Err(error) => return Err(error),
        };
        if !there {
            let mut journal = [0; 16];
            getrandom::fill(&mut journal).map_err(io::Error::other)?;
            let journal: String = journal.iter().map(|byte| format!("{byte:02x}")).collect();
            write(&id, journal.as_bytes(), 0o644)?;
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(io::Error::other)?;
            let pem = SigningKey::from_bytes(&seed).to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
            write(&secret, pem.as_bytes(), 0o600)?;
        }
        let pem = fs::read_to_string(&secret)?;
        let secret = SigningKey::from_pkcs8_pem(&pem)
            .map_err(|error| io::Error::other(format!("{}: {error}", secret.display())))?;
        let public = secret.verifying_key().to_public_key_pem(LineEnding::LF).map_err(io::Error::other)?;
        if fs::read_to_string(public_key(dir)).ok().as_deref() != Some(&public) {
            write(&public_key(dir), public.as_bytes(), 0o644)?;
        }
        let journal = fs::read_to_string(&id)?.trim().to_owned();
        Ok(Self { id: id_of(&secret.verifying_key()), secret, journal })
    }

    /// The signature of a text, base64.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        Base64::encode_string(&self.secret.sign(text.as_bytes()).to_bytes())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("journal", &self.journal).field("id", &self.id).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// From PEM, as [`public_key`] holds it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let key = VerifyingKey::from_public_key_pem(pem)
            .map_err(|error| format!("no Ed25519 public key: {error}"))?;
        Ok(Self { id: id_of(&key), key })
    }

    /// Whether the signature (base64) is this key's, of this text.
    #[must_use]
    pub fn has_signed(&self, text: &str, signature: &str) -> bool {
        let Ok(bytes) = Base64::decode_vec(signature) else { return false };
        let Ok(signature) = Signature::from_slice(&bytes) else { return false };
        self.key.verify_strict(text.as_bytes(), &signature).is_ok()
    }
}

/// Where the key of a daemon lies.
#[must_use]
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("journal")
}

/// The file of its public half.
#[must_use]
pub fn public_key(dir: &Path) -> PathBuf {
    dir.join("public.pem")
}

/// Writes a whole file, or none.
fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let made = path.with_extension("new");
    let mut file = anew(&made, mode)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&made, path)?;
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

fn id_of(key: &VerifyingKey) -> String {
    Sha256::digest(key.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

const SECRET: &str = "key.pem";
const JOURNAL: &str = "id";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("state/journal");
        let (first, again) = (Key::open(&dir).unwrap(), Key::open(&dir).unwrap());
        assert_eq!((&first.id, &first.journal, first.journal.len()), (&again.id, &again.journal, 32));
        assert_eq!(fs::metadata(dir.join(SECRET)).unwrap().permissions().mode() & 0o777, 0o600);
        let public = PublicKey::parse(&fs::read_to_string(public_key(&dir)).unwrap()).unwrap();
        assert_eq!(public.id, first.id);
        assert!(public.has_signed("text", &again.sign("text")));
        assert!(!public.has_signed("texts", &again.sign("text")));
        assert!(!public.has_signed("text", "rubbish"));
    }

    #[test]
    fn a_key_that_cannot_be_read_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        // On a disk that is not there yet.
        std::os::unix::fs::symlink("/nowhere/key.pem", dir.path().join(SECRET)).unwrap();
        assert!(Key::open(dir.path()).is_err());
        fs::remove_file(dir.path().join(SECRET)).unwrap();
        Key::open(dir.path()).unwrap();
        fs::write(dir.path().join(SECRET), "rubbish").unwrap();
        assert!(Key::open(dir.path()).is_err());
        assert_eq!(fs::read_to_string(dir.path().join(SECRET)).unwrap(), "rubbish");
    }
}
