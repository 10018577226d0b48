//! Parts of the keys: the running softmax begins anew in each, and their states become one in order.
//!
//! Parts are counted from the first key of the sequence, so they are the same whether one thread takes
//! all of them in turn (many rows) or several threads take one each (few rows, long context), and so
//! are the bits.

use super::BLOCK_TOKENS;
use super::lanes::Lines;
use super::running::{Running, Softmax};
use crate::threads::{self, Shards};
use std::cell::RefCell;
use std::ops::Range;

/// Blocks of a part: 256 keys. Short enough that a few thousand keys occupy many cores, long enough
/// that states are small beside the keys they come from.
const PART_BLOCKS: usize = 4;

/// Memory that states of parts may take before they are merged, in numbers: 64 MiB.
const MOST_STATES: usize = 1 << 24;

/// The parts of `n_blocks` blocks, in order.
pub(super) fn parts(n_blocks: usize) -> impl Iterator<Item = Range<usize>> {
    let part = move |start: usize| start..(start + PART_BLOCKS).min(n_blocks);
    (0..n_blocks).step_by(PART_BLOCKS).map(part)
}

/// Parts of `n_keys` keys.
fn n_parts(n_keys: usize) -> usize {
    n_keys.div_ceil(BLOCK_TOKENS).div_ceil(PART_BLOCKS)
}

/// Lists of queries that walk over their keys, each list on its own.
pub(super) trait Walk: Sync {
    /// Lists there are.
    fn n_lists(&self) -> usize;
    /// States that list `list` needs, and the most keys that one of its queries sees.
    fn size(&self, list: usize) -> (usize, usize);
    /// Takes the keys of some blocks into `state`, which stands before the first of them.
    ///
    /// # Safety
    /// `state` has room for the list.
    unsafe fn attend(&self, list: usize, blocks: Range<usize>, state: Running);
    /// Takes the state over a part that begins with key `first_key` into the state over the keys before it.
    ///
    /// # Safety
    /// Both have room for the list.
    unsafe fn merge(&self, list: usize, first_key: usize, total: Running, part: Running);
    /// Writes the result.
    ///
    /// # Safety
    /// `state` has room for the list.
    unsafe fn finish(&self, list: usize, state: Running);
}

thread_local! {
    static STATES: RefCell<Softmax> = RefCell::default();
    static STATES_OF_PARTS: RefCell<Lines> = RefCell::default();
}

/// Walks all lists over all their parts.
pub(super) fn walk(walker: &impl Walk, v_pad: usize) {
    let lists = 0..walker.n_lists();
    let longest = lists.clone().map(|list| walker.size(list).1).max().unwrap_or(0);
    if lists.len() >= 4 * threads::n_threads() || n_parts(longest) <= 1 {
        threads::run(lists.len(), |list| whole(walker, list, v_pad));
        return;
    }
    let states = |list: usize| {
        let (n, n_keys) = walker.size(list);
        n_parts(n_keys) * Running::len(n, v_pad)
    };
    let mut start = 0;
    while start < lists.end {
        let mut end = start + 1;
        let mut held = states(start);
        while end < lists.end && held + states(end) <= MOST_STATES {
            held += states(end);
            end += 1;
        }
        STATES_OF_PARTS.with_borrow_mut(|memory| split(walker, start..end, v_pad, memory));
        start = end;
    }
}

/// All parts of one list, one after the other.
fn whole(walker: &impl Walk, list: usize, v_pad: usize) {
    let (n, n_keys) = walker.size(list);
    STATES.with_borrow_mut(|states| {
        let [total, part] = states.states(n, v_pad);
        // SAFETY: both states have room for `n` queries.
        unsafe {
            total.begin(n, v_pad);
            for blocks in parts(n_keys.div_ceil(BLOCK_TOKENS)) {
                if blocks.start == 0 {
                    walker.attend(list, blocks, total);
                } else {
                    part.begin(n, v_pad);
                    walker.attend(list, blocks.clone(), part);
                    walker.merge(list, blocks.start * BLOCK_TOKENS, total, part);
                }
            }
            walker.finish(list, total);
        }
    });
}

/// Each part of each list as a task of its own.
fn split(walker: &impl Walk, lists: Range<usize>, v_pad: usize, memory: &mut Lines) {
    let mut tasks: Vec<(usize, Range<usize>, usize)> = Vec::new();
    let mut starts = Vec::with_capacity(lists.len());
    let mut at = 0;
    for list in lists.clone() {
        starts.push(tasks.len());
        let (n, n_keys) = walker.size(list);
        for blocks in parts(n_keys.div_ceil(BLOCK_TOKENS)) {
            tasks.push((list, blocks, at));
            at += Running::len(n, v_pad);
        }
    }
    starts.push(tasks.len());
    let memory = Shards::new(memory.room(at));
    // SAFETY: every task of the first loop has a state of its own, every task of the second the states
    // of its list.
    let state_of = |(list, _, at): &(usize, Range<usize>, usize)| unsafe {
        let n = walker.size(*list).0;
        Running::within(memory.slice(*at..at + Running::len(n, v_pad)), n, v_pad)
    };
    threads::run(tasks.len(), |task| {
        let (list, blocks, _) = &tasks[task];
        let state = state_of(&tasks[task]);
        // SAFETY: the state has room for the list.
        unsafe {
            state.begin(walker.size(*list).0, v_pad);
            walker.attend(*list, blocks.clone(), state);
        }
    });
    threads::run(lists.len(), |i| {
        let tasks = &tasks[starts[i]..starts[i + 1]];
        let (list, total) = (lists.start + i, state_of(&tasks[0]));
        for task in &tasks[1..] {
            // SAFETY: the states have room for the list.
            unsafe { walker.merge(list, task.1.start * BLOCK_TOKENS, total, state_of(task)) };
        }
        // SAFETY: as above.
        unsafe { walker.finish(list, total) };
    });
}
