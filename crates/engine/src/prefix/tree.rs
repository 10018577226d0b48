//! The tree: which blocks hold which prefixes, who used them last, and which may go.

use super::identity::{Identity, root};
use super::saved;
use crate::blocks::BlockPool;
use crate::service::BlockStore;
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::cache::KvCache;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long [`PrefixTree::flush`] saves at most.
const FLUSH: Duration = Duration::from_secs(20);

/// Prefixes in full blocks of [`BLOCK_TOKENS`] tokens. The tree has a reference of its own to each of
/// its blocks; nothing in it depends on anything but the calls it got, in order.
pub struct PrefixTree {
    fingerprint: u128,
    store: Option<Box<dyn BlockStore>>,
    /// By name. A name says all of the path to it.
    nodes: BTreeMap<u128, Node>,
    /// Nodes without children, the longest unused first.
    leaves: BTreeSet<(u64, u128)>,
    /// Counts calls.
    now: u64,
}

struct Node {
    owner: u64,
    parent: u128,
    tokens: Box<[u32]>,
    block: u32,
    /// Blocks before it.
    depth: usize,
    n_children: usize,
    /// When it was used last; a parent is never older than its children.
    used: u64,
}

/// What [`PrefixTree::lookup`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Blocks of the prefix, in order. The caller has a reference to each.
    pub blocks: Vec<u32>,
    /// Tokens of these that came from the store.
    pub n_from_disk_tokens: usize,
}

/// A block on the path that a call follows.
struct Step<'a> {
    of: Identity<'a>,
    key: u128,
    depth: usize,
}

impl PrefixTree {
    /// An empty tree. `fingerprint` stands for all that decides what a block holds besides its tokens
    /// and the spec of the cache, see [`super::fingerprint`]; what was saved under another one is not
    /// found.
    pub fn new(fingerprint: u128, store: Option<Box<dyn BlockStore>>) -> PrefixTree {
        let (nodes, leaves) = (BTreeMap::new(), BTreeSet::new());
        PrefixTree { fingerprint, store, nodes, leaves, now: 0 }
    }

    /// The longest cached prefix of `tokens` in full blocks that `owner` left. Blocks that the store
    /// holds are loaded as long as the pool has room; make room first ([`PrefixTree::evict`]).
    ///
    /// A sequence must compute at least its last token to go on: leave that one out of `tokens`.
    pub fn lookup(
        &mut self,
        owner: u64,
        tokens: &[u32],
        pool: &mut BlockPool,
        cache: &RefCell<KvCache>,
    ) -> Found {
        self.now += 1;
        let mut found = Found::default();
        let mut keys = Vec::new();
        for step in steps(self.fingerprint, owner, tokens) {
            let block = match self.known(&step) {
                Some(block) => block,
                None => match self.load(&step, pool, cache) {
                    Some(block) => {
                        self.add(&step, block);
                        found.n_from_disk_tokens += BLOCK_TOKENS;
                        keys.push(step.key);
                        block
                    }
                    None => break,
                },
            };
            self.touch(step.key);
            pool.share(&[block]);
            found.blocks.push(block);
        }
        // The store too should forget the end of a prefix before its beginning.
        if let Some(store) = &mut self.store {
            keys.iter().rev().for_each(|key| _ = store.holds(*key));
        }
        found
    }

    /// Remembers the full blocks of a sequence: `blocks[i]` holds the tokens from `64 i` on, and all of
    /// them are stored. Blocks that the tree has already stay as they are, and so do the caller's.
    ///
    /// Where a cache reads prompts in another way than it writes answers
    /// ([`fathom_model::cache::Prefill::Expanded`]), only blocks of prompts may be remembered, or later
    /// answers would depend on what was cached.
    pub fn insert(&mut self, owner: u64, tokens: &[u32], blocks: &[u32], pool: &mut BlockPool) {
        self.now += 1;
        for (step, &block) in steps(self.fingerprint, owner, tokens).zip(blocks) {
            if self.known(&step).is_none() {
                if self.nodes.contains_key(&step.key) {
                    return; // Another path of the same name, which nobody will ever see.
                }
                pool.share(&[block]);
                self.add(&step, block);
            }
            self.touch(step.key);
        }
    }

    /// Gives up to `n_wanted` blocks back that nobody else uses, those that were not used for longest
    /// first, ends of prefixes before their beginnings. The store gets them before. Returns how many.
    pub fn evict(
        &mut self,
        n_wanted: usize,
        pool: &mut BlockPool,
        cache: &RefCell<KvCache>,
    ) -> usize {
        for n_freed in 0..n_wanted {
            let idle = |key: &u128| pool.n_users(self.nodes[key].block) == 1;
            let Some(key) = self.leaves.iter().map(|(_, key)| *key).find(idle) else {
                return n_freed;
            };
            self.save(key, &cache.borrow());
            self.remove(key, pool);
        }
        n_wanted
    }

    /// Blocks in the tree.
    pub fn n_blocks(&self) -> usize {
        self.nodes.len()
    }

