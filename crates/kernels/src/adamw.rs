//! AdamW with decoupled weight decay (arXiv:1711.05101), and clipping by the global norm.
//!
//! `p −= lr · weight_decay · p`, then `p −= lr · m̂ / (√v̂ + eps)` with bias-corrected moments. The
//! moments are f32, or bfloat16 rounded to nearest as in DeepSeek-V3 (arXiv:2412.19437, 3.3.3).

use crate::convert::{bf16_to_f32, f32_to_bf16};
use crate::elementwise::sum_squares;
use crate::lanes::per_isa;
use crate::threads::{self, Shards};

/// Elements one task updates.
const TASK_ELEMENTS: usize = 16 * 1024;

/// Settings of one step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub weight_decay: f32,
    /// Steps taken, this one included: the first is 1.
    pub step: u64,
    /// Gradients are multiplied by this first: [`clip_factor`], 1 / accumulation, or both.
    pub grad_scale: f32,
}

/// One tensor of the model, with its gradient and its moments; all of one length.
pub struct Tensor<'a> {
    pub param: &'a mut [f32],
    pub grad: &'a [f32],
    pub moments: Moments<'a>,
    /// Whether weight decay applies to this tensor.
    pub decay: bool,
}

/// First and second moment of the gradient.
pub enum Moments<'a> {
    F32 { first: &'a mut [f32], second: &'a mut [f32] },
    Bf16 { first: &'a mut [u16], second: &'a mut [u16] },
}

/// The norm of all gradients together, in f64.
pub fn global_norm(grads: &[&[f32]]) -> f64 {
    grads.iter().map(|grad| sum_squares(grad)).sum::<f64>().sqrt()
}

/// What gradients of norm `norm` are multiplied by so that their norm is at most `max_norm`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f32 {
    if norm > max_norm { (max_norm / norm) as f32 } else { 1.0 }
}

/// What the inner loop needs, computed once per step in f64.
#[derive(Clone, Copy)]
struct Factors {
    grad_scale: f32,
    /// `1 − lr · weight_decay`
    keep: f32,
    /// `lr / (1 − beta1^step)`
    rate: f32,
    /// `1 / √(1 − beta2^step)`
    inv_root: f32,
    betas: [f32; 2],
    eps: f32,
}

/// A tensor that tasks write disjoint parts of.
struct Job<'a> {
    param: Shards<'a, f32>,
    grad: &'a [f32],
    moments: MomentShards<'a>,
    factors: Factors,
    /// Tasks of the tensors before this one.
    first_task: usize,
}

enum MomentShards<'a> {
    F32(Shards<'a, f32>, Shards<'a, f32>),
    Bf16(Shards<'a, u16>, Shards<'a, u16>),
}

impl AdamW {
    /// Takes one step on every tensor.
    ///
    /// Panics if `step` is 0 or the lengths within a tensor differ.
    pub fn update(&self, tensors: &mut [Tensor]) {
        let mut n_tasks = 0;
        let mut jobs = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let len = tensor.param.len();
            assert_eq!(tensor.grad.len(), len, "gradient of a tensor of {len} elements");
            let (lens, moments) = match &mut tensor.moments {
                Moments::F32 { first, second } => (
                    [first.len(), second.len()],
                    MomentShards::F32(Shards::new(first), Shards::new(second)),
                ),
                Moments::Bf16 { first, second } => (
                    [first.len(), second.len()],
                    MomentShards::Bf16(Shards::new(first), Shards::new(second)),
                ),
            };
            assert_eq!(lens, [len; 2], "moments of a tensor of {len} elements");
            let factors = self.factors(tensor.decay);
            let param = Shards::new(tensor.param);
            jobs.push(Job { param, grad: tensor.grad, moments, factors, first_task: n_tasks });
            n_tasks += len.div_ceil(TASK_ELEMENTS);
        }
        threads::run(n_tasks, |task| {
            let job = &jobs[jobs.partition_point(|job| job.first_task <= task) - 1];
            job.run(task - job.first_task);
        });
    }

    fn factors(&self, decay: bool) -> Factors {
        assert!(self.step > 0, "steps count from 1");
        let correction = |beta: f32| 1.0 - (beta as f64).powf(self.step as f64);
        let decay = if decay { self.lr as f64 * self.weight_decay as f64 } else { 0.0 };
        Factors {
            grad_scale: self.grad_scale,
            keep: (1.0 - decay) as f32,
            rate: (self.lr as f64 / correction(self.beta1)) as f32,
            inv_root: (1.0 / correction(self.beta2).sqrt()) as f32,
            betas: [self.beta1, self.beta2],
            eps: self.eps,
        }
    }
}

