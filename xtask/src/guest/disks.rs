//! What travels with a run: a tar disk into the guest, a tar disk back.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tar::{Archive, Builder, EntryType, Header};

use super::{Guest, Script, terminal};
use crate::product::Product;

/// Room for what comes back; the file is sparse.
const OUTPUT_BYTES_MAX: u64 = 512 << 20;
/// Where the guest's own programs and the script lie.
const HOME: &str = "usr/lib/guest";

/// Writes the product, the files, the script and the run's settings.
pub fn write_input(
    guest: &Guest,
    product: Option<&Product>,
    script: &Script,
    word: &str,
    to: &Path,
) -> Result<()> {
    let file = File::create(to).with_context(|| format!("make {}", to.display()))?;
    let mut archive = Builder::new(BufWriter::new(file));
    // The guest unpacks with busybox, which does not know GNU sparse entries.
    archive.sparse(false);
    for program in product.iter().flat_map(|product| product.programs()) {
        let name = program.file_name().context("a program has a name")?;
        add_path(&mut archive, program, &Path::new("usr/local/bin").join(name))?;
    }
    for (host, inside) in &guest.files {
        add_path(&mut archive, host, Path::new(inside.trim_start_matches('/')))?;
    }
    if let Some(program) = &script.program {
        add_bytes(&mut archive, &format!("{HOME}/script"), program)?;
    }
    add_bytes(&mut archive, &format!("{HOME}/settings"), settings(guest, script, word).as_bytes())?;
    archive.into_inner().and_then(|mut file| file.flush()).with_context(|| format!("write {}", to.display()))
}

/// Makes the empty disk that the guest writes its files to.
pub fn make_output(guest: &Guest, at: &Path) -> Result<()> {
    if guest.fetch.is_empty() {
        return Ok(());
    }
    let file = File::create(at).with_context(|| format!("make {}", at.display()))?;
    file.set_len(OUTPUT_BYTES_MAX).with_context(|| format!("size {}", at.display()))
}

/// Puts what came back where it was asked for.
pub fn unpack_output(guest: &Guest, from: &Path) -> Result<()> {
    for (inside, host) in &guest.fetch {
        let file = File::open(from).with_context(|| format!("read {}", from.display()))?;
        let mut archive = Archive::new(BufReader::new(file));
        let wanted = Path::new(inside.trim_start_matches('/'));
        let mut found = false;
        for entry in archive.entries().context("read what the guest sent")? {
            let mut entry = entry.context("read what the guest sent: is it more than 512 MB?")?;
            let path = entry.path()?.into_owned();
            let Ok(below) = path.strip_prefix(wanted) else { continue };
            let to = if below.as_os_str().is_empty() { host.clone() } else { host.join(below) };
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
            }
            entry.unpack(&to).with_context(|| format!("write {}", to.display()))?;
            found = true;
        }
        if !found {
            bail!("the guest has no {inside} to bring back");
        }
    }
    Ok(())
}

/// Settings of the run, read by the guest's shell scripts.
fn settings(guest: &Guest, script: &Script, word: &str) -> String {
    let init = if guest.systemd { "/sbin/init --unit=guest.target" } else { "/usr/lib/guest/init" };
    let mut text = format!("GUEST_INIT='{init}'\nGUEST_WORD={word}\n");
    if guest.shell {
        text += &terminal::settings();
    }
    if guest.agents {
        text += &format!("GUEST_AGENTS=/dev/{}\n", if guest.fetch.is_empty() { "vdd" } else { "vde" });
    }
    // busybox's shell, which reads this too, knows no arrays; it never gets to these lines.
    text += &format!("[ -n \"$BASH\" ] || return 0\nGUEST_ARGS=({})\n", quoted(&script.arguments));
    let fetch: Vec<String> =
        guest.fetch.iter().map(|(inside, _)| inside.trim_start_matches('/').to_owned()).collect();
    text + &format!("GUEST_FETCH=({})\n", quoted(&fetch))
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
}

fn add_path<W: std::io::Write>(archive: &mut Builder<W>, host: &Path, inside: &Path) -> Result<()> {
    let what = || format!("pack {}", host.display());
    if host.is_dir() {
        archive.append_dir_all(inside, host).with_context(what)
    } else {
        archive.append_path_with_name(host, inside).with_context(what)
    }
}

fn add_bytes<W: std::io::Write>(archive: &mut Builder<W>, inside: &str, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, inside, bytes).with_context(|| format!("pack {inside}"))
}
