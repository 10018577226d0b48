//! Who owns which block of the cache. Blocks are counted references: samples of one prompt share
//! its full blocks and copy only the last, partly filled one; later prompts share what a prefix
//! tree kept.

use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::cache::KvCache;
use std::cell::RefCell;

/// The cache grows by half, and by this many blocks at least.
const MIN_GROWTH: usize = 16;

/// Hands out blocks of a cache and takes them back.
#[derive(Default)]
pub struct BlockPool {
    users: Vec<u32>,
    free: Vec<u32>,
    /// Blocks there may be; none: as many as memory holds.
    limit: Option<usize>,
}

/// The blocks of one sequence, and how many tokens they hold.
#[derive(Debug, Default)]
pub struct BlockTable {
    /// Blocks in order.
    pub blocks: Vec<u32>,
    /// Tokens stored so far.
    pub n_tokens: usize,
}

impl BlockPool {
    /// A pool over an empty cache that may grow without limit.
    pub fn new() -> Self {
        BlockPool::default()
    }

    /// A pool of at most `n_blocks` blocks. The cache still grows only when they are needed.
    pub fn limited(n_blocks: usize) -> Self {
        BlockPool { limit: Some(n_blocks), ..BlockPool::default() }
    }

    /// Gives `table` room for `n_more` tokens, growing the cache if no block is free.
    ///
    /// Panics if a limited pool has too few blocks; see [`BlockPool::try_reserve`].
    pub fn reserve(&mut self, cache: &RefCell<KvCache>, table: &mut BlockTable, n_more: usize) {
        let n_free = self.n_free();
        let done = self.try_reserve(cache, table, n_more);
        assert!(done, "room for {n_more} tokens, and {n_free} blocks are free");
    }

    /// [`BlockPool::reserve`], if there are blocks for all of it. Otherwise nothing changes, and the
    /// answer is false.
    pub fn try_reserve(
        &mut self,
        cache: &RefCell<KvCache>,
        table: &mut BlockTable,
        n_more: usize,
    ) -> bool {
        let needed = (table.n_tokens + n_more).div_ceil(BLOCK_TOKENS);
        let n_missing = needed.saturating_sub(table.blocks.len());
        if n_missing > self.n_free() {
            return false;
        }
        let missing = (0..n_missing).map(|_| self.take(cache).expect("there are as many"));
        table.blocks.extend(missing);
        true
    }

    /// A second sequence with the same past.
    ///
    /// Panics if a limited pool has no block for the last, partly filled one.
    pub fn fork(&mut self, cache: &RefCell<KvCache>, table: &BlockTable) -> BlockTable {
        let n_full = table.n_tokens / BLOCK_TOKENS;
        let mut blocks = table.blocks[..n_full].to_vec();
        blocks.iter().for_each(|block| self.share(*block));
        if !table.n_tokens.is_multiple_of(BLOCK_TOKENS) {
            let copy = self.take(cache).expect("a block for the copy");
            cache.borrow_mut().copy_block(table.blocks[n_full], copy);
            blocks.push(copy);
        }
        BlockTable { blocks, n_tokens: table.n_tokens }
    }

    /// Takes all blocks of `table` back.
    pub fn release(&mut self, table: BlockTable) {
        table.blocks.into_iter().for_each(|block| self.release_block(block));
    }

    /// A block with one user, growing the cache if none is free; none if the limit is reached.
    pub fn take(&mut self, cache: &RefCell<KvCache>) -> Option<u32> {
        if self.free.is_empty() {
            let have = self.users.len();
            let wanted = have + (have / 2).max(MIN_GROWTH);
            let all = self.limit.map_or(wanted, |limit| wanted.min(limit));
            if all <= have {
                return None;
            }
            cache.borrow_mut().grow(all);
            self.users.resize(all, 0);
            self.free.extend((have as u32..all as u32).rev());
        }
        let block = self.free.pop().expect("the pool has just grown");
        self.users[block as usize] = 1;
        Some(block)
    }