impl Job<'_> {
    fn run(&self, task: usize) {
        let len = self.grad.len();
        let range = task * TASK_ELEMENTS..((task + 1) * TASK_ELEMENTS).min(len);
        let grad = &self.grad[range.clone()];
        // SAFETY: tasks of different numbers hold different tensors or different ranges.
        unsafe {
            let param = self.param.slice(range.clone());
            match &self.moments {
                MomentShards::F32(first, second) => {
                    let (first, second) = (first.slice(range.clone()), second.slice(range));
                    update_f32(self.factors, grad, param, first, second);
                }
                MomentShards::Bf16(first, second) => {
                    let (first, second) = (first.slice(range.clone()), second.slice(range));
                    update_bf16(self.factors, grad, param, first, second);
                }
            }
        }
    }
}

/// One element: returns the new parameter and moments.
#[inline(always)]
fn update_one(f: Factors, g: f32, p: f32, m: f32, v: f32) -> (f32, f32, f32) {
    let g = g * f.grad_scale;
    let m = m * f.betas[0] + g * (1.0 - f.betas[0]);
    let v = v * f.betas[1] + g * g * (1.0 - f.betas[1]);
    (p * f.keep - f.rate * m / (v.sqrt() * f.inv_root + f.eps), m, v)
}

per_isa! {
    fn update_f32(f: Factors, grad: &[f32], param: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        for (((&g, p), m), v) in grad.iter().zip(param).zip(m).zip(v) {
            (*p, *m, *v) = update_one(f, g, *p, *m, *v);
        }
    }
}

