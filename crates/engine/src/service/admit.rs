//! Which waiting job begins next, and whether there is room for it.
//!
//! Jobs that lost their blocks go first. Then comes the earliest job of the owner with the fewest
//! jobs running: with one owner that is first come, first served; with several, nobody's crowd keeps
//! another out. A job whose beginning is just being read for another one waits for that: it then
//! finds it in the cache.

use super::guesses::{Guesser, MOST_GUESSED};
use super::job::{Ended, Event};
use super::scheduler::Scheduler;
use super::sequence::{End, Sequence};
use crate::blocks::BlockTable;
use crate::speculate::Drafting;
use fathom_kernels::attention::BLOCK_TOKENS;
use std::collections::BTreeMap;

impl Scheduler {
    /// Lets waiting jobs begin as far as there is room.
    pub(super) fn admit(&mut self) {
        while self.running.len() < self.max_running {
            let Some(at) = self.next_waiting() else { return };
            if !self.has_room_for(at) {
                return;
            }
            self.begin(at);
        }
    }

    /// The place of the job that is next.
    fn next_waiting(&mut self) -> Option<usize> {
        let mut n_running = BTreeMap::<u64, usize>::new();
        for sequence in &self.running {
            *n_running.entry(sequence.job.owner).or_default() += 1;
        }
        let mut best: Option<((bool, usize, u64), usize)> = None;
        for (at, sequence) in self.waiting.iter_mut().enumerate() {
            let n_of_owner = n_running.get(&sequence.job.owner).copied().unwrap_or(0);
            let rank = (!sequence.has_begun, n_of_owner, sequence.id);
            if best.is_none_or(|(first, _)| rank < first)
                && !waits_for_prefix(sequence, &self.running, self.shares_answers)
            {
                best = Some((rank, at));
            }
        }
        best.map(|(_, at)| at)
    }

    /// Whether all that the job at `at` has to read fits, with a block to spare for each running job;
    /// and then gives it the blocks that are cached already. Alone it always fits.
    fn has_room_for(&mut self, at: usize) -> bool {
        let promised: usize =
            self.running.iter().map(|other| other.table.n_missing(other.n_unread()) + 1).sum();
        let spare = self.n_obtainable().saturating_sub(promised);
        let sequence = &self.waiting[at];
        // Looking again before anything was freed would find the same.
        if self.stuck.is_some_and(|(id, before)| id == sequence.id && spare <= before) {
            return false;
        }
        let n_tokens = (sequence.tokens.len() + 1).min(self.limits.n_cache_tokens);
        let n_known_blocks = n_tokens.div_ceil(BLOCK_TOKENS);
        self.look_up(at);
        let n_needed = n_known_blocks - self.waiting[at].table.blocks.len();
        if !self.running.is_empty() && n_needed + promised > self.n_obtainable() {
            let sequence = &mut self.waiting[at];
            self.pool.release(std::mem::take(&mut sequence.table));
            self.stuck = Some((sequence.id, spare));
            return false;
        }
        // What is read from the store needs blocks as well, and the job will need as many anyway.
        if self.has_store && n_needed > self.pool.n_left() {
            let n_more = n_needed - self.pool.n_left();
            self.prefixes.evict(n_more, &mut self.pool, &self.cache);
            self.look_up(at);
        }
        self.stuck = None;
        true
    }

    /// Gives the job at `at` the blocks that are cached of it.
    fn look_up(&mut self, at: usize) {
        let sequence = &mut self.waiting[at];
        let known = &sequence.tokens[..sequence.n_reusable()];
        let (pool, cache) = (&mut self.pool, &self.cache);
        let found = self.prefixes.lookup(sequence.job.owner, known, pool, cache);
        self.stats.n_disk_tokens += found.n_from_disk_tokens as u64;
        let n_tokens = found.blocks.len() * BLOCK_TOKENS;
        let table = BlockTable { n_tokens, blocks: found.blocks };
        // Blocks found before stay in use until now, so that none is lost in between.
        pool.release(std::mem::replace(&mut sequence.table, table));
    }

    /// Blocks that are free, or would be after giving up cached prefixes.
    fn n_obtainable(&self) -> usize {
        self.pool.n_left() + self.prefixes.n_idle(&self.pool)
    }

    /// Lets the job at `at` begin, or go on, with the blocks it has.
    fn begin(&mut self, at: usize) {
        let mut sequence = self.waiting.remove(at);
        let n_cached = sequence.table.n_tokens;
        sequence.n_published = sequence.table.blocks.len();
        if !sequence.has_begun {
            sequence.has_begun = true;
            sequence.guesser = self.guesser();
            self.n_left_queue += 1;
            self.stats.n_prompt_tokens += sequence.n_prompt as u64;
            self.stats.n_cached_tokens += n_cached as u64;
            if !sequence.tell(Event::Began { n_cached }) {
                return self.retire(sequence, End::Ended(Ended::Cancelled));
            }
        }
        if let Some(guesser) = &mut sequence.guesser {
            guesser.skip_to(n_cached);
        }
        let place = self.running.partition_point(|other| other.id < sequence.id);
        self.running.insert(place, sequence);
    }

    /// Who guesses for a sequence that begins now. A module has to read along from the beginning, which
    /// is not worth while where many sequences run.
    fn guesser(&self) -> Option<Guesser> {
        let with_module = matches!(self.drafting, Drafting::Mtp { .. });
        let paces = self.paces.as_ref()?;
        let is_worth_while = !with_module || self.running.len() < MOST_GUESSED;
        is_worth_while.then(|| Guesser::new(self.drafting, paces))
    }
}

/// Tokens of `sequence` whose blocks others may find, of its first `n_tokens`.
pub(super) fn n_shareable(sequence: &Sequence, n_tokens: usize, shares_answers: bool) -> usize {
    if shares_answers { n_tokens } else { n_tokens.min(sequence.n_prompt) }
}

/// Whether one of `running` is just reading blocks that `sequence` begins with.
fn waits_for_prefix(sequence: &mut Sequence, running: &[Sequence], shares_answers: bool) -> bool {
    if let Some((id, n_blocks)) = sequence.waits_for
        && let Ok(at) = running.binary_search_by_key(&id, |reader| reader.id)
        && running[at].n_published < n_blocks
    {
        return true;
    }
    let own = &sequence.tokens[..sequence.n_reusable()];
    let read_for = |reader: &Sequence| {
        let read = &reader.tokens[..n_shareable(reader, reader.tokens.len(), shares_answers)];
        let n_common = own.iter().zip(read).take_while(|(a, b)| a == b).count();
        let n_blocks = n_common / BLOCK_TOKENS;
        (n_blocks > reader.n_published).then_some((reader.id, n_blocks))
    };
    let of_owner = running.iter().filter(|reader| reader.job.owner == sequence.job.owner);
    sequence.waits_for = of_owner.filter(|reader| !reader.is_writing()).find_map(read_for);
    sequence.waits_for.is_some()
}
