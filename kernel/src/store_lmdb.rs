//! LMDB below `store.rs`: opening, locking, reading through the memory map, one durable transaction per batch.

use crate::errors::{Error, Result};
use crate::store::{Batch, Change, KeyRange, TABLES, Table};
use heed::types::Bytes;
use heed::{CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, MdbError, PutFlags, RoTxn, WithoutTls};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Weak};

type Tables = [Database<Bytes, Bytes>; TABLES.len()];

/// Concurrent snapshots over all processes; each takes 64 bytes of the lock file.
const MAX_READERS: u32 = 2046;
/// A killed reader's snapshot would keep pages from being reused for ever: look for such ones every so many writes.
const WRITES_BETWEEN_CLEANUPS: u32 = 1024;
/// LMDB does not write a page that one transaction took and freed again, so that the file may end a little early; more
/// pages than these missing mean that it was truncated.
const UNWRITTEN_PAGES: usize = 16;
/// The address space of a reader; pages of a larger store than this cannot be read.
const READER_MAP_BYTES: usize = 1 << 40;

/// LMDB must not open one file twice in one process, so that all users of a path share its environment.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Environment>>>> = LazyLock::new(Mutex::default);

/// An open LMDB environment with its tables.
pub struct Environment {
    env: Env<WithoutTls>,
    tables: Tables,
    name: String,
    /// Locked as long as this process writes; None for readers.
    lock: Mutex<Option<File>>,
    writable: bool,
    writes: AtomicU32,
}

impl Environment {
    pub fn open_writer(path: &Path, map_bytes: usize) -> Result<Arc<Environment>> {
        let name = format!("store {}", path.display());
        fs::create_dir_all(path).map_err(|e| Error::unavailable(format!("{name}: cannot create it: {e}")))?;
        let path = canonical(path, &name)?;
        let lock = lock_writer(&path, &name)?;
        let mut open = OPEN.lock();
        if let Some(environment) = open.get(&path).and_then(Weak::upgrade) {
            if !environment.writable {
                return Err(Error::unavailable(format!(
                    "{name}: this process has it open as a view, close that first"
                )));
            }
            *environment.lock.lock() = Some(lock);
            return Ok(environment);
        }
        let fresh = !path.join("data.mdb").exists();
        let page = page_size();
        let env = open_env(&path, &name, map_bytes.next_multiple_of(page), EnvFlags::NO_READ_AHEAD)?;
        if !fresh {
            check_size(&env, &name)?;
            fill_up(&env).map_err(|e| describe(&name, e))?;
        }
        env.clear_stale_readers().map_err(|e| describe(&name, e))?;
        let tables = create_tables(&env).map_err(|e| describe(&name, e))?;
        if fresh {
            // The file's entry in its folder must be as durable as its contents.
            let synced = File::open(&path).and_then(|folder| folder.sync_all());
            synced.map_err(|e| Error::unavailable(format!("{name}: cannot sync its folder: {e}")))?;
        }
        let lock = Mutex::new(Some(lock));
        let environment = Arc::new(Environment { env, tables, name, lock, writable: true, writes: AtomicU32::new(0) });
        open.insert(path, Arc::downgrade(&environment));
        Ok(environment)
    }

