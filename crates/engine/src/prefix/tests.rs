//! Claims about prefixes: what is found, what goes first, and what comes back from outside memory.

use super::*;
use crate::blocks::BlockPool;
use crate::service::BlockStore;
use crate::tiny::Tiny;
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::cache::{CacheForm, CacheSpec, CacheType, KvCache, Prefill};
use fathom_model::{CachedRows, Config, Model, Precision};
use fathom_tensor::random::Random;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SPEC: CacheSpec = CacheSpec {
    n_layers: 1,
    n_mtp_layers: 0,
    n_kv_heads: 1,
    qk_dim: 2,
    v_dim: 2,
    form: CacheForm::Latent,
    cache_type: CacheType::F16,
    prefill: Prefill::Absorbed,
};

/// A store that a test can look into. It forgets what was used longest ago.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Shelved>>);

#[derive(Default)]
struct Shelved {
    /// The last used last.
    files: Vec<(u128, Vec<u8>)>,
    capacity: Option<u64>,
    settles: bool,
}

impl Shelf {
    fn new() -> Shelf {
        let shelf = Shelf::default();
        shelf.0.lock().unwrap().settles = true;
        shelf
    }

    fn boxed(&self) -> Option<Box<dyn BlockStore>> {
        Some(Box::new(self.clone()))
    }

    fn keys(&self) -> Vec<u128> {
        self.0.lock().unwrap().files.iter().map(|(key, _)| *key).collect()
    }

    fn n_files(&self) -> usize {
        self.keys().len()
    }
}

impl BlockStore for Shelf {
    fn load(&mut self, key: u128) -> Option<Vec<u8>> {
        self.holds(key).then(|| self.0.lock().unwrap().files.last().unwrap().1.clone())
    }

    fn holds(&mut self, key: u128) -> bool {
        let files = &mut self.0.lock().unwrap().files;
        let place = files.iter().position(|(other, _)| *other == key);
        if let Some(place) = place {
            files[place..].rotate_left(1);
        }
        place.is_some()
    }

    fn save(&mut self, key: u128, bytes: &[u8]) {
        let Shelved { files, capacity, .. } = &mut *self.0.lock().unwrap();
        files.push((key, bytes.to_vec()));
        let n_bytes =
            |files: &[(u128, Vec<u8>)]| files.iter().map(|f| f.1.len() as u64).sum::<u64>();
        while capacity.is_some_and(|most| most < n_bytes(files)) {
            files.remove(0);
        }
    }

    fn forget(&mut self, key: u128) {
        self.0.lock().unwrap().files.retain(|(other, _)| *other != key);
    }

    fn capacity_bytes(&self) -> u64 {
        self.0.lock().unwrap().capacity.unwrap_or(u64::MAX)
    }

    fn settle(&mut self, _patience: Duration) -> bool {
        self.0.lock().unwrap().settles
    }
}

struct World {
    cache: RefCell<KvCache>,
    pool: BlockPool,
    tree: PrefixTree,
}

impl World {
    fn new(n_blocks: usize, store: Option<Box<dyn BlockStore>>) -> World {
        let cache = RefCell::new(KvCache::new(SPEC));
        World { cache, pool: BlockPool::limited(n_blocks), tree: PrefixTree::new(7, store) }
    }

    fn lookup(&mut self, owner: u64, tokens: &[u32]) -> Found {
        let found = self.tree.lookup(owner, tokens, &mut self.pool, &self.cache);
        for (at, block) in found.blocks.iter().enumerate() {
            let mut bytes = Vec::new();
            self.cache.borrow().export_block(*block, &mut bytes);
            let want = self.contents(owner, &tokens[..(at + 1) * BLOCK_TOKENS]);
            assert_eq!(bytes, want, "block {at} of {owner}");
        }
        found
    }

