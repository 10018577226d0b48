//! Shows a run as it goes: a block that is drawn over on a terminal, plain lines elsewhere.
//!
//! The run reports from its own thread; a second one redraws the clock and notices Ctrl-C.

mod figure;
mod sample;
mod view;

use crate::interrupt::Interrupt;
use crate::output::to_stderr;
use crate::terminal::{self, Style};
use fathom_train::progress::{Event, Observer};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use view::View;

/// How often the clock is redrawn.
const TICK: Duration = Duration::from_millis(500);
/// Redraws come at most this often, however short the steps are.
const MIN_REDRAW: Duration = Duration::from_millis(80);
/// Samples are shown at most this often.
const SAMPLE_PAUSE: Duration = Duration::from_secs(20);
/// Lines of a stage that are not drawn over come at most this often at its start …
const LINE_PAUSE: Duration = Duration::from_secs(5);
/// … and later after this share of the time the stage has run.
const LINE_SHARE: f64 = 0.05;

/// The watcher of a run.
pub(crate) struct Progress {
    screen: Arc<Mutex<Screen>>,
    interrupt: Interrupt,
    /// Dropped to end the clock.
    clock: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins to watch; ends with the value.
    pub(crate) fn start(interrupt: Interrupt, style: Style) -> Progress {
        let screen = Arc::new(Mutex::new(Screen::new(terminal::stderr_is_live(), style)));
        let (end, ended) = mpsc::channel();
        let (ticking, asked) = (screen.clone(), interrupt.clone());
        let clock = std::thread::spawn(move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                lock(&ticking).tick(asked.is_set());
            }
        });
        Progress { screen, interrupt, clock: Some((end, clock)) }
    }
}

impl Observer for Progress {
    fn event(&mut self, event: &Event) {
        lock(&self.screen).event(event);
    }

    fn wants_stop(&self) -> bool {
        self.interrupt.is_set()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, clock)) = self.clock.take() {
            drop(end);
            let _ = clock.join(); // a clock that panicked has nothing left to tell
        }
        lock(&self.screen).wipe();
    }
}

/// A screen that was left by a panic is still good enough to draw on.
fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Screen {
    live: bool,
    style: Style,
    view: Option<View>,
    /// Lines of the block on the screen.
    n_drawn: usize,
    drawn_at: Instant,
    line_at: Instant,
    sample_at: Option<Instant>,
    stopping: bool,
}

impl Screen {
    fn new(live: bool, style: Style) -> Screen {
        let now = Instant::now();
        Screen {
            live,
            style,
            view: None,
            n_drawn: 0,
            drawn_at: now,
            line_at: now,
            sample_at: None,
            stopping: false,
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::StageStarted { stage, kind, idx, of, steps_done } => {
                let view = View::new(stage, kind, (*idx, *of), *steps_done);
                if !self.live {
                    to_stderr(&format!("{}\n", view.title(Style::PLAIN)));
                }
                self.view = Some(view);
                self.line_at = Instant::now();
                self.draw();
            }
            Event::Step(step) => {
                let Some(view) = &mut self.view else { return };
                view.step(step);
                let last = step.step == step.of;
                if self.live {
                    if last || self.drawn_at.elapsed() >= MIN_REDRAW {
                        self.draw();
                    }
                } else if last || self.line_at.elapsed() >= pause(view.elapsed()) {
                    to_stderr(&format!("{}\n", view.line()));
                    self.line_at = Instant::now();
                }
            }
            Event::Sample(sample) => {
                if self.sample_at.is_none_or(|at| at.elapsed() >= SAMPLE_PAUSE) {
                    self.sample_at = Some(Instant::now());
                    self.above(&sample::show(sample, self.style, terminal::width()));
                }
            }
            Event::StageDone { stage, wall_s, figures } => {
                let view = self.view.take();
                let line = view::summary(stage, *wall_s, figures, view.as_ref(), self.style);
                let width = if self.live { terminal::width() } else { usize::MAX };
                self.above(&(terminal::cut(&line, width) + "\n"));
            }
            Event::StageSkipped { stage } => {
                let text =
                    format!("{} {stage}  {}", self.style.green("✓"), self.style.dim("done before"));
                self.above(&format!("{text}\n"));
            }
            Event::Note(text) => self.above(&format!("{}\n", self.style.dim(text))),
        }
    }

    fn tick(&mut self, stop_asked: bool) {
        if stop_asked && !self.stopping {
            self.stopping = true;
            let text = "finishing the step and saving … (Ctrl-C again stops at once)";
            self.above(&format!("{}\n", self.style.yellow(text)));
        }
        if self.live {
            self.draw();
        }
    }

    /// Writes lines that stay, above the block.
    fn above(&mut self, text: &str) {
        self.wipe();
        to_stderr(text);
        self.draw();
    }

    fn draw(&mut self) {
        let Some(view) = self.view.as_ref().filter(|_| self.live) else { return };
        // One column stays free: a full line would wrap on some terminals.
        let lines = view.block(self.style, terminal::width() - 1);
        let mut text = erase(self.n_drawn);
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        to_stderr(&text);
        self.n_drawn = lines.len();
        self.drawn_at = Instant::now();
    }

    fn wipe(&mut self) {
        if self.n_drawn > 0 {
            to_stderr(&erase(self.n_drawn));
            self.n_drawn = 0;
        }
    }
}

/// Goes up `n_lines` and clears from there.
fn erase(n_lines: usize) -> String {
    if n_lines == 0 { String::new() } else { format!("\x1b[{n_lines}A\r\x1b[J") }
}

/// Time between plain lines of a stage that has run this long.
fn pause(elapsed: Duration) -> Duration {
    LINE_PAUSE.max(elapsed.mul_f64(LINE_SHARE))
}