    pub fn open_reader(path: &Path) -> Result<Arc<Environment>> {
        let name = format!("store {}", path.display());
        if !path.join("data.mdb").exists() {
            return Err(Error::unavailable(format!("{name}: no store here yet")));
        }
        let path = canonical(path, &name)?;
        let mut open = OPEN.lock();
        if let Some(environment) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(environment);
        }
        let flags = EnvFlags::NO_READ_AHEAD | EnvFlags::READ_ONLY;
        let env = open_env(&path, &name, READER_MAP_BYTES, flags)?;
        check_size(&env, &name)?;
        let tables = open_tables(&env).map_err(|e| describe(&name, e))?;
        let tables = tables.ok_or_else(|| Error::unavailable(format!("{name}: has no tables yet")))?;
        let lock = Mutex::new(None);
        let environment = Arc::new(Environment { env, tables, name, lock, writable: false, writes: AtomicU32::new(0) });
        open.insert(path, Arc::downgrade(&environment));
        Ok(environment)
    }

    /// Write the file anew without the pages that are free, while nobody writes; its size before and after. A crash leaves the
    /// old file or the new one. Readers that have it open go on with the old one.
    pub fn compact(path: &Path) -> Result<(u64, u64)> {
        if !path.join("data.mdb").exists() {
            return Err(Error::unavailable(format!("store {}: no store here yet", path.display())));
        }
        let environment = Environment::open_writer(path, READER_MAP_BYTES)?;
        let failed = |e: std::io::Error| Error::unavailable(format!("{}: {e}", environment.name));
        let (file, partial) = (path.join("data.mdb"), path.join("data.mdb.partial"));
        let before = fs::metadata(&file).map_err(failed)?.len();
        let copied = environment.env.copy_to_path(&partial, CompactionOption::Enabled);
        let copy = copied.map_err(|e| describe(&environment.name, e))?;
        copy.sync_all().map_err(failed)?;
        let after = copy.metadata().map_err(failed)?.len();
        fs::rename(&partial, &file).map_err(failed)?;
        File::open(path).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok((before, after))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_writer(&self) -> bool {
        self.lock.lock().is_some()
    }

    /// Let another process write; snapshots stay readable.
    pub fn release_writer(&self) {
        *self.lock.lock() = None;
    }

    /// The number of the last write.
    pub fn version(&self) -> usize {
        self.env.info().last_txn_id
    }

    pub fn snapshot(&self) -> Result<Mapped> {
        let txn = self.env.clone().static_read_txn().map_err(|e| describe(&self.name, e))?;
        Ok(Mapped { txn, tables: self.tables, name: self.name.clone() })
    }

    pub fn write(&self, batch: &Batch) -> Result<()> {
        if self.lock.lock().is_none() {
            return Err(Error::unavailable(format!("{}: is not open for writing", self.name)));
        }
        if self.writes.fetch_add(1, Ordering::Relaxed) % WRITES_BETWEEN_CLEANUPS == WRITES_BETWEEN_CLEANUPS - 1 {
            self.env.clear_stale_readers().map_err(|e| describe(&self.name, e))?;
        }
        self.write_all(batch).map_err(|e| describe(&self.name, e))
    }

    /// Dropping the transaction on an error (or a panic) aborts it.
    fn write_all(&self, batch: &Batch) -> heed::Result<()> {
        let mut txn = self.env.write_txn()?;
        for change in batch {
            match change {
                Change::Put(table, key, value) => self.tables[*table as usize].put(&mut txn, key, value)?,
                Change::Append(table, key, value) => {
                    match self.tables[*table as usize].put_with_flags(&mut txn, PutFlags::APPEND, key, value) {
                        // Something lies above: a state that is being imported.
                        Err(heed::Error::Mdb(MdbError::KeyExist)) => {
                            self.tables[*table as usize].put(&mut txn, key, value)?;
                        }
                        result => result?,
                    }
                }
                Change::Truncate(table, from) => {
                    let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
                    self.tables[*table as usize].delete_range(&mut txn, &range)?;
                }
                Change::Clear(table, from, until) => {
                    let range = (Bound::Included(from.as_slice()), Bound::Excluded(until.as_slice()));
                    self.tables[*table as usize].delete_range(&mut txn, &range)?;
                }
                Change::Delete(table, key) => {
                    self.tables[*table as usize].delete(&mut txn, key)?;
                }
            }
        }
        txn.commit()?;
        if batch.iter().any(|change| matches!(change, Change::Truncate(..) | Change::Clear(..))) {
            fill_up(&self.env)?;
        }
        Ok(())
    }
}

/// A read transaction.
pub struct Mapped {
    txn: RoTxn<'static, WithoutTls>,
    tables: Tables,
    name: String,
}

impl Mapped {
    /// The number of the last write that is seen.
    pub fn version(&self) -> usize {
        self.txn.id()
    }

    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>> {
        self.tables[table as usize].get(&self.txn, key).map_err(|e| describe(&self.name, e))
    }

    pub fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>> {
        let last = self.tables[table as usize].last(&self.txn).map_err(|e| describe(&self.name, e))?;
        Ok(last.map(|(key, _)| key.to_vec()))
    }

    pub fn keys_between(&self, wanted: &KeyRange<'_>) -> Result<Vec<Vec<u8>>> {
        let KeyRange { table, low, high, ascending, limit } = *wanted;
        let (table, range) = (self.tables[table as usize], (Bound::Included(low), Bound::Included(high)));
        let key = |entry: heed::Result<(&[u8], &[u8])>| entry.map(|(key, _)| key.to_vec());
        let keys: heed::Result<Vec<Vec<u8>>> = match ascending {
            true => table.range(&self.txn, &range).and_then(|entries| entries.take(limit).map(key).collect()),
            false => table.rev_range(&self.txn, &range).and_then(|entries| entries.take(limit).map(key).collect()),
        };
        keys.map_err(|e| describe(&self.name, e))
    }

    pub fn next(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, alloy_primitives::Bytes)>> {
        let found =
            self.tables[table as usize].get_greater_than(&self.txn, key).map_err(|e| describe(&self.name, e))?;
        Ok(found.map(|(key, value)| (key.to_vec(), alloy_primitives::Bytes::copy_from_slice(value))))
    }