    /// What a block holds whose last token is the last of `tokens`.
    fn contents(&self, owner: u64, tokens: &[u32]) -> Vec<u8> {
        let mut key = vec![owner];
        key.extend(tokens.iter().map(|token| u64::from(*token)));
        let mut random = Random::from_key(&key);
        (0..self.cache.borrow().exported_bytes()).map(|_| random.next_u64() as u8).collect()
    }

    /// A sequence that reads `tokens`, as far as there is room, and lets the tree know; its blocks.
    fn read(&mut self, owner: u64, tokens: &[u32]) -> Vec<u32> {
        let mut blocks = self.lookup(owner, tokens).blocks;
        for end in (blocks.len() + 1)..=tokens.len() / BLOCK_TOKENS {
            let Some(block) = self.pool.take(&self.cache) else { break };
            let contents = self.contents(owner, &tokens[..end * BLOCK_TOKENS]);
            self.cache.borrow_mut().import_block(block, &contents).unwrap();
            blocks.push(block);
        }
        self.tree.insert(owner, tokens, &blocks, &mut self.pool);
        blocks
    }

    /// [`World::read`], after which the sequence ends.
    fn pass_by(&mut self, owner: u64, tokens: &[u32]) {
        let blocks = self.read(owner, tokens);
        self.pool.unshare(&blocks);
    }

    fn evict(&mut self, n_wanted: usize) -> usize {
        self.tree.evict(n_wanted, &mut self.pool, &self.cache)
    }

    /// Blocks of the prefix that is found.
    fn n_found(&mut self, owner: u64, tokens: &[u32]) -> usize {
        let blocks = self.lookup(owner, tokens).blocks;
        self.pool.unshare(&blocks);
        blocks.len()
    }
}

/// Blocks of tokens, block after block filled with these.
fn text(blocks: &[u32]) -> Vec<u32> {
    blocks.iter().flat_map(|token| [*token; BLOCK_TOKENS]).collect()
}

#[test]
fn the_longest_prefix_of_full_blocks_is_found() {
    let mut world = World::new(20, None);
    let blocks = world.read(0, &[text(&[1, 2, 3]), vec![4; 63]].concat());
    assert_eq!((blocks.len(), world.tree.n_blocks()), (3, 3));
    for (tokens, n) in [
        (text(&[1, 2, 3, 4]), 3),
        (text(&[1, 2, 9]), 2),
        (text(&[1, 2])[..127].to_vec(), 1),
        (text(&[2, 3]), 0),
        (text(&[1])[..63].to_vec(), 0),
        (vec![], 0),
    ] {
        let found = world.lookup(0, &tokens);
        assert_eq!((&found.blocks[..], found.n_from_disk_tokens), (&blocks[..n], 0));
        world.pool.unshare(&found.blocks);
    }
    assert_eq!(world.tree.n_idle(&world.pool), 0);
    world.pool.unshare(&blocks);
    assert_eq!(world.tree.n_idle(&world.pool), 3);
}

#[test]
fn owners_share_nothing() {
    let shelf = Shelf::new();
    let mut world = World::new(20, shelf.boxed());
    world.pass_by(1, &text(&[1, 2]));
    assert_eq!((world.n_found(2, &text(&[1, 2])), world.n_found(1, &text(&[1, 2]))), (0, 2));
    world.pass_by(2, &text(&[1, 2]));
    assert_eq!(world.tree.n_blocks(), 4);
    world.evict(4);
    assert_eq!(shelf.n_files(), 4);
    assert_eq!((world.n_found(3, &text(&[1, 2])), world.n_found(2, &text(&[1, 2]))), (0, 2));
}

