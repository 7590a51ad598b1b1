//! The socket: who may bind it, and who may speak on it.
//!
//! One daemon owns a socket path at a time. Ownership is an advisory lock on `PATH.lock`, which the kernel gives up when
//! the owner dies in whatever way: so a socket file that outlived its daemon is recognised without asking anyone, and two
//! daemons that start together cannot both win. The lock file holds the owner's pid for the error message.
//!
//! The socket is made with mode 0600 before it gets a name, and each connection's peer is asked for its user besides:
//! only the daemon's own user and root are heard.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Fault;

/// How many connections the control socket holds at a time; further ones wait.
pub const MAX_CONNECTIONS: usize = 32;

/// The right to be the one daemon of a lock file, held until it is dropped.
#[derive(Debug)]
pub struct SocketLock {
    path: PathBuf,
    _file: File,
}

impl SocketLock {
    /// Takes the lock at `path`, and writes this process' pid into it.
    ///
    /// # Errors
    /// The pid of the holder if there is one (0 if it could not be read), as the inner `Err`; else the system's error.
    pub fn acquire(path: &Path) -> io::Result<Result<Self, u32>> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        // A lock file is removed by its holder, so the one that was opened may not be the one that has the name by the
        // time it is locked; each turn of this loop needs another daemon to have come or gone in between.
        let mut glances = 0;
        for _ in 0..100 {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                // A glance by `holder` looks like an owner for a moment.
                Err(rustix::io::Errno::WOULDBLOCK) if glances < 3 => {
                    glances += 1;
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Err(read_pid(&file)?)),
                Err(errno) => return Err(errno.into()),
            }
            let held = file.metadata()?;
            let named = std::fs::metadata(path);
            if named.is_ok_and(|named| named.ino() == held.ino() && named.dev() == held.dev()) {
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{}", std::process::id())?;
                return Ok(Ok(Self { path: path.to_owned(), _file: file }));
            }
        }
        Err(io::Error::other(format!("{} keeps changing", path.display())))
    }

    /// The pid of the process that holds the lock at `path` now, without disturbing it; none if nobody does.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn holder(path: &Path) -> io::Result<Option<u32>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(read_pid(&file)?)),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn read_pid(file: &File) -> io::Result<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text)?;
    Ok(text.trim().parse().unwrap_or(0))
}

impl Drop for SocketLock {
    fn drop(&mut self) {
        // The name goes while the lock is still held: nobody else can have locked this file.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The lock file that belongs to a socket.
pub(crate) fn lock_path(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// A bound control socket, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    path: PathBuf,
    _lock: SocketLock,
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds `path` with mode 0600, replacing a socket whose daemon is dead.
pub(crate) fn bind_socket(path: &Path) -> Result<(BoundSocket, StdListener), Fault> {
    let what = || format!("cannot open the control socket {}", path.display());
    let advice = "choose another path with --socket";
    let lock = match SocketLock::acquire(&lock_path(path)) {
        Ok(Ok(lock)) => lock,
        Ok(Err(pid)) => return Err(second_instance(path, pid)),
        Err(error) => return Err(Fault::from_io(what(), &error, advice)),
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            std::fs::remove_file(path).map_err(|error| Fault::from_io(what(), &error, advice))?;
        }
        Ok(_) => {
            return Err(Fault::failed(what(), "there is a file of that name which is no socket", advice));
        }
        Err(_) => {}
    }
    let listener = bind_private(path).map_err(|errno| Fault::from_io(what(), &errno.into(), advice))?;
    Ok((BoundSocket { path: path.to_owned(), _lock: lock }, listener))
}

fn bind_private(path: &Path) -> rustix::io::Result<StdListener> {
    let socket: OwnedFd = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // The name inherits the mode of the socket: there is no moment at which others could connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, 64)?;
    Ok(StdListener::from(socket))
}

fn second_instance(path: &Path, pid: u32) -> Fault {
    let who =
        if pid == 0 { "another bondwire".to_owned() } else { format!("another bondwire (process {pid})") };
    Fault::failed(
        "bondwire is running already",
        format!("{who} holds {}", path.display()),
        "stop it with `bondwire down`, or run a second one with its own --socket, --state-dir and --config-dir",
    )
}

/// Accepts connections of this user and of root, at most [`MAX_CONNECTIONS`] at a time.
#[derive(Debug)]
pub(crate) struct OwnerListener {
    inner: UnixListener,
    owner: u32,
    room: Arc<Semaphore>,
}

impl OwnerListener {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(listener: StdListener) -> io::Result<Self> {
        Ok(Self {
            inner: UnixListener::from_std(listener)?,
            owner: rustix::process::geteuid().as_raw(),
            room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }
}

impl axum::serve::Listener for OwnerListener {
    type Io = Connection;
    type Addr = ();

    async fn accept(&mut self) -> (Connection, ()) {
        loop {
            let permit = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
            match self.inner.accept().await {
                Ok((stream, _)) => {
                    let peer = stream.peer_cred().map(|peer| peer.uid());
                    if peer.is_ok_and(|uid| uid == self.owner || uid == 0) {
                        return (Connection { stream, _permit: permit }, ());
                    }
                }
                // Out of descriptors, most likely: others have to close theirs first.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// One accepted connection, which holds its place until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
