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
pub(super) const PART_BLOCKS: usize = 4;

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
    /// Takes the keys of some blocks into `state`, which stands before the first of them. The calling thread
    /// probably goes on with block `after` then, if there is one.
    ///
    /// # Safety
    /// `state` has room for the list.
    unsafe fn attend(&self, list: usize, blocks: Range<usize>, after: usize, state: Running);
    /// Takes the state over a part that begins with key `first_key` into the state over the keys before it;
    /// of the weighted sums the components `values`, whole lanes.
    ///
    /// # Safety
    /// Both have room for the list.
    unsafe fn merge(
        &self,
        list: usize,
        first_key: usize,
        states: [Running; 2],
        values: Range<usize>,
    );
    /// Writes the components `values` of the result.
    ///
    /// # Safety
    /// `state` has room for the list, and no one else writes them.
    unsafe fn finish(&self, list: usize, state: Running, values: Range<usize>);
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

/// Walks all lists over the parts in `blocks`, whole parts; `memory` keeps their states from chunk to
/// chunk. Lists that end here are finished.
pub(super) fn walk_chunk(
    walker: &impl Walk,
    v_pad: usize,
    blocks: Range<usize>,
    memory: &mut Lines,
) {
    let mut at = 0;
    let starts: Vec<usize> = (0..walker.n_lists())
        .map(|list| {
            let start = at;
            at += Running::len(walker.size(list).0, v_pad);
            start
        })
        .collect();
    let memory = Shards::new(memory.room(at));
    threads::run(walker.n_lists(), |list| {
        let (n, n_keys) = walker.size(list);
        let n_blocks = n_keys.div_ceil(BLOCK_TOKENS);
        let range = starts[list]..starts[list] + Running::len(n, v_pad);
        // SAFETY: every list has a state of its own, with room for `n` queries.
        unsafe {
            let total = Running::within(memory.slice(range), n, v_pad);
            if blocks.start == 0 {
                total.begin(n, v_pad);
            }
            STATES.with_borrow_mut(|states| {
                let [_, part] = states.states(n, v_pad);
                let here = blocks.start..blocks.end.min(n_blocks);
                take_parts(walker, list, here, [total, part], (n, v_pad));
            });
            if blocks.contains(&(n_blocks - 1)) {
                walker.finish(list, total, 0..v_pad);
            }
        }
    });
}

/// Takes the parts in `blocks` into the state `total` over the keys before. Safety: both states have
/// room for the list.
unsafe fn take_parts(
    walker: &impl Walk,
    list: usize,
    blocks: Range<usize>,
    [total, part]: [Running; 2],
    (n, v_pad): (usize, usize),
) {
    for blocks in parts(blocks.end).skip(blocks.start / PART_BLOCKS) {
        let after = blocks.end;
        // SAFETY: the caller's promise.
        unsafe {
            if blocks.start == 0 {
                walker.attend(list, blocks, after, total);
            } else {
                part.begin(n, v_pad);
                walker.attend(list, blocks.clone(), after, part);
                walker.merge(list, blocks.start * BLOCK_TOKENS, [total, part], 0..v_pad);
            }
        }
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
            let blocks = 0..n_keys.div_ceil(BLOCK_TOKENS);
            take_parts(walker, list, blocks, [total, part], (n, v_pad));
            walker.finish(list, total, 0..v_pad);
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
    // SAFETY: every task of the first loop has a state of its own, every task of the second a strip of the states
    // of its list, of which it changes no other.
    let state_of = |(list, _, at): &(usize, Range<usize>, usize)| unsafe {
        let n = walker.size(*list).0;
        Running::within(memory.slice(*at..at + Running::len(n, v_pad)), n, v_pad)
    };
    let n_threads = threads::n_threads();
    threads::run(tasks.len(), |task| {
        let (list, blocks, _) = &tasks[task];
        let state = state_of(&tasks[task]);
        // SAFETY: the state has room for the list.
        unsafe {
            state.begin(walker.size(*list).0, v_pad);
            walker.attend(*list, blocks.clone(), blocks.start + PART_BLOCKS * n_threads, state);
        }
    });
    // Where lists are few, each thread takes some components of all states.
    let n_strips = if lists.len() < n_threads { n_threads.min(v_pad / 16) } else { 1 };
    threads::run(lists.len() * n_strips, |i| {
        let (i, strip) = (i / n_strips, i % n_strips);
        let [from, to] = [strip, strip + 1].map(|strip| v_pad / 16 * strip / n_strips * 16);
        let tasks = &tasks[starts[i]..starts[i + 1]];
        let (list, first) = (lists.start + i, state_of(&tasks[0]));
        let n = walker.size(list).0;
        STATES.with_borrow_mut(|states| {
            // What the strips share is taken on by each of them alone.
            let [own, _] = states.states(n, v_pad);
            // SAFETY: the states have room for the list; strips have components of their own.
            unsafe {
                own.max.copy_from_nonoverlapping(first.max, n);
                own.sum.copy_from_nonoverlapping(first.sum, n * 16);
                let total = Running { acc: first.acc, ..own };
                for task in &tasks[1..] {
                    let states = [total, state_of(task)];
                    walker.merge(list, task.1.start * BLOCK_TOKENS, states, from..to);
                }
                walker.finish(list, total, from..to);
            }
        });
    });
}
