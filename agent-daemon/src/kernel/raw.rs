//! Typed handles on BPF maps: the contract's plain structs in and out, missing keys as `None`.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, lpm_trie::Key};

use bytemuck::Pod;

use super::{object::Object, process::Process, sys};

/// Where maps come from: the object that was just loaded, or the pins of a daemon before this one.
pub enum Maps<'a> {
    Loaded(&'a Object),
    /// The directory of the pins.
    Pinned(&'a Path),
}

impl Maps<'_> {
    pub fn take(&mut self, name: &str) -> Result<Map> {
        match self {
            Self::Loaded(object) => object.take_map(name),
            Self::Pinned(directory) => {
                let open = || Map::from_map_data(MapData::from_pin(directory.join(name))?);
                open().with_context(|| format!("open the pinned map {name}"))
            }
        }
    }
}

/// A struct of the contract as aya takes it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Raw<T>(pub T);

// SAFETY: `bytemuck::Pod` asks for at least what `aya::Pod` asks for, and the wrapper is transparent.
unsafe impl<T: Pod> aya::Pod for Raw<T> {}

/// A hash map.
pub struct Hash<K: Pod, V: Pod> {
    map: HashMap<MapData, Raw<K>, Raw<V>>,
    name: &'static str,
}

impl<K: Pod, V: Pod> Hash<K, V> {
    pub fn take(maps: &mut Maps<'_>, name: &'static str) -> Result<Self> {
        let map = HashMap::try_from(maps.take(name)?).with_context(|| format!("open map {name}"))?;
        Ok(Self { map, name })
    }

    pub fn get(&self, key: K) -> Result<Option<V>> {
        match self.map.get(&Raw(key), 0) {
            Ok(Raw(value)) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read map {}", self.name)),
        }
    }

    pub fn put(&mut self, key: K, value: V) -> Result<()> {
        self.map
            .insert(Raw(key), Raw(value), 0)
            .with_context(|| format!("write map {}: its bound may be reached", self.name))
    }

    /// Removes a key; one that is not there is no error.
    pub fn remove(&mut self, key: K) -> Result<()> {
        match self.map.remove(&Raw(key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(nix::errno::Errno::ENOENT as i32) =>
            {
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("remove from map {}", self.name)),
        }
    }

    /// All entries; one that is removed meanwhile may be missing.
    pub fn entries(&self) -> Vec<(K, V)> {
        self.map.iter().filter_map(Result::ok).map(|(Raw(key), Raw(value))| (key, value)).collect()
    }
}

/// A trie by longest prefix.
pub struct Trie<K: Pod, V: Pod> {
    map: LpmTrie<MapData, Raw<K>, Raw<V>>,
    name: &'static str,
}

impl<K: Pod, V: Pod> Trie<K, V> {
    pub fn take(maps: &mut Maps<'_>, name: &'static str) -> Result<Self> {
        let map = LpmTrie::try_from(maps.take(name)?).with_context(|| format!("open map {name}"))?;
        Ok(Self { map, name })
    }

    pub fn put(&mut self, bits: u32, key: K, value: V) -> Result<()> {
        self.map
            .insert(&Key::new(bits, Raw(key)), Raw(value), 0)
            .with_context(|| format!("write map {}: its bound may be reached", self.name))
    }

    pub fn remove(&mut self, bits: u32, key: K) -> Result<()> {
        match self.map.remove(&Key::new(bits, Raw(key))) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("remove from map {}", self.name)),
        }
    }

    /// All entries, with the length of each prefix.
    pub fn entries(&self) -> Vec<((u32, K), V)> {
        let entries = self.map.iter().filter_map(Result::ok);
        entries.map(|(key, Raw(value))| ((key.prefix_len(), key.data().0), value)).collect()
    }
}

/// Sums the per-CPU slots of a counter array.
pub struct Counts(PerCpuArray<MapData, u64>);

impl Counts {
    pub fn take(maps: &mut Maps<'_>, name: &'static str) -> Result<Self> {
        Ok(Self(PerCpuArray::try_from(maps.take(name)?).with_context(|| format!("open map {name}"))?))
    }

    pub fn get(&self, slot: u32) -> Result<u64> {
        Ok(self.0.get(&slot, 0).context("read a counter")?.iter().sum())
    }

    /// Lets every processor's count begin there, where none has counted yet.
    pub fn begin_at(&mut self, slot: u32, value: u64) -> Result<()> {
        if self.get(slot)? != 0 {
            return Ok(());
        }
        let each = vec![value; aya::util::nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?];
        let values = aya::maps::PerCpuValues::try_from(each).context("a value for each processor")?;
        self.0.set(slot, values, 0).context("write a counter")
    }
}

/// An array of numbers.
pub struct Slots<T: aya::Pod>(Array<MapData, T>);

impl<T: aya::Pod> Slots<T> {
    pub fn take(maps: &mut Maps<'_>, name: &'static str) -> Result<Self> {
        Ok(Self(Array::try_from(maps.take(name)?).with_context(|| format!("open map {name}"))?))
    }

    pub fn set(&mut self, slot: u32, value: T) -> Result<()> {
        self.0.set(slot, value, 0).context("write a setting")
    }
}

/// The descriptor of an array that can be mapped, whose one value is of `bytes` bytes.
pub fn mappable(maps: &mut Maps<'_>, name: &'static str, bytes: usize) -> Result<OwnedFd> {
    let Map::Array(data) = maps.take(name)? else { bail!("map {name} is not an array") };
    let info = data.info().with_context(|| format!("look at map {name}"))?;
    if info.value_size() as usize != bytes {
        bail!("map {name} holds values of {} bytes, not {bytes}", info.value_size());
    }
    data.fd().as_fd().try_clone_to_owned().context("copy a descriptor")
}

/// Task storage, which aya has no wrapper for: looked up by pidfd.
pub struct TaskStorage(MapData);

impl TaskStorage {
    pub fn take(maps: &mut Maps<'_>, name: &'static str) -> Result<Self> {
        match maps.take(name)? {
            Map::Unsupported(data) => Ok(Self(data)),
            _ => Err(anyhow!("map {name} is not task storage")),
        }
    }

    /// The value of a live process; `None` when it is gone or has none.
    pub fn get<T: Pod>(&self, pid: u32) -> Option<T> {
        sys::task_storage(self.0.fd(), Process::open(pid)?.as_fd())
    }
}
