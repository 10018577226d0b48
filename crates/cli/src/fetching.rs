//! Shows a download as it goes: a block that is drawn over on a terminal, plain lines elsewhere.

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{program, quoted, to_stderr};
use crate::sizes::format_bytes;
use crate::terminal::{self, Style, cut, harmless};
use fathom_hub::{Error, Event, Progress, Pulled, Request, Settings};
use fathom_train::progress::duration;
use std::time::{Duration, Instant};

/// Redraws come at most this often.
const MIN_REDRAW: Duration = Duration::from_millis(100);
/// Lines that are not drawn over come at most this often.
const LINE_PAUSE: Duration = Duration::from_secs(5);
/// The speed that is shown is that of about the last so many seconds.
const SPEED_S: f64 = 5.0;
/// Columns of a bar.
const BAR_COLUMNS: usize = 24;

/// Fetches what is missing and shows it on stderr. `go_on` is what to type after Ctrl-C.
pub(crate) fn fetch(
    settings: &Settings,
    request: &Request,
    go_on: &str,
) -> Result<Pulled, Failure> {
    let interrupt = Interrupt::listen();
    let mut fetching = Fetching::new(request.repo.as_str(), interrupt.clone());
    let outcome = fathom_hub::pull(settings, request, &mut fetching);
    fetching.wipe();
    match outcome {
        Ok(pulled) => {
            to_stderr(&format!("{}\n", fetching.summary(&pulled)));
            Ok(pulled)
        }
        Err(Error::Stopped) => {
            interrupt.clear();
            let kept = format!("stopped; {} are kept", fetching.sums().shown());
            Err(Failure::Interrupted(format!("{kept}\ngo on with: {go_on}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// The command that fetches this, to be typed.
pub(crate) fn pull_command(request: &Request) -> String {
    let mut name = request.repo.to_string();
    if let Some(choice) = &request.choice {
        name.push_str(&format!(":{choice}"));
    }
    let mut words = vec![program(), "pull".into(), quoted(&name)];
    if request.revision != fathom_hub::Revision::default() {
        words.extend(["--revision".into(), quoted(request.revision.as_str())]);
    }
    for (flag, globs) in [("--include", &request.include), ("--exclude", &request.exclude)] {
        words.extend(globs.iter().flat_map(|glob| [flag.into(), quoted(glob)]));
    }
    words.join(" ")
}

/// A file of the plan.
#[derive(Clone, Debug)]
struct File {
    name: String,
    n_bytes: Option<u64>,
    done: u64,
    is_active: bool,
}

/// Bytes here and bytes of all files.
#[derive(Clone, Copy, Debug)]
struct Sums {
    done: u64,
    all: u64,
}

impl Sums {
    fn shown(self) -> String {
        format!("{} of {}", format_bytes(self.done), format_bytes(self.all))
    }

    fn share(self) -> f64 {
        if self.all == 0 { 1.0 } else { (self.done as f64 / self.all as f64).min(1.0) }
    }
}

/// The watcher of a download.
struct Fetching {
    repo: String,
    interrupt: Interrupt,
    live: bool,
    style: Style,
    files: Vec<File>,
    start: Instant,
    /// When, and how many bytes there were, some seconds ago.
    marks: Vec<(Instant, u64)>,
    n_drawn: usize,
    drawn_at: Option<Instant>,
    line_at: Instant,
}

impl Fetching {
    fn new(repo: &str, interrupt: Interrupt) -> Fetching {
        let now = Instant::now();
        Fetching {
            repo: repo.to_owned(),
            interrupt,
            live: terminal::stderr_is_live(),
            style: Style::of_stderr(),
            files: Vec::new(),
            start: now,
            marks: Vec::new(),
            n_drawn: 0,
            drawn_at: None,
            line_at: now,
        }
    }

    fn planned(&mut self, files: &[(String, Option<u64>)]) {
        let file = |(name, n_bytes): &(String, Option<u64>)| File {
            name: harmless(name),
            n_bytes: *n_bytes,
            done: 0,
            is_active: false,
        };
        self.files = files.iter().map(file).collect();
        if !self.files.is_empty() {
            let n_files = match self.files.len() {
                1 => "1 file".to_owned(),
                n => format!("{n} files"),
            };
            let about = format!("fetching {n_files} · {}", format_bytes(self.sums().all));
            let style = self.style;
            let title = format!("{} {}  {}", style.cyan("▸"), self.repo, style.dim(&about));
            to_stderr(&format!("{title}\n"));
        }
    }

    /// The bytes of the files that were not there at the start.
    fn sums(&self) -> Sums {
        let all = self.files.iter().map(|file| file.n_bytes.unwrap_or(file.done)).sum();
        Sums { done: self.files.iter().map(|file| file.done).sum(), all }
    }

    /// Bytes per second of late, and what is left at this speed, in seconds.
    fn speed(&mut self) -> Option<(f64, f64)> {
        let (now, sums) = (Instant::now(), self.sums());
        let age = |(at, _): &(Instant, u64)| now.duration_since(*at).as_secs_f64();
        // Bytes fall when a file starts over; what was measured before means nothing then.
        self.marks.retain(|mark| mark.1 <= sums.done && age(mark) <= 2.0 * SPEED_S);
        if self.marks.last().is_none_or(|mark| age(mark) >= 0.5) {
            self.marks.push((now, sums.done));
        }
        let first = self.marks.iter().find(|mark| age(mark) <= SPEED_S)?;
        let speed = (sums.done - first.1) as f64 / age(first);
        let left_s = sums.all.saturating_sub(sums.done) as f64 / speed;
        (speed.is_finite() && left_s.is_finite()).then_some((speed, left_s))
    }

    fn total(&mut self) -> String {
        let mut parts = vec![self.sums().shown()];
        if let Some((speed, left_s)) = self.speed() {
            parts.push(format!("{}/s", format_bytes(speed as u64)));
            parts.push(format!("{} left", duration(left_s)));
        }
        parts.join("   ")
    }

    fn block(&mut self, width: usize) -> Vec<String> {
        let style = self.style;
        let bar = |sums: Sums, n: usize| {
            let full = (sums.share() * n as f64).round() as usize;
            style.cyan(&"━".repeat(full)) + &style.dim(&"╌".repeat(n - full))
        };
        let n = BAR_COLUMNS.min(width / 3);
        let active = self.files.iter().filter(|file| file.is_active);
        let mut lines: Vec<String> = active
            .map(|file| {
                let sums = Sums { done: file.done, all: file.n_bytes.unwrap_or(file.done) };
                let percent = 100.0 * sums.share();
                format!("  {}  {percent:3.0} %  {}", bar(sums, n), style.dim(&file.name))
            })
            .collect();
        let sums = self.sums();
        lines.push(format!("  {}  {:3.0} %  {}", bar(sums, n), 100.0 * sums.share(), self.total()));
        lines.iter().map(|line| cut(line, width)).collect()
    }

    fn show(&mut self) {
        if self.live {
            if self.drawn_at.is_none_or(|at| at.elapsed() >= MIN_REDRAW) {
                self.draw();
            }
        } else if self.line_at.elapsed() >= LINE_PAUSE {
            self.line_at = Instant::now();
            let total = self.total();
            to_stderr(&format!("  {total}\n"));
        }
    }

    fn draw(&mut self) {
        // One column stays free: a full line would wrap on some terminals.
        let lines = self.block(terminal::width() - 1);
        to_stderr(&format!("{}{}\n", erase(self.n_drawn), lines.join("\n")));
        self.n_drawn = lines.len();
        self.drawn_at = Some(Instant::now());
    }

    fn wipe(&mut self) {
        if self.n_drawn > 0 {
            to_stderr(&erase(self.n_drawn));
            self.n_drawn = 0;
        }
    }

    /// Writes a line that stays.
    fn note(&mut self, text: &str) {
        self.wipe();
        let text = harmless(text).replace('\n', " ");
        to_stderr(&format!("  {}\n", self.style.yellow(&text)));
    }

    fn name(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |file| file.name.as_str())
    }

    /// The line that stays at the end.
    fn summary(&self, pulled: &Pulled) -> String {
        let mark = self.style.green("✓");
        let all: u64 = pulled.files.iter().map(|file| file.n_bytes).sum();
        let (repo, commit) = (&self.repo, &pulled.commit[..pulled.commit.len().min(8)]);
        let what = match pulled.bytes_downloaded {
            0 => format!("{} were here already", format_bytes(all)),
            fetched => format!(
                "{} fetched in {}, {} in all",
                format_bytes(fetched),
                duration(self.start.elapsed().as_secs_f64()),
                format_bytes(all)
            ),
        };
        format!("{mark} {repo} {commit}  {}", self.style.dim(&what))
    }
}

impl Progress for Fetching {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Planned { files, .. } => self.planned(files),
            Event::At { file, done, n_bytes } => {
                if let Some(file) = self.files.get_mut(*file) {
                    (file.done, file.n_bytes, file.is_active) = (*done, Some(*n_bytes), true);
                }
            }
            Event::Done { file } => {
                if let Some(file) = self.files.get_mut(*file) {
                    file.done = file.n_bytes.unwrap_or(file.done);
                    file.is_active = false;
                }
            }
            Event::Retry { file, why, pause } => {
                let why = why.lines().next().unwrap_or_default();
                let name = self.name(*file);
                let text = format!("{name}: {why}; again in {:.1} s", pause.as_secs_f64());
                self.note(&text);
            }
            Event::Waiting { file } => {
                let text = format!("{}: another process fetches it; waiting", self.name(*file));
                self.note(&text);
            }
        }
        if !self.files.is_empty() {
            self.show();
        }
    }

    fn wants_stop(&self) -> bool {
        self.interrupt.is_set()
    }
}

/// Goes up `n_lines` and clears from there.
fn erase(n_lines: usize) -> String {
    if n_lines == 0 { String::new() } else { format!("\x1b[{n_lines}A\r\x1b[J") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::columns;
    use fathom_hub::ModelName;

    fn halfway() -> Fetching {
        let mut fetching = Fetching::new("org/name", Interrupt::default());
        fetching.style = Style::PLAIN;
        fetching.live = false;
        let file = |done, is_active| File {
            name: "model-00001-of-00002.safetensors".into(),
            n_bytes: Some(2_000_000),
            done,
            is_active,
        };
        fetching.files = vec![file(2_000_000, false), file(500_000, true)];
        fetching
    }

    #[test]
    fn the_block_shows_files_in_work_and_the_total() {
        let block = halfway().block(70);
        let file = "  ━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   25 %  model-00001-of-00002.safetensors";
        assert_eq!(block[0], file);
        assert!(block[1].contains("62 %  2.50 MB of 4.00 MB"), "{block:?}");
        for width in [20, 200] {
            assert!(halfway().block(width).iter().all(|line| columns(line) <= width));
        }
    }

    #[test]
    fn the_command_to_go_on_names_everything_that_was_typed() {
        let mut request = Request::from(ModelName::parse("org/name@v1:Q4_K_M").unwrap());
        request.include = vec!["*.json".into()];
        let command = pull_command(&request);
        let expected = "pull org/name:Q4_K_M --revision v1 --include '*.json'";
        assert!(command.ends_with(expected), "{command}");
    }
}
