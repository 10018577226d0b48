//! What a model costs, from its configuration alone: parameters, bytes, cache, arithmetic, time.

mod count;
pub mod hardware;
pub mod plan;
mod weights;

pub use count::{
    AttentionForm, Parameters, attention_flops_per_token, cache_bytes_per_token,
    cache_elements_per_token, forward_flops_per_token, linear_flops_per_token, parameters,
};
pub use weights::{COMPARED, WeightBytes, released_format, weight_bytes};
