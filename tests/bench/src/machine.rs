//! Where it ran: figures mean nothing without it.

use crate::clock;
use anyhow::Context as _;
use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Duration,
};

/// The machine and the disk under the store.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) rustc: &'static str,
    pub(crate) file_system: String,
    /// The median time to make a page of 4 KiB durable, which bounds regenerations.
    pub(crate) sync_micros: f64,
}

impl Machine {
    /// Looks around, and tries the disk under `directory`.
    pub(crate) fn look(directory: &Path) -> anyhow::Result<Self> {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name"));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor.unwrap_or("unknown").trim_start_matches(['\t', ' ', ':']).to_owned(),
            kernel: kernel.trim().to_owned(),
            rustc: env!("LEASEHOLD_BENCH_RUSTC"),
            file_system: file_system(directory),
            sync_micros: sync_time(directory)?.as_secs_f64() * 1e6,
        })
    }
}

/// The type of the file system that the longest mount point above `directory` has.
fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        directory.starts_with(point).then_some((point.len(), kind))
    });
    above.max_by_key(|(length, _)| *length).map_or("unknown", |(_, kind)| kind).to_owned()
}

fn sync_time(directory: &Path) -> anyhow::Result<Duration> {
    const WRITES: usize = 101;
    let path = directory.join("sync-time");
    let mut file = File::create(&path).with_context(|| format!("cannot write in {}", directory.display()))?;
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let begun = clock::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(clock::now().duration_since(begun));
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(times[WRITES / 2])
}
