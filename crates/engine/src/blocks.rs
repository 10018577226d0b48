//! Who owns which block of the cache. Blocks are counted references: samples of one prompt share
//! its full blocks and copy only the last, partly filled one.

use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::cache::KvCache;
use std::cell::RefCell;

/// Hands out blocks of a cache and takes them back.
pub struct BlockPool {
    users: Vec<u32>,
    free: Vec<u32>,
    limit: usize,
    /// Blocks that the cache is prepared for: growing stops there once.
    expected: usize,
}

/// The blocks of one sequence, and how many tokens they hold.
#[derive(Debug, Default)]
pub struct BlockTable {
    /// Blocks in order.
    pub blocks: Vec<u32>,
    /// Tokens stored so far.
    pub n_tokens: usize,
}

impl Default for BlockPool {
    fn default() -> Self {
        BlockPool::limited(usize::MAX)
    }
}

impl BlockPool {
    /// A pool over an empty cache, which grows as it must.
    pub fn new() -> Self {
        BlockPool::default()
    }

    /// A pool over an empty cache that never has more than `limit` blocks.
    pub fn limited(limit: usize) -> Self {
        BlockPool { users: Vec::new(), free: Vec::new(), limit, expected: 0 }
    }

    /// A pool over a cache whose blocks nobody uses, prepared for `expected` blocks in all; past them it
    /// grows as it must.
    pub fn over(cache: &mut KvCache, expected: usize) -> Self {
        cache.expect(expected);
        let n_blocks = cache.n_blocks();
        let free = (0..n_blocks as u32).rev().collect();
        BlockPool { users: vec![0; n_blocks], free, limit: usize::MAX, expected }
    }

    /// Gives `table` room for `n_more` tokens, growing the cache if no block is free.
    ///
    /// Panics if that exceeds the pool's limit.
    pub fn reserve(&mut self, cache: &RefCell<KvCache>, table: &mut BlockTable, n_more: usize) {
        let fits = self.try_reserve(cache, table, n_more);
        assert!(fits, "{n_more} more tokens exceed the limit of {} blocks", self.limit);
    }

    /// [`BlockPool::reserve`], if the pool's limit allows; else takes nothing and says no.
    pub fn try_reserve(
        &mut self,
        cache: &RefCell<KvCache>,
        table: &mut BlockTable,
        n_more: usize,
    ) -> bool {
        let n_missing = table.n_missing(n_more);
        if n_missing > self.n_left() {
            return false;
        }
        table.blocks.extend((0..n_missing).map_while(|_| self.take(cache)));
        true
    }

    /// A free block, with one user from now on; none at the pool's limit.
    pub fn take(&mut self, cache: &RefCell<KvCache>) -> Option<u32> {
        if self.free.is_empty() {
            let have = self.users.len();
            if have == 0 && self.limit < usize::MAX {
                cache.borrow_mut().expect(self.limit);
            }
            let mut more = (have / 2).max(16).min(self.limit - have);
            if have < self.expected {
                more = more.min(self.expected - have);
            }
            cache.borrow_mut().grow(have + more);
            self.users.resize(have + more, 0);
            self.free.extend((have as u32..(have + more) as u32).rev());
        }
        let block = self.free.pop()?;
        self.users[block as usize] = 1;
        Some(block)
    }

    /// One more user for each of `blocks`, which are in use.
    pub fn share(&mut self, blocks: &[u32]) {
        blocks.iter().for_each(|block| self.users[*block as usize] += 1);
    }

    /// One user less for each of `blocks`; those without any are free.
    pub fn unshare(&mut self, blocks: &[u32]) {
        for &block in blocks {
            let users = &mut self.users[block as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push(block);
            }
        }
    }

    /// A second sequence with the same past.
    ///
    /// Panics if the pool's limit leaves no block for the copy of the last one.
    pub fn fork(&mut self, cache: &RefCell<KvCache>, table: &BlockTable) -> BlockTable {
        let n_full = table.n_tokens / BLOCK_TOKENS;
        let mut blocks = table.blocks[..n_full].to_vec();
        self.share(&blocks);
        if !table.n_tokens.is_multiple_of(BLOCK_TOKENS) {
            let copy = self.take(cache);
            let copy = copy.unwrap_or_else(|| panic!("a fork exceeds {} blocks", self.limit));
            cache.borrow_mut().copy_block(table.blocks[n_full], copy);
            blocks.push(copy);
        }
        BlockTable { blocks, n_tokens: table.n_tokens }
    }

    /// Takes all blocks of `table` back.
    pub fn release(&mut self, table: BlockTable) {
        self.unshare(&table.blocks);
    }

    /// Users of a block.
    pub fn n_users(&self, block: u32) -> u32 {
        self.users[block as usize]
    }

    /// Blocks in use.
    pub fn n_used(&self) -> usize {
        self.users.len() - self.free.len()
    }

    /// Blocks that can still be taken.
    pub fn n_left(&self) -> usize {
        self.limit - self.n_used()
    }
}

impl BlockTable {
    /// Blocks that are missing for `n_more` tokens behind those stored.
    pub fn n_missing(&self, n_more: usize) -> usize {
        (self.n_tokens + n_more).div_ceil(BLOCK_TOKENS).saturating_sub(self.blocks.len())
    }

    /// Tokens for which there is room behind those stored, with `n_blocks` more blocks.
    pub fn n_room(&self, n_blocks: usize) -> usize {
        (self.blocks.len().saturating_add(n_blocks)).saturating_mul(BLOCK_TOKENS) - self.n_tokens
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
    fn a_cache_is_used_again_and_grows_to_what_is_expected() {
        let cache = cache();
        cache.borrow_mut().grow(2);
        let mut pool = BlockPool::over(&mut cache.borrow_mut(), 21);
        let mut table = BlockTable::default();
        pool.reserve(&cache, &mut table, 2 * BLOCK_TOKENS);
        assert_eq!((&table.blocks[..], cache.borrow().n_blocks()), (&[0, 1][..], 2));
        pool.reserve(&cache, &mut table, 20 * BLOCK_TOKENS);
        assert_eq!((table.blocks.len(), cache.borrow().n_blocks()), (20, 21));
        pool.reserve(&cache, &mut table, 22 * BLOCK_TOKENS);
        assert_eq!((table.blocks.len(), pool.n_used()), (22, 22));
    }

    #[test]
    fn a_limit_is_kept_and_nothing_is_taken_halfway() {
        let (cache, mut pool) = (cache(), BlockPool::limited(3));
        let (mut first, mut second) = (BlockTable::default(), BlockTable::default());
        assert!(pool.try_reserve(&cache, &mut first, 2 * BLOCK_TOKENS));
        assert!(!pool.try_reserve(&cache, &mut second, 2 * BLOCK_TOKENS));
        assert!(second.blocks.is_empty());
        assert!(pool.try_reserve(&cache, &mut second, 1));
        assert_eq!((pool.n_left(), pool.take(&cache)), (0, None));
        pool.share(&first.blocks);
        pool.unshare(&first.blocks);
        pool.release(first);
        assert_eq!((pool.n_left(), pool.n_used()), (2, 1));
    }
}
