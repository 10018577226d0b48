//! The key/value cache: what a token leaves behind in each layer. Who owns which block is the
//! engine's business.

use crate::config::{Attention, Config};
pub use fathom_kernels::attention::CacheType;
use fathom_kernels::attention::{BLOCK_TOKENS, PagedKv};
use std::fmt;

/// What is cached of an MLA layer. Other attention always caches keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheForm {
    /// The latent and the shared rotated key: `kv_lora_rank + qk_rope_head_dim` values per token and
    /// layer. Attention runs in the absorbed form (DeepSeek-V2, arXiv:2405.04434, section 2.1.2).
    Latent,
    /// Keys and values of all heads, as in training: same bits as an uncached pass, many times the memory.
    Expanded,
}

/// How rows of a prompt attend over a latent cache. Other rows, and other caches, know one way only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefill {
    /// As all other rows: queries move into the latent space.
    #[default]
    Absorbed,
    /// Keys and values of all heads are made anew from the cached latents, a chunk at a time, and never
    /// cached: a third of the arithmetic per key. Equal in exact arithmetic, different in bits; so
    /// what a row computes depends on whether it was read as prompt.
    Expanded,
}

/// Width of a cached token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSpec {
    /// Layers, MTP modules not counted.
    pub n_layers: usize,
    /// MTP modules with a layer of their own behind those: 0 or 1.
    pub n_mtp_layers: usize,
    /// Key/value heads.
    pub n_kv_heads: usize,
    /// Length of a key.
    pub qk_dim: usize,
    /// Length of a value; in the latent form values are the first elements of the keys.
    pub v_dim: usize,
    /// Form in use.
    pub form: CacheForm,
    /// How the numbers are held.
    pub cache_type: CacheType,
    /// How rows of prompts attend over a latent cache.
    pub prefill: Prefill,
}

impl CacheSpec {
    /// The cache of `config` in the given form, in f32, without room for MTP modules.
    pub fn new(config: &Config, form: CacheForm) -> Self {
        let n_layers = config.num_hidden_layers;
        let (cache_type, prefill) = (CacheType::F32, Prefill::Absorbed);
        match (config.attention(), form) {
            (Attention::Mla { kv_lora_rank, qk_rope_head_dim, .. }, CacheForm::Latent) => {
                let qk_dim = kv_lora_rank + qk_rope_head_dim;
                CacheSpec {
                    n_layers,
                    n_mtp_layers: 0,
                    n_kv_heads: 1,
                    qk_dim,
                    v_dim: kv_lora_rank,
                    form,
                    cache_type,
                    prefill,
                }
            }
            (Attention::Mla { num_attention_heads, .. }, CacheForm::Expanded) => CacheSpec {
                n_layers,
                n_mtp_layers: 0,
                n_kv_heads: num_attention_heads,
                qk_dim: config.qk_head_dim(),
                v_dim: config.v_dim(),
                form,
                cache_type,
                prefill,
            },
            (Attention::Gqa { num_key_value_heads, head_dim, .. }, _) => CacheSpec {
                n_layers,
                n_mtp_layers: 0,
                n_kv_heads: num_key_value_heads,
                qk_dim: head_dim,
                v_dim: head_dim,
                form: CacheForm::Expanded,
                cache_type,
                prefill,
            },
        }
    }

    /// Layers that keep something of a token.
    pub fn n_all_layers(&self) -> usize {
        self.n_layers + self.n_mtp_layers
    }

    /// The same with numbers of another type. With f16, keys and values are rounded once, when they are
    /// stored; a row's bits depend on that, and on nothing else that they did not depend on before.
    pub fn with_type(self, cache_type: CacheType) -> Self {
        CacheSpec { cache_type, ..self }
    }

    /// The same with another way to read prompts.
    pub fn with_prefill(self, prefill: Prefill) -> Self {
        CacheSpec { prefill, ..self }
    }

    /// Bytes per block over all layers.
    pub fn block_bytes(&self) -> usize {
        let values = if self.form == CacheForm::Latent { 0 } else { self.v_dim };
        let n_bytes = self.cache_type.n_bytes();
        n_bytes * BLOCK_TOKENS * self.n_all_layers() * self.n_kv_heads * (self.qk_dim + values)
    }
}

/// Bytes that are not a block of this cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLength {
    /// Bytes of a block.
    pub expected: usize,
    /// Bytes there were.
    pub found: usize,
}

impl fmt::Display for BlockLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a block of the cache has {} bytes, not {}", self.expected, self.found)
    }
}

impl std::error::Error for BlockLength {}

/// Storage of all layers, in blocks of [`BLOCK_TOKENS`] tokens.
pub struct KvCache {
    spec: CacheSpec,
    pub(crate) layers: Vec<PagedKv>,
}

impl KvCache {
    /// An empty cache.
    pub fn new(spec: CacheSpec) -> Self {
        let layer = || {
            let layer = match spec.form {
                CacheForm::Latent => PagedKv::latent(spec.qk_dim, spec.v_dim),
                CacheForm::Expanded => PagedKv::new(spec.n_kv_heads, spec.qk_dim, spec.v_dim),
            };
            layer.with_type(spec.cache_type)
        };
        KvCache { spec, layers: (0..spec.n_all_layers()).map(|_| layer()).collect() }
    }

    /// What a token takes.
    pub fn spec(&self) -> CacheSpec {
        self.spec
    }

    /// Blocks there are.
    pub fn n_blocks(&self) -> usize {
        self.layers.first().map_or(0, PagedKv::n_blocks)
    }

    /// Prepares to grow up to `n_blocks` blocks without copying those there are. Takes no memory yet.
    pub fn expect(&mut self, n_blocks: usize) {
        self.layers.iter_mut().for_each(|layer| layer.expect(n_blocks));
    }

    /// Makes room for `n_blocks` blocks; never shrinks.
    pub fn grow(&mut self, n_blocks: usize) {
        self.layers.iter_mut().for_each(|layer| layer.grow(n_blocks));
    }

    /// Bytes of a block as [`KvCache::export_block`] gives it: [`CacheSpec::block_bytes`] and padding.
    pub fn exported_bytes(&self) -> usize {
        self.layers.iter().map(PagedKv::block_bytes).sum()
    }

    /// Appends all that a block holds, layer after layer, those of MTP modules last; bit for bit, in
    /// this machine's order of bytes.
    ///
    /// Panics if the block does not exist.
    pub fn export_block(&self, block: u32, out: &mut Vec<u8>) {
        out.reserve(self.exported_bytes());
        self.layers.iter().for_each(|layer| layer.export_block(block, out));
    }

    /// Overwrites a block with what a cache of the same spec exported.
    ///
    /// Errors: another length. The numbers themselves are not checked: all bits are numbers.
    ///
    /// Panics if the block does not exist.
    pub fn import_block(&mut self, block: u32, bytes: &[u8]) -> Result<(), BlockLength> {
        let (expected, found) = (self.exported_bytes(), bytes.len());
        if expected != found {
            return Err(BlockLength { expected, found });
        }
        let mut rest = bytes;
        for layer in &mut self.layers {
            let (own, others) = rest.split_at(layer.block_bytes());
            layer.import_block(block, own);
            rest = others;
        }
        Ok(())
    }

    /// Copies a block in every layer.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        self.layers.iter_mut().for_each(|layer| layer.copy_block(from, to));
    }
}
