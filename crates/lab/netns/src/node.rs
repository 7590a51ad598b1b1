use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, Command};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::error::LabError;
use crate::isolate::STAGE_VARIABLE;

type Job = Box<dyn FnOnce() + Send>;

/// One machine of the lab: a network namespace without a name, held by one thread, which runs what it is given.
///
/// The namespace lives as long as this value (and its clones) and the processes and threads started in it, and cannot
/// outlive them: nothing has to be removed, not even after `kill -9`. It has a mount namespace of its own too, so that
/// `/sys/class/net` shows its interfaces.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    netns: OwnedFd,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: ThreadId,
}

impl Node {
    /// A machine with nothing but its loopback interface, which is up.
    ///
    /// # Errors
    /// [`LabError::Namespace`] where the caller may not make namespaces: see [`crate::enter`].
    pub fn new(name: &str) -> Result<Self, LabError> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::sync_channel(1);
        let fail = |source: io::Error| LabError::Namespace { node: name.to_owned(), source };
        let thread = thread::Builder::new()
            .name(format!("node {name}"))
            .spawn(move || {
                let namespace = isolate_thread();
                let go_on = namespace.is_ok();
                if ready.send(namespace).is_ok() && go_on {
                    inbox.into_iter().for_each(|job| job());
                }
            })
            .map_err(fail)?;
        let netns = made.recv().map_err(|_| fail(io::Error::other("its thread ended")))?.map_err(fail)?;
        let thread_id = thread.thread().id();
        let node = Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                netns,
                jobs: Mutex::new(Some(jobs)),
                thread: Mutex::new(Some(thread)),
                thread_id,
            }),
        };
        node.netlink(|net| net.set_up("lo", true))?;
        Ok(node)
    }

    /// Its name, as given.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs `job` on the machine and waits for its result; sockets that it opens stay the machine's wherever they are
    /// used. One job runs at a time: what blocks for long belongs into [`Node::thread`].
    ///
    /// # Panics
    /// If `job` does, with its panic.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        if thread::current().id() == self.inner.thread_id {
            return job();
        }
        let (reply, result) = mpsc::sync_channel::<Result<T, Box<dyn Any + Send>>>(1);
        let job: Job = Box::new(move || {
            // A caller that is gone wants no reply.
            let _ = reply.send(catch_unwind(AssertUnwindSafe(job)));
        });
        let jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        jobs.expect("a node's inbox is closed only when its last handle is dropped")
            .send(job)
            .expect("a node's thread ends only after its inbox");
        match result.recv().expect("a node's thread answers every job") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Starts a thread on the machine.
    ///
    /// # Errors
    /// If the system refuses another thread.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let builder = thread::Builder::new().name(name.to_owned());
        self.run(move || builder.spawn(body))
    }

    /// Starts a process on the machine.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        command.env_remove(STAGE_VARIABLE);
        self.run(move || command.spawn())
    }

    /// Sets a kernel parameter of the machine: `net.ipv4.ip_forward` is written with its dots.
    ///
    /// # Errors
    /// [`LabError::Sysctl`] if there is none of that name, or it may not be set in a namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let text = value.to_owned();
        self.run(move || std::fs::write(path, text)).map_err(|source| LabError::Sysctl {
            node: self.inner.name.clone(),
            key: key.to_owned(),
            value: value.to_owned(),
            source,
        })
    }

    /// As [`Node::sysctl`], for what is better set but does no harm if not.
    pub(crate) fn try_sysctl(&self, key: &str, value: &str) {
        if let Err(error) = self.sysctl(key, value) {
            tracing::debug!(%error, "kernel parameter left as it is");
        }
    }

    /// The machine's network namespace.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.inner.netns.as_fd()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.inner.name)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        *self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may have gone into a job: a thread cannot wait for itself.
        if thread::current().id() != self.thread_id
            && let Some(thread) = thread
        {
            let _ = thread.join();
        }
    }
}

/// Gives the calling thread a network and a mount namespace of its own; returns the former.
fn isolate_thread() -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(io::Error::from)?;
    // Nothing mounted here may show up elsewhere.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(error) = mount("sysfs", "/sys", "sysfs", flags, None) {
        tracing::debug!(%error, "/sys shows the interfaces of another namespace");
    }
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}
