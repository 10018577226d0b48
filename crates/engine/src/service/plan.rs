//! Whose rows run in a pass, and where their blocks come from.
//!
//! Every answer gets its row in every pass. Prompts get a number of rows that keeps the pass short
//! while answers wait for it, dealt fairly between owners. Blocks come from the free ones, then from
//! cached prefixes, the least recently used first; then the youngest running job gives up its own and
//! is read again later.

use super::guesses::MOST_GUESSED;
use super::job::Failed;
use super::scheduler::Scheduler;
use super::sequence::{End, Turn};

/// What a pass should take at most, in seconds, while answers are written, and while none is.
const PASS_SECONDS: [f64; 2] = [0.5, 2.0];
/// Rows of prompts are not fewer than this for the sake of time: fewer would save little of it.
const LEAST_ROWS: usize = 32;
/// How many times the rows prompts get while no answer is written.
const ALONE: usize = 4;
/// Weight of the newest timing.
const NEWEST: f64 = 0.25;

/// A sequence that has something to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    /// Its place.
    pub(super) at: usize,
    pub(super) owner: u64,
    /// Rows that it could use.
    pub(super) n_rows: usize,
}

impl Scheduler {
    /// Sets the turns of all running sequences, and finds blocks for them. Returns the number of answers
    /// in the pass if it reads nothing, else 0: by how much a guess pays is learnt from such passes.
    pub(super) fn plan(&mut self) -> usize {
        loop {
            let n_writing = self.plan_writing();
            let n_read = self.plan_reading(n_writing);
            let n_guessing = if n_read == 0 { n_writing } else { 0 };
            if n_writing + n_read > 0 || self.running.is_empty() {
                self.plan_guesses(n_guessing);
                return n_guessing;
            }
            // Prompts hold all blocks, and none can go on.
            if self.running.len() > 1 {
                self.preempt();
            } else if let Some(sequence) = self.running.pop() {
                let n_cache_tokens = self.limits.n_cache_tokens;
                self.retire(sequence, End::Failed(Failed::TooLarge { n_cache_tokens }));
            }
        }
    }

    /// A row for every answer. Returns how many there are.
    fn plan_writing(&mut self) -> usize {
        let (mut at, mut n_writing) = (0, 0);
        while at < self.running.len() {
            self.running[at].turn = Turn::default();
            if self.running[at].is_writing() && self.make_room(at) {
                self.running[at].turn =
                    Turn { n_fed: 1, writes: true, draws: true, ..Turn::default() };
                n_writing += 1;
            }
            at += 1;
        }
        n_writing
    }

    /// Rows for prompts, beside `n_writing` answers. Returns how many.
    fn plan_reading(&mut self, n_writing: usize) -> usize {
        let mut readers = Vec::new();
        for (at, sequence) in self.running.iter().enumerate() {
            if !sequence.is_writing() {
                let (owner, n_rows) = (sequence.job.owner, sequence.n_feedable());
                readers.push(Reader { at, owner, n_rows });
            }
        }
        let dealt = deal(self.n_prompt_rows(n_writing), &readers);
        let mut n_read = 0;
        for (reader, n_rows) in readers.iter().zip(dealt) {
            let n_fed = self.fit(reader.at, n_rows);
            let sequence = &mut self.running[reader.at];
            let wants_token = sequence.n_drawn() < sequence.job.sampling.max_new_tokens;
            sequence.turn.n_fed = n_fed;
            sequence.turn.draws = wants_token && n_fed == sequence.n_unread();
            n_read += n_fed;
        }
        n_read
    }

    /// Guesses behind the rows of answers, if these are the whole pass and `n_writing` of them.
    fn plan_guesses(&mut self, n_writing: usize) {
        for at in 0..self.running.len() {
            let sequence = &mut self.running[at];
            if sequence.guesser.is_none() || !sequence.turn.writes {
                continue;
            }
            let mut n = sequence.n_guesses_wished(n_writing, self.limits);
            if n > 0 {
                n = self.fit(at, 1 + n).saturating_sub(1);
            }
            self.running[at].guess(n, &self.model, &self.cache);
        }
    }

