//! Ctrl-C: the first one asks, the second one ends the program.

use crate::failure::INTERRUPTED;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Whether somebody asked the program to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens to Ctrl-C and to the system's wish to end the program. A second one, while the
    /// first is not yet cleared, ends it at once. All listeners of the program hear the same.
    pub(crate) fn listen() -> Interrupt {
        static LISTENING: OnceLock<Interrupt> = OnceLock::new();
        LISTENING.get_or_init(Interrupt::register).clone()
    }

    fn register() -> Interrupt {
        let interrupt = Interrupt::default();
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the flag is looked at before it is set. Without handlers the
            // program still works, and Ctrl-C ends it as it ends any other.
            let second = interrupt.0.clone();
            let _ = flag::register_conditional_shutdown(signal, INTERRUPTED.into(), second);
            let _ = flag::register(signal, interrupt.0.clone());
        }
        interrupt
    }

    /// Whether somebody asked.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Forgets it, after it was obeyed.
    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