#[test]
fn what_is_known_is_not_inserted_again() {
    let mut world = World::new(20, None);
    let first = world.read(0, &text(&[1, 2]));
    // Two that read the same at the same time have blocks of their own; the first ones stay.
    let twins: Vec<u32> = (0..3).map(|_| world.pool.take(&world.cache).unwrap()).collect();
    for (end, block) in twins.iter().enumerate() {
        let contents = world.contents(0, &text(&[1, 2, 3])[..(end + 1) * BLOCK_TOKENS]);
        world.cache.borrow_mut().import_block(*block, &contents).unwrap();
    }
    for _ in 0..2 {
        world.tree.insert(0, &text(&[1, 2, 3]), &twins, &mut world.pool);
        let found = world.lookup(0, &text(&[1, 2, 3]));
        assert_eq!(found.blocks, [first[0], first[1], twins[2]]);
        world.pool.unshare(&found.blocks);
    }
    let users: Vec<u32> = twins.iter().map(|block| world.pool.n_users(*block)).collect();
    assert_eq!(users, [1, 1, 2]);
    world.pool.unshare(&twins);
    world.pool.unshare(&first);
    assert_eq!((world.evict(9), world.pool.n_used()), (3, 0));
}

#[test]
fn the_end_of_the_longest_unused_prefix_goes_first() {
    let mut world = World::new(20, None);
    world.pass_by(0, &text(&[1, 2, 3]));
    world.pass_by(0, &text(&[1, 7]));
    world.pass_by(0, &text(&[8]));
    assert_eq!(world.n_found(0, &text(&[1, 2])), 2);
    // Oldest: [1 2 3], then [1 7], [8], [1 2]; what a longer one needs stays.
    assert_eq!((world.evict(1), world.tree.n_blocks()), (1, 4));
    let used = world.lookup(0, &text(&[1, 7]));
    assert_eq!(used.blocks.len(), 2);
    assert_eq!(world.evict(1), 1);
    assert_eq!(world.n_found(0, &text(&[8])), 0);
    assert_eq!(world.evict(5), 1, "only [1 2] is idle; [1] and [1 7] are in use");
    assert_eq!(world.n_found(0, &text(&[1, 7])), 2);
    world.pool.unshare(&used.blocks);
    assert_eq!((world.evict(5), world.tree.n_blocks(), world.pool.n_used()), (2, 0, 0));
}

#[test]
fn evicted_blocks_come_back_from_the_store_bit_for_bit() {
    let shelf = Shelf::new();
    let mut world = World::new(4, shelf.boxed());
    world.pass_by(0, &text(&[1, 2, 3]));
    assert_eq!((world.evict(2), shelf.n_files()), (2, 2));
    let found = world.lookup(0, &text(&[1, 2, 3, 4]));
    assert_eq!((found.blocks.len(), found.n_from_disk_tokens), (3, 2 * BLOCK_TOKENS));
    world.pool.unshare(&found.blocks);
    // In memory again, and not saved twice.
    assert_eq!(world.lookup(0, &text(&[1, 2, 3])).n_from_disk_tokens, 0);
    world.pool.unshare(&found.blocks);
    assert_eq!((world.evict(4), world.pool.n_used(), shelf.n_files()), (3, 0, 3));
    // Another program finds them, as far as it has room; the beginning stays longest.
    let mut other = World::new(2, shelf.boxed());
    let found = other.lookup(0, &text(&[1, 2, 3]));
    assert_eq!((found.blocks.len(), found.n_from_disk_tokens), (2, 2 * BLOCK_TOKENS));
    other.pool.unshare(&found.blocks);
    let mut world = World::new(3, shelf.boxed());
    let found = world.lookup(0, &text(&[1, 2, 3]));
    assert_eq!(found.blocks.len(), 3);
    world.pool.unshare(&found.blocks);
    shelf.0.lock().unwrap().files.drain(..2);
    assert_eq!(World::new(3, shelf.boxed()).n_found(0, &text(&[1, 2, 3])), 1);
}

