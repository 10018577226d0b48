//! Mixture of experts: routed experts chosen per token, shared experts for all
//! (DeepSeekMoE, arXiv:2401.06066; gates of DeepSeek-V2 and V3).

use super::{Mlp, Pass};
use fathom_kernels::gate::GateSpec;
use fathom_tensor::Tensor;
use fathom_tensor::op::{self, Expert, ExpertMemory};

/// Places of the weights.
pub struct Moe {
    pub(crate) gate: usize,
    /// `e_score_correction_bias` (V3).
    pub(crate) bias: Option<usize>,
    pub(crate) experts: Vec<Mlp>,
    /// Stored fused: one block of `n_shared_experts · moe_intermediate_size`.
    pub(crate) shared: Option<Mlp>,
    pub(crate) spec: GateSpec,
}

impl Moe {
    /// x [N, D]; result [N, D].
    pub(crate) fn forward<'w>(&self, pass: &Pass<'_, 'w>, layer_idx: usize, x: &Tensor) -> Tensor {
        let weights = pass.weights;
        let bias = self.bias.map(|bias| weights[bias].values());
        let route = op::route(pass.tape, x, &weights[self.gate], bias, self.spec, pass.balance);
        let mut loads = vec![0u64; self.spec.n_experts];
        route.ids.iter().for_each(|id| loads[*id as usize] += 1);
        pass.loads.borrow_mut().push(loads);
        if let Some(visited) = &pass.visited {
            visited.borrow_mut().push(route.ids.clone());
        }
        let experts: Vec<Expert<'w>> = self.experts.iter().map(|e| e.block(weights)).collect();
        let shared = self.shared.as_ref().map(|shared| shared.block(weights));
        let memory = pass.residency.map(|residency| residency.experts_of(layer_idx));
        let memory = memory.as_ref().map(|memory| memory as &dyn ExpertMemory);
        op::experts(pass.tape, x, &route, experts, shared, memory)
    }
}
