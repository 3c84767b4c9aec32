//! Signals: the first one asks the server to stop, the second one stops it. A limit on the size of files
//! must not.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::complain;

/// What a shell says of a process that ctrl-c ended.
const EXIT_CODE_INTERRUPTED: i32 = 130;

/// From now on a write past the limit on the size of files (`ulimit -f`) fails, which the engine knows
/// to handle as a full disk, and does not end the process. Must be called inside a runtime.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    // A signal that was listened for once never has its default effect again.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

/// From now on SIGTERM and SIGINT don't end the process; the future completes at the first of them.
/// At the second one the process exits, whatever it is doing: that loses nothing acknowledged.
///
/// Must be called inside the runtime, which has to live as long as signals are to be heard.
pub(crate) fn first_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        // Nobody listens any more if the server has ended by itself; the second signal still counts.
        let _ = stop.send(());
        next().await;
        complain("stopped by a second signal, before the flush was done");
        std::process::exit(EXIT_CODE_INTERRUPTED);
    });
    Ok(async {
        let _ = stopped.await;
    })
}