#[test]
fn what_is_damaged_or_anothers_is_a_miss_and_forgotten() {
    let shelf = Shelf::new();
    let mut world = World::new(4, shelf.boxed());
    world.pass_by(0, &text(&[1, 2]));
    world.evict(2);
    let files: BTreeMap<u128, Vec<u8>> = shelf.0.lock().unwrap().files.iter().cloned().collect();
    let first = *shelf.keys().last().unwrap();
    let good = &files[&first];
    assert_eq!(good.len(), super::saved::packed_bytes(world.cache.borrow().exported_bytes()));
    let other = files.iter().find(|(key, _)| **key != first).unwrap().1.clone();

    let flipped = (0..good.len()).step_by(3).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cut = [0, 1, 7, 100, good.len() - 1].map(|len| good[..len].to_vec());
    let longer = [good.clone(), vec![0]].concat();
    for bytes in flipped.chain(cut).chain([longer, other]) {
        shelf.0.lock().unwrap().files = vec![(first, bytes)];
        let mut world = World::new(4, shelf.boxed());
        assert_eq!(world.n_found(0, &text(&[1, 2])), 0);
        assert_eq!((shelf.n_files(), world.pool.n_used()), (0, 0));
    }
    shelf.0.lock().unwrap().files = vec![(first, good.clone())];
    assert_eq!(World::new(4, shelf.boxed()).n_found(0, &text(&[1, 2])), 1);
}

#[test]
fn another_model_or_another_shape_finds_nothing() {
    let shelf = Shelf::new();
    let mut world = World::new(4, shelf.boxed());
    world.pass_by(0, &text(&[1]));
    world.evict(1);
    let mut of_other_model = World::new(4, None);
    of_other_model.tree = PrefixTree::new(8, shelf.boxed());
    assert_eq!((of_other_model.n_found(0, &text(&[1])), shelf.n_files()), (0, 1));
    let mut of_other_shape = World::new(4, shelf.boxed());
    let spec = SPEC.with_prefill(Prefill::Expanded);
    of_other_shape.cache = RefCell::new(KvCache::new(spec));
    assert_eq!(of_other_shape.n_found(0, &text(&[1])), 0);
    assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
    assert_eq!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"ab", b"c"]));
}

#[test]
fn at_the_end_what_was_used_last_is_saved_as_far_as_it_fits() {
    let shelf = Shelf::new();
    let mut world = World::new(9, shelf.boxed());
    world.pass_by(0, &text(&[1, 2]));
    world.pass_by(0, &text(&[3, 4]));
    world.pass_by(0, &text(&[1, 5]));
    let n_bytes = super::saved::packed_bytes(world.cache.borrow().exported_bytes()) as u64;
    shelf.0.lock().unwrap().capacity = Some(4 * n_bytes + 1);
    world.tree.flush(&world.cache);
    assert_eq!((shelf.n_files(), world.tree.n_blocks()), (4, 5));
    world.tree.flush(&world.cache);
    let mut next = World::new(9, shelf.boxed());
    assert_eq!([&[1, 5][..], &[3, 4], &[1, 2]].map(|t| next.n_found(0, &text(t))), [2, 2, 1]);

    let slow = Shelf::default();
    let mut world = World::new(9, slow.boxed());
    world.pass_by(0, &text(&[1, 2]));
    world.tree.flush(&world.cache);
    assert_eq!(slow.n_files(), 1, "a store that does not get done is not given more");
}