    /// One more user of a block.
    ///
    /// Panics if nobody uses it.
    pub fn share(&mut self, block: u32) {
        let users = &mut self.users[block as usize];
        assert!(*users > 0, "block {block} is free");
        *users += 1;
    }

    /// One user less of a block, which is free when nobody uses it any more.
    ///
    /// Panics if nobody uses it.
    pub fn release_block(&mut self, block: u32) {
        let users = &mut self.users[block as usize];
        assert!(*users > 0, "block {block} is free");
        *users -= 1;
        if *users == 0 {
            self.free.push(block);
        }
    }

    /// Users of a block.
    pub fn n_users(&self, block: u32) -> u32 {
        self.users[block as usize]
    }

    /// Blocks in use.
    pub fn n_used(&self) -> usize {
        self.users.len() - self.free.len()
    }

    /// Blocks that can still be taken; `usize::MAX` without a limit.
    pub fn n_free(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit - self.n_used())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fathom_model::cache::{CacheForm, CacheSpec, CacheType, Prefill};

    fn cache() -> RefCell<KvCache> {
        let form = CacheForm::Expanded;
        RefCell::new(KvCache::new(CacheSpec {
            n_layers: 1,
            n_mtp_layers: 0,
            n_kv_heads: 1,
            qk_dim: 2,
            v_dim: 2,
            form,
            cache_type: CacheType::F32,
            prefill: Prefill::Absorbed,
        }))
    }

    #[test]
    fn forks_share_full_blocks_and_own_the_last() {
        let (cache, mut pool) = (cache(), BlockPool::new());
        let mut table = BlockTable::default();
        pool.reserve(&cache, &mut table, BLOCK_TOKENS + 1);
        table.n_tokens = BLOCK_TOKENS + 1;
        let fork = pool.fork(&cache, &table);
        assert_eq!(fork.blocks[0], table.blocks[0]);
        assert_ne!(fork.blocks[1], table.blocks[1]);
        pool.release(table);
        assert_eq!(pool.n_used(), 2);
        pool.release(fork);
        assert_eq!(pool.n_used(), 0);
    }

    #[test]
    fn a_limited_pool_gives_all_of_what_is_asked_or_nothing() {
        let (cache, mut pool) = (cache(), BlockPool::limited(3));
        let (mut a, mut b) = (BlockTable::default(), BlockTable::default());
        assert!(pool.try_reserve(&cache, &mut a, 2 * BLOCK_TOKENS));
        assert_eq!((pool.n_used(), pool.n_free()), (2, 1));
        assert!(!pool.try_reserve(&cache, &mut b, BLOCK_TOKENS + 1));
        assert_eq!((b.blocks.len(), pool.n_free()), (0, 1));
        assert!(pool.try_reserve(&cache, &mut b, BLOCK_TOKENS));
        assert_eq!(pool.take(&cache), None);
        assert!(!pool.try_reserve(&cache, &mut b, BLOCK_TOKENS + 1), "the first block is there");
        pool.release(a);
        assert!(pool.try_reserve(&cache, &mut b, 3 * BLOCK_TOKENS));
        assert_eq!(pool.n_free(), 0);
    }

    #[test]
    fn a_shared_block_is_free_when_its_last_user_is_gone() {
        let (cache, mut pool) = (cache(), BlockPool::limited(40));
        let blocks: Vec<u32> = (0..40).map(|_| pool.take(&cache).unwrap()).collect();
        let mut sorted = blocks.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..40).collect::<Vec<u32>>(), "each block once");
        pool.share(blocks[7]);
        assert_eq!(pool.n_users(blocks[7]), 2);
        pool.release_block(blocks[7]);
        assert_eq!(pool.n_free(), 0);
        pool.release_block(blocks[7]);
        assert_eq!((pool.n_free(), pool.take(&cache)), (1, Some(blocks[7])));
    }
}
