//! Who owns which block of the cache. Blocks are counted references: samples of one prompt share
//! its full blocks and copy only the last, partly filled one.

use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::cache::KvCache;
use std::cell::RefCell;

/// Hands out blocks of a cache and takes them back.
#[derive(Default)]
pub struct BlockPool {
    users: Vec<u32>,
    free: Vec<u32>,
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
    /// A pool over an empty cache.
    pub fn new() -> Self {
        BlockPool::default()
    }

    /// Gives `table` room for `n_more` tokens, growing the cache if no block is free.
    pub fn reserve(&mut self, cache: &RefCell<KvCache>, table: &mut BlockTable, n_more: usize) {
        let needed = (table.n_tokens + n_more).div_ceil(BLOCK_TOKENS);
        while table.blocks.len() < needed {
            let block = self.take(cache);
            table.blocks.push(block);
        }
    }

    /// A second sequence with the same past.
    pub fn fork(&mut self, cache: &RefCell<KvCache>, table: &BlockTable) -> BlockTable {
        let n_full = table.n_tokens / BLOCK_TOKENS;
        let mut blocks = table.blocks[..n_full].to_vec();
        blocks.iter().for_each(|block| self.users[*block as usize] += 1);
        if !table.n_tokens.is_multiple_of(BLOCK_TOKENS) {
            let copy = self.take(cache);
            cache.borrow_mut().copy_block(table.blocks[n_full], copy);
            blocks.push(copy);
        }
        BlockTable { blocks, n_tokens: table.n_tokens }
    }

    /// Takes all blocks of `table` back.
    pub fn release(&mut self, table: BlockTable) {
        for block in table.blocks {
            let users = &mut self.users[block as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push(block);
            }
        }
    }

    /// Blocks in use.
    pub fn n_used(&self) -> usize {
        self.users.len() - self.free.len()
    }

    fn take(&mut self, cache: &RefCell<KvCache>) -> u32 {
        if self.free.is_empty() {
            let (have, more) = (self.users.len(), (self.users.len() / 2).max(16));
            cache.borrow_mut().grow(have + more);
            self.users.resize(have + more, 0);
            self.free.extend((have as u32..(have + more) as u32).rev());
        }
        let block = self.free.pop().expect("the pool has just grown");
        self.users[block as usize] = 1;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fathom_model::cache::{CacheForm, CacheSpec, CacheType};

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
}