#[test]
fn no_reference_is_lost_or_found_twice_whatever_comes() {
    let shelf = Shelf::new();
    shelf.0.lock().unwrap().capacity = Some(20_000);
    let mut world = World::new(12, shelf.boxed());
    let mut random = Random::from_key(&[5]);
    let mut below = |n: u64| random.next_u64() % n;
    let mut running: Vec<Vec<u32>> = Vec::new();
    for _ in 0..2000 {
        match below(5) {
            0 | 1 => {
                let (owner, n) = (below(2), below(5));
                let tokens: Vec<u32> = (0..n).map(|_| below(3) as u32).collect();
                running.push(world.read(owner, &text(&tokens)));
            }
            2 | 3 if !running.is_empty() => {
                let place = below(running.len() as u64) as usize;
                world.pool.unshare(&running.swap_remove(place));
            }
            _ => {
                let n = below(4) as usize;
                let n_idle = world.tree.n_idle(&world.pool);
                assert!(world.evict(n) <= n_idle.min(n));
            }
        }
        assert!(world.pool.n_used() <= 12 && world.tree.n_blocks() <= world.pool.n_used());
    }
    running.drain(..).for_each(|blocks| world.pool.unshare(&blocks));
    assert_eq!(world.tree.n_idle(&world.pool), world.tree.n_blocks());
    let n_blocks = world.tree.n_blocks();
    assert!(n_blocks > 0 && shelf.n_files() > 3);
    assert_eq!((world.evict(100), world.pool.n_used()), (n_blocks, 0));
}

#[test]
fn hidden_states_after_a_prefix_from_memory_or_disk_have_the_bits_of_a_fresh_run() {
    let tiny = Tiny::Grouped { vocab_size: 37, positions: 256 };
    let config = Config { initializer_range: 0.2, ..tiny.config() };
    let mut model = Model::random(config, 3).unwrap();
    let spec = model.pack_for_cache(Precision::F32, CacheForm::Expanded);
    let tokens: Vec<u32> = (0..150).map(|i| (i * 7 + i * i) % 37).collect();
    for cache_type in [CacheType::F32, CacheType::F16] {
        let spec = spec.with_type(cache_type);
        let shelf = Shelf::new();
        let run = |world: &mut World, n_expected: usize| {
            let mut found = world.tree.lookup(0, &tokens, &mut world.pool, &world.cache).blocks;
            assert_eq!(found.len(), n_expected);
            let past = found.len() * BLOCK_TOKENS;
            found.extend((found.len()..3).map(|_| world.pool.take(&world.cache).unwrap()));
            let mut rows = CachedRows::default();
            rows.push(&found, past, &tokens[past..]);
            let hidden = model.hidden_cached(&rows, &world.cache);
            world.tree.insert(0, &tokens, &found, &mut world.pool);
            world.pool.unshare(&found);
            hidden.data()[(128 - past) * 24..].to_vec()
        };
        let of_spec = || {
            let mut world = World::new(6, shelf.boxed());
            world.cache = RefCell::new(KvCache::new(spec));
            world
        };
        let mut world = of_spec();
        let fresh = run(&mut world, 0);
        assert_eq!(run(&mut world, 2), fresh, "from memory");
        world.evict(2);
        assert_eq!(run(&mut world, 2), fresh, "from the store");
        assert_eq!(run(&mut of_spec(), 2), fresh, "in another program");
    }
}

/// Prints the shortest time of each; run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn time_of_saving_and_loading_a_block() {
    // Latents of DeepSeek-V2-Lite.
    let spec = CacheSpec { n_layers: 27, qk_dim: 576, v_dim: 512, ..SPEC };
    let shelf = Shelf::new();
    let mut world = World::new(1, shelf.boxed());
    world.cache = RefCell::new(KvCache::new(spec));
    let [mut saving, mut loading] = [Duration::MAX; 2];
    for turn in 0..20 {
        let tokens = text(&[turn]);
        let block = world.pool.take(&world.cache).unwrap();
        world.tree.insert(0, &tokens, &[block], &mut world.pool);
        world.pool.unshare(&[block]);
        let start = std::time::Instant::now();
        world.evict(1);
        saving = saving.min(start.elapsed());
        let start = std::time::Instant::now();
        let found = world.tree.lookup(0, &tokens, &mut world.pool, &world.cache);
        loading = loading.min(start.elapsed());
        world.pool.unshare(&found.blocks);
        world.evict(1);
        shelf.0.lock().unwrap().files.clear();
    }
    let n_bytes = world.cache.borrow().exported_bytes();
    eprintln!("{n_bytes} bytes: saved in {saving:?}, loaded in {loading:?}");
}