    pub fn keys_where(&self, table: Table, choose: &dyn Fn(&[u8]) -> Result<bool>) -> Result<Vec<Vec<u8>>> {
        let mut chosen = Vec::new();
        let entries = self.tables[table as usize].iter(&self.txn).map_err(|e| describe(&self.name, e))?;
        for entry in entries {
            let (key, value) = entry.map_err(|e| describe(&self.name, e))?;
            if choose(value)? {
                chosen.push(key.to_vec());
            }
        }
        Ok(chosen)
    }
}

fn canonical(path: &Path, name: &str) -> Result<PathBuf> {
    path.canonicalize().map_err(|e| Error::unavailable(format!("{name}: {e}")))
}

fn page_size() -> usize {
    // LMDB asks for a multiple of the system's page; 64 KiB is one everywhere.
    1 << 16
}

/// The lock is the operating system's, so that it ends with the process however that dies; the file names the holder.
fn lock_writer(path: &Path, name: &str) -> Result<File> {
    let failed = |e: std::io::Error| Error::unavailable(format!("{name}: cannot lock it: {e}"));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path.join("writer.lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = Read::by_ref(&mut file).take(20).read_to_string(&mut holder);
            let holder = holder.trim();
            return Err(Error::unavailable(format!(
                "{name}: process {holder} holds it, expected to be the only writer"
            )));
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

fn open_env(path: &Path, name: &str, map_bytes: usize, flags: EnvFlags) -> Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes).max_readers(MAX_READERS).max_dbs(TABLES.len() as u32);
    // SAFETY: only LMDB writes these files, one environment per path and process (`OPEN`), and none of the flags gives up
    // locking or syncing.
    unsafe {
        options.flags(flags);
        options.open(path).map_err(|e| describe(name, e))
    }
}

/// Reading a page that a truncated file lacks would kill the process, so look before.
fn check_size(env: &Env<WithoutTls>, name: &str) -> Result<()> {
    let found = env.real_disk_size().map_err(|e| describe(name, e))? as usize;
    let page = env.stat().page_size as usize;
    let expected = (env.info().last_page_number + 1) * page;
    if found + UNWRITTEN_PAGES * page < expected {
        return Err(Error::corrupt(format!("{name}: data.mdb has {found} bytes, expected {expected}")));
    }
    Ok(())
}

/// Write the pages that LMDB left out at the end, so that nothing can ever be read beyond it.
fn fill_up(env: &Env<WithoutTls>) -> heed::Result<()> {
    let expected = ((env.info().last_page_number + 1) * env.stat().page_size as usize) as u64;
    if env.real_disk_size()? < expected {
        env.try_clone_inner_file()?.set_len(expected)?;
    }
    Ok(())
}

fn create_tables(env: &Env<WithoutTls>) -> heed::Result<Tables> {
    if let Some(tables) = open_tables(env)? {
        return Ok(tables);
    }
    let mut txn = env.write_txn()?;
    let mut tables = Vec::with_capacity(TABLES.len());
    for (_, name) in TABLES {
        tables.push(env.create_database(&mut txn, Some(name))?);
    }
    txn.commit()?;
    Ok(tables.try_into().unwrap_or_else(|_| unreachable!("one database per table")))
}

fn open_tables(env: &Env<WithoutTls>) -> heed::Result<Option<Tables>> {
    let txn = env.read_txn()?;
    let mut tables = Vec::with_capacity(TABLES.len());
    for (_, name) in TABLES {
        match env.open_database(&txn, Some(name))? {
            Some(table) => tables.push(table),
            None => return Ok(None),
        }
    }
    // Handles that a read transaction opened become everybody's when it commits.
    txn.commit()?;
    Ok(tables.try_into().ok())
}

fn describe(name: &str, error: heed::Error) -> Error {
    match error {
        heed::Error::Mdb(MdbError::MapFull) => {
            Error::unavailable(format!("{name}: its map is full, open it with a larger `map_bytes`"))
        }
        heed::Error::Mdb(MdbError::ReadersFull) => {
            Error::unavailable(format!("{name}: more than {MAX_READERS} snapshots are open"))
        }
        heed::Error::Mdb(MdbError::Panic) => {
            Error::unavailable(format!("{name}: an earlier write failed half-way, reopen the store"))
        }
        heed::Error::Mdb(MdbError::Other(code)) => {
            let cause = std::io::Error::from_raw_os_error(code);
            Error::unavailable(format!("{name}: {cause}"))
        }
        heed::Error::Mdb(e) => Error::corrupt(format!("{name}: {e}; restore the folder from a copy")),
        heed::Error::Io(e) => Error::unavailable(format!("{name}: {e}")),
        e => Error::corrupt(format!("{name}: {e}")),
    }
}
