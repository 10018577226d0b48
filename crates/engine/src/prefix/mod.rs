//! STUB until the real one is merged.
use crate::blocks::BlockPool;
use crate::service::BlockStore;
use fathom_model::cache::KvCache;
use std::cell::RefCell;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct PrefixTree {
    nodes: BTreeMap<(u64, Vec<u32>), (u32, u64)>,
    clock: u64,
}
pub struct Found {
    pub blocks: Vec<u32>,
    pub n_from_disk_tokens: usize,
}
impl PrefixTree {
    pub fn flush(&mut self, _: &RefCell<KvCache>) {}
    pub fn new(_: u128, _: Option<Box<dyn BlockStore>>) -> Self {
        Self::default()
    }
    pub fn lookup(&mut self, owner: u64, tokens: &[u32], pool: &mut BlockPool, _: &RefCell<KvCache>) -> Found {
        let mut blocks = Vec::new();
        self.clock += 1;
        for n in 1..=tokens.len() / 64 {
            let Some((block, at)) = self.nodes.get_mut(&(owner, tokens[..n * 64].to_vec())) else { break };
            *at = self.clock;
            blocks.push(*block);
        }
        pool.share(&blocks);
        Found { blocks, n_from_disk_tokens: 0 }
    }
    pub fn insert(&mut self, owner: u64, tokens: &[u32], blocks: &[u32], pool: &mut BlockPool) {
        self.clock += 1;
        for (n, block) in (1..).zip(blocks) {
            self.nodes.entry((owner, tokens[..n * 64].to_vec())).or_insert_with(|| {
                pool.share(&[*block]);
                (*block, self.clock)
            });
        }
    }
    pub fn evict(&mut self, n: usize, pool: &mut BlockPool, _: &RefCell<KvCache>) -> usize {
        let mut idle: Vec<_> = self.nodes.iter().filter(|(_, (b, _))| pool.n_users(*b) == 1)
            .map(|(k, (b, at))| (*at, usize::MAX - k.1.len(), k.clone(), *b)).collect();
        idle.sort();
        idle.truncate(n);
        for (_, _, key, block) in &idle {
            self.nodes.remove(key);
            pool.unshare(&[*block]);
        }
        idle.len()
    }
    pub fn n_idle(&self, pool: &BlockPool) -> usize {
        self.nodes.values().filter(|(b, _)| pool.n_users(*b) == 1).count()
    }
}