    /// Blocks in the tree that nobody else uses.
    pub fn n_idle(&self, pool: &BlockPool) -> usize {
        self.nodes.values().filter(|node| pool.n_users(node.block) == 1).count()
    }

    /// Saves what the store has room for, the last used first, in limited time. For the end of the
    /// program: the tree stays as it is.
    pub fn flush(&mut self, cache: &RefCell<KvCache>) {
        let Some(store) = &self.store else { return };
        let start = Instant::now();
        let mut keys: Vec<u128> = self.nodes.keys().copied().collect();
        // A beginning is of no less use than its end, and first among equals.
        keys.sort_by_key(|key| (Reverse(self.nodes[key].used), self.nodes[key].depth));
        let block_bytes = saved::packed_bytes(cache.borrow().exported_bytes()) as u64;
        keys.truncate((store.capacity_bytes() / block_bytes).try_into().unwrap_or(usize::MAX));
        let mut n_saved = 0;
        for key in &keys {
            self.save(*key, &cache.borrow());
            let left = FLUSH.saturating_sub(start.elapsed());
            let settled = self.store.as_mut().is_none_or(|store| store.settle(left));
            n_saved += 1;
            if !settled || left.is_zero() {
                break;
            }
        }
        // From now on the least used is forgotten first again.
        if let Some(store) = &mut self.store {
            keys[..n_saved].iter().rev().for_each(|key| _ = store.holds(*key));
            store.settle(FLUSH.saturating_sub(start.elapsed()));
        }
    }

    /// The block of a node, if it is what its name says.
    fn known(&self, step: &Step<'_>) -> Option<u32> {
        let node = self.nodes.get(&step.key)?;
        let Identity { owner, parent, tokens } = step.of;
        let same = node.owner == owner && node.parent == parent && *node.tokens == *tokens;
        same.then_some(node.block)
    }

    /// A block from the store, with one user, who is the tree.
    fn load(
        &mut self,
        step: &Step<'_>,
        pool: &mut BlockPool,
        cache: &RefCell<KvCache>,
    ) -> Option<u32> {
        let store = self.store.as_mut()?;
        if self.nodes.contains_key(&step.key) || pool.n_left() == 0 {
            return None;
        }
        let bytes = store.load(step.key)?;
        let header = header_of(self.fingerprint, &step.of, &cache.borrow());
        let Some(saved) = saved::unpack(&bytes, &header) else {
            store.forget(step.key);
            return None;
        };
        let block = pool.take(cache)?;
        let imported = cache.borrow_mut().import_block(block, saved);
        if imported.is_err() {
            pool.unshare(&[block]);
            store.forget(step.key);
            return None;
        }
        Some(block)
    }

    /// Gives a node to the store, if that lacks it.
    fn save(&mut self, key: u128, cache: &KvCache) {
        let Some(store) = &mut self.store else { return };
        if store.holds(key) {
            return;
        }
        let Node { owner, parent, tokens, block, .. } = &self.nodes[&key];
        let of = Identity { owner: *owner, parent: *parent, tokens };
        let header = header_of(self.fingerprint, &of, cache);
        store.save(key, &saved::pack(header, |out| cache.export_block(*block, out)));
    }

    /// A new node, not used yet.
    fn add(&mut self, step: &Step<'_>, block: u32) {
        let Identity { owner, parent, tokens } = step.of;
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.n_children += 1;
            self.leaves.remove(&(node.used, parent));
        }
        let (depth, used) = (step.depth, self.now);
        let node = Node { owner, parent, tokens: tokens.into(), block, depth, n_children: 0, used };
        self.nodes.insert(step.key, node);
        self.leaves.insert((used, step.key));
    }

    /// A node is used now.
    fn touch(&mut self, key: u128) {
        let Some(node) = self.nodes.get_mut(&key) else { return };
        if self.leaves.remove(&(node.used, key)) {
            self.leaves.insert((self.now, key));
        }
        node.used = self.now;
    }

    /// Takes a leaf out of the tree, and the tree's reference from its block.
    fn remove(&mut self, key: u128, pool: &mut BlockPool) {
        let Some(node) = self.nodes.remove(&key) else { return };
        self.leaves.remove(&(node.used, key));
        pool.unshare(&[node.block]);
        if let Some(parent) = self.nodes.get_mut(&node.parent) {
            parent.n_children -= 1;
            if parent.n_children == 0 {
                self.leaves.insert((parent.used, node.parent));
            }
        }
    }
}

/// The full blocks of `tokens`, from the first on.
fn steps(fingerprint: u128, owner: u64, tokens: &[u32]) -> impl Iterator<Item = Step<'_>> {
    let mut parent = root(fingerprint, owner);
    tokens.chunks_exact(BLOCK_TOKENS).enumerate().map(move |(depth, tokens)| {
        let of = Identity { owner, parent, tokens };
        parent = of.key();
        Step { of, key: parent, depth }
    })
}

fn header_of(fingerprint: u128, of: &Identity<'_>, cache: &KvCache) -> Vec<u8> {
    saved::header(fingerprint, of, &cache.spec(), cache.exported_bytes())
}