per_isa! {
    fn update_bf16(f: Factors, grad: &[f32], param: &mut [f32], m: &mut [u16], v: &mut [u16]) {
        for (((&g, p), m), v) in grad.iter().zip(param).zip(m).zip(v) {
            let (new_p, new_m, new_v) = update_one(f, g, *p, bf16_to_f32(*m), bf16_to_f32(*v));
            (*p, *m, *v) = (new_p, f32_to_bf16(new_m), f32_to_bf16(new_v));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, golden, noise, numbers, numbers_f32, same_bits_everywhere};

    fn settings(step: u64) -> AdamW {
        AdamW {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            grad_scale: 1.0,
        }
    }

    #[test]
    fn three_steps_match_the_golden_state() {
        let Some(golden) = golden("adamw") else { return };
        for case in golden.as_array().unwrap() {
            let field = |name: &str| case[name].as_f64().unwrap() as f32;
            let mut param = numbers_f32(&case["params"]);
            let (mut first, mut second) = (vec![0.0; param.len()], vec![0.0; param.len()]);
            for step in 1..=3 {
                let adamw = AdamW {
                    lr: field("lr"),
                    beta1: field("beta1"),
                    beta2: field("beta2"),
                    eps: field("eps"),
                    weight_decay: field("weight_decay"),
                    step,
                    grad_scale: 1.0,
                };
                adamw.update(&mut [Tensor {
                    param: &mut param,
                    grad: &numbers_f32(&case["grads"][step as usize - 1]),
                    moments: Moments::F32 { first: &mut first, second: &mut second },
                    decay: true,
                }]);
                let want = &case[format!("after_{step}")];
                assert_close(&param, &numbers(&want["params"]), 1e-6, "params");
                assert_close(&first, &numbers(&want["first_moment"]), 1e-6, "first");
                assert_close(&second, &numbers(&want["second_moment"]), 1e-6, "second");
            }
        }
    }

    #[test]
    fn clipping_matches_the_golden_values() {
        let Some(golden) = golden("grad_clip") else { return };
        for case in golden.as_array().unwrap() {
            let lists = case["grads"].as_array().unwrap();
            let grads: Vec<Vec<f32>> = lists.iter().map(numbers_f32).collect();
            let norm = global_norm(&grads.iter().map(Vec::as_slice).collect::<Vec<_>>());
            assert!((norm - case["norm"].as_f64().unwrap()).abs() < 1e-6);
            let factor = clip_factor(norm, case["max_norm"].as_f64().unwrap());
            for (grad, want) in grads.iter().zip(case["clipped"].as_array().unwrap()) {
                let clipped: Vec<f32> = grad.iter().map(|g| g * factor).collect();
                assert_close(&clipped, &numbers(want), 1e-6, "clipped");
            }
        }
    }

    #[test]
    fn bf16_moments_are_the_rounded_f32_moments() {
        let n = 33;
        let grad = noise(1, n);
        let (mut wide, mut narrow) = (noise(2, n), noise(2, n));
        let (mut first, mut second) = (vec![0.0; n], vec![0.0; n]);
        let (mut first16, mut second16) = (vec![0; n], vec![0; n]);
        settings(1).update(&mut [
            Tensor {
                param: &mut wide,
                grad: &grad,
                moments: Moments::F32 { first: &mut first, second: &mut second },
                decay: true,
            },
            Tensor {
                param: &mut narrow,
                grad: &grad,
                moments: Moments::Bf16 { first: &mut first16, second: &mut second16 },
                decay: true,
            },
        ]);
        assert_eq!(wide, narrow, "the moments are rounded after they are used");
        assert!(first.iter().zip(&first16).all(|(&f, &b)| f32_to_bf16(f) == b));
        assert!(second.iter().zip(&second16).all(|(&f, &b)| f32_to_bf16(f) == b));
    }

    #[test]
    fn decay_spares_tensors_that_ask_for_it_and_scale_reaches_the_gradient() {
        let update = |grad: f32, decay, grad_scale| {
            let (mut param, mut first, mut second) = ([2.0], [0.0], [0.0]);
            AdamW { grad_scale, ..settings(1) }.update(&mut [Tensor {
                param: &mut param,
                grad: &[grad],
                moments: Moments::F32 { first: &mut first, second: &mut second },
                decay,
            }]);
            (param[0], first[0])
        };
        assert_eq!(update(0.0, false, 1.0).0, 2.0);
        assert_eq!(update(0.0, true, 1.0).0, 2.0 * 0.999);
        assert_eq!(update(3.0, true, 0.5), update(1.5, true, 1.0));
    }

    #[test]
    fn bits_are_the_same_on_every_level_and_thread_count() {
        let sizes = [1, 40_000, 7, 0, 16_384];
        same_bits_everywhere(|| {
            let mut params: Vec<Vec<f32>> = sizes.iter().map(|&n| noise(1, n)).collect();
            let grads: Vec<Vec<f32>> = sizes.iter().map(|&n| noise(2, n)).collect();
            let mut first: Vec<Vec<f32>> = sizes.iter().map(|&n| vec![0.0; n]).collect();
            let mut second = first.clone();
            for step in 1..3 {
                let moments = first.iter_mut().zip(&mut second);
                let mut tensors: Vec<Tensor> = params
                    .iter_mut()
                    .zip(&grads)
                    .zip(moments)
                    .map(|((param, grad), (first, second))| Tensor {
                        param,
                        grad,
                        moments: Moments::F32 { first, second },
                        decay: true,
                    })
                    .collect();
                settings(step).update(&mut tensors);
            }
            params.concat()
        });
    }
}