    /// Rows that prompts may have beside `n_writing` answers.
    fn n_prompt_rows(&self, n_writing: usize) -> usize {
        let [busy, alone] = PASS_SECONDS;
        let (n_most, seconds) = match n_writing {
            0 => (ALONE * self.prefill_rows, alone),
            _ => (self.prefill_rows, busy),
        };
        // Before the first timing the next pass is a small one.
        if self.row_seconds == 0.0 {
            return LEAST_ROWS.min(n_most);
        }
        ((seconds / self.row_seconds) as usize).max(LEAST_ROWS).min(n_most)
    }

    /// Learns what rows take from a pass of `seconds`.
    pub(super) fn learn(&mut self, seconds: f64, n_guessing: usize) {
        let turns = || self.running.iter().map(|sequence| &sequence.turn);
        let n_rows: usize = turns().map(|turn| turn.rows.len()).sum();
        self.stats.n_passes += 1;
        self.stats.n_rows += n_rows as u64;
        let n_read: usize = turns().filter(|turn| !turn.writes).map(|turn| turn.n_fed).sum();
        if n_read >= LEAST_ROWS / 2 {
            let newest = seconds / n_rows as f64;
            let before = if self.row_seconds > 0.0 { self.row_seconds } else { newest };
            self.row_seconds = before + NEWEST * (newest - before);
        }
        if (1..=MOST_GUESSED).contains(&n_guessing) {
            self.running.iter_mut().for_each(|sequence| sequence.learn(n_guessing, seconds));
        }
    }

    /// Gives the answer at `at` room for a row, at the cost of cached prefixes, then of the youngest
    /// running jobs. Says no if it was itself the youngest.
    fn make_room(&mut self, at: usize) -> bool {
        loop {
            if self.fit(at, 1) == 1 {
                return true;
            }
            self.preempt();
            if at >= self.running.len() {
                return false;
            }
        }
    }

    /// Gives the sequence at `at` room for up to `n` rows, at the cost of cached prefixes. Returns for
    /// how many.
    fn fit(&mut self, at: usize, n: usize) -> usize {
        let table = &mut self.running[at].table;
        let n_missing = table.n_missing(n);
        if n_missing > self.pool.n_left() {
            let n_more = n_missing - self.pool.n_left();
            self.prefixes.evict(n_more, &mut self.pool, &self.cache);
        }
        let n = n.min(table.n_room(self.pool.n_left()));
        let fits = self.pool.try_reserve(&self.cache, table, n);
        if fits { n } else { 0 }
    }

    /// Sends the youngest running job back to wait; what it has will be read again.
    fn preempt(&mut self) {
        let Some(mut sequence) = self.running.pop() else { return };
        self.pool.release(std::mem::take(&mut sequence.table));
        sequence.turn = Turn::default();
        self.stats.n_preempted += 1;
        let place = self.waiting.partition_point(|other| other.id < sequence.id);
        self.waiting.insert(place, sequence);
    }
}

/// Deals `budget` rows to `readers`, which stand in the order of their arrival. Returns rows of each.
///
/// Owners get equal shares as far as they can use them. Within an owner half goes to what is read
/// soonest, the rest to what came first: a short prompt need not wait for a long one, and the long
/// one still goes on. Of prompts of equal length, the first is finished first.
pub(super) fn deal(budget: usize, readers: &[Reader]) -> Vec<usize> {
    let mut owners: Vec<u64> = Vec::new();
    for reader in readers {
        if !owners.contains(&reader.owner) {
            owners.push(reader.owner);
        }
    }
    let mut dealt = vec![0; readers.len()];
    let mut left = budget;
    loop {
        let before = left;
        for (nth, owner) in owners.iter().enumerate() {
            let share = left.div_ceil(owners.len() - nth);
            let own: Vec<usize> =
                (0..readers.len()).filter(|i| readers[*i].owner == *owner).collect();
            left -= deal_within(share, readers, &own, &mut dealt);
        }
        if left == 0 || left == before {
            return dealt;
        }
    }
}

/// Deals `share` rows to the readers `own`. Returns how many were used.
fn deal_within(share: usize, readers: &[Reader], own: &[usize], dealt: &mut [usize]) -> usize {
    let mut soonest = own.to_vec();
    soonest.sort_by_key(|i| readers[*i].n_rows);
    let mut left = share;
    for (order, kept) in [(&soonest[..], share / 2), (own, 0)] {
        for &i in order {
            let n = (readers[i].n_rows - dealt[i]).min(left - kept.min(left));
            dealt[i] += n;
            left -= n;
        }
    }
    share - left
}
