//! What a model costs, from its configuration alone: parameters, cache, arithmetic.

mod count;

pub use count::{
    AttentionForm, Parameters, attention_flops_per_token, cache_bytes_per_token,
    cache_elements_per_token, forward_flops_per_token, linear_flops_per_token, parameters,
};
